/* Changes to the index that a check calls for, gathered into transactions. */
#include "gateway/store/fsck_private.h"

#include <errno.h>
#include <string.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/store/bytes.h"

static void fixes_prepare(struct index_apply *apply)
{
	struct fsck *fsck = container_of(apply, struct fsck, apply);

	fsck->fixes_at = 0;
	fsck->rows_at = 0;
	fsck->meta_at = 0;
}

static bool next_fix(struct fsck *fsck, struct index_change *change)
{
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

/* That of a file that is missing goes last: a check that begins anew has to miss the file again, for the marks on it. */
static bool row_is_due(const struct fsck *fsck, uint32_t segment)
{
	return fsck->changed[segment] && (fsck->ending || fsck->rows[segment].state != SEGMENT_ABSENT);
}

static bool next_row(struct fsck *fsck, struct index_change *change)
{
	const struct row_segment *row;

	while (fsck->rows_at < STORE_SEGMENTS_MAX && !row_is_due(fsck, fsck->rows_at))
		fsck->rows_at++;
	if (fsck->rows_at == STORE_SEGMENTS_MAX)
		return false;
	row = &fsck->rows[fsck->rows_at];
	change->kind = row->state == SEGMENT_ABSENT ? INDEX_DELETE : INDEX_PUT;
	change->table = INDEX_SEGMENTS;
	change->key_size = ROW_SEGMENT_KEY_BYTES;
	bytes_put32_key(change->key, fsck->rows_at++);
	row_segment_encode(change->storage, row);
	change->value = span_make(change->storage, ROW_SEGMENT_BYTES);
	return true;
}

static void change_meta(struct index_change *change, enum index_change_kind kind, const char *key, size_t size)
{
	change->kind = kind;
	change->table = INDEX_META;
	change->key_size = strlen(key);
	memcpy(change->key, key, change->key_size);
	change->value = span_make(change->storage, size);
}

static bool next_meta(struct fsck *fsck, struct index_change *change)
{
	switch (fsck->meta_at++) {
	case 0:
		bytes_put64(change->storage, fsck->sequence);
		change_meta(change, INDEX_PUT, ROW_SEQUENCE_KEY, ROW_SEQUENCE_BYTES);
		return true;
	case 1:
		change_meta(change, fsck->ending ? INDEX_DELETE : INDEX_PUT, ROW_REPAIRING_KEY, 0);
		return true;
	}
	return false;
}

static bool fixes_next(struct index_apply *apply, struct index_change *change)
{
	struct fsck *fsck = container_of(apply, struct fsck, apply);

	return next_fix(fsck, change) || next_row(fsck, change) || next_meta(fsck, change);
}

int fsck_commit(struct fsck *fsck)
{
	int r;

	fsck->apply = (struct index_apply){ .prepare = fixes_prepare, .next = fixes_next };
	r = index_lmdb.apply_now(fsck->index, &fsck->apply);
	fsck->fixes_count = 0;
	fingerprints_clear(&fsck->unflushed);
	fsck_note(fsck, r);
	if (r)
		return ERR_RAISE(r);
	fsck->repairing = true;
	for (uint32_t i = 0; i < STORE_SEGMENTS_MAX; i++)
		fsck->changed[i] &= !row_is_due(fsck, i);
	return 0;
}

int fsck_flush(struct fsck *fsck)
{
	return fsck->fixes_count ? fsck_commit(fsck) : 0;
}

int fsck_end(struct fsck *fsck)
{
	fsck->ending = true;
	return fsck_commit(fsck);
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

	/* Before the changes, any of which may end a transaction. */
	if (blob->place.segment < STORE_SEGMENTS_MAX && fsck->rows[blob->place.segment].state != SEGMENT_ABSENT)
		disturb(fsck, blob->place.segment);
	row_blob_encode(value, blob);
	fsck_fix(fsck, INDEX_DELETE_GROUP, INDEX_BLOBS, span_make(hash, DIGEST_HASH_BYTES),
	        span_make(value, ROW_BLOB_PLACE_BYTES));
	row_record_key(key, blob->place.segment, blob->place.offset);
	fsck_fix(fsck, INDEX_DELETE, INDEX_RECORDS, span_make(key, sizeof(key)), span_make(NULL, 0));
	fsck->report->entries_repaired += fsck->repair;
}
