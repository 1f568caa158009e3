/* Changes to the index that a check calls for, gathered into transactions. */
#include "gateway/store/fsck_private.h"

#include <errno.h>
#include <string.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"

static void fixes_prepare(struct index_apply *apply)
{
	container_of(apply, struct fsck, apply)->fixes_at = 0;
}

static bool fixes_next(struct index_apply *apply, struct index_change *change)
{
	struct fsck *fsck = container_of(apply, struct fsck, apply);
	const struct fsck_change *fix;

	if (fsck->fixes_at == fsck->fixes_count)
		return false;
	fix = &fsck->fixes[fsck->fixes_at++];
	change->kind = fix->kind;
	change->table = fix->table;
	change->key_size = fix->key_size;
	memcpy(change->key, fix->key, fix->key_size);
	memcpy(change->storage, fix->value, fix->value_size);
	change->value = span_make(change->storage, fix->value_size);
	return true;
}

int fsck_flush(struct fsck *fsck)
{
	int r;

	if (fsck->fixes_count == 0)
		return 0;
	fsck->apply = (struct index_apply){ .prepare = fixes_prepare, .next = fixes_next };
	r = index_lmdb.apply_now(fsck->index, &fsck->apply);
	fsck->fixes_count = 0;
	fingerprints_clear(&fsck->unflushed);
	return r ? ERR_RAISE(r) : 0;
}

void fsck_fix(struct fsck *fsck, enum index_change_kind kind, enum index_table table, struct span key,
                    struct span value)
{
	struct fsck_change *fix;

	if (!fsck->repair || fsck->error)
		return;
	if (fsck->fixes_count == FSCK_CHANGES_MAX)
		fsck->error = fsck_flush(fsck);
	if (fsck->error)
		return;
	fix = &fsck->fixes[fsck->fixes_count++];
	CHECK(key.size <= sizeof(fix->key));
	CHECK(value.size <= sizeof(fix->value));
	*fix = (struct fsck_change){
		.kind = kind, .table = table, .key_size = (uint8_t)key.size, .value_size = (uint8_t)value.size,
	};
	memcpy(fix->key, key.data, key.size);
	if (value.size)
		memcpy(fix->value, value.data, value.size);
}

void fsck_fix_record_row(struct fsck *fsck, const struct record *record)
{
	uint8_t key[ROW_RECORD_KEY_BYTES], value[ROW_RECORD_BYTES];

	row_record_key(key, record->segment, record->offset);
	row_record_encode(value, record->digest.hash, (uint32_t)record->digest.size);
	fsck_fix(fsck, INDEX_PUT, INDEX_RECORDS, span_make(key, sizeof(key)), span_make(value, sizeof(value)));
}

void fsck_fix_entry(struct fsck *fsck, const struct record *record)
{
	uint8_t value[ROW_BLOB_BYTES];
	struct row_blob blob = {
		.place = { record->segment, record->generation, record->offset },
		.size = (uint32_t)record->digest.size,
		.tenant = record->tenant,
		.instance = record->instance,
	};

	row_blob_encode(value, &blob);
	fsck_fix(fsck, INDEX_PUT, INDEX_BLOBS, span_make(record->digest.hash, DIGEST_HASH_BYTES),
	        span_make(value, sizeof(value)));
	fsck_fix_record_row(fsck, record);
	if (fsck->repair && fingerprints_add(&fsck->unflushed, record->digest.hash) < 0)
		fsck->error = -ENOMEM;
	fsck->report->entries_repaired += fsck->repair;
}

/* Marks that rest on the segment are stale from now on. */
static void disturb(struct fsck *fsck, uint32_t segment)
{
	fsck->rows[segment].disturbed = ++fsck->sequence;
	fsck->changed[segment] = true;
}

void fsck_forget(struct fsck *fsck, const uint8_t *hash, const struct row_blob *blob)
{
	uint8_t key[ROW_RECORD_KEY_BYTES], value[ROW_BLOB_BYTES];

	row_blob_encode(value, blob);
	fsck_fix(fsck, INDEX_DELETE_GROUP, INDEX_BLOBS, span_make(hash, DIGEST_HASH_BYTES),
	        span_make(value, ROW_BLOB_PLACE_BYTES));
	row_record_key(key, blob->place.segment, blob->place.offset);
	fsck_fix(fsck, INDEX_DELETE, INDEX_RECORDS, span_make(key, sizeof(key)), span_make(NULL, 0));
	if (blob->place.segment < STORE_SEGMENTS_MAX && fsck->rows[blob->place.segment].state != SEGMENT_ABSENT)
		disturb(fsck, blob->place.segment);
	fsck->report->entries_repaired += fsck->repair;
}
