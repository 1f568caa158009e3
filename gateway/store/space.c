/* The writer's next segment. */
#include "gateway/store/space.h"

#include <errno.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/store/bytes.h"
#include "gateway/store/state.h"

#define SPACE_PUTS_LEAST    2u               /* one to take, and one left for an eviction's copies */
#define SPACE_RETRY_NS      10000000000ull   /* a full disk may have room again */
#define SPACE_LACK_NS       1000000000ull    /* and what the process lacked may be there again */

uint32_t space_available(const struct store *store)
{
	bool disk_full = store->space.disk_full_until_ns > ring_now_ns(store->ring);

	return store->space.free + (disk_full ? 0 : store->space.absent);
}

static struct segment *space_pick(struct store *store, enum segment_state state)
{
	for (uint32_t i = 0; i < store->segments_max; i++)
		if (store->segments[i].row.state == state)
			return &store->segments[i];
	return NULL;
}

/* ---- the index learns of the new generation before its first byte is written ---- */

static bool space_next(struct index_apply *apply, struct index_change *change)
{
	struct space *space = container_of(apply, struct space, apply);

	if (space->rows_left-- == 0)
		return false;
	change->kind = INDEX_PUT;
	change->table = INDEX_SEGMENTS;
	change->key_size = ROW_SEGMENT_KEY_BYTES;
	bytes_put32_key(change->key, space->segment->number);
	row_segment_encode(change->storage, &space->row);
	change->value = span_make(change->storage, ROW_SEGMENT_BYTES);
	return true;
}

static void space_prepare(struct index_apply *apply)
{
	container_of(apply, struct space, apply)->rows_left = 1;
}

static void space_on_apply(struct index_apply *apply)
{
	struct store *store = container_of(apply, struct store, space.apply);
	struct space *space = &store->space;
	struct segment *segment = space->segment;

	CHECK(space->state == SPACE_ACTIVATING);
	space->state = SPACE_IDLE;
	space->segment = NULL;
	if (apply->result) {
		store_fail(store, apply->result, "index commit", UINT32_MAX);
		return;
	}
	segment->row = space->row;
	segment->tail = 0;
	space->puts_starve = space->moves_starve = false;
	writer_open(&store->writer, segment);
	store_step(store);
}

/* ---- what passes ---- */

/* The process or the machine had none left at that moment: nothing is wrong with the disk, and nothing was written. */
static bool space_lacks(int r)
{
	return err_no_descriptors(r) || r == -ENOMEM;
}

static void space_lack(struct store *store, int r)
{
	struct space *space = &store->space;

	log_event(LOG_ERROR, "no segment for now", LOG_TEXT("error", err_report(r)));
	space->lack = r;
	space->lack_until_ns = ring_now_ns(store->ring) + SPACE_LACK_NS;
	store_step(store);
}

bool space_still_lacks(struct store *store)
{
	if (store->space.lack && store->space.lack_until_ns <= ring_now_ns(store->ring))
		store->space.lack = 0;
	return store->space.lack;
}

static void space_activate(struct store *store, struct segment *segment)
{
	struct space *space = &store->space;
	int r = segment_open_read(segment, store->dir_fd);

	CHECK(segment->readers == 0);
	if (!r)
		r = segment_open_write(segment, store->dir_fd, store->config.direct);
	if (r) {
		space->state = SPACE_IDLE;
		if (space_lacks(r))
			space_lack(store, r);
		else
			store_fail(store, r, "segment open", segment->number);
		return;
	}
	space->free--;
	space->segment = segment;
	space->row = segment->row;
	space->row.state = SEGMENT_OPEN;
	space->row.generation++;
	space->row.durable = 0;
	space->row.used = ++store->used_clock;
	space->state = SPACE_ACTIVATING;
	space->apply = (struct index_apply){ .prepare = space_prepare, .next = space_next, .fn = space_on_apply };
	store->engine->apply(store->index, &space->apply);
}

/* ---- making a file ---- */

static int32_t space_create_work(struct op *op)
{
	struct store *store = container_of(op, struct store, space.work);

	return segment_create(store->dir_fd, store->space.segment->number, store->segment_bytes);
}

static void space_on_create(struct op *op, int32_t res)
{
	struct store *store = container_of(op, struct store, space.work);
	struct space *space = &store->space;
	struct segment *segment = space->segment;

	CHECK(space->state == SPACE_CREATING);
	space->state = SPACE_IDLE;
	space->segment = NULL;
	if (res == 0) {
		segment->row.state = SEGMENT_FREE;
		space->absent--;
		space->free++;
	} else if (res == -ENOSPC || res == -EDQUOT) {
		log_event(LOG_WARNING, "disk full", LOG_U64("segments", store->segments_max - space->absent));
		space->disk_full_until_ns = ring_now_ns(store->ring) + SPACE_RETRY_NS;
	} else if (space_lacks(res)) {
		space_lack(store, res);
		return;
	} else {
		store_fail(store, res, "segment create", segment->number);
		return;
	}
	store_step(store);
}

static void space_create(struct store *store)
{
	struct space *space = &store->space;

	space->segment = space_pick(store, SEGMENT_ABSENT);
	CHECK(space->segment);
	space->state = SPACE_CREATING;
	space->work.fn = space_on_create;
	ring_work(store->ring, &space->work, space_create_work);
}

/* ---- deciding ---- */

static void space_take(struct store *store)
{
	if (store->space.free > 0)
		space_activate(store, space_pick(store, SEGMENT_FREE));
	else
		space_create(store);
}

/* Puts that wait hear it at their next step. */
static void space_refuse(struct store *store)
{
	store->again |= !store->puts.full;
	store->puts.full = true;
}

void space_step(struct store *store)
{
	struct space *space = &store->space;
	uint32_t available = space_available(store);

	if (space->state != SPACE_IDLE || store->writer.segment || store->failed)
		return;
	if (space->moves_starve) {
		if (available > 0 && !space_still_lacks(store))
			space_take(store);
		else
			evict_give_up(store);
		return;
	}
	if (!space->puts_starve)
		return;
	if (space_still_lacks(store))
		space_refuse(store);
	else if (available >= SPACE_PUTS_LEAST)
		space_take(store);
	else if (!evict_start(store))
		space_refuse(store);
}
