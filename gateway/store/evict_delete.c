/* A victim's entries leave the index, a page of rows a transaction. */
#include "gateway/store/evict_private.h"

#include <string.h>
#include "gateway/base/check.h"
#include "gateway/store/bytes.h"

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

/* One that is damaged goes alone: were it to stay, the segment would never be empty. */
static bool names_blob(const struct index_row *row)
{
	return row->key.size == ROW_RECORD_KEY_BYTES && row->value.size >= DIGEST_HASH_BYTES;
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
		if (names_blob(&row)) {
			evict_change_blob(evict, change, &row);
			evict->delete_stage = 3;
			return true;
		}
		evict_change_record(change, &row);
		evict->delete_at = at;
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

void evict_delete(struct store *store)
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
