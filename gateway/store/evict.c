/* Emptying segments. */
#include "gateway/store/evict.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/store/bytes.h"
#include "gateway/store/state.h"

#define EVICT_AGAIN_NS     1000000000ull  /* when all was pinned and nothing was released since, look again after this */
#define EVICT_GAIN_PART    32             /* a victim must free at least that part of a segment, or copying is futile */
#define EVICT_CHEAP_PART   2              /* up to that part pinned, the least recently used one is taken */

int evict_init(struct evict *evict, struct store *store)
{
	evict->pinned = fingerprints_make(store->secret);
	evict->members = fingerprints_make(store->secret);
	evict->moved = fingerprints_make(store->secret);
	evict->rows = malloc(EVICT_ROWS_MAX * INDEX_SCAN_ROW_MAX);
	return evict->rows ? 0 : ERR_RAISE(-ENOMEM);
}

void evict_fini(struct evict *evict)
{
	fingerprints_fini(&evict->pinned);
	fingerprints_fini(&evict->members);
	fingerprints_fini(&evict->moved);
	free(evict->stack);
	free(evict->buffer);
	free(evict->rows);
}

static void evict_enter(struct evict *evict, enum evict_state state)
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
	fingerprints_fini(&evict->members);
	fingerprints_fini(&evict->moved);
	store->again = true;
}

static void evict_full(struct store *store)
{
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

/* ---- what must stay ---- */

static bool evict_keeps(const struct store *store, const uint8_t *hash)
{
	return fingerprints_has(&store->evict.pinned, hash) || holds_blob(store, hash) ||
	       pending_has(&store_open_generation(store)->pending, hash) ||
	       pending_has(&store_frozen_generation(store)->pending, hash);
}

/* A copy of it must still be made. */
static bool evict_owes(const struct evict *evict, const uint8_t *hash)
{
	return fingerprints_has(&evict->members, hash) && !fingerprints_has(&evict->moved, hash);
}

static void evict_push(struct store *store, const struct store_reference *reference)
{
	struct evict *evict = &store->evict;

	if (evict->stack_count == evict->stack_capacity) {
		size_t capacity = evict->stack_capacity ? evict->stack_capacity * 2 : 256;
		struct store_reference *grown = reallocarray(evict->stack, capacity, sizeof(*grown));

		if (!grown) {
			store_fail(store, -ENOMEM, "eviction", UINT32_MAX);
			return;
		}
		evict->stack = grown;
		evict->stack_capacity = capacity;
	}
	evict->stack[evict->stack_count++] = *reference;
}

static void evict_pin_reference(struct store *store, const struct store_reference *reference)
{
	struct evict *evict = &store->evict;
	int r = fingerprints_add(&evict->pinned, reference->digest.hash);

	if (r < 0) {
		store_fail(store, r, "eviction", UINT32_MAX);
		return;
	}
	if (r == 0)
		return;
	if (evict_owes(evict, reference->digest.hash))
		evict->late = true;
	if (reference->kind != STORE_DATA && reference->digest.size > 0)
		evict_push(store, reference);
}

static bool evict_listens(const struct evict *evict)
{
	return evict->state != EVICT_IDLE && evict->state != EVICT_DELETING && evict->state != EVICT_LEAVING;
}

void evict_pinned_blob(struct store *store, const uint8_t *hash)
{
	struct evict *evict = &store->evict;

	/* Whether it stays is asked of its hold when its turn comes; only what was passed already needs another round. */
	if (evict_listens(evict) && evict_owes(evict, hash))
		evict->late = true;
}

void evict_pinned_root(struct store *store, const struct digest *root)
{
	struct store_reference reference = { .digest = *root, .kind = STORE_DIRECTORY };

	if (evict_listens(&store->evict))
		evict_pin_reference(store, &reference);
}

bool evict_start(struct store *store)
{
	struct evict *evict = &store->evict;
	uint64_t now_ns = ring_now_ns(store->ring), wall_ns = ring_wall_ns(store->ring);

	if (evict->state != EVICT_IDLE)
		return true;
	if (store->closing)
		return false;
	if (evict->full_ns && evict->full_epoch == store->holds.epoch && now_ns - evict->full_ns < EVICT_AGAIN_NS)
		return false;
	evict_enter(evict, EVICT_WALKING);
	for (uint32_t i = 0; i < store->segments_max; i++)
		store->segments[i].pinned_bytes = UINT64_MAX;
	list_for_each(link, &store->holds.list) {
		const struct store_hold *hold = container_of(link, struct store_hold, link);

		for (size_t i = 0; i < hold->roots_count; i++)
			evict_pinned_root(store, &hold->roots[i]);
	}
	for (uint32_t i = 0; i < store->holds.pins_count; i++)
		if (store->holds.pins[i].expires_wall_ns > wall_ns)
			evict_pinned_root(store, &store->holds.pins[i].root);
	store->again = true;
	return true;
}

/* ---- reading a blob for itself ---- */

static void evict_on_read(struct store_read *read)
{
	struct store *store = container_of(read, struct store, evict.read);

	store->evict.reading = false;
	store->evict.read_done = true;
	store_step(store);
}

static void evict_read(struct store *store, const struct digest *digest)
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

/* ---- walking ---- */

static void evict_visit(void *context, const struct store_reference *reference)
{
	evict_pin_reference(context, reference);
}

static void evict_walk(struct store *store)
{
	struct evict *evict = &store->evict;

	if (evict->reading)
		return;
	if (evict->read_done) {
		evict->read_done = false;
		/* What is missing or damaged cannot be kept; nor what is below it be known. */
		if (evict->read.result == STORE_OK && store->config.references)
			store->config.references(evict->read_kind, evict->read.blob, evict_visit, store);
	}
	if (evict->stack_count > 0) {
		struct store_reference reference = evict->stack[--evict->stack_count];

		if (reference.digest.size <= STORE_BLOB_BYTES_MAX) {
			evict->read_kind = reference.kind;
			evict_read(store, &reference.digest);
		}
		store->again = true;
		return;
	}
	evict_enter(evict, evict->victim ? EVICT_COPYING : EVICT_MEASURING);
	evict->copied = 0;
	evict->late = false;
	store->again = true;
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

static void evict_scan_begin(struct evict *evict, const struct segment *segment)
{
	bytes_put32_key(evict->scan.key, segment->number);
	evict->scan.key_size = evict->scan.prefix_size = 4;
	evict->scan.table = INDEX_RECORDS;
	evict->scan.rows = evict->rows;
	evict->scan.rows_capacity = EVICT_ROWS_MAX * INDEX_SCAN_ROW_MAX;
	evict->scan.rows_max = EVICT_ROWS_MAX;
	evict->scan.fn = evict_on_scan;
}

static void evict_scan(struct store *store, const struct segment *segment, bool first)
{
	struct evict *evict = &store->evict;

	if (first)
		evict_scan_begin(evict, segment);
	evict->rows_at = 0;
	evict->scanned = false;
	evict->scanning = true;
	store->engine->scan(store->index, &evict->scan);
	store_pause(store);
}

/* ---- choosing ---- */

static bool evict_eligible(const struct store *store, const struct segment *segment)
{
	return segment->row.state == SEGMENT_SEALED && segment->sealed_ticket <= store->commit.done && !segment->dirty;
}

static struct segment *evict_oldest_unmeasured(struct store *store)
{
	struct segment *oldest = NULL;

	for (uint32_t i = 0; i < store->segments_max; i++) {
		struct segment *segment = &store->segments[i];

		if (evict_eligible(store, segment) && segment->pinned_bytes == UINT64_MAX &&
		    (!oldest || segment->row.used < oldest->row.used))
			oldest = segment;
	}
	return oldest;
}

static struct segment *evict_least_pinned(struct store *store)
{
	struct segment *least = NULL;

	for (uint32_t i = 0; i < store->segments_max; i++) {
		struct segment *segment = &store->segments[i];

		if (evict_eligible(store, segment) && (!least || segment->pinned_bytes < least->pinned_bytes))
			least = segment;
	}
	if (least && least->pinned_bytes > store->segment_bytes - store->segment_bytes / EVICT_GAIN_PART)
		return NULL;
	return least;
}

/* A full segment whose last records are not committed yet is a candidate, too, in a moment. */
static bool evict_awaits_commit(const struct store *store)
{
	for (uint32_t i = 0; i < store->segments_max; i++) {
		const struct segment *segment = &store->segments[i];

		if (segment->row.state == SEGMENT_SEALED && !evict_eligible(store, segment))
			return true;
	}
	return false;
}

static void evict_choose(struct store *store, struct segment *victim)
{
	store->evict.victim = victim;
	store->evict.copied = 0;
	store->evict.late = false;
	evict_enter(&store->evict, EVICT_COPYING);
	store->again = true;
}

static void evict_measure_rows(struct store *store)
{
	struct evict *evict = &store->evict;
	struct index_row row;
	struct digest digest;

	while (index_scan_next(&evict->scan, &evict->rows_at, &row))
		if (row_record_decode(&digest, row.value) && evict_keeps(store, digest.hash))
			evict->candidate->pinned_bytes += record_bytes(digest.size);
}

/* Very small blobs fill the index while most segments are unused: the open one must do as a candidate then. */
static bool evict_seal_open(struct store *store)
{
	if (!store_index_tight(store) || !store->writer.segment || store->writer.appending ||
	    store->writer.segment->tail == 0 || space_available(store) == 0)
		return false;
	writer_seal(&store->writer);
	store->again = true;
	return true;
}

static void evict_measure(struct store *store)
{
	struct evict *evict = &store->evict;

	if (evict->scanning)
		return;
	if (!evict->candidate) {
		if (evict_awaits_commit(store)) {
			commit_force(store);
			return;
		}
		evict->candidate = evict_oldest_unmeasured(store);
		if (!evict->candidate) {
			struct segment *least = evict_least_pinned(store);

			if (!least && evict_seal_open(store))
				return;
			if (least)
				evict_choose(store, least);
			else
				evict_full(store);
			return;
		}
		evict->candidate->pinned_bytes = 0;
		evict_scan(store, evict->candidate, true);
		return;
	}
	if (!evict->scanned)
		return;
	evict_measure_rows(store);
	if (evict->scan.more) {
		evict_scan(store, evict->candidate, false);
	} else if (evict->candidate->pinned_bytes <= store->segment_bytes / EVICT_CHEAP_PART) {
		evict_choose(store, evict->candidate);
	} else {
		evict->candidate = NULL;
		evict->scanned = false;
	}
	store->again = true;
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
		CHECK(pending_add(open, PENDING_BLOB, &append->record.digest, &scope,
		                  (struct place){ append->record.segment, append->record.generation,
		                                  append->record.offset }));
		commit_accepted(store);
	}
	evict->copied++;
	store->status.moved_blobs++;
	return true;
}

static bool evict_take_read(struct store *store)
{
	struct evict *evict = &store->evict;

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
	evict->ticket = evict->copied ? store->commit.ticket : 0;
	if (evict->copied)
		commit_want(store);
	store->again = true;
}

/* ---- deleting ---- */

static void evict_delete_prepare(struct index_apply *apply)
{
	struct evict *evict = container_of(apply, struct evict, apply);

	evict->delete_stage = 0;
	evict->delete_at = 0;
}

static void evict_change_segment(const struct evict *evict, struct index_change *change)
{
	change->kind = INDEX_PUT;
	change->table = INDEX_SEGMENTS;
	change->key_size = ROW_SEGMENT_KEY_BYTES;
	bytes_put32_key(change->key, evict->victim->number);
	row_segment_encode(change->storage, &evict->row);
	change->value = span_make(change->storage, ROW_SEGMENT_BYTES);
}

static void evict_change_sequence(const struct evict *evict, struct index_change *change)
{
	change->kind = INDEX_PUT;
	change->table = INDEX_META;
	change->key_size = strlen(ROW_SEQUENCE_KEY);
	memcpy(change->key, ROW_SEQUENCE_KEY, change->key_size);
	bytes_put64(change->storage, evict->sequence);
	change->value = span_make(change->storage, ROW_SEQUENCE_BYTES);
}

/* The blob with all who see it, if it still lies in the victim. */
static void evict_change_blob(const struct evict *evict, struct index_change *change, const struct index_row *row)
{
	struct row_blob blob = {
		.place = {
			.segment = evict->victim->number,
			.generation = evict->row.generation,
			.offset = row_record_key_offset(row->key.data),
		},
	};

	change->kind = INDEX_DELETE_GROUP;
	change->table = INDEX_BLOBS;
	change->key_size = DIGEST_HASH_BYTES;
	memcpy(change->key, row->value.data, DIGEST_HASH_BYTES);
	row_blob_encode(change->storage, &blob);
	change->value = span_make(change->storage, ROW_BLOB_PLACE_BYTES);
}

static void evict_change_record(struct index_change *change, const struct index_row *row)
{
	change->kind = INDEX_DELETE;
	change->table = INDEX_RECORDS;
	change->key_size = row->key.size;
	memcpy(change->key, row->key.data, row->key.size);
	change->value = span_make(NULL, 0);
}

/* Stage 0: the segment's row; 1: the sequence; then, for each row of the page, the blob and the record. */
static bool evict_delete_next(struct index_apply *apply, struct index_change *change)
{
	struct evict *evict = container_of(apply, struct evict, apply);
	size_t at = evict->delete_at;
	struct index_row row;

	switch (evict->delete_stage) {
	case 0:
		evict_change_segment(evict, change);
		evict->delete_stage = 1;
		return true;
	case 1:
		evict_change_sequence(evict, change);
		evict->delete_stage = 2;
		return true;
	case 2:
		if (!index_scan_next(&evict->scan, &at, &row))
			return false;
		if (row.value.size < DIGEST_HASH_BYTES || row.key.size != ROW_RECORD_KEY_BYTES)
			return false;
		evict_change_blob(evict, change, &row);
		evict->delete_stage = 3;
		return true;
	case 3:
		CHECK(index_scan_next(&evict->scan, &evict->delete_at, &row));
		evict_change_record(change, &row);
		evict->delete_stage = 2;
		return true;
	}
	return false;
}

static void evict_on_delete(struct index_apply *apply)
{
	struct store *store = container_of(apply, struct store, evict.apply);
	struct evict *evict = &store->evict;

	evict->applying = false;
	evict->scanned = false;
	if (apply->result)
		store_fail(store, apply->result, "index commit", UINT32_MAX);
	else
		store_usage(store, &apply->usage);
	store->status.evicted_blobs += evict->scan.count;
	if (evict->scan.count == 0)
		evict_enter(evict, EVICT_LEAVING);
	store_step(store);
}

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

static void evict_delete(struct store *store)
{
	struct evict *evict = &store->evict;

	if (evict->scanning || evict->applying)
		return;
	if (!evict->scanned) {
		evict_scan(store, evict->victim, true);
		return;
	}
	evict->row = evict->victim->row;
	evict->row.state = evict->scan.count > 0 ? SEGMENT_EVICTING : SEGMENT_FREE;
	evict->sequence = store->sequence;
	evict->applying = true;
	evict->apply = (struct index_apply){
		.prepare = evict_delete_prepare,
		.next = evict_delete_next,
		.fn = evict_on_delete,
	};
	store->engine->apply(store->index, &evict->apply);
}

int evict_resume(struct store *store, struct segment *segment)
{
	struct evict *evict = &store->evict;
	int r = 0;

	evict->victim = segment;
	evict->row = segment->row;
	evict->sequence = store->sequence;
	while (!r) {
		evict_scan_begin(evict, segment);
		r = store->engine->scan_now(store->index, &evict->scan);
		if (r)
			break;
		if (evict->scan.count == 0)
			evict->row.state = SEGMENT_FREE;
		evict->apply = (struct index_apply){ .prepare = evict_delete_prepare, .next = evict_delete_next };
		r = store->engine->apply_now(store->index, &evict->apply);
		if (evict->row.state == SEGMENT_FREE)
			break;
	}
	segment->row.state = evict->row.state;
	evict->victim = NULL;
	return r;
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
	victim->row_changed = false;
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

	if (store->failed || store->paused)
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
