/* Blocks between a scan's threads and an uploader. */
#include "gateway/context/ahead.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "gateway/base/check.h"
#include "gateway/base/digest_map.h"
#include "gateway/base/err.h"
#include "gateway/base/list.h"

#define SECOND_NS 1000000000

struct block {
	struct list link;                /* in free or given; else it is fed */
	uint8_t *bytes;                  /* DIGESTER_BATCH_BYTES; NULL: a scanning thread has them as room */
	size_t count;
	size_t unread;                   /* of a fed one: contents that may still be read */
	struct sha256_job contents[DIGESTER_CONTENTS_MAX];
};

/* Where a content is; of one that was read or is not wanted `block` is NULL. */
struct place {
	struct digest digest;
	struct block *block;
	const uint8_t *data;
};

enum probe {
	PROBE_NONE,
	PROBE_ASKED,                     /* the first block is fed; the others wait for the answer */
	PROBE_LACKING,
	PROBE_VAIN,                      /* or it was stopped: no more is fed */
};

struct ahead {
	struct uploader_source source;
	struct ring *ring;
	void (*feed)(void *owner, const struct digest *digests, size_t count);
	void *owner;
	struct manifest_source *from;    /* NULL: the scan goes on */
	enum probe probe;
	uint64_t asked;                  /* by the probe */
	struct digest_map places;
	struct digest digests[DIGESTER_CONTENTS_MAX];

	pthread_mutex_t mutex;           /* of the following */
	pthread_cond_t freed;            /* a block is, or `over` */
	bool over;                       /* no more is taken */
	bool posted;
	struct post turn;
	struct block blocks[AHEAD_BLOCKS_MAX];
	size_t blocks_made;              /* have had bytes */
	struct list free;                /* with bytes */
	struct list rooms;               /* without: their bytes are with a scanning thread */
	struct list given;               /* in the order in which they came */
};

/* ---- the scan's threads ---- */

/* A block that has bytes to spare, or NULL after having waited; under the mutex. */
static struct block *block_wait(struct ahead *ahead)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += AHEAD_PATIENCE_NS;
	until.tv_sec += until.tv_nsec / SECOND_NS;
	until.tv_nsec %= SECOND_NS;
	while (!ahead->over && list_empty(&ahead->free))
		if (pthread_cond_timedwait(&ahead->freed, &ahead->mutex, &until) == ETIMEDOUT)
			ahead->over = true;
	return ahead->over ? NULL : container_of(list_take(&ahead->free), struct block, link);
}

/* Likewise, without waiting as long as there may be more blocks. */
static struct block *block_take(struct ahead *ahead)
{
	struct block *block;

	if (ahead->over)
		return NULL;
	if (!list_empty(&ahead->free) || ahead->blocks_made == AHEAD_BLOCKS_MAX)
		return block_wait(ahead);
	block = &ahead->blocks[ahead->blocks_made];
	block->bytes = malloc(DIGESTER_BATCH_BYTES);
	ahead->blocks_made += block->bytes != NULL;
	return block->bytes ? block : NULL;
}

static uint8_t *ahead_room(void *context)
{
	struct ahead *ahead = context;
	struct block *block;
	uint8_t *bytes = NULL;

	pthread_mutex_lock(&ahead->mutex);
	block = block_take(ahead);
	if (block) {
		bytes = block->bytes;
		block->bytes = NULL;
		list_append(&ahead->rooms, &block->link);
	}
	pthread_mutex_unlock(&ahead->mutex);
	return bytes;
}

static void ahead_give(void *context, uint8_t *bytes, const struct sha256_job *contents, size_t count)
{
	struct ahead *ahead = context;
	struct block *block;
	bool post;

	CHECK(count <= DIGESTER_CONTENTS_MAX);
	pthread_mutex_lock(&ahead->mutex);
	/* For each room that was had something is given, so there is one. Which it was does not matter. */
	block = container_of(list_take(&ahead->rooms), struct block, link);
	block->bytes = bytes;
	block->count = count;
	memcpy(block->contents, contents, count * sizeof(contents[0]));
	list_append(&ahead->given, &block->link);
	post = !ahead->posted;
	ahead->posted = true;
	pthread_mutex_unlock(&ahead->mutex);
	if (post)
		ring_post(ahead->ring, &ahead->turn);
}

struct digester_taker ahead_taker(struct ahead *ahead)
{
	return (struct digester_taker){ .room = ahead_room, .give = ahead_give, .context = ahead };
}

/* ---- blocks that are fed ---- */

static struct digest content_digest(const struct sha256_job *content)
{
	struct digest digest = { .size = content->size };

	memcpy(digest.hash, content->digest, sizeof(digest.hash));
	return digest;
}

static void block_free(struct ahead *ahead, struct block *block)
{
	pthread_mutex_lock(&ahead->mutex);
	list_append(&ahead->free, &block->link);
	pthread_cond_signal(&ahead->freed);
	pthread_mutex_unlock(&ahead->mutex);
}

static void place_leave(struct ahead *ahead, struct place *place)
{
	struct block *block = place->block;

	place->block = NULL;
	if (--block->unread == 0)
		block_free(ahead, block);
}

/* What was fed before is not fed again. */
static void block_feed(struct ahead *ahead, struct block *block)
{
	size_t count = 0;

	/* One more, so that it is not freed under what is fed last. */
	block->unread = 1;
	for (size_t i = 0; i < block->count; i++) {
		struct digest digest = content_digest(&block->contents[i]);
		struct place *place = NULL;
		bool added = false;

		if (digest.size)
			place = digest_map_add(&ahead->places, &digest, &added);
		if (!added)              /* or there is no memory to remember it: the walk will name it */
			continue;
		place->block = block;
		place->data = block->contents[i].data;
		block->unread++;
		ahead->digests[count++] = digest;
	}
	if (count)
		ahead->feed(ahead->owner, ahead->digests, count);
	ahead->asked += count;
	if (--block->unread == 0)
		block_free(ahead, block);
}

static struct block *given_take(struct ahead *ahead)
{
	struct list *link;

	pthread_mutex_lock(&ahead->mutex);
	link = list_take(&ahead->given);
	pthread_mutex_unlock(&ahead->mutex);
	return link ? container_of(link, struct block, link) : NULL;
}

static void given_feed(struct ahead *ahead)
{
	struct block *block;

	while (ahead->probe != PROBE_ASKED && (block = given_take(ahead))) {
		if (ahead->probe == PROBE_NONE)
			ahead->probe = PROBE_ASKED;
		block_feed(ahead, block);
	}
}

static void given_drop(struct ahead *ahead)
{
	struct block *block;

	while ((block = given_take(ahead)))
		block_free(ahead, block);
}

static void ahead_on_turn(struct post *post)
{
	struct ahead *ahead = container_of(post, struct ahead, turn);

	pthread_mutex_lock(&ahead->mutex);
	ahead->posted = false;
	pthread_mutex_unlock(&ahead->mutex);
	if (ahead->probe == PROBE_VAIN)
		given_drop(ahead);
	else
		given_feed(ahead);
}

void ahead_answered(struct ahead *ahead, uint64_t answered, uint64_t lacking)
{
	if (ahead->probe != PROBE_ASKED || answered < ahead->asked)
		return;
	if (2 * lacking < answered) {
		ahead_stop(ahead);
		return;
	}
	ahead->probe = PROBE_LACKING;
	given_feed(ahead);
}

void ahead_settled(struct ahead *ahead, const struct digest *digests, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct place *place = digest_map_find(&ahead->places, &digests[i]);

		if (place && place->block)
			place_leave(ahead, place);
	}
}

void ahead_stop(struct ahead *ahead)
{
	ahead->probe = PROBE_VAIN;
	pthread_mutex_lock(&ahead->mutex);
	ahead->over = true;
	pthread_cond_broadcast(&ahead->freed);
	pthread_mutex_unlock(&ahead->mutex);
	given_drop(ahead);
}

void ahead_scanned(struct ahead *ahead, struct manifest_source *from)
{
	ahead->from = from;
	/* A tree that is this small is asked about as its root says. */
	if (ahead->probe == PROBE_LACKING)
		given_feed(ahead);
	else
		given_drop(ahead);
}

bool ahead_is_idle(struct ahead *ahead)
{
	bool idle;

	pthread_mutex_lock(&ahead->mutex);
	idle = !ahead->posted;
	pthread_mutex_unlock(&ahead->mutex);
	return idle;
}

/* ---- the source ---- */

static struct ahead *ahead_of(struct uploader_source *source)
{
	return container_of(source, struct ahead, source);
}

static struct uploader_source *from_of(struct uploader_source *source)
{
	struct manifest_source *from = ahead_of(source)->from;

	CHECK(from);                     /* an uploader that has no root asks for nothing but contents */
	return &from->source;
}

static int source_children(struct uploader_source *source, const struct digest *directory, struct uploader_children *children)
{
	struct uploader_source *from = from_of(source);

	return from->ops->children(from, directory, children);
}

static int source_recipe_children(struct uploader_source *source, const struct digest *recipe, struct uploader_parts *parts)
{
	struct uploader_source *from = from_of(source);

	return from->ops->recipe_children(from, recipe, parts);
}

static struct place *digest_place(struct ahead *ahead, const struct digest *digest)
{
	struct place *place = digest_map_find(&ahead->places, digest);

	return place && place->block ? place : NULL;
}

static struct place *piece_place(struct ahead *ahead, const struct uploader_piece *piece)
{
	return digest_place(ahead, &piece->digest);
}

static bool source_has(struct uploader_source *source, const struct digest *blob)
{
	struct uploader_source *from = from_of(source);

	return digest_place(ahead_of(source), blob) || from->ops->has(from, blob);
}

/* Marks those that are not in memory: how many. */
static size_t pieces_mark(struct ahead *ahead, struct uploader_read *read)
{
	size_t absent = 0;

	for (size_t i = 0; i < read->count; i++) {
		read->pieces[i].stale = !piece_place(ahead, &read->pieces[i]);
		absent += read->pieces[i].stale;
	}
	return absent;
}

static void pieces_copy(struct ahead *ahead, const struct uploader_read *read)
{
	for (size_t i = 0; i < read->count; i++)
		if (!read->pieces[i].stale)
			memcpy(read->pieces[i].buffer, piece_place(ahead, &read->pieces[i])->data, read->pieces[i].digest.size);
}

static void pieces_leave(struct ahead *ahead, const struct uploader_read *read)
{
	for (size_t i = 0; i < read->count; i++) {
		struct place *place = piece_place(ahead, &read->pieces[i]);

		if (place)
			place_leave(ahead, place);
	}
}

static void pieces_unmark(struct uploader_read *read)
{
	for (size_t i = 0; i < read->count; i++)
		read->pieces[i].stale = false;
}

/* What is not in memory of a pack. */
struct rest {
	struct uploader_read read;
	struct uploader_read *whole;
	struct uploader_piece pieces[];
};

static void rest_on_read(struct uploader_read *read, int result)
{
	struct rest *rest = container_of(read, struct rest, read);
	struct uploader_read *whole = rest->whole;

	memcpy(whole->why, read->why, sizeof(whole->why));
	free(rest);
	whole->done(whole, result);
}

/* A content that was torn by a change of its file is in memory and in no manifest, so that is asked for nothing but the rest. */
static void rest_read(struct ahead *ahead, struct uploader_read *whole, size_t absent)
{
	struct rest *rest = calloc(1, sizeof(*rest) + absent * sizeof(rest->pieces[0]));

	if (!rest) {
		whole->done(whole, ERR_RAISE(-ENOMEM));
		return;
	}
	rest->whole = whole;
	rest->read.pieces = rest->pieces;
	rest->read.done = rest_on_read;
	for (size_t i = 0; i < whole->count; i++)
		if (whole->pieces[i].stale)
			rest->pieces[rest->read.count++] = (struct uploader_piece){
				.digest = whole->pieces[i].digest, .buffer = whole->pieces[i].buffer,
			};
	CHECK(rest->read.count == absent);
	pieces_unmark(whole);
	ahead->from->source.ops->read(&ahead->from->source, &rest->read);
}

static void source_read(struct uploader_source *source, struct uploader_read *read)
{
	struct ahead *ahead = ahead_of(source);
	size_t absent = pieces_mark(ahead, read);

	if (absent && !ahead->from) {
		read->done(read, UPLOADER_READ_STALE);
		return;
	}
	pieces_copy(ahead, read);
	pieces_leave(ahead, read);
	if (absent == 0) {
		read->done(read, UPLOADER_READ_OK);
	} else if (absent == read->count) {
		pieces_unmark(read);
		ahead->from->source.ops->read(&ahead->from->source, read);
	} else {
		rest_read(ahead, read, absent);
	}
}

/* Nothing is assumed where there is no last time, so nobody asks what was known then. */
static const struct uploader_source_ops source_ops = {
	.children = source_children,
	.recipe_children = source_recipe_children,
	.has = source_has,
	.read = source_read,
};

struct uploader_source *ahead_source(struct ahead *ahead)
{
	return &ahead->source;
}

/* ---- life ---- */

/* Waits are by the clock that nobody sets. */
static int ahead_locks_init(struct ahead *ahead)
{
	pthread_condattr_t attributes;
	int r = pthread_condattr_init(&attributes);

	if (r)
		return -r;
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	r = pthread_cond_init(&ahead->freed, &attributes);
	pthread_condattr_destroy(&attributes);
	if (r)
		return -r;
	pthread_mutex_init(&ahead->mutex, NULL);
	return 0;
}

int ahead_create(struct ahead **out, struct ring *ring, void (*feed)(void *owner, const struct digest *digests, size_t count),
                 void *owner)
{
	struct ahead *ahead = calloc(1, sizeof(*ahead));
	int r;

	if (!ahead)
		return ERR_RAISE(-ENOMEM);
	ahead->source.ops = &source_ops;
	ahead->ring = ring;
	ahead->feed = feed;
	ahead->owner = owner;
	ahead->places.entry_size = sizeof(struct place);
	ahead->turn.fn = ahead_on_turn;
	list_init(&ahead->free);
	list_init(&ahead->rooms);
	list_init(&ahead->given);
	r = ahead_locks_init(ahead);
	if (r) {
		free(ahead);
		return ERR_RAISE(r);
	}
	*out = ahead;
	return 0;
}

void ahead_destroy(struct ahead *ahead)
{
	if (!ahead)
		return;
	CHECK(!ahead->posted);
	for (size_t i = 0; i < ahead->blocks_made; i++)
		free(ahead->blocks[i].bytes);
	digest_map_fini(&ahead->places);
	pthread_cond_destroy(&ahead->freed);
	pthread_mutex_destroy(&ahead->mutex);
	free(ahead);
}
