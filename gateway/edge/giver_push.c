/* What the gateway lacks: recipes loaded, contents sent ahead, the root committed; the listing as an uploader's source. */
#include "gateway/edge/giver_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/upload/level.h"

static struct giver *of_source(struct uploader_source *source)
{
	return container_of(source, struct giver, source);
}

/* ---- recipes ---- */

/* False: the blob is no recipe, or memory is out. */
static bool load_take(struct giver *giver, const struct digest *digest, struct span blob)
{
	int r = recipes_add(&giver->recipes, digest, blob);

	if (r < 0)
		giver_unfit(giver, r == -EFBIG ? "its large files have too many chunks" : "a recipe could not be read back");
	return r == 0;
}

static void load_on_read(struct store_read *read)
{
	struct giver *giver = container_of(read, struct giver, load);
	bool there = read->result == STORE_OK;

	giver->loading = false;
	giver->urge = true;
	if (giver->state == GIVER_OVER)
		giver_wake(giver);
	else if (there && load_take(giver, &read->digest, read->blob))
		giver_wake(giver);
	else if (!there && !giver_fetch_again(giver, giver->load_of))
		giver_unfit(giver, "the edge's store lost what it had just read: raise --ceiling");
	free(read->buffer);
	read->buffer = NULL;
}

static void load_start(struct giver *giver, uint32_t number, const struct digest *digest)
{
	giver->load = (struct store_read){
		.scope = giver->service->scope, .digest = *digest, .fn = load_on_read,
		.buffer = malloc(digest->size + STORE_READ_EXTRA_BYTES),
	};
	if (!giver->load.buffer) {
		giver_unfit(giver, "the edge is out of memory");
		return;
	}
	giver->load_of = number;
	giver->loading = true;
	store_read(giver->service->cas->store, &giver->load);
}

/* What is lacking of a recipe is being read. */
static bool load_recipe(struct giver *giver, uint32_t number, const struct digest *digest)
{
	const struct recipe_record *record = recipes_find(&giver->recipes, digest);

	if (!record) {
		load_start(giver, number, digest);
		return true;
	}
	for (uint32_t i = 0; record->are_recipes && i < record->count; i++) {
		if (recipes_find(&giver->recipes, &record->blobs[i]))
			continue;
		load_start(giver, number, &record->blobs[i]);
		return true;
	}
	return false;
}

/* Of most contents: then asking about the others is less than the walk along closure marks. */
static bool knows_most(const struct giver *giver)
{
	uint32_t contents = 0, known = 0;

	if (!giver->known || !giver->known->count)
		return false;
	for (uint32_t i = 0; i < giver->listing.count; i++) {
		const struct listing_entry *entry = listing_at(&giver->listing, i);
		struct digest digest = listing_digest(entry);

		if (!(entry->flags & LISTING_DATA) || !digest.size)
			continue;
		contents++;
		known += known_has(giver->known, &digest);
	}
	return 2 * known >= contents;
}

static bool is_needed(const struct giver *giver, const struct listing_entry *entry)
{
	struct digest digest = listing_digest(entry);

	if (!(entry->flags & LISTING_DATA) || !(entry->flags & LISTING_RECIPE))
		return false;
	return giver->recipes_all || !giver->source.assume || !known_has(giver->known, &digest);
}

bool giver_push_has_recipe(struct giver *giver, uint32_t number)
{
	struct digest digest = listing_digest(listing_at(&giver->listing, number));

	return !giver->loading && !load_recipe(giver, number, &digest);
}

bool giver_push_load(struct giver *giver)
{
	if (!giver_bases_loaded(giver))
		return false;
	if (giver->load_next == 0)
		giver->source.assume = knows_most(giver);
	for (; giver->load_next < giver->listing.count; giver->load_next++) {
		const struct listing_entry *entry = listing_at(&giver->listing, giver->load_next);
		struct digest digest = listing_digest(entry);

		if (giver->loading || entry->state == GIVER_ENTRY_WANTED || entry->state == GIVER_ENTRY_UNDER_WAY)
			return false;
		if (is_needed(giver, entry) && load_recipe(giver, giver->load_next, &digest))
			return false;
	}
	return true;
}

/* ---- the source: what lies below ---- */

static int add_child(struct giver *giver, const struct listing_entry *entry)
{
	const struct listing_entry *first = entry->hardlink == LISTING_NONE ? entry : listing_at(&giver->listing, entry->hardlink);
	struct digest digest = listing_digest(first);
	bool *moved;
	size_t room;

	if (S_ISDIR(entry->mode))
		return digest_vector_add(&giver->directories, &digest);
	if (!S_ISREG(entry->mode) || digest.size == 0)
		return 0;
	if (giver->contents.count == giver->are_recipes_room) {
		room = giver->are_recipes_room * 2 + 64;
		moved = realloc(giver->are_recipes, room * sizeof(*moved));
		if (!moved)
			return ERR_RAISE(-ENOMEM);
		giver->are_recipes = moved;
		giver->are_recipes_room = room;
	}
	giver->are_recipes[giver->contents.count] = first->flags & LISTING_RECIPE;
	return digest_vector_add(&giver->contents, &digest);
}

static int source_children(struct uploader_source *source, const struct digest *directory, struct uploader_children *children)
{
	struct giver *giver = of_source(source);
	const struct listing *listing = &giver->listing;
	uint32_t number;
	int r = 0;

	if (!listing_find(listing, directory, &number))
		return ERR_RAISE(-ENOENT);
	giver->directories.count = giver->contents.count = 0;
	for (uint32_t i = listing_first(listing, number); r == 0 && i != LISTING_NONE; i = listing_next(listing, number, i))
		r = add_child(giver, listing_at(listing, i));
	*children = (struct uploader_children){
		.directories = giver->directories.items, .directories_count = giver->directories.count,
		.contents = giver->contents.items, .recipes = giver->are_recipes, .contents_count = giver->contents.count,
	};
	return r;
}

static int source_recipe_children(struct uploader_source *source, const struct digest *recipe, struct uploader_parts *parts)
{
	struct giver *giver = of_source(source);
	const struct recipe_record *record = recipes_find(&giver->recipes, recipe);

	if (!record) {
		giver->recipe_lacking = true;
		return ERR_RAISE(-ENOENT);
	}
	*parts = (struct uploader_parts){ .blobs = record->blobs, .count = record->count, .are_recipes = record->are_recipes };
	return 0;
}

static bool source_known(struct uploader_source *source, const struct digest *blob)
{
	return known_has(of_source(source)->known, blob);
}

static size_t source_bases(struct uploader_source *source, const struct digest *blob,
                           struct digest bases[static UPLOADER_BASES_MAX])
{
	return giver_bases_find(of_source(source), blob, bases);
}

/* ---- the source: bytes ---- */

/* The blobs of a pack, then its bases. */
static struct uploader_piece *piece_at(const struct pack_read *pack, size_t i)
{
	const struct uploader_read *read = pack->read;

	return i < read->count ? &read->pieces[i] : &read->bases[i - read->count];
}

static void pack_step(struct pack_read *pack);

static void pack_miss(struct pack_read *pack, size_t piece)
{
	piece_at(pack, piece)->stale = true;
	if (piece < pack->read->count && pack->result == UPLOADER_READ_OK)
		pack->result = UPLOADER_READ_STALE;
}

static void pack_on_read(struct store_read *read)
{
	struct load *load = container_of(read, struct load, read);
	struct pack_read *pack = load->pack;
	struct uploader_piece *piece = piece_at(pack, load->piece);

	if (read->result == STORE_OK)
		memcpy(piece->buffer, read->blob.data, read->blob.size);
	else if (read->result > 0)
		pack_miss(pack, load->piece);
	else
		pack->result = read->result;
	free(read->buffer);
	load->busy = false;
	pack->under_way--;
	pack_step(pack);
}

/* A directory's message is made again; all else is in the store. 0, or -errno for the pack. */
static int pack_directory(struct pack_read *pack, struct uploader_piece *piece, uint32_t number)
{
	struct buffer out = buffer_heap(TREE_DIRECTORY_BYTES_MAX);
	int r = listing_encode(&pack->giver->listing, number, &out);

	if (r == 0) {
		CHECK(out.size == piece->digest.size);
		if (out.size)
			memcpy(piece->buffer, out.data, out.size);
	}
	buffer_fini(&out);
	return r < 0 ? ERR_RAISE(r) : 0;
}

static void pack_load(struct pack_read *pack, struct load *load, size_t i)
{
	struct uploader_piece *piece = piece_at(pack, i);

	load->read = (struct store_read){
		.scope = pack->giver->service->scope, .digest = piece->digest, .fn = pack_on_read,
		.buffer = malloc(piece->digest.size + STORE_READ_EXTRA_BYTES),
	};
	if (!load->read.buffer) {
		pack->result = -ENOMEM;
		return;
	}
	load->piece = i;
	load->busy = true;
	pack->under_way++;
	store_read(pack->giver->service->cas->store, &load->read);
}

static struct load *idle_load(struct pack_read *pack)
{
	for (size_t i = 0; i < GIVER_LOADS_MAX; i++)
		if (!pack->loads[i].busy)
			return &pack->loads[i];
	return NULL;
}

static void pack_done(struct pack_read *pack)
{
	struct giver *giver = pack->giver;
	struct uploader_read *read = pack->read;

	if (!read || pack->under_way || (pack->next < read->count + read->bases_count && pack->result >= 0))
		return;
	pack->read = NULL;
	read->done(read, pack->result);
	if (giver->state == GIVER_OVER)
		giver_wake(giver);
}

/* A read may complete inside its start: then the step that started it goes on. */
static void pack_step(struct pack_read *pack)
{
	struct load *load;
	uint32_t number;

	if (pack->stepping)
		return;
	pack->stepping = true;
	while (pack->next < pack->read->count + pack->read->bases_count && pack->result >= 0) {
		struct uploader_piece *piece = piece_at(pack, pack->next);

		if (pack->giver->made && listing_find(&pack->giver->listing, &piece->digest, &number)) {
			int r = pack_directory(pack, piece, number);

			pack->result = r < 0 ? r : pack->result;
		} else {
			load = idle_load(pack);
			if (!load)
				break;
			pack_load(pack, load, pack->next);
		}
		pack->next++;
	}
	pack->stepping = false;
	pack_done(pack);
}

static void source_read(struct uploader_source *source, struct uploader_read *read)
{
	struct giver *giver = of_source(source);
	struct pack_read *pack = giver->packs;

	while (pack->read)
		pack++;
	CHECK(pack < giver->packs + UPLOADER_PACKS_MAX);
	pack->giver = giver;
	pack->read = read;
	pack->next = pack->under_way = 0;
	pack->result = UPLOADER_READ_OK;
	for (size_t i = 0; i < GIVER_LOADS_MAX; i++)
		pack->loads[i].pack = pack;
	pack_step(pack);
}

static int source_encode(struct uploader_source *source, const struct digest *directory, struct buffer *out)
{
	const struct listing *listing = &of_source(source)->listing;
	uint32_t number;

	return listing_find(listing, directory, &number) ? listing_encode(listing, number, out) : ERR_RAISE(-ENOENT);
}

static const struct uploader_source_ops source_ops = {
	.children = source_children, .recipe_children = source_recipe_children, .known = source_known, .bases = source_bases,
	.read = source_read, .encode = source_encode,
};

/* ---- the uploader's events ---- */

static void uploader_on_stored(struct uploader *uploader, const struct digest *digests, size_t count)
{
	struct giver *giver = uploader_owner(uploader);

	giver->stored_count += count;
	giver->urge = true;
	for (size_t i = 0; i < count; i++)
		(void)digest_set_add(&giver->stored, &digests[i]);       /* what is not noted here is waited for longer */
	giver_wake(giver);
}

static void uploader_on_answered(struct uploader *uploader)
{
	giver_wake(uploader_owner(uploader));
}

/* ---- what the store lost ---- */

/* An entry that a blob is of: itself, or a chunk of it. */
struct holder {
	uint64_t key;                    /* the beginning of the digest; a false one costs a file read in vain */
	uint32_t number;
};

static uint64_t key_of(const struct digest *digest)
{
	uint64_t key;

	memcpy(&key, digest->hash, sizeof(key));
	return key;
}

static int by_key(const void *a, const void *b)
{
	uint64_t one = ((const struct holder *)a)->key, other = ((const struct holder *)b)->key;

	return (one > other) - (one < other);
}

static void put_recipe(struct giver *giver, const struct digest *digest, uint32_t number, struct holder *to)
{
	const struct recipe_record *record = recipes_find(&giver->recipes, digest);

	for (uint32_t i = 0; record && i < record->count; i++) {
		if (to)
			to[giver->holders_count] = (struct holder){ key_of(&record->blobs[i]), number };
		giver->holders_count++;
		if (record->are_recipes)
			put_recipe(giver, &record->blobs[i], number, to);
	}
}

/* Twice the same way: how many there are, then which. */
static void put_holders(struct giver *giver, struct holder *to)
{
	giver->holders_count = 0;
	for (uint32_t i = 0; i < giver->listing.count; i++) {
		const struct listing_entry *entry = listing_at(&giver->listing, i);
		struct digest digest = listing_digest(entry);

		if (!(entry->flags & LISTING_DATA) || !digest.size)
			continue;
		if (to)
			to[giver->holders_count] = (struct holder){ key_of(&digest), i };
		giver->holders_count++;
		if (entry->flags & LISTING_RECIPE)
			put_recipe(giver, &digest, i, to);
	}
}

/* Anew whenever more is named or loaded since. */
static bool make_holders(struct giver *giver)
{
	size_t named = giver->listing.count - giver->listing.unnamed;

	if (giver->holders && giver->holders_named == named && giver->holders_recipes == giver->recipes.count)
		return true;
	free(giver->holders);
	giver->holders_named = named;
	giver->holders_recipes = giver->recipes.count;
	put_holders(giver, NULL);
	giver->holders = malloc((giver->holders_count + 1) * sizeof(*giver->holders));
	if (!giver->holders)
		return false;
	put_holders(giver, giver->holders);
	qsort(giver->holders, giver->holders_count, sizeof(*giver->holders), by_key);
	return true;
}

/* Any of those that hold it will do, and can still be asked for. */
static bool ask_holders(struct giver *giver, const struct digest *digest)
{
	struct holder wanted = { .key = key_of(digest) };
	const struct holder *found, *end = giver->holders + giver->holders_count;

	found = bsearch(&wanted, giver->holders, giver->holders_count, sizeof(*giver->holders), by_key);
	while (found && found > giver->holders && found[-1].key == wanted.key)
		found--;
	for (; found && found < end && found->key == wanted.key; found++)
		if (giver_fetch_again(giver, found->number))
			return true;
	return false;
}

/* While names still come, the list of before mostly does. */
static bool read_holder_again(struct giver *giver, const struct digest *digest)
{
	if (giver->holders && ask_holders(giver, digest))
		return true;
	return make_holders(giver) && ask_holders(giver, digest);
}

/* How it came to be let go says the log. */
static void give_up_lost(struct giver *giver, const struct digest *digest)
{
	char text[DIGEST_TEXT_MAX];

	log_event(LOG_INFO, "lost a blob that cannot be asked for again", LOG_TEXT("blob", digest_text(digest, text)),
	          LOG_U64("feed", giver->feed), LOG_U64("fed", digest_set_has(&giver->fed_ever, digest)),
	          LOG_U64("stored", digest_set_has(&giver->stored, digest)), LOG_U64("windowed", giver->windowed),
	          LOG_U64("pressed", giver->pressed), LOG_U64("noted", giver->noted.count), LOG_U64("confirmed", giver->confirmed),
	          LOG_U64("promised", giver->uploader ? uploader_totals(giver->uploader)->blobs_promised : 0),
	          LOG_U64("state", giver->state));
	giver_unfit(giver, "the edge's store lost what it had just read: raise --ceiling");
}

static void uploader_on_stale(struct uploader *uploader, const struct digest *digests, size_t count, const char *why)
{
	struct giver *giver = uploader_owner(uploader);

	for (size_t i = 0; i < count && giver->state != GIVER_OVER; i++)
		if (!read_holder_again(giver, &digests[i]))
			give_up_lost(giver, &digests[i]);
	giver->stale = true;
	giver_wake(giver);
}

static void note_known(struct giver *giver)
{
	const struct listing *listing = &giver->listing;

	if (!giver->known)
		return;
	known_add(giver->known, &listing->root);
	for (uint32_t i = 0; i < listing->count; i++) {
		const struct listing_entry *entry = listing_at(listing, i);
		struct digest digest = listing_digest(entry);
		const struct recipe_record *record;

		if (!digest.size)
			continue;
		known_add(giver->known, &digest);
		record = entry->flags & LISTING_RECIPE ? recipes_find(&giver->recipes, &digest) : NULL;
		for (uint32_t k = 0; record && k < record->count; k++)
			known_add(giver->known, &record->blobs[k]);
	}
}

static void giver_count_push(struct giver *giver)
{
	const struct uploader_totals *totals = uploader_totals(giver->uploader);

	giver->bytes_sent += totals->bytes_sent - giver->sent_counted;
	giver->service->counters.bytes_sent += totals->bytes_sent - giver->sent_counted;
	giver->service->counters.blobs_asked += totals->blobs_asked - giver->asked_counted;
	giver->sent_counted = totals->bytes_sent;
	giver->asked_counted = totals->blobs_asked;
}

void giver_push_restart(struct giver *giver)
{
	giver_count_push(giver);                 /* a push that is cut short is not told as done */
	giver->restart = true;
	giver->service->counters.pushes_again++;
	uploader_close(giver->uploader);
}

static void uploader_on_done(struct uploader *uploader, int outcome, enum grpc_status status, const char *why)
{
	struct giver *giver = uploader_owner(uploader);
	const char *lost = status == GRPC_UNAVAILABLE ? pusher_lost(giver->service->pusher) : NULL;
	char text[CALL_STATUS_TEXT_MAX + 32];

	if (giver->state == GIVER_OVER)
		return;
	giver_count_push(giver);
	if (outcome == UPLOADER_OK) {
		giver_bases_learn(giver);
		note_known(giver);
		giver_on_committed(giver);
		return;
	}
	if (giver->recipe_lacking && !giver->recipes_all) {
		giver->recipe_lacking = false;
		giver->recipes_all = true;
		giver_push_restart(giver);
		return;
	}
	if (outcome == UPLOADER_REFUSED && status == GRPC_UNAVAILABLE && ++giver->tries < GIVER_PUSHES_MAX) {
		log_event(LOG_WARNING, "push begins again", LOG_TEXT("why", why));
		giver_push_restart(giver);
		return;
	}
	snprintf(text, sizeof(text), "the push failed: %.400s", lost ? lost : why);
	giver_unfit(giver, text);
}

static void uploader_on_closed(void *owner)
{
	struct giver *giver = owner;
	bool again = giver->restart && giver->state != GIVER_OVER;

	giver->uploader = NULL;
	giver->restart = giver->uploader_closing = giver->stale = false;
	giver->sent_counted = giver->asked_counted = 0;
	giver->fed = giver->confirmed;
	giver->fed_count = giver->stored_count = 0;
	giver->sample = (struct giver_sample){ .count = giver->sample.count };
	digest_set_fini(&giver->stored);
	digest_set_fini(&giver->fed_ever);
	giver_wake(giver);
	if (again && giver->state == GIVER_PUSHING)
		giver_load_again(giver);
}

static const struct uploader_events uploader_events = {
	.on_stored = uploader_on_stored, .on_answered = uploader_on_answered, .on_stale = uploader_on_stale, .on_done = uploader_on_done,
	.on_closed = uploader_on_closed,
};

static int uploader_open(void *owner, struct call *call, const char *path, size_t message_bytes_max,
                         const struct call_events *events, void *call_owner)
{
	struct giver *giver = owner;

	return pusher_call(giver->service->pusher, call, path, message_bytes_max, events, call_owner);
}

static uint64_t uploader_line_rate(void *owner)
{
	return pusher_line_rate(((struct giver *)owner)->service->pusher);
}

bool giver_push_open(struct giver *giver)
{
	struct uploader_config config = {
		.ring = giver->service->cas->ring, .source = &giver->source, .events = &uploader_events, .owner = giver,
		.level = LEVEL_AUTO, .open = uploader_open, .line_rate = uploader_line_rate,
	};
	char text[UPSTREAM_TEXT_MAX + 32];
	int r;

	giver->source.ops = &source_ops;
	if (giver->uploader)
		return true;
	r = uploader_create(&giver->uploader, &config);
	if (r == 0)
		return true;
	giver->uploader = NULL;
	snprintf(text, sizeof(text), "no push: %s", r == -ENOMEM ? "the edge is out of memory" : giver->service->pusher->why);
	giver_unfit(giver, text);
	return false;
}

/* ---- what others ask ---- */

/* What the gateway played last, unless this edge knows the context better, or something was lost. */
static struct digest wanted_base(const struct giver *giver)
{
	return giver->feed == GIVER_FEED_ALL || giver->recipes_all || giver->tries ? (struct digest){ 0 } : giver->ask_known;
}

void giver_push_commit(struct giver *giver)
{
	if (!giver_push_open(giver))
		return;
	giver_bases_directories(giver);
	giver->source.base = wanted_base(giver);
	uploader_commit(giver->uploader, &giver->listing.root);
}

void giver_push_close(struct giver *giver)
{
	giver->restart = false;
	if (!giver->uploader || giver->uploader_closing)
		return;
	giver->uploader_closing = true;
	giver_count_push(giver);
	uploader_close(giver->uploader);
}

bool giver_push_idle(const struct giver *giver)
{
	for (size_t i = 0; i < UPLOADER_PACKS_MAX; i++)
		if (giver->packs[i].read)
			return false;
	return !giver->uploader && !giver->loading && !giver->former_loading;
}

void giver_push_fini(struct giver *giver)
{
	giver_bases_fini(giver);
	recipes_fini(&giver->recipes);
	digest_set_fini(&giver->stored);
	digest_set_fini(&giver->fed_ever);
	digest_vector_fini(&giver->noted);
	digest_vector_fini(&giver->directories);
	digest_vector_fini(&giver->contents);
	free(giver->are_recipes);
	free(giver->holders);
}
