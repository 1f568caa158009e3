/*
 * Contents out of the store. Completions only note what has come and touch the playback: everything else, events above
 * all, happens in the turn that a touch posts, since a read may land inside any store call.
 */
#include "gateway/cas/playback.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/err.h"

#define CHECK_DIGESTS_MAX 1024           /* a look-up */

enum playback_state {
	PLAYBACK_NONE,
	PLAYBACK_WAITING,                /* for a place */
	PLAYBACK_RECIPE,                 /* its recipe, or a part of it, is being read, to be checked */
	PLAYBACK_CHECKING,               /* its chunks are being looked up */
	PLAYBACK_PLAYING,
};

/* A blob that is being read, or was. */
struct ahead {
	struct playbacks *playbacks;
	struct playing *playing;         /* NULL: nobody wants it any more */
	struct list link;                /* of playing.chunks */
	struct store_read read;
	bool landed;
	size_t bytes;                    /* of memory */
	size_t taken;
	uint8_t data[];
};

/* A place under way. */
struct playing {
	struct playback *playback;       /* NULL: free */
	struct playbacks *playbacks;
	struct list chunks;              /* in order */
	unsigned chunks_count;
	struct store_hold *hold;
	struct list link;                /* of playbacks.touched or playbacks.checks */
	bool touched;
	/* Of a content with a recipe. `top` lists parts, when there are such; `part` lists chunks. */
	struct ahead *loading, *top, *part;
	struct recipe_reader top_reader, part_reader;
	uint64_t parts_bytes;            /* that the parts so far said to be */
	bool given;                      /* a whole file's one blob is on its way */
	uint64_t position;               /* in the file, of the next entry of the part */
};

/* What one playing asks in the look-up that is under way. */
struct share {
	struct playing *playing;         /* NULL: it has gone */
	size_t count;
	bool ends;                       /* the part has no more */
};

struct playbacks {
	struct cas *cas;
	struct scope scope;
	struct playback_events events;
	void *owner;
	bool closing, running, posted, checking;
	struct post turn;
	unsigned reads_out;
	unsigned lent;                   /* chunks that were taken, and are not dropped yet */
	size_t bytes;
	struct list waiting;             /* playbacks */
	struct list touched, touched_checks, checks;
	struct playing places[PLAYBACKS_ACTIVE_MAX];
	struct playbacks_totals totals;
	struct store_lookup lookup;
	struct share shares[PLAYBACKS_ACTIVE_MAX];
	size_t shares_count;
	struct digest digests[CHECK_DIGESTS_MAX];
	uint32_t answers[CHECK_DIGESTS_MAX];
};

static void playbacks_on_turn(struct post *post);

/* ---- the set ---- */

struct playbacks *playbacks_create(struct cas *cas, const struct scope *scope, const struct playback_events *events,
                                   void *owner)
{
	struct playbacks *playbacks = calloc(1, sizeof(*playbacks));

	if (!playbacks)
		return NULL;
	playbacks->cas = cas;
	cas->playbacks_open++;
	playbacks->scope = *scope;
	playbacks->events = *events;
	playbacks->owner = owner;
	playbacks->turn.fn = playbacks_on_turn;
	list_init(&playbacks->waiting);
	list_init(&playbacks->touched);
	list_init(&playbacks->checks);
	return playbacks;
}

void *playbacks_owner(const struct playbacks *playbacks)
{
	return playbacks->owner;
}

const struct playbacks_totals *playbacks_totals(const struct playbacks *playbacks)
{
	return &playbacks->totals;
}

size_t playbacks_memory(const struct playbacks *playbacks)
{
	return playbacks->bytes;
}

static void playbacks_close_join(struct playbacks *playbacks)
{
	if (playbacks->running || playbacks->posted || playbacks->checking || playbacks->reads_out ||
	    playbacks->lent)
		return;
	CHECK(playbacks->bytes == 0);
	playbacks->cas->playbacks_open--;
	free(playbacks);
}

static void playbacks_schedule(struct playbacks *playbacks)
{
	if (playbacks->posted)
		return;
	playbacks->posted = true;
	ring_post(playbacks->cas->ring, &playbacks->turn);
}

/* Something came for it: it is looked at in the next turn. */
static void playing_touch(struct playing *playing)
{
	if (playing->touched)
		return;
	playing->touched = true;
	list_append(&playing->playbacks->touched, &playing->link);
	playbacks_schedule(playing->playbacks);
}

/* ---- blobs ---- */

static void ahead_free(struct ahead *ahead)
{
	if (!ahead)
		return;
	list_remove(&ahead->link);
	ahead->playbacks->bytes -= ahead->bytes;
	free(ahead);
}

/* Nobody waits for it any more. */
static void ahead_leave(struct ahead *ahead)
{
	if (!ahead)
		return;
	list_remove(&ahead->link);
	ahead->playing = NULL;
	if (ahead->landed)
		ahead_free(ahead);
}

static void ahead_on_read(struct store_read *read)
{
	struct ahead *ahead = container_of(read, struct ahead, read);
	struct playbacks *playbacks = ahead->playbacks;

	ahead->landed = true;
	playbacks->reads_out--;
	playbacks->totals.blobs += read->result == STORE_OK;
	playbacks->totals.bytes += read->blob.size;
	if (ahead->playing) {
		playing_touch(ahead->playing);
		return;
	}
	ahead_free(ahead);
	if (playbacks->closing)
		playbacks_close_join(playbacks);
}

static size_t ahead_bytes(const struct digest *digest)
{
	size_t payload = digest->size > STORE_BLOB_BYTES_MAX ? 0 : (size_t)digest->size;

	return sizeof(struct ahead) + payload + STORE_READ_EXTRA_BYTES;
}

/* Not read yet. NULL: no memory. */
static struct ahead *ahead_create(struct playing *playing, const struct digest *digest)
{
	size_t bytes = ahead_bytes(digest);
	struct ahead *ahead = malloc(bytes);

	if (!ahead)
		return NULL;
	*ahead = (struct ahead){
		.playbacks = playing->playbacks, .playing = playing, .bytes = bytes,
		.read = { .scope = playing->playbacks->scope, .digest = *digest, .fn = ahead_on_read },
	};
	ahead->read.buffer = ahead->data;
	playing->playbacks->bytes += bytes;
	return ahead;
}

static void ahead_read(struct ahead *ahead)
{
	ahead->playbacks->reads_out++;
	store_read(ahead->playbacks->cas->store, &ahead->read);
}

/* ---- a place ---- */

static void playing_release(struct playing *playing)
{
	struct playbacks *playbacks = playing->playbacks;

	while (!list_empty(&playing->chunks))
		ahead_leave(container_of(playing->chunks.next, struct ahead, link));
	ahead_leave(playing->loading);
	ahead_leave(playing->top);
	ahead_leave(playing->part);
	store_hold_release(playing->hold);
	list_remove(&playing->link);
	for (size_t i = 0; i < playbacks->shares_count; i++)
		if (playbacks->shares[i].playing == playing)
			playbacks->shares[i].playing = NULL;
	playing->playback->playing = NULL;
	playing->playback->state = PLAYBACK_NONE;
	*playing = (struct playing){ 0 };
	if (!list_empty(&playbacks->waiting))
		playbacks_schedule(playbacks);
}

/* It ends here, before or after it was ready. The last thing: the owner may do anything. */
static void playing_fail(struct playing *playing, int result)
{
	struct playback *playback = playing->playback;
	struct playbacks *playbacks = playing->playbacks;

	playing_release(playing);
	if (playback->ready) {
		playbacks->totals.failed++;
		playbacks->events.on_failed(playback, result);
		return;
	}
	/* What is damaged is quarantined by now, which is as good as missing to who has not begun. */
	if (result == STORE_CORRUPT)
		result = STORE_MISSING;
	playbacks->totals.missing += result == STORE_MISSING;
	playbacks->events.on_ready(playback, result);
}

/* As above, the last thing. */
static void playing_ready(struct playing *playing)
{
	struct playback *playback = playing->playback;
	struct playbacks *playbacks = playing->playbacks;

	playback->ready = true;
	if (playback_ended(playback))
		playing_release(playing);
	playbacks->events.on_ready(playback, STORE_OK);
}

/* ---- what comes next ---- */

enum next_outcome {
	NEXT_CHUNK,
	NEXT_WAIT,                       /* for a part */
	NEXT_END,
	NEXT_MALFORMED,
	NEXT_MEMORY,
};

/* Reads the next part. */
static enum next_outcome part_next(struct playing *playing)
{
	struct digest digest;

	ahead_leave(playing->part);
	playing->part = NULL;
	if (!playing->top || !recipe_next(&playing->top_reader, &digest))
		return playing->top_reader.failed ? NEXT_MALFORMED : NEXT_END;
	/* Held first, so that what is found there stays. */
	if (store_hold_blobs(playing->hold, &digest, 1) < 0)
		return NEXT_MEMORY;
	playing->loading = ahead_create(playing, &digest);
	if (!playing->loading)
		return NEXT_MEMORY;
	ahead_read(playing->loading);
	return NEXT_WAIT;
}

/* The chunk to be read next, and where it begins in the file; those before the offset are passed over. */
static enum next_outcome chunk_next(struct playing *playing, struct digest *digest, uint64_t *begin)
{
	const struct playback *playback = playing->playback;

	if (!playback->name.recipe) {
		*digest = playback->name.digest;
		*begin = 0;
		return playing->given ? NEXT_END : NEXT_CHUNK;
	}
	for (;;) {
		enum next_outcome outcome;

		if (playing->loading)
			return NEXT_WAIT;
		while (playing->part && recipe_next(&playing->part_reader, digest)) {
			*begin = playing->position;
			playing->position += digest->size;
			if (playing->position > playback->offset)
				return NEXT_CHUNK;
		}
		if (playing->part_reader.failed)
			return NEXT_MALFORMED;
		outcome = part_next(playing);
		if (outcome != NEXT_WAIT)
			return outcome;
	}
}

/* Starts reads: always one, and more while there is room. */
static int playing_fill(struct playing *playing)
{
	struct playbacks *playbacks = playing->playbacks;

	while (playing->chunks_count <= PLAYBACK_AHEAD) {
		struct recipe_reader before = playing->part_reader;
		uint64_t position = playing->position, begin;
		struct digest digest;
		struct ahead *ahead;

		switch (chunk_next(playing, &digest, &begin)) {
		case NEXT_CHUNK:
			break;
		case NEXT_WAIT:
		case NEXT_END:
			return 0;
		case NEXT_MALFORMED:
			return STORE_MISSING;
		case NEXT_MEMORY:
			return ERR_RAISE(-ENOMEM);
		}
		if ((playing->chunks_count || playbacks->lent) && playbacks->bytes + ahead_bytes(&digest) > PLAYBACKS_BYTES_MAX) {
			playing->part_reader = before;           /* later */
			playing->position = position;
			return 0;
		}
		ahead = ahead_create(playing, &digest);
		if (!ahead)
			return ERR_RAISE(-ENOMEM);
		playing->given = true;
		if (begin < playing->playback->offset)
			ahead->taken = (size_t)(playing->playback->offset - begin);
		list_append(&playing->chunks, &ahead->link);
		playing->chunks_count++;
		ahead_read(ahead);
	}
	return 0;
}

/* ---- checking a recipe ---- */

static void playing_check(struct playing *playing)
{
	playing->playback->state = PLAYBACK_CHECKING;
	list_remove(&playing->link);
	playing->touched = false;
	list_append(&playing->playbacks->checks, &playing->link);
	playbacks_schedule(playing->playbacks);
}

/* Everything is here: to the beginning again, to be played. */
static void playing_checked(struct playing *playing)
{
	struct playback *playback = playing->playback;
	uint64_t said = playing->top ? playing->parts_bytes : playing->part_reader.head.file_size;
	int r;

	if (said != playback->name.size) {
		playing_fail(playing, STORE_MISSING);
		return;
	}
	if (playing->top)
		recipe_open(&playing->top_reader, playing->top->read.blob);
	else
		recipe_open(&playing->part_reader, playing->part->read.blob);
	playback->state = PLAYBACK_PLAYING;
	r = playback_ended(playback) ? 0 : playing_fill(playing);
	if (r)
		playing_fail(playing, r);
	else
		playing_ready(playing);
}

/* The next part, to be checked; none: all was. */
static void playing_check_part(struct playing *playing)
{
	playing->playback->state = PLAYBACK_RECIPE;
	switch (part_next(playing)) {
	case NEXT_WAIT:
		return;
	case NEXT_END:
		playing_checked(playing);
		return;
	case NEXT_MEMORY:
		playing_fail(playing, ERR_RAISE(-ENOMEM));
		return;
	default:
		playing_fail(playing, STORE_MISSING);
	}
}

/* A recipe was read. 0, or what is wrong. */
static int recipe_loaded(struct playing *playing)
{
	struct ahead *loaded = playing->loading;
	struct recipe_reader reader;

	playing->loading = NULL;
	if (loaded->read.result != STORE_OK || !recipe_open(&reader, loaded->read.blob)) {
		int result = loaded->read.result;

		ahead_leave(loaded);
		return result ? result : STORE_MISSING;
	}
	if (reader.head.level == 1 && !playing->top && !playing->part) {
		playing->top = loaded;
		playing->top_reader = reader;
		return 0;
	}
	playing->part = loaded;
	playing->part_reader = reader;
	return reader.head.level == 0 ? 0 : STORE_MISSING;
}

/* RECIPE: the top, or a part that is to be checked, is there. */
static void playing_on_recipe(struct playing *playing)
{
	int r = recipe_loaded(playing);

	if (r) {
		playing_fail(playing, r);
	} else if (playing->part) {
		playing->parts_bytes += playing->part_reader.head.file_size;
		playing_check(playing);
	} else {
		playing_check_part(playing);
	}
}

/* Takes digests of the part into the look-up, as many as there is room for. 0, or what is wrong. */
static int share_fill(struct playbacks *playbacks, struct share *share, size_t *at)
{
	struct playing *playing = share->playing;

	while (*at < CHECK_DIGESTS_MAX) {
		struct digest *digest = &playbacks->digests[*at];
		int r;

		if (!recipe_next(&playing->part_reader, digest)) {
			share->ends = true;
			return playing->part_reader.failed ? STORE_MISSING : 0;
		}
		r = store_hold_blobs(playing->hold, digest, 1);
		if (r < 0)
			return r;
		++*at;
		share->count++;
	}
	return 0;
}

static void checks_on_lookup(struct store_lookup *lookup);

/* One look-up for all that wait for one. */
static void playbacks_check(struct playbacks *playbacks)
{
	size_t at = 0;

	if (playbacks->checking || playbacks->closing || list_empty(&playbacks->checks))
		return;
	playbacks->shares_count = 0;
	while (at < CHECK_DIGESTS_MAX && !list_empty(&playbacks->checks)) {
		struct list *link = list_take(&playbacks->checks);
		struct share share = { .playing = container_of(link, struct playing, link) };
		size_t begin = at;
		int r = share_fill(playbacks, &share, &at);

		if (r) {
			at = begin;
			playing_fail(share.playing, r);
			if (playbacks->closing)
				return;
			continue;
		}
		playbacks->shares[playbacks->shares_count++] = share;
	}
	if (playbacks->shares_count == 0)
		return;
	playbacks->checking = true;
	playbacks->lookup = (struct store_lookup){
		.scope = playbacks->scope, .digests = playbacks->digests, .count = at, .places = playbacks->answers,
		.fn = checks_on_lookup,
	};
	store_lookup(playbacks->cas->store, &playbacks->lookup);
}

/* Looked at in the turn, as everything. */
static void checks_on_lookup(struct store_lookup *lookup)
{
	struct playbacks *playbacks = container_of(lookup, struct playbacks, lookup);

	playbacks->checking = false;
	if (playbacks->closing)
		playbacks_close_join(playbacks);
	else
		playbacks_schedule(playbacks);
}

/* What the look-up said. */
static void playbacks_answer(struct playbacks *playbacks)
{
	size_t at = 0;

	for (size_t i = 0; i < playbacks->shares_count && !playbacks->closing; i++) {
		struct share share = playbacks->shares[i];
		bool whole = true;

		for (size_t end = at + share.count; at < end; at++)
			whole = whole && playbacks->answers[at];
		if (!share.playing)
			continue;
		playbacks->shares[i].playing = NULL;
		if (playbacks->lookup.result < 0)
			playing_fail(share.playing, playbacks->lookup.result);
		else if (!whole)
			playing_fail(share.playing, STORE_MISSING);
		else if (!share.ends)
			playing_check(share.playing);
		else if (share.playing->top)
			playing_check_part(share.playing);
		else
			playing_checked(share.playing);
	}
	playbacks->shares_count = 0;
}

/* ---- the turn ---- */

static void playing_start(struct playing *playing)
{
	struct playback *playback = playing->playback;
	const struct content_name *name = &playback->name;
	int r = 0;

	playback->state = PLAYBACK_PLAYING;
	if (playback->offset == name->size && !name->recipe) {
		playing_ready(playing);
		return;
	}
	if (!name->recipe) {
		r = name->digest.size == name->size ? playing_fill(playing) : STORE_MISSING;
	} else if (name->digest.size > RECIPE_BYTES_MAX) {
		r = STORE_MISSING;
	} else {
		playback->state = PLAYBACK_RECIPE;
		playing->hold = store_hold_create(playing->playbacks->cas->store, &playing->playbacks->scope);
		playing->loading = ahead_create(playing, &name->digest);
		if (playing->hold && playing->loading)
			ahead_read(playing->loading);
		else
			r = ERR_RAISE(-ENOMEM);
	}
	if (r)
		playing_fail(playing, r);
}

static void playbacks_start_waiting(struct playbacks *playbacks)
{
	for (unsigned i = 0; i < PLAYBACKS_ACTIVE_MAX && !playbacks->closing; i++) {
		struct playing *playing = &playbacks->places[i];
		struct list *link;

		if (playing->playback)
			continue;
		link = list_take(&playbacks->waiting);
		if (!link)
			return;
		*playing = (struct playing){
			.playbacks = playbacks, .playback = container_of(link, struct playback, link),
		};
		list_init(&playing->chunks);
		playing->playback->playing = playing;
		playing_start(playing);
	}
	/* Those that were at their end at once have left their places again. */
	if (!playbacks->closing && !list_empty(&playbacks->waiting))
		for (unsigned i = 0; i < PLAYBACKS_ACTIVE_MAX; i++)
			if (!playbacks->places[i].playback)
				playbacks_schedule(playbacks);
}

static struct ahead *playing_head(const struct playing *playing)
{
	return list_empty(&playing->chunks) ? NULL : container_of(playing->chunks.next, struct ahead, link);
}

/* PLAYING: a chunk or a part is there. */
static void playing_on_chunk(struct playing *playing)
{
	struct playback *playback = playing->playback;
	struct ahead *head;
	int r = 0;

	if (playing->loading && playing->loading->landed) {
		r = recipe_loaded(playing);
		if (!r && playing->position + playing->part_reader.head.file_size <= playback->offset) {
			playing->position += playing->part_reader.head.file_size;
			playing->part_reader.rest.size = 0;
			playing->part_reader.sum = playing->part_reader.head.file_size;
		}
	}
	if (!r)
		r = playing_fill(playing);
	head = playing_head(playing);
	if (!r && head && head->landed)
		r = head->read.result;
	if (r)
		playing_fail(playing, r);
	else if (!playback->ready && head && head->landed)
		playing_ready(playing);
	else if (playback->starved && head && head->landed) {
		playback->starved = false;
		playing->playbacks->events.on_data(playback);
	}
}

static void playing_step(struct playing *playing)
{
	switch (playing->playback->state) {
	case PLAYBACK_RECIPE:
		if (playing->loading && playing->loading->landed)
			playing_on_recipe(playing);
		return;
	case PLAYBACK_PLAYING:
		playing_on_chunk(playing);
		return;
	default:
		return;
	}
}

static void playbacks_on_turn(struct post *post)
{
	struct playbacks *playbacks = container_of(post, struct playbacks, turn);
	struct list touched, *link;

	playbacks->posted = false;
	playbacks->running = true;
	if (!playbacks->closing && !playbacks->checking)
		playbacks_answer(playbacks);
	if (!playbacks->closing)
		playbacks_start_waiting(playbacks);
	/* What is touched meanwhile has the next turn. */
	list_init(&touched);
	while ((link = list_take(&playbacks->touched)))
		list_append(&touched, link);
	while (!playbacks->closing && (link = list_take(&touched))) {
		struct playing *playing = container_of(link, struct playing, link);

		playing->touched = false;
		playing_step(playing);
	}
	playbacks_check(playbacks);
	playbacks->running = false;
	if (playbacks->closing)
		playbacks_close_join(playbacks);
}

/* ---- a playback ---- */

void playback_start(struct playbacks *playbacks, struct playback *playback, const struct content_name *name, uint64_t offset)
{
	CHECK(playback->state == PLAYBACK_NONE);
	CHECK(!playbacks->closing);
	CHECK(offset <= name->size);
	*playback = (struct playback){
		.playbacks = playbacks, .name = *name, .offset = offset, .state = PLAYBACK_WAITING,
	};
	list_append(&playbacks->waiting, &playback->link);
	playbacks->totals.started++;
	playbacks_schedule(playbacks);
}

struct span playback_data(struct playback *playback)
{
	struct ahead *head = playback->playing && playback->ready ? playing_head(playback->playing) : NULL;

	if (!head || !head->landed || head->read.result != STORE_OK) {
		playback->starved = true;
		return (struct span){ 0 };
	}
	playback->starved = false;       /* found without being told */
	return span_make(head->read.blob.data + head->taken, head->read.blob.size - head->taken);
}

/* The first chunk has left the list. */
static void playing_go_on(struct playing *playing)
{
	playing->chunks_count--;
	if (playback_ended(playing->playback))
		playing_release(playing);
	else
		playing_touch(playing);          /* reads go on from there */
}

void playback_taken(struct playback *playback, size_t size)
{
	struct playing *playing = playback->playing;
	struct ahead *head;

	if (size == 0)
		return;
	CHECK(playing);
	head = playing_head(playing);
	CHECK(head && head->landed && size <= head->read.blob.size - head->taken);
	head->taken += size;
	playback->offset += size;
	if (head->taken < head->read.blob.size)
		return;
	ahead_leave(head);
	playing_go_on(playing);
}

struct ahead *playback_take_chunk(struct playback *playback, struct span *data)
{
	struct playing *playing = playback->playing;
	struct span rest = playback_data(playback);
	struct ahead *head;

	if (rest.size == 0)
		return NULL;
	head = playing_head(playing);
	list_remove(&head->link);
	head->playing = NULL;
	head->playbacks->lent++;
	playback->offset += rest.size;
	playing_go_on(playing);
	*data = rest;
	return head;
}

void playback_drop_chunk(struct ahead *chunk)
{
	struct playbacks *playbacks;

	if (!chunk)
		return;
	playbacks = chunk->playbacks;
	playbacks->lent--;
	ahead_free(chunk);
	if (playbacks->closing) {
		playbacks_close_join(playbacks);
		return;
	}
	for (unsigned i = 0; i < PLAYBACKS_ACTIVE_MAX; i++)
		if (playbacks->places[i].playback && playbacks->places[i].playback->state == PLAYBACK_PLAYING)
			playing_touch(&playbacks->places[i]);    /* it may have waited for the memory */
}

void playback_stop(struct playback *playback)
{
	list_remove(&playback->link);
	if (playback->playing)
		playing_release(playback->playing);
	playback->state = PLAYBACK_NONE;
	playback->playbacks = NULL;
}

void playbacks_destroy(struct playbacks *playbacks)
{
	if (!playbacks)
		return;
	CHECK(!playbacks->closing);
	while (!list_empty(&playbacks->waiting))
		playback_stop(container_of(playbacks->waiting.next, struct playback, link));
	for (unsigned i = 0; i < PLAYBACKS_ACTIVE_MAX; i++)
		if (playbacks->places[i].playback)
			playback_stop(playbacks->places[i].playback);
	playbacks->closing = true;
	playbacks_close_join(playbacks);
}

/* ---- many at once ---- */

static void contents_free(struct contents_lookup *lookup)
{
	free(lookup->digests);
	free(lookup->places);
	lookup->digests = NULL;
	lookup->places = NULL;
}

static void contents_on_lookup(struct store_lookup *lookup)
{
	struct contents_lookup *contents = container_of(lookup, struct contents_lookup, lookup);

	for (size_t i = 0; lookup->result == 0 && i < contents->count; i++)
		contents->present[i] = lookup->places[i] != 0;
	contents_free(contents);
	contents->result = lookup->result;
	contents->fn(contents);
}

void contents_lookup(struct store *store, struct contents_lookup *lookup)
{
	CHECK(lookup->count <= STORE_BATCH_MAX);
	lookup->digests = malloc((lookup->count + 1) * sizeof(*lookup->digests));
	lookup->places = malloc((lookup->count + 1) * sizeof(*lookup->places));
	if (!lookup->digests || !lookup->places) {
		contents_free(lookup);
		lookup->result = ERR_RAISE(-ENOMEM);
		lookup->fn(lookup);
		return;
	}
	for (size_t i = 0; i < lookup->count; i++)
		lookup->digests[i] = lookup->names[i].digest;
	lookup->lookup = (struct store_lookup){
		.scope = lookup->scope, .digests = lookup->digests, .count = lookup->count, .places = lookup->places,
		.fn = contents_on_lookup,
	};
	store_lookup(store, &lookup->lookup);
}
