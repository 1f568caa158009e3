/* The second half of a check: what the index names, against the records that were found whole. */
#include "gateway/store/fsck_private.h"

#include <stdlib.h>
#include <string.h>

static int seen_compare(const void *key, const void *element)
{
	uint64_t place = *(const uint64_t *)key, other = ((const struct fsck_record *)element)->place;

	return (place > other) - (place < other);
}

static const struct fsck_record *find_seen(const struct fsck *fsck, uint32_t segment, uint32_t offset)
{
	uint64_t place = (uint64_t)segment << 32 | offset;

	return fsck->seen_count ? bsearch(&place, fsck->seen, fsck->seen_count, sizeof(*fsck->seen), seen_compare) : NULL;
}

static void check_blob(struct fsck *fsck, const struct index_row *row)
{
	char hex[DIGEST_HEX_BYTES];
	struct digest digest;
	struct row_blob blob;
	const struct fsck_record *seen;

	memcpy(digest.hash, row->key.data, DIGEST_HASH_BYTES);
	digest_hex(&digest, hex);
	if (!row_blob_decode(&blob, row->value)) {
		fsck->report->entries_dangling++;
		fsck_found(fsck, "%.*s: its entry is damaged", DIGEST_HEX_BYTES, hex);
		fsck_fix(fsck, INDEX_DELETE_GROUP, INDEX_BLOBS, row->key,
		         span_make(row->value.data, row->value.size < ROW_BLOB_PLACE_BYTES ? row->value.size : ROW_BLOB_PLACE_BYTES));
		fsck->report->entries_repaired += fsck->repair;
		return;
	}
	fsck->report->entries++;
	if (blob.place.segment < STORE_SEGMENTS_MAX && fsck->rows[blob.place.segment].state == SEGMENT_EVICTING)
		return;
	seen = find_seen(fsck, blob.place.segment, blob.place.offset);
	if (seen && seen->whole && seen->size == blob.size)
		return;
	if (!seen) {
		fsck->report->entries_dangling++;
		fsck_found(fsck, "%.*s: nothing is at segment %u offset %u", DIGEST_HEX_BYTES, hex, blob.place.segment,
		      blob.place.offset);
	}
	fsck_forget(fsck, digest.hash, &blob);
}

/* Sights follow their blob: a sight without one is found by looking the blob up. */
static void check_sight(struct fsck *fsck, const struct index_row *row)
{
	char hex[DIGEST_HEX_BYTES];
	struct digest digest;
	struct fsck_get blob;

	memcpy(digest.hash, row->key.data, DIGEST_HASH_BYTES);
	if (fsck_find(fsck, INDEX_BLOBS, span_make(digest.hash, DIGEST_HASH_BYTES), &blob) || fsck->error)
		return;
	digest_hex(&digest, hex);
	fsck->report->entries_dangling++;
	fsck_found(fsck, "%.*s: a tenant sees it, but it is not there", DIGEST_HEX_BYTES, hex);
	fsck_fix(fsck, INDEX_DELETE, INDEX_BLOBS, row->key, span_make(NULL, 0));
	fsck->report->entries_repaired += fsck->repair;
}

static void check_blobs_row(struct fsck *fsck, const struct index_row *row)
{
	if (row->key.size == DIGEST_HASH_BYTES) {
		check_blob(fsck, row);
	} else if (row->key.size == ROW_SIGHT_KEY_BYTES) {
		check_sight(fsck, row);
	} else {
		fsck->report->entries_dangling++;
		fsck_found(fsck, "the index has a damaged key among the blobs");
		fsck_fix(fsck, INDEX_DELETE, INDEX_BLOBS, row->key, span_make(NULL, 0));
	}
}

/* That of a record which is whole was told, and mended, when the segments were walked. */
static void check_record_row(struct fsck *fsck, const struct index_row *row)
{
	const struct fsck_record *seen = NULL;
	struct digest digest;

	if (row->key.size == ROW_RECORD_KEY_BYTES) {
		if (row_record_decode(&digest, row->value))
			return;
		seen = find_seen(fsck, row_record_key_segment(row->key.data), row_record_key_offset(row->key.data));
	}
	if (seen && seen->whole)
		return;
	fsck->report->entries_dangling++;
	fsck_found(fsck, "the index has a damaged row among the records");
	fsck_fix(fsck, INDEX_DELETE, INDEX_RECORDS, row->key, span_make(NULL, 0));
	fsck->report->entries_repaired += fsck->repair;
}

static void check_mark(struct fsck *fsck, const struct index_row *row)
{
	fsck->report->marks++;
	/* What rests on a file that is not there is not told apart: marks are made again by the next commits. */
	if (fsck->segment_lost)
		fsck_fix(fsck, INDEX_DELETE, INDEX_MARKS, row->key, span_make(NULL, 0));
}

static void check_pin(struct fsck *fsck, const struct index_row *row)
{
	struct store_pin pin;

	fsck->report->pins++;
	if (row_pin_decode(&pin, row))
		return;
	fsck_found(fsck, "a pin is damaged");
	fsck_fix(fsck, INDEX_DELETE, INDEX_PINS, row->key, span_make(NULL, 0));
}

int fsck_index_entries(struct fsck *fsck)
{
	int r = fsck_scan(fsck, INDEX_BLOBS, check_blobs_row);

	if (!r)
		r = fsck_scan(fsck, INDEX_RECORDS, check_record_row);
	if (!r)
		r = fsck_scan(fsck, INDEX_MARKS, check_mark);
	if (!r)
		r = fsck_scan(fsck, INDEX_PINS, check_pin);
	return r;
}
