/*
 * The ingest and its loop. What is complete of a file (ingest_file.c) is a *piece* of the open *batch*:
 *
 *	open -> sealed -> hashed and put (one a turn of the loop) -> landed: blocks are released, files are told
 */
#include "gateway/cas/ingest_private.h"

#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/cas/recipe_maker.h"

/*
 * What is hashed at a time: 130 us by OpenSSL with SHA instructions; lanes want more pieces to be busy, and wide ones are full with
 * twice as many: those of 64 KiB take 280 us at 3.7 GB/s, where 512 KiB would take 175 at 3.0.
 */
#define HASH_BYTES       (256u << 10)
#define HASH_BYTES_LANES (512u << 10)
#define HASH_BYTES_WIDE  (1024u << 10)

static size_t hash_bytes(const struct sha256 *hasher)
{
	if (hasher->backend == SHA256_OPENSSL)
		return HASH_BYTES;
	/* Without SHA instructions beside them, 16 lanes take twice as long. */
	return hasher->lanes >= 16 && hasher->sha_instructions ? HASH_BYTES_WIDE : HASH_BYTES_LANES;
}

static void ingest_on_turn(struct post *post);
static void ingest_on_timer(struct op *op, int32_t res);
static void ingest_on_again(struct op *op, int32_t res);

/* ---- life ---- */

struct ingest *ingest_create(struct cas *cas, const struct scope *scope, const struct ingest_events *events, void *owner)
{
	struct ingest *ingest = calloc(1, sizeof(*ingest));

	if (!ingest)
		return NULL;
	ingest->cas = cas;
	cas->ingests_open++;
	ingest->scope = *scope;
	ingest->events = *events;
	ingest->owner = owner;
	ingest->turn.fn = ingest_on_turn;
	ingest->timer.fn = ingest_on_timer;
	ingest->again.fn = ingest_on_again;
	ingest->hash_bytes = hash_bytes(cas->hasher);
	list_init(&ingest->files);
	list_init(&ingest->ending);
	list_init(&ingest->naming);
	list_init(&ingest->blocks_free);
	list_init(&ingest->batches_idle);
	list_init(&ingest->sealed);
	list_init(&ingest->refused);
	return ingest;
}

/* What nobody uses goes back, but for so many of each. */
static void ingest_trim(struct ingest *ingest, unsigned keep)
{
	ingest_blocks_trim(ingest, keep);
	ingest_batches_trim(ingest, keep);
}

static void ingest_close_join(struct ingest *ingest)
{
	if (ingest->running || ingest->posted || op_in_flight(&ingest->timer) || op_in_flight(&ingest->again) || ingest->batches_out)
		return;
	ingest_trim(ingest, 0);
	CHECK(ingest->blocks_count == 0);
	CHECK(ingest->batches_count == 0);
	ingest->cas->ingests_open--;
	free(ingest);
}

void *ingest_owner(const struct ingest *ingest)
{
	return ingest->owner;
}

void ingest_set_hold(struct ingest *ingest, struct store_hold *hold)
{
	ingest->hold = hold;
	ingest_hold_batches(ingest);
}

void ingest_set_patience(struct ingest *ingest, uint64_t patience_ns)
{
	ingest->patience_ns = patience_ns;
}

const struct ingest_totals *ingest_totals(const struct ingest *ingest)
{
	return &ingest->totals;
}

size_t ingest_memory(const struct ingest *ingest)
{
	size_t bytes = sizeof(*ingest) + ingest->blocks_count * sizeof(struct ingest_block) +
	               ingest->batches_count * sizeof(struct ingest_batch);

	list_for_each(link, &ingest->files) {
		const struct ingest_file *file = container_of(link, struct ingest_file, link);

		if (file->maker)
			bytes += sizeof(*file->maker) + file->maker->entries.capacity + file->maker->parts.capacity;
	}
	return bytes;
}

void ingest_flush(struct ingest *ingest)
{
	ingest_batch_seal(ingest);
}

/* ---- the loop ---- */

static void ingest_finish_ending(struct ingest *ingest)
{
	list_for_each_safe(link, after, &ingest->ending)
		if (!ingest_file_finish(container_of(link, struct ingest_file, link)))
			break;
}

static bool ingest_pending(const struct ingest *ingest)
{
	return ingest->batches_out || (ingest->open && ingest->open->pieces_count) || !list_empty(&ingest->files) ||
	       !list_empty(&ingest->ending) || !list_empty(&ingest->naming);
}

/* Events. A handler may do anything, also destroy the ingest. */
static void ingest_tell(struct ingest *ingest)
{
	while (!ingest->closing && !list_empty(&ingest->naming)) {
		struct ingest_file *file = container_of(list_take(&ingest->naming), struct ingest_file, link);

		file->state = INGEST_FILE_NONE;
		ingest->events.on_named(file);
	}
	if (!ingest->closing && ingest->room_wanted && ingest->room_made) {
		ingest->room_wanted = false;
		ingest->events.on_room(ingest);
	}
}

static void ingest_on_turn(struct post *post)
{
	struct ingest *ingest = container_of(post, struct ingest, turn);
	struct list *link;

	ingest->posted = false;
	ingest->running = true;
	link = list_take(&ingest->sealed);
	if (link)
		ingest_put_batch(container_of(link, struct ingest_batch, link));
	if (!list_empty(&ingest->sealed))
		ingest_schedule(ingest);         /* the others' turn first */
	ingest_finish_ending(ingest);
	ingest_tell(ingest);
	ingest->running = false;
	if (ingest->closing) {
		ingest_close_join(ingest);
		return;
	}
	if (!ingest_pending(ingest)) {
		ingest_block_leave(ingest);
		ingest_trim(ingest, 1);
	}
}

static void ingest_on_timer(struct op *op, int32_t res)
{
	struct ingest *ingest = container_of(op, struct ingest, timer);

	if (ingest->closing)
		ingest_close_join(ingest);
	else
		ingest_flush(ingest);
}

static void ingest_on_again(struct op *op, int32_t res)
{
	struct ingest *ingest = container_of(op, struct ingest, again);

	if (ingest->closing) {
		ingest_close_join(ingest);
		return;
	}
	if (ingest->events.on_full)
		ingest->events.on_full(ingest);
	ingest_put_again(ingest);
}

void ingest_destroy(struct ingest *ingest)
{
	struct list *lists[3];

	if (!ingest)
		return;
	CHECK(!ingest->closing);
	lists[0] = &ingest->files;
	lists[1] = &ingest->ending;
	lists[2] = &ingest->naming;
	for (size_t i = 0; i < 3; i++)
		while (!list_empty(lists[i]))
			ingest_file_detach(container_of(lists[i]->next, struct ingest_file, link));
	ingest_block_leave(ingest);
	ingest_batches_discard(ingest);
	ingest->closing = true;
	ingest->hold = NULL;             /* its owner may let go of it, and the store be at work still */
	ring_cancel(ingest->cas->ring, &ingest->timer);
	ring_cancel(ingest->cas->ring, &ingest->again);
	ingest_close_join(ingest);
}
