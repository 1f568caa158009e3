/* buildx's call: entries in, files asked for, their bytes into the store. */
#include "gateway/edge/giver_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "chunker/sha256.h"
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/broker/diffcopy_head.h"

#define MESSAGE_BYTES_MAX (4u << 20)             /* fsutil's DATA has 32 KiB, a STAT's xattrs a few */
#define ASKED_BYTES_MAX   (1ull << 40)           /* that a file is taken for */

static struct fetch *fetch_of(const struct giver *giver, uint32_t number)
{
	const struct listing_entry *entry;

	if (number >= giver->listing.count)
		return NULL;
	entry = listing_at(&giver->listing, number);
	return entry->state == GIVER_ENTRY_UNDER_WAY ? &giver->fetches[entry->next] : NULL;
}

/* ---- towards buildx ---- */

static void questions_flush(struct giver *giver)
{
	struct span packet;

	while (!giver->client_closed && packet_queue_front(&giver->questions, &packet)) {
		if (call_send(&giver->client, packet, 0) == CALL_FULL)
			return;
		packet_queue_pop(&giver->questions);
	}
	if (giver->fin_wanted && !giver->client_closed)
		call_end(&giver->client);
}

static void question_put(struct giver *giver, struct span packet)
{
	if (packet_queue_push(&giver->questions, &packet, 1) < 0)
		giver_unfit(giver, "the edge is out of memory");
	else
		questions_flush(giver);
}

/* This call's part of the window: those that were given let go when room is short. */
static uint64_t window_bytes(const struct giver *giver)
{
	const struct giver_service *service = giver->service;

	return service->window_bytes / (service->giving > 1 ? service->giving : 1);
}

/* ---- fetches ---- */

static void fetches_start(struct giver *giver);

/* The sum of all does not wrap, whatever a STAT says. */
static uint64_t asked_size(const struct fetch *fetch)
{
	uint64_t size = listing_at(&fetch->giver->listing, fetch->number)->size;

	return size < ASKED_BYTES_MAX ? size : ASKED_BYTES_MAX;
}

/* All that was asked for has come, or it does not count any more. */
static void fetch_came(struct fetch *fetch)
{
	if (fetch->storing)
		fetch->giver->asked_bytes -= asked_size(fetch);
	fetch->storing = false;
}

static void fetch_release(struct fetch *fetch)
{
	struct giver *giver = fetch->giver;

	fetch_came(fetch);
	stat_claim_end(&fetch->claim);
	ingest_file_abandon(&fetch->file);
	if (giver->unstored_of == fetch)
		giver->unstored_of = NULL;
	*fetch = (struct fetch){ .giver = giver };
	list_append(&giver->free, &fetch->link);
	giver->fetching--;
}

static void fetch_done(struct fetch *fetch, const struct content_name *name)
{
	struct giver *giver = fetch->giver;
	struct listing_entry *entry = listing_at(&giver->listing, fetch->number);
	struct content_name before = listing_content(entry);
	bool again = entry->flags & LISTING_NAMED;

	entry->state = fetch->requested ? GIVER_ENTRY_READ : GIVER_ENTRY_SEEN;
	fetch_release(fetch);
	giver->again_count -= again;
	if (again && !digest_equal(&before.digest, &name->digest)) {
		giver_unfit(giver, "a file changed while it was read");
		return;
	}
	if (!again) {
		uint32_t number = (uint32_t)(entry - listing_at(&giver->listing, 0));

		listing_set_content(&giver->listing, number, name);
		giver_ahead_named(giver, number);
	}
	fetches_start(giver);
	giver_wake(giver);
}

static void fetch_request(struct fetch *fetch)
{
	struct giver *giver = fetch->giver;
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];
	struct buffer path = buffer_heap(TREE_PATH_MAX + 1);

	listing_path(&giver->listing, fetch->number, &path);
	giver_bases_begin(fetch, buffer_span(&path));
	buffer_fini(&path);
	fetch->requested = fetch->storing = true;
	giver->asked_bytes += asked_size(fetch);
	giver->files_read++;
	giver->service->counters.files_read++;
	ingest_file_begin(giver->ingest, &fetch->file, listing_at(&giver->listing, fetch->number)->size);
	question_put(giver, span_make(packet, fsutil_write_req(packet, fetch->number)));
}

static void claim_on_named(struct stat_claim *claim, const struct content_name *name)
{
	fetch_done(container_of(claim, struct fetch, claim), name);
}

static void claim_on_lost(struct stat_claim *claim)
{
	fetch_request(container_of(claim, struct fetch, claim));
}

static struct stat_entry_key key_of(const struct giver *giver, uint32_t number, struct buffer *path)
{
	const struct listing_entry *entry = listing_at(&giver->listing, number);

	buffer_clear(path);
	listing_path(&giver->listing, number, path);
	return stat_entry_key(buffer_span(path), entry->size, entry->mtime_ns);
}

/* What is read again is in no other hands: who had it lost it, too. */
static void fetch_begin(struct fetch *fetch)
{
	struct giver *giver = fetch->giver;
	struct buffer path = buffer_heap(TREE_PATH_MAX + 1);
	bool again = listing_at(&giver->listing, fetch->number)->flags & LISTING_NAMED;

	if (giver->table && !again) {
		fetch->claim = (struct stat_claim){
			.table = giver->table, .key = key_of(giver, fetch->number, &path), .on_named = claim_on_named,
			.on_lost = claim_on_lost,
		};
		buffer_fini(&path);
		if (stat_table_claim(&fetch->claim) == STAT_CLAIM_WAIT)
			return;
	}
	fetch_request(fetch);
}

static bool fetches_make(struct giver *giver)
{
	giver->fetches = calloc(GIVER_FETCHES_MAX, sizeof(*giver->fetches));
	if (!giver->fetches)
		return false;
	for (size_t i = 0; i < GIVER_FETCHES_MAX; i++) {
		giver->fetches[i].giver = giver;
		list_append(&giver->free, &giver->fetches[i].link);
	}
	return true;
}

static bool numbers_put(struct numbers *numbers, uint32_t number)
{
	size_t room = numbers->room * 2 + 256;
	uint32_t *moved;

	if (numbers->count == numbers->room) {
		moved = realloc(numbers->items, room * sizeof(*moved));
		if (!moved)
			return false;
		numbers->items = moved;
		numbers->room = room;
	}
	numbers->items[numbers->count++] = number;
	return true;
}

/* The next one that is still wanted; LISTING_NONE: there is none. */
static uint32_t numbers_take(struct numbers *numbers, const struct listing *listing)
{
	while (numbers->first < numbers->count) {
		uint32_t number = numbers->items[numbers->first++];

		if (listing_at(listing, number)->state == GIVER_ENTRY_WANTED)
			return number;
	}
	numbers->first = numbers->count = 0;
	return LISTING_NONE;
}

/* What is asked for comes, whatever waits: so no more than the window takes, but always one. */
static bool has_asked_enough(const struct giver *giver)
{
	return giver->asked_bytes && giver->asked_bytes + giver_feed_pending(giver) > window_bytes(giver);
}

/* By another build, while it waited for its turn here. */
static bool named_meanwhile(struct giver *giver, uint32_t number)
{
	struct listing_entry *entry = listing_at(&giver->listing, number);
	struct buffer path = buffer_heap(TREE_PATH_MAX + 1);
	struct stat_entry_key key;
	struct content_name name;
	bool named = false;

	if (giver->table && !(entry->flags & LISTING_NAMED)) {
		key = key_of(giver, number, &path);
		named = stat_table_find(giver->table, &key, &name) && name.size == entry->size;
	}
	buffer_fini(&path);
	if (!named)
		return false;
	entry->state = GIVER_ENTRY_SEEN;
	listing_set_content(&giver->listing, number, &name);
	giver_ahead_named(giver, number);
	giver_wake(giver);
	return true;
}

static void fetches_start(struct giver *giver)
{
	while (giver->state != GIVER_OVER && giver->wanted_count) {
		struct listing_entry *entry;
		struct fetch *fetch;
		uint32_t number;

		if (!giver->fetches && !fetches_make(giver)) {
			giver_unfit(giver, "the edge is out of memory");
			return;
		}
		if (list_empty(&giver->free))
			return;
		number = numbers_take(&giver->hurried, &giver->listing);
		if (number == LISTING_NONE && has_asked_enough(giver))
			return;                  /* giver_read_resume() comes by again */
		if (number == LISTING_NONE)
			number = numbers_take(&giver->wanted, &giver->listing);
		CHECK(number != LISTING_NONE);
		if (named_meanwhile(giver, number)) {
			giver->wanted_count--;
			continue;
		}
		fetch = container_of(list_take(&giver->free), struct fetch, link);
		fetch->number = number;
		giver->wanted_count--;
		entry = listing_at(&giver->listing, fetch->number);
		entry->state = GIVER_ENTRY_UNDER_WAY;
		entry->next = (uint32_t)(fetch - giver->fetches);
		giver->fetching++;
		fetch_begin(fetch);
	}
}

static void want(struct giver *giver, uint32_t number)
{
	if (!numbers_put(&giver->wanted, number)) {
		giver_unfit(giver, "the edge is out of memory");
		return;
	}
	listing_at(&giver->listing, number)->state = GIVER_ENTRY_WANTED;
	giver->wanted_count++;
}

void giver_read_hurry(struct giver *giver, uint32_t number)
{
	if (listing_at(&giver->listing, number)->state == GIVER_ENTRY_WANTED)
		(void)numbers_put(&giver->hurried, number);      /* else it comes in its turn */
}

/* ---- entries ---- */

static void look_up(struct giver *giver, uint32_t number, struct buffer *path)
{
	const struct listing_entry *entry = listing_at(&giver->listing, number);
	struct content_name name = { .digest = digest_empty };
	struct stat_entry_key key;

	if (!(entry->flags & LISTING_DATA))
		return;
	if (entry->size == 0) {
		listing_set_content(&giver->listing, number, &name);
		return;
	}
	if (giver->table) {
		key = key_of(giver, number, path);
		if (stat_table_find(giver->table, &key, &name) && name.size == entry->size) {
			listing_set_content(&giver->listing, number, &name);
			return;
		}
	}
	want(giver, number);
}

static void look_up_all(struct giver *giver)
{
	struct buffer path = buffer_heap(TREE_PATH_MAX + 1);

	if (giver->table_pending || giver->formers_pending || giver->state != GIVER_LISTING)
		return;
	while (giver->looked < giver->listing.count)
		look_up(giver, giver->looked++, &path);
	buffer_fini(&path);
	fetches_start(giver);
}

static void take_stat(struct giver *giver, const struct fsutil_packet *packet)
{
	struct fsutil_stat stat;
	int r;

	if (giver->listing.ended) {
		giver_unfit(giver, "the client sent an entry behind the last one");
	} else if (!packet->has_stat) {
		listing_end(&giver->listing);
		look_up_all(giver);
		giver_step(giver);
	} else if (!fsutil_stat_decode(packet->stat, &stat)) {
		giver_unfit(giver, "malformed STAT from the client");
	} else {
		r = listing_add(&giver->listing, &stat);
		giver->service->counters.entries++;
		if (r < 0)
			giver_unfit(giver, r == -EINVAL ? giver->listing.fault : "no memory and no disk for the entries");
		else
			look_up_all(giver);
	}
}

/* ---- bytes ---- */

static void store_data(struct fetch *fetch, struct span data)
{
	struct giver *giver = fetch->giver;
	size_t taken = ingest_file_write(&fetch->file, data);

	if (taken == data.size)
		return;
	CHECK(!giver->unstored_of);
	buffer_clear(&giver->unstored);
	buffer_put(&giver->unstored, data.data + taken, data.size - taken);
	if (giver->unstored.failed) {
		giver_unfit(giver, "the edge is out of memory");
		return;
	}
	giver->unstored_of = fetch;
	giver->held_by_store = true;
	call_hold(&giver->client);
}

/* More than a part of the store: what is read goes to the gateway first. Not of what is read again, which was there once. */
static void window_check(struct giver *giver)
{
	if (giver->state != GIVER_LISTING || giver->again_count || giver_feed_pending(giver) <= window_bytes(giver))
		return;
	giver->windowed = giver->held_by_window = true;
	call_hold(&giver->client);
	giver_wake(giver);
}

/* Two holds: while one is waited for, the other takes what comes. */
static void lots_turn(struct giver *giver)
{
	struct store_hold *next;

	if (giver->hold_before && giver->confirmed >= giver->before_end) {
		store_hold_release(giver->hold_before);
		giver->hold_before = NULL;
	}
	if (!giver->windowed || !giver->hold || giver->hold_before ||
	    giver->lot_bytes <= (giver->pressed ? 0 : window_bytes(giver) / 4))
		return;
	next = store_hold_create(giver->service->cas->store, &giver->service->scope);
	if (!next)
		return;
	giver->hold_before = giver->hold;
	giver->before_end = giver->noted.count;
	giver->hold = next;
	giver->lot_bytes = 0;
	giver->pressed = false;
	ingest_set_hold(giver->ingest, next);
}

/* Whatever the gateway has: what is read again may be what it waits for. */
static void read_on(struct giver *giver)
{
	if (!giver->held_by_window)
		return;
	giver->held_by_window = false;
	if (!giver->held_by_store && !giver->client_closed)
		call_release(&giver->client);
}

void giver_read_resume(struct giver *giver)
{
	lots_turn(giver);
	if (giver->held_by_window && giver_feed_pending(giver) <= window_bytes(giver) / 2)
		read_on(giver);
	fetches_start(giver);
}

static void take_data(struct giver *giver, uint32_t number, struct span data)
{
	struct fetch *fetch = fetch_of(giver, number);

	if (!fetch || !fetch->requested || !fetch->storing) {
		giver_unfit(giver, "the client sent a file that it was not asked for");
		return;
	}
	if (data.size) {
		fetch->received += data.size;
		giver->bytes_read += data.size;
		giver->service->counters.bytes_read += data.size;
		store_data(fetch, data);
		window_check(giver);
		return;
	}
	fetch_came(fetch);
	ingest_file_end(&fetch->file);
}

/* A file that changed while the client read it has another length than its STAT: its name is of what came. */
static void file_on_named(struct ingest_file *file)
{
	struct fetch *fetch = container_of(file, struct fetch, file);
	struct giver *giver = fetch->giver;
	struct content_name name = file->name;

	if (file->result != STORE_OK) {
		stat_claim_end(&fetch->claim);
		giver_unfit(giver, file->result == STORE_FULL || file->result == -ENOSPC ?
		            "the edge's store is full: raise --ceiling" : "the edge could not store a file");
		return;
	}
	giver_bases_named(fetch, &name);
	if (fetch->claim.table && name.size == listing_at(&giver->listing, fetch->number)->size)
		stat_claim_named(&fetch->claim, &name);
	else
		stat_claim_end(&fetch->claim);
	fetch_done(fetch, &name);
}

static void ingest_on_room(struct ingest *ingest)
{
	struct giver *giver = ingest_owner(ingest);
	struct buffer *rest = &giver->unstored;
	size_t taken;

	if (!giver->unstored_of)
		return;
	taken = ingest_file_write(&giver->unstored_of->file, buffer_span(rest));
	memmove(rest->data, rest->data + taken, rest->size - taken);
	rest->size -= taken;
	if (rest->size)
		return;
	giver->unstored_of = NULL;
	giver->held_by_store = false;
	if (!giver->held_by_window)
		call_release(&giver->client);
}

static void ingest_on_put(struct ingest *ingest, const struct store_item *items, struct ingest_file *const *files, size_t count,
                          size_t recipes_first)
{
	struct giver *giver = ingest_owner(ingest);

	for (size_t i = 0; i < count; i++) {
		giver_feed_note(giver, &items[i].digest);
		giver->lot_bytes += items[i].digest.size;
		if (i < recipes_first && files[i])
			giver_bases_put(container_of(files[i], struct fetch, file), &items[i].digest);
		if (i >= recipes_first)
			(void)recipes_add(&giver->recipes, &items[i].digest, items[i].data);     /* read from the store then */
	}
	if (giver->state != GIVER_OVER)
		giver_wake(giver);
}

static void press(struct giver *giver)
{
	if (giver->state == GIVER_OVER)
		return;
	giver->windowed = true;
	if (giver->state == GIVER_GIVEN) {
		giver_read_given(giver);
		return;
	}
	giver->pressed = true;
	giver_feed_rest(giver);
	giver_wake(giver);
}

/* Whoever holds it: all goes to the gateway now, and what is there need not be held. */
static void ingest_on_full(struct ingest *ingest)
{
	struct giver *full = ingest_owner(ingest);

	list_for_each(link, &full->service->givers)
		press(container_of(link, struct giver, link));
}

static const struct ingest_events ingest_events = {
	.on_named = file_on_named, .on_room = ingest_on_room, .on_put = ingest_on_put,
	.on_full = ingest_on_full,
};

/* ---- packets ---- */

static void client_on_message(struct call *call, struct span message)
{
	struct giver *giver = container_of(call, struct giver, client);
	struct fsutil_packet packet;
	char text[CALL_STATUS_TEXT_MAX + 1];

	if (giver->state == GIVER_OVER)
		return;
	if (!fsutil_packet_decode(message, &packet)) {
		giver_unfit(giver, "malformed packet from the client");
		return;
	}
	switch (packet.type) {
	case FSUTIL_STAT:
		take_stat(giver, &packet);
		break;
	case FSUTIL_DATA:
		take_data(giver, packet.id, packet.data);
		break;
	case FSUTIL_ERR:
		snprintf(text, sizeof(text), "the client says: %.*s", (int)(packet.data.size < 400 ? packet.data.size : 400),
		         (const char *)packet.data.data);
		giver_unfit(giver, text);
		break;
	default:                                 /* FIN, behind ours */
		break;
	}
}

static void client_on_writable(struct call *call)
{
	questions_flush(container_of(call, struct giver, client));
}

static void client_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct giver *giver = container_of(call, struct giver, client);
	char text[CALL_STATUS_TEXT_MAX + 32];

	giver->client_closed = true;
	if (giver->state != GIVER_OVER && !giver_read_done(giver)) {
		snprintf(text, sizeof(text), "the client ended the call: %.*s", (int)message.size, (const char *)message.data);
		giver_unfit(giver, text);
	}
	giver_join(giver);
}

static const struct call_events client_events = {
	.on_message = client_on_message, .on_writable = client_on_writable, .on_closed = client_on_closed,
};

/* ---- what others ask ---- */

void giver_read_tables(struct giver *giver)
{
	look_up_all(giver);
	giver_step(giver);
}

bool giver_read_done(const struct giver *giver)
{
	return giver->listing.ended && !giver->table_pending && !giver->formers_pending && giver->looked == giver->listing.count &&
	       giver->wanted_count == 0 && giver->fetching == 0 && giver->listing.unnamed == 0;
}

bool giver_read_again(struct giver *giver, uint32_t number)
{
	struct listing_entry *entry = listing_at(&giver->listing, number);

	if (entry->state == GIVER_ENTRY_WANTED || entry->state == GIVER_ENTRY_UNDER_WAY)
		return true;
	if (entry->state == GIVER_ENTRY_READ || giver->client_closed)
		return false;
	giver->service->counters.files_read_again++;
	giver->again_count++;
	want(giver, number);
	giver_read_hurry(giver, number);
	read_on(giver);
	fetches_start(giver);
	return true;
}

void giver_read_given(struct giver *giver)
{
	if (!giver->windowed)
		return;
	ingest_set_hold(giver->ingest, NULL);
	store_hold_release(giver->hold);
	store_hold_release(giver->hold_before);
	giver->hold = giver->hold_before = NULL;
	giver->lot_bytes = 0;
	giver->pressed = false;
}

void giver_read_hold(struct giver *giver)
{
	if (giver->hold)
		return;
	giver->hold = store_hold_create(giver->service->cas->store, &giver->service->scope);
	ingest_set_hold(giver->ingest, giver->hold);     /* without memory it may be lost, and is read again */
}

void giver_read_finish(struct giver *giver)
{
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];

	if (giver->client_closed || giver->fin_wanted)
		return;
	giver->fin_wanted = true;
	question_put(giver, span_make(packet, fsutil_write_fin(packet)));
}

void giver_read_close(struct giver *giver)
{
	if (giver->table_pending)
		stat_request_cancel(&giver->request);
	giver->table_pending = false;
	giver_bases_close(giver);
	for (size_t i = 0; giver->fetches && i < GIVER_FETCHES_MAX; i++)
		if (!list_linked(&giver->fetches[i].link))
			fetch_release(&giver->fetches[i]);
	giver->unstored_of = NULL;
	if (!giver->client_closed)
		call_cancel(&giver->client);
}

void giver_read_fini(struct giver *giver)
{
	ingest_destroy(giver->ingest);
	store_hold_release(giver->hold);
	store_hold_release(giver->hold_before);
	if (giver->table)
		stat_table_save(giver->table);
	stat_table_unref(giver->table);
	known_put(giver->known);
	buffer_fini(&giver->unstored);
	packet_queue_fini(&giver->questions);
	call_fini(&giver->client);
	free(giver->fetches);
	free(giver->hurried.items);
	free(giver->wanted.items);
}

/* ---- the beginning ---- */

static void giver_on_table(struct stat_request *request)
{
	struct giver *giver = container_of(request, struct giver, request);

	giver->table_pending = false;
	giver->table = request->table;
	giver_read_tables(giver);
}

/* Whatever part of the directory is asked for: a path's content is the same in all. */
static void remember(struct giver *giver, struct span directory, uint32_t uid)
{
	struct giver_service *service = giver->service;
	struct span shared_key = session_shared_key(giver->session);
	struct sha256_stream hash;
	uint8_t key[STAT_KEY_BYTES];

	if (!shared_key.size)
		return;
	sha256_stream_init(&hash);
	sha256_stream_update(&hash, (const uint8_t *)&uid, sizeof(uid));
	stat_key_field(&hash, shared_key);
	stat_key_field(&hash, directory);
	sha256_stream_final(&hash, key);
	giver->known = known_get(&service->known, key);
	giver_bases_open(giver, shared_key, directory, uid);
	if (service->mtime_distrust)
		return;
	giver->table_pending = true;
	giver->request.fn = giver_on_table;
	stat_memory_get(service->memory, &giver->request, key);
}

static int start_call(struct giver *giver, const struct grpc_request *head, struct h2 *client, struct span *directory)
{
	struct diffcopy_head read;
	int r = diffcopy_head_read(&read, head);

	if (r == 0)
		r = call_start(&giver->client, client, DIFFCOPY_PATH, span_text("localhost"), 0, read.metadata, read.metadata_count,
		               MESSAGE_BYTES_MAX, &client_events, giver);
	*directory = read.directory;
	diffcopy_head_fini(&read);
	return r;
}

int giver_read_open(struct giver *giver, const struct grpc_request *head, struct h2 *client, uint32_t uid)
{
	struct giver_service *service = giver->service;
	struct span directory = { 0 };
	int r;

	giver->unstored = buffer_heap(SIZE_MAX);
	list_init(&giver->free);
	giver->ingest = ingest_create(service->cas, &service->scope, &ingest_events, giver);
	giver->hold = store_hold_create(service->cas->store, &service->scope);
	r = giver->ingest && giver->hold ? start_call(giver, head, client, &directory) : ERR_RAISE(-ENOMEM);
	if (r < 0) {
		ingest_destroy(giver->ingest);
		store_hold_release(giver->hold);
		return r;
	}
	ingest_set_hold(giver->ingest, giver->hold);
	ingest_set_patience(giver->ingest, GIVER_FULL_NS);
	remember(giver, directory, uid);
	return 0;
}
