/* Emptying segments: the states, and copying out what must stay. */
#include "gateway/store/evict_private.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/store/bytes.h"

#define EVICT_AGAIN_NS     1000000000ull  /* when all was pinned and nothing was released since, look again after this */

int evict_init(struct evict *evict, struct store *store)
{
	evict->pinned = fingerprints_make(store->secret);
	evict->walked = fingerprints_make(store->secret);
	evict->members = fingerprints_make(store->secret);
	evict->moved = fingerprints_make(store->secret);
	evict->rows = malloc(EVICT_ROWS_MAX * INDEX_SCAN_ROW_MAX);
	return evict->rows ? 0 : ERR_RAISE(-ENOMEM);
}

void evict_fini(struct evict *evict)
{
	fingerprints_fini(&evict->pinned);
	fingerprints_fini(&evict->walked);
	fingerprints_fini(&evict->members);
	fingerprints_fini(&evict->moved);
	free(evict->stack);
	free(evict->buffer);
	free(evict->rows);
}

void evict_enter(struct evict *evict, enum evict_state state)
{
	evict->state = state;
	evict->scanned = false;
	evict->candidate = NULL;
	evict->rows_at = 0;
}

/* The victim, if any, stays what it was: a sealed segment. */
static void evict_end(struct store *store)
{
	struct evict *evict = &store->evict;

	evict_enter(evict, EVICT_IDLE);
	evict->victim = NULL;
	evict->late = evict->appending = false;
	evict->stack_count = 0;
	fingerprints_fini(&evict->pinned);
	fingerprints_fini(&evict->walked);
	fingerprints_fini(&evict->members);
	fingerprints_fini(&evict->moved);
	store->again = true;
}

void evict_full(struct store *store)
{
	/* Not yet, as long as stale marks may be what the index is full of. */
	if (store_index_tight(store) && tidy_all_marks(store)) {
		evict_end(store);
		return;
	}
	store->evict.full_epoch = store->holds.epoch;
	store->evict.full_ns = ring_now_ns(store->ring);
	store->puts.full = true;
	evict_end(store);
}

void evict_give_up(struct store *store)
{
	CHECK(store->evict.state == EVICT_COPYING);
	CHECK(!store->evict.appending);
	store->space.moves_starve = false;
	evict_full(store);
}

bool evict_copies(const struct store *store)
{
	return store->evict.state == EVICT_COPYING || store->evict.state == EVICT_COMMITTING;
}

static void evict_pin_roots(struct store *store, const struct hold_roots *roots, enum store_kind kind)
{
	for (size_t i = 0; i < roots->list.count; i++)
		evict_pinned_root(store, &(struct store_reference){ .digest = roots->list.items[i], .kind = kind });
}

bool evict_start(struct store *store)
{
	struct evict *evict = &store->evict;
	uint64_t now_ns = ring_now_ns(store->ring), wall_ns = ring_wall_ns(store->ring);

	if (evict->state != EVICT_IDLE)
		return true;
	if (store->closing)
		return false;
	/* What nobody misses goes first: with that there may be room enough. */
	if (tidy_makes_room(store))
		return true;
	if (evict->full_ns && evict->full_epoch == store->holds.epoch && now_ns - evict->full_ns < EVICT_AGAIN_NS)
		return false;
	evict_enter(evict, EVICT_WALKING);
	for (uint32_t i = 0; i < store->segments_max; i++)
		store->segments[i].pinned_part = UINT32_MAX;
	list_for_each(link, &store->holds.list) {
		const struct store_hold *hold = container_of(link, struct store_hold, link);

		evict_pin_roots(store, &hold->directories, STORE_DIRECTORY);
		evict_pin_roots(store, &hold->recipes, STORE_RECIPE);
	}
	for (uint32_t i = 0; i < store->holds.pins_count; i++) {
		const struct store_pin *pin = &store->holds.pins[i];

		if (pin->expires_wall_ns > wall_ns)
			evict_pinned_root(store, &(struct store_reference){ .digest = pin->root, .kind = STORE_DIRECTORY });
	}
	store->again = true;
	return true;
}

/* ---- rows of a segment, a page at a time ---- */

static void evict_on_scan(struct index_scan *scan)
{
	struct store *store = container_of(scan, struct store, evict.scan);

	store->evict.scanning = false;
	store->evict.scanned = true;
	if (scan->result)
		store_fail(store, scan->result, "index scan", UINT32_MAX);
	store_step(store);
}

void evict_scan_begin(struct evict *evict, const struct segment *segment)
{
	bytes_put32_key(evict->scan.key, segment->number);
	evict->scan.key_size = evict->scan.prefix_size = 4;
	evict->scan.table = INDEX_RECORDS;
	evict->scan.rows = evict->rows;
	evict->scan.rows_capacity = EVICT_ROWS_MAX * INDEX_SCAN_ROW_MAX;
	evict->scan.rows_max = EVICT_ROWS_MAX;
	evict->scan.fn = evict_on_scan;
}

void evict_scan(struct store *store, const struct segment *segment, bool first)
{
	struct evict *evict = &store->evict;

	if (first)
		evict_scan_begin(evict, segment);
	evict->rows_at = 0;
	evict->scanned = false;
	evict->scanning = true;
	store->engine->scan(store->index, &evict->scan);
	store_pause(store, STORE_PART_EVICT);
}

/* ---- reading a blob for itself ---- */

static void evict_on_read(struct store_read *read)
{
	struct store *store = container_of(read, struct store, evict.read);

	store->evict.reading = false;
	store->evict.read_done = true;
	store_step(store);
}

void evict_read(struct store *store, const struct digest *digest)
{
	struct evict *evict = &store->evict;
	size_t capacity = (size_t)digest->size + STORE_READ_EXTRA_BYTES;

	CHECK(!evict->reading);
	if (capacity > evict->buffer_capacity) {
		free(evict->buffer);
		evict->buffer = malloc(capacity);
		evict->buffer_capacity = evict->buffer ? capacity : 0;
		if (!evict->buffer) {
			store_fail(store, -ENOMEM, "eviction", UINT32_MAX);
			return;
		}
	}
	evict->read = (struct store_read){ .digest = *digest, .buffer = evict->buffer, .fn = evict_on_read };
	evict->reading = true;
	evict->read_done = false;
	store_read(store, &evict->read);
}

/* ---- copying ---- */

/* The record that was read lies in `read.buffer`, header first. False: it must wait. */
static bool evict_append(struct store *store)
{
	struct evict *evict = &store->evict;
	struct append *append = &evict->append;
	struct pending *open = &store_open_generation(store)->pending;
	struct scope scope;

	if (!evict->appending) {
		if (store->writer.appending || commit_waits(store))
			return false;
		if (open->count >= store->pending_limit) {
			commit_want(store);
			return false;
		}
		*append = (struct append){ .payload = evict->read.blob };
		CHECK(record_decode(&append->record, evict->read.blob.data - RECORD_HEADER_BYTES, store->secret));
		evict->from = (struct place){ append->record.segment, append->record.generation, append->record.offset };
	}
	switch (writer_append(&store->writer, append)) {
	case WRITER_NO_SLOT:
		evict->appending = append->placed;
		return false;
	case WRITER_NO_SEGMENT:
		store->again |= !store->space.moves_starve;
		store->space.moves_starve = true;
		return false;
	case WRITER_DONE:
		break;
	}
	evict->appending = false;
	store->again = true;
	scope = (struct scope){ .tenant = append->record.tenant, .instance = append->record.instance };
	/* A copy of what was quarantined meanwhile is of no use, nor one of what somebody brought again. */
	if (!pending_blob(open, append->record.digest.hash)) {
		struct pending_entry *entry;

		evict->victim->copied_from = true;
		entry = pending_add(open, PENDING_BLOB, &append->record.digest, &scope,
		                    (struct place){ append->record.segment, append->record.generation, append->record.offset });
		CHECK(entry);
		entry->moved = true;             /* the victim may stay, and would list it as long as it lives */
		entry->gone = evict->from;
		commit_accepted(store);
	}
	evict->copied++;
	evict->ticket = store->commit.ticket;            /* of the commit that it is in, which may begin before the last copy */
	store->status.moved_blobs++;
	return true;
}

/* The disk cannot tell what is held of the victim: it is there for all that is known, and stays. Another one is looked for. */
static void evict_spare(struct store *store)
{
	struct evict *evict = &store->evict;

	log_event(LOG_ERROR, "segment not evicted: what is held of it cannot be read", LOG_U64("segment", evict->victim->number),
	          LOG_TEXT("error", err_report(evict->read.result)));
	evict->victim->pinned_part = EVICT_WHOLE;
	evict->victim = evict->candidate = NULL;
	evict->read_done = evict->scanned = evict->late = false;
	fingerprints_fini(&evict->members);
	fingerprints_fini(&evict->moved);
	evict_enter(evict, EVICT_MEASURING);
	store->again = true;
}

static bool evict_take_read(struct store *store)
{
	struct evict *evict = &store->evict;

	if (evict->read.result < 0) {
		evict_spare(store);
		return false;
	}
	/* Elsewhere already, or gone: nothing to copy. */
	if (evict->read.result == STORE_OK && evict->read.segment == evict->victim->number && !evict_append(store))
		return false;
	evict->read_done = false;
	if (fingerprints_add(&evict->moved, evict->read.digest.hash) < 0)
		store_fail(store, -ENOMEM, "eviction", UINT32_MAX);
	return true;
}

static void evict_copy(struct store *store)
{
	struct evict *evict = &store->evict;
	struct index_row row;
	struct digest digest;

	if (evict->reading || evict->scanning)
		return;
	if (evict->read_done && !evict_take_read(store))
		return;
	if (!evict->scanned) {
		evict_scan(store, evict->victim, true);
		return;
	}
	while (index_scan_next(&evict->scan, &evict->rows_at, &row)) {
		if (!row_record_decode(&digest, row.value))
			continue;
		if (fingerprints_add(&evict->members, digest.hash) < 0) {
			store_fail(store, -ENOMEM, "eviction", UINT32_MAX);
			return;
		}
		if (!fingerprints_has(&evict->moved, digest.hash) && evict_keeps(store, digest.hash)) {
			evict_read(store, &digest);
			store->again = true;
			return;
		}
	}
	if (evict->scan.more) {
		evict_scan(store, evict->victim, false);
		return;
	}
	evict_enter(evict, EVICT_COMMITTING);
	if (evict->ticket == store->commit.ticket)
		commit_want(store);
	store->again = true;
}

/* ---- the end ---- */

/* From here on nothing is found in the victim any more: see row_counts() in resolve.c. */
static void evict_doom(struct store *store)
{
	struct evict *evict = &store->evict;
	struct segment *victim = evict->victim;

	victim->row.state = SEGMENT_EVICTING;
	victim->row.disturbed = ++store->sequence;
	evict_enter(evict, EVICT_DELETING);
	store->again = true;
}

static void evict_commit(struct store *store)
{
	struct evict *evict = &store->evict;

	if (store->commit.done < evict->ticket)
		return;
	if (evict->stack_count > 0 || evict->late) {
		evict_enter(evict, EVICT_WALKING);
		store->again = true;
		return;
	}
	evict_doom(store);
}

static void evict_leave(struct store *store)
{
	struct evict *evict = &store->evict;
	struct segment *victim = evict->victim;

	if (victim->readers > 0)
		return;
	victim->row.state = SEGMENT_FREE;
	victim->row_changed = victim->copied_from = false;
	victim->tail = 0;
	store->space.free++;
	store->status.evicted_segments++;
	log_event(LOG_DEBUG, "segment evicted", LOG_U64("segment", victim->number),
	          LOG_U64("generation", victim->row.generation), LOG_U64("copied", evict->copied));
	evict->full_ns = 0;
	evict_end(store);
	tidy_marks(store);
}

void evict_step(struct store *store)
{
	struct evict *evict = &store->evict;

	if (store->failed || store_pauses(store, STORE_PART_EVICT))
		return;
	switch (evict->state) {
	case EVICT_IDLE:
		break;
	case EVICT_WALKING:
		evict_walk(store);
		break;
	case EVICT_MEASURING:
		evict_measure(store);
		break;
	case EVICT_COPYING:
		evict_copy(store);
		break;
	case EVICT_COMMITTING:
		evict_commit(store);
		break;
	case EVICT_DELETING:
		evict_delete(store);
		break;
	case EVICT_LEAVING:
		evict_leave(store);
		break;
	}
}
