/* Group commit. */
#include "gateway/store/commit.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/store/bytes.h"
#include "gateway/store/state.h"

#define COMMIT_USED_ROWS_MAX 64          /* segments whose use alone is noted, a commit */

int commit_init(struct commit *commit, struct store *store)
{
	size_t segments = store->segments_max;

	commit->ticket = 1;
	list_init(&commit->waiting);
	for (int i = 0; i < 2; i++) {
		list_init(&store->generations[i].marks);
		list_init(&store->generations[i].pins);
		list_init(&store->generations[i].notes);
		if (pending_init(&store->generations[i].pending, store->secret))
			return ERR_RAISE(-ENOMEM);
	}
	commit->segments = calloc(segments, sizeof(*commit->segments));
	commit->durable = calloc(segments, sizeof(*commit->durable));
	commit->rows = calloc(segments, sizeof(*commit->rows));
	if (!commit->segments || !commit->durable || !commit->rows)
		return ERR_RAISE(-ENOMEM);
	return 0;
}

void commit_fini(struct commit *commit)
{
	free(commit->segments);
	free(commit->durable);
	free(commit->rows);
}

bool generation_empty(const struct generation *generation)
{
	return generation->pending.count == 0 && list_empty(&generation->marks) && list_empty(&generation->pins) &&
	       list_empty(&generation->notes);
}

static void commit_on_timer(struct op *op, int32_t res)
{
	struct store *store = container_of(op, struct store, commit.timer);

	store->commit.wanted = true;     /* also when it was cancelled: those who wait must be told something */
	store_step(store);
}

void commit_accepted(struct store *store)
{
	struct commit *commit = &store->commit;

	if (op_in_flight(&commit->timer) || generation_empty(store_open_generation(store)))
		return;
	if (store->closing) {
		commit_want(store);              /* a close waits for it, and has no timer */
		return;
	}
	commit->timer.fn = commit_on_timer;
	ring_timer(store->ring, &commit->timer, store->config.commit_interval_ns);
}

void commit_want(struct store *store)
{
	if (store->commit.wanted)
		return;                  /* or steps that find it wanted again would never end */
	store->commit.wanted = true;
	store->again = true;
}

void commit_force(struct store *store)
{
	struct commit *commit = &store->commit;

	if (commit->state != COMMIT_IDLE || commit->forced)
		return;                  /* its end turns the wheels again */
	commit->wanted = commit->forced = true;
	store->again = true;
}

bool commit_waits(struct store *store)
{
	if (!store->commit.wanted || store->commit.state != COMMIT_IDLE || store->failed)
		return false;
	store->again = true;
	return true;
}

/* ---- telling those who waited ---- */

static void generation_tell(struct generation *generation, int result)
{
	struct list *link;

	while ((link = list_take(&generation->marks))) {
		struct store_marks *marks = container_of(link, struct store_marks, link);

		marks->result = result;
		marks->fn(marks);
	}
	while ((link = list_take(&generation->pins))) {
		struct store_pin *pin = container_of(link, struct store_pin, link);

		pin->result = result;
		pin->fn(pin);
	}
	while ((link = list_take(&generation->notes))) {
		struct store_note *note = container_of(link, struct store_note, link);

		note->result = result;
		note->fn(note);
	}
}

static void syncs_tell(struct store *store)
{
	struct list *waiting = &store->commit.waiting;

	while (!list_empty(waiting)) {
		struct store_sync *sync = container_of(waiting->next, struct store_sync, link);

		if (!store->failed && sync->ticket > store->commit.done)
			return;
		list_remove(&sync->link);
		sync->result = store->failed;
		sync->fn(sync);
	}
}

/* ---- the index's transaction: one generation as changes ---- */

enum commit_stage {
	COMMIT_STAGE_SEGMENTS,
	COMMIT_STAGE_SEQUENCE,
	COMMIT_STAGE_GONE_RECORDS,
	COMMIT_STAGE_RECORDS,            /* in the order of their places */
	COMMIT_STAGE_GONE_BLOBS,
	COMMIT_STAGE_BLOBS,              /* in the order of their names: neighbours share pages */
	COMMIT_STAGE_MARKS,
	COMMIT_STAGE_PINS,
	COMMIT_STAGE_NOTES,
	COMMIT_STAGE_END,
};

static void change_segment(struct index_change *change, const struct commit_row *row)
{
	change->kind = INDEX_PUT;
	change->table = INDEX_SEGMENTS;
	change->key_size = ROW_SEGMENT_KEY_BYTES;
	bytes_put32_key(change->key, row->number);
	row_segment_encode(change->storage, &row->row);
	change->value = span_make(change->storage, ROW_SEGMENT_BYTES);
}

static void change_sequence(struct index_change *change, uint64_t sequence)
{
	change->kind = INDEX_PUT;
	change->table = INDEX_META;
	change->key_size = strlen(ROW_SEQUENCE_KEY);
	memcpy(change->key, ROW_SEQUENCE_KEY, change->key_size);
	bytes_put64(change->storage, sequence);
	change->value = span_make(change->storage, ROW_SEQUENCE_BYTES);
}

static bool change_gone_record(struct index_change *change, const struct pending_entry *entry)
{
	if (entry->kind != PENDING_GONE && !entry->purge && !(entry->kind == PENDING_BLOB && entry->moved))
		return false;
	change->kind = INDEX_DELETE;
	change->table = INDEX_RECORDS;
	change->key_size = ROW_RECORD_KEY_BYTES;
	row_record_key(change->key, entry->gone.segment, entry->gone.offset);
	change->value = span_make(NULL, 0);
	return true;
}

static bool change_record(struct index_change *change, const struct pending_entry *entry)
{
	if (entry->kind != PENDING_BLOB)
		return false;
	change->kind = INDEX_PUT;
	change->table = INDEX_RECORDS;
	change->key_size = ROW_RECORD_KEY_BYTES;
	row_record_key(change->key, entry->place.segment, entry->place.offset);
	row_record_encode(change->storage, entry->hash, entry->size);
	change->value = span_make(change->storage, ROW_RECORD_BYTES);
	return true;
}

static bool change_gone_blob(struct index_change *change, const struct pending_entry *entry)
{
	struct row_blob row = { .place = entry->gone };

	if (entry->kind != PENDING_GONE && !entry->purge)
		return false;
	change->kind = INDEX_DELETE_GROUP;
	change->table = INDEX_BLOBS;
	change->key_size = DIGEST_HASH_BYTES;
	memcpy(change->key, entry->hash, DIGEST_HASH_BYTES);
	row_blob_encode(change->storage, &row);
	change->value = span_make(change->storage, ROW_BLOB_PLACE_BYTES);
	return true;
}

static bool change_blob(struct index_change *change, const struct pending_entry *entry)
{
	struct row_blob row = {
		.place = entry->place,
		.size = entry->size,
		.tenant = entry->tenant,
		.instance = entry->instance,
	};

	if (entry->kind != PENDING_BLOB && entry->kind != PENDING_SIGHT)
		return false;
	change->kind = INDEX_PUT;
	change->table = INDEX_BLOBS;
	if (entry->kind == PENDING_SIGHT) {
		change->key_size = ROW_SIGHT_KEY_BYTES;
		row_sight_key(change->key, entry->hash, entry->tenant, entry->instance);
		change->value = span_make(change->storage, 0);
		return true;
	}
	change->key_size = DIGEST_HASH_BYTES;
	memcpy(change->key, entry->hash, DIGEST_HASH_BYTES);
	row_blob_encode(change->storage, &row);
	change->value = span_make(change->storage, ROW_BLOB_BYTES);
	return true;
}

static bool change_mark(struct store *store, struct index_change *change, const struct store_marks *marks, size_t i)
{
	if (i >= marks->count)
		return false;
	change->kind = INDEX_PUT;
	change->table = INDEX_MARKS;
	change->key_size = ROW_SCOPED_KEY_BYTES;
	row_scoped_key(change->key, &marks->scope, marks->directories[i].hash);
	marks_value_encode(store, change->storage, marks->sequence, marks->rests + i * store_rest_bytes(store));
	change->value = span_make(change->storage, marks_value_bytes(store));
	return true;
}

static void change_pin(struct index_change *change, const struct store_pin *pin)
{
	change->kind = pin->expires_wall_ns ? INDEX_PUT : INDEX_DELETE;
	change->table = INDEX_PINS;
	change->key_size = ROW_SCOPED_KEY_BYTES;
	row_scoped_key(change->key, &pin->scope, pin->root.hash);
	row_pin_encode(change->storage, pin);
	change->value = span_make(change->storage, ROW_PIN_BYTES);
}

static void change_note(struct index_change *change, const struct store_note *note)
{
	change->kind = INDEX_PUT;
	change->table = INDEX_NOTES;
	bytes_put32_key(change->key, note->scope.tenant);
	bytes_put32_key(change->key + 4, note->scope.instance);
	memcpy(change->key + 8, note->key, note->key_size);
	change->key_size = 8 + note->key_size;
	change->value = span_make(note->value, note->value_size);
}

static void cursor_enter(struct commit_cursor *cursor, int stage, const struct generation *generation)
{
	cursor->stage = stage;
	cursor->at = 0;
	cursor->link = stage == COMMIT_STAGE_MARKS ? generation->marks.next :
	               stage == COMMIT_STAGE_PINS ? generation->pins.next :
	               stage == COMMIT_STAGE_NOTES ? generation->notes.next : NULL;
}

/* The next change of the cursor's stage; false: it has none left. */
static bool commit_stage_next(struct store *store, struct generation *frozen, struct index_change *change)
{
	struct commit *commit = &store->commit;
	struct commit_cursor *cursor = &commit->cursor;
	struct pending *pending = &frozen->pending;
	struct list *link = cursor->link;

	switch (cursor->stage) {
	case COMMIT_STAGE_SEGMENTS:
		if (cursor->at == commit->rows_count)
			return false;
		change_segment(change, &commit->rows[cursor->at++]);
		return true;
	case COMMIT_STAGE_SEQUENCE:
		change_sequence(change, commit->sequence);
		return cursor->at++ == 0;
	case COMMIT_STAGE_GONE_RECORDS:
		while (cursor->at < pending->count)
			if (change_gone_record(change, &pending->entries[cursor->at++]))
				return true;
		return false;
	case COMMIT_STAGE_RECORDS:
		while (cursor->at < pending->count)
			if (change_record(change, &pending->entries[cursor->at++]))
				return true;
		return false;
	case COMMIT_STAGE_GONE_BLOBS:
		while (cursor->at < pending->count)
			if (change_gone_blob(change, &pending->entries[pending->order[cursor->at++].entry]))
				return true;
		return false;
	case COMMIT_STAGE_BLOBS:
		while (cursor->at < pending->count)
			if (change_blob(change, &pending->entries[pending->order[cursor->at++].entry]))
				return true;
		return false;
	case COMMIT_STAGE_MARKS:
		if (commit->without_marks)
			return false;
		for (; link != &frozen->marks; cursor->link = link = link->next, cursor->at = 0)
			if (change_mark(store, change, container_of(link, struct store_marks, link), cursor->at++))
				return true;
		return false;
	case COMMIT_STAGE_PINS:
		if (link == &frozen->pins)
			return false;
		change_pin(change, container_of(link, struct store_pin, link));
		cursor->link = link->next;
		return true;
	case COMMIT_STAGE_NOTES:
		if (link == &frozen->notes)
			return false;
		change_note(change, container_of(link, struct store_note, link));
		cursor->link = link->next;
		return true;
	}
	return false;
}

static void commit_prepare(struct index_apply *apply)
{
	struct store *store = container_of(apply, struct store, commit.apply);
	struct generation *frozen = store_frozen_generation(store);

	pending_sort(&frozen->pending);
	cursor_enter(&store->commit.cursor, COMMIT_STAGE_SEGMENTS, frozen);
}

static bool commit_next(struct index_apply *apply, struct index_change *change)
{
	struct store *store = container_of(apply, struct store, commit.apply);
	struct generation *frozen = store_frozen_generation(store);
	struct commit_cursor *cursor = &store->commit.cursor;

	while (cursor->stage != COMMIT_STAGE_END) {
		if (commit_stage_next(store, frozen, change))
			return true;
		cursor_enter(cursor, cursor->stage + 1, frozen);
	}
	return false;
}

/* ---- the states ---- */

/*
 * Marks that rest on a victim know nothing of where its copies are, and what happens to them there; and it may stay. With the copies
 * in one transaction, and behind the last of them: a mark that is begun between two may rest on the victim for the second.
 */
static void commit_disturb(struct store *store, struct segment *segment)
{
	if (!segment->copied_from)
		return;
	segment->copied_from = false;
	segment->row.disturbed = ++store->sequence;
	segment->row_changed = true;
}

static void commit_collect_segments(struct store *store)
{
	struct commit *commit = &store->commit;

	commit->segments_count = 0;
	for (uint32_t i = 0; i < store->segments_max; i++) {
		struct segment *segment = &store->segments[i];

		commit_disturb(store, segment);
		if (!segment->dirty)
			continue;
		segment->dirty = false;
		commit->durable[commit->segments_count] = segment->tail;
		commit->segments[commit->segments_count++] = segment;
	}
}

/* Rows as they are now: this transaction comes after all that were given to the index before. */
static void commit_collect_rows(struct store *store)
{
	struct commit *commit = &store->commit;
	uint32_t used = 0, next = commit->used_from;

	for (uint32_t i = 0; i < commit->segments_count; i++) {
		commit->segments[i]->row.durable = commit->durable[i];
		commit->segments[i]->row_changed = true;
	}
	commit->rows_count = 0;
	for (uint32_t k = 0; k < store->segments_max; k++) {
		uint32_t i = (commit->used_from + k) % store->segments_max;
		struct segment *segment = &store->segments[i];
		bool use_changed = segment->row.used != segment->used_saved;

		if (segment->row.state == SEGMENT_ABSENT || !(segment->row_changed || use_changed))
			continue;
		if (!segment->row_changed && used == COMMIT_USED_ROWS_MAX)
			continue;
		if (!segment->row_changed && ++used == COMMIT_USED_ROWS_MAX)
			next = (i + 1) % store->segments_max;
		segment->row_changed = false;
		segment->used_saved = segment->row.used;
		commit->rows[commit->rows_count++] = (struct commit_row){ .number = i, .row = segment->row };
	}
	commit->used_from = next;
}

static void commit_on_apply(struct index_apply *apply)
{
	struct store *store = container_of(apply, struct store, commit.apply);

	CHECK(store->commit.state == COMMIT_INDEXING);
	store->commit.applied = true;
	store_step(store);
}

static void commit_index(struct store *store)
{
	struct commit *commit = &store->commit;

	commit->state = COMMIT_INDEXING;
	commit_collect_rows(store);
	commit->sequence = store->sequence;
	commit->applied = false;
	commit->apply = (struct index_apply){
		.prepare = commit_prepare,
		.next = commit_next,
		.fn = commit_on_apply,
	};
	store->engine->apply(store->index, &commit->apply);
}

static void commit_on_sync(struct op *op, int32_t res)
{
	struct segment *segment = container_of(op, struct segment, sync);
	struct store *store = segment->store;

	CHECK(store->commit.state == COMMIT_SYNCING);
	if (res < 0)
		store_fail(store, res, "segment sync", segment->number);
	store->commit.syncing--;
	store_step(store);
}

static void commit_sync_segments(struct store *store)
{
	struct commit *commit = &store->commit;

	commit->state = COMMIT_SYNCING;
	commit->syncing = commit->segments_count;
	for (uint32_t i = 0; i < commit->segments_count; i++) {
		struct segment *segment = commit->segments[i];

		segment->sync.fn = commit_on_sync;
		ring_fdatasync(store->ring, &segment->sync, segment->write_fd);
	}
}

static void commit_begin(struct store *store)
{
	struct commit *commit = &store->commit;

	CHECK(generation_empty(store_frozen_generation(store)));
	commit->wanted = commit->forced = false;
	commit->started_ns = ring_now_ns(store->ring);
	writer_flush(&store->writer);
	commit->flushed = store->writer.flushed;
	commit_collect_segments(store);
	store->open = 1 - store->open;
	commit->ticket++;
	commit->state = COMMIT_FLUSHING;
}

/* Full segments need their descriptor for writing no more. */
static void commit_close_sealed(struct store *store)
{
	for (uint32_t i = 0; i < store->segments_max; i++) {
		struct segment *segment = &store->segments[i];

		if (segment->row.state == SEGMENT_SEALED && segment->sealed_ticket <= store->commit.done && !segment->dirty)
			segment_close_write(segment);
	}
}

/*
 * How many pages the marks of a large tree touch is not known before. They are a memory and no truth: without them the next push of
 * the tree walks it again. Rows are collected anew, as others may have written some of them meanwhile.
 */
static void commit_again_without_marks(struct store *store)
{
	struct commit *commit = &store->commit;

	log_event(LOG_WARNING, "closure marks not kept: the index has no room for them", LOG_U64("index_bytes", store->usage.used_bytes));
	commit->without_marks = true;
	for (uint32_t i = 0; i < commit->rows_count; i++)
		store->segments[commit->rows[i].number].row_changed = true;
	commit_index(store);
}

static void commit_finish(struct store *store)
{
	struct commit *commit = &store->commit;
	struct generation *frozen = store_frozen_generation(store);
	uint64_t took_ns = ring_now_ns(store->ring) - commit->started_ns;

	commit->applied = false;
	if (commit->apply.result == -ENOSPC && !commit->without_marks && !list_empty(&frozen->marks)) {
		commit_again_without_marks(store);
		return;
	}
	commit->without_marks = false;
	if (commit->apply.result) {
		commit->state = COMMIT_IDLE;
		store_fail(store, commit->apply.result, "index commit", UINT32_MAX);
		return;
	}
	store_usage(store, &commit->apply.usage);
	pending_clear(&frozen->pending);
	commit->done = commit->ticket - 1;
	commit_close_sealed(store);
	commit->state = COMMIT_IDLE;
	store->status.commits++;
	if (took_ns > store->status.commit_ns_max)
		store->status.commit_ns_max = took_ns;
	generation_tell(frozen, STORE_OK);
	store->again = true;             /* the next one may be wanted already */
}

static bool commit_in_flight(const struct commit *commit)
{
	return commit->syncing > 0 || (commit->state == COMMIT_INDEXING && !commit->applied);
}

/* Nothing becomes durable any more: whoever waits is told. What is pending stays readable. */
static void commit_refuse(struct store *store)
{
	if (commit_in_flight(&store->commit))
		return;
	store->commit.state = COMMIT_IDLE;
	generation_tell(&store->generations[0], store->failed);
	generation_tell(&store->generations[1], store->failed);
}

static void commit_go_on(struct store *store)
{
	struct commit *commit = &store->commit;

	switch (commit->state) {
	case COMMIT_IDLE:
		if (!commit->wanted || store->writer.appending)
			return;
		commit->wanted = false;
		if (generation_empty(store_open_generation(store)) && !commit->forced)
			return;
		commit_begin(store);
		/* fall through */
	case COMMIT_FLUSHING:
		if (!writer_landed(&store->writer, commit->flushed))
			return;
		commit_sync_segments(store);
		/* fall through */
	case COMMIT_SYNCING:
		if (commit->syncing > 0)
			return;
		commit_index(store);
		/* fall through */
	case COMMIT_INDEXING:
		if (commit->applied)
			commit_finish(store);
	}
}

void commit_step(struct store *store)
{
	if (!store->failed)
		commit_go_on(store);
	if (store->failed)
		commit_refuse(store);
	syncs_tell(store);
}

void store_sync(struct store *store, struct store_sync *sync)
{
	struct commit *commit = &store->commit;

	store->status.syncs++;
	if (!generation_empty(store_open_generation(store)))
		sync->ticket = commit->ticket;
	else
		sync->ticket = commit->state == COMMIT_IDLE ? commit->done : commit->ticket - 1;
	list_append(&commit->waiting, &sync->link);
	if (sync->ticket == commit->ticket)
		commit_want(store);
	store_step(store);
}
