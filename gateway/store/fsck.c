/*
 * Checking a store: first every segment's records, against themselves and the index; then every entry of the index,
 * against the records that were found whole.
 */
#include "gateway/store/fsck.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/store/bytes.h"
#include "gateway/store/fingerprints.h"
#include "gateway/store/index.h"
#include "gateway/store/layout.h"
#include "gateway/store/rows.h"
#include "gateway/store/salvage.h"
#include "gateway/store/scopes.h"
#include "gateway/store/segment.h"
#include "gateway/store/sync.h"

#define FSCK_LINE_MAX     512
#define FSCK_ROWS_MAX     256
#define FSCK_CHANGES_MAX  1024           /* a transaction of repairs */
#define FSCK_MAP_LEAST    (16ull << 20)

/* A repair, kept until a transaction's worth is there. */
struct fix {
	enum index_change_kind kind;
	enum index_table table;
	uint8_t key[ROW_SCOPED_KEY_BYTES];
	uint8_t key_size, value_size;
	uint8_t value[ROW_RECORD_BYTES];
};

struct seen {
	uint64_t place;                  /* segment << 32 | offset */
	uint32_t size;
	bool whole;
};

struct fsck {
	const char *path;
	bool repair;
	struct fsck_report *report;
	void (*problem)(void *context, const char *line);
	void *context;
	uint64_t problems;
	int error;                       /* the first thing that stopped a repair */

	int dir_fd;
	struct layout layout;
	struct index *index;
	struct row_segment rows[STORE_SEGMENTS_MAX];
	bool changed[STORE_SEGMENTS_MAX];
	uint64_t sequence;
	struct scopes scopes;
	uint32_t tenants;                /* the highest number in a record */

	/* The segment that is being walked. */
	uint32_t segment;
	bool adopt;                      /* the index does not know it: all that is whole counts */
	uint64_t adopted_end;

	struct seen *seen;               /* records that the index names, in order of place */
	size_t seen_count, seen_capacity;
	struct fix *fixes;
	size_t fixes_count, fixes_at;
	struct fingerprints unflushed;   /* blobs whose new entries are among the fixes */
	struct index_apply apply;
	uint8_t *page;
};

__attribute__((format(printf, 2, 3))) static void found(struct fsck *fsck, const char *format, ...)
{
	char line[FSCK_LINE_MAX];
	va_list arguments;

	fsck->problems++;
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	if (fsck->problem)
		fsck->problem(fsck->context, line);
}

/* ---- repairs ---- */

static void fixes_prepare(struct index_apply *apply)
{
	container_of(apply, struct fsck, apply)->fixes_at = 0;
}

static bool fixes_next(struct index_apply *apply, struct index_change *change)
{
	struct fsck *fsck = container_of(apply, struct fsck, apply);
	const struct fix *fix;

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

static int fixes_flush(struct fsck *fsck)
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

static void fix_add(struct fsck *fsck, enum index_change_kind kind, enum index_table table, struct span key,
                    struct span value)
{
	struct fix *fix;

	if (!fsck->repair || fsck->error)
		return;
	if (fsck->fixes_count == FSCK_CHANGES_MAX)
		fsck->error = fixes_flush(fsck);
	if (fsck->error)
		return;
	fix = &fsck->fixes[fsck->fixes_count++];
	CHECK(key.size <= sizeof(fix->key));
	CHECK(value.size <= sizeof(fix->value));
	*fix = (struct fix){
		.kind = kind, .table = table, .key_size = (uint8_t)key.size, .value_size = (uint8_t)value.size,
	};
	memcpy(fix->key, key.data, key.size);
	if (value.size)
		memcpy(fix->value, value.data, value.size);
}

static void fix_record_row(struct fsck *fsck, const struct record *record)
{
	uint8_t key[ROW_RECORD_KEY_BYTES], value[ROW_RECORD_BYTES];

	row_record_key(key, record->segment, record->offset);
	row_record_encode(value, record->digest.hash, (uint32_t)record->digest.size);
	fix_add(fsck, INDEX_PUT, INDEX_RECORDS, span_make(key, sizeof(key)), span_make(value, sizeof(value)));
}

static void fix_entry(struct fsck *fsck, const struct record *record)
{
	uint8_t value[ROW_BLOB_BYTES];
	struct row_blob blob = {
		.place = { record->segment, record->generation, record->offset },
		.size = (uint32_t)record->digest.size,
		.tenant = record->tenant,
		.instance = record->instance,
	};

	row_blob_encode(value, &blob);
	fix_add(fsck, INDEX_PUT, INDEX_BLOBS, span_make(record->digest.hash, DIGEST_HASH_BYTES),
	        span_make(value, sizeof(value)));
	fix_record_row(fsck, record);
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

static void fix_forget(struct fsck *fsck, const uint8_t *hash, const struct row_blob *blob)
{
	uint8_t key[ROW_RECORD_KEY_BYTES], value[ROW_BLOB_BYTES];

	row_blob_encode(value, blob);
	fix_add(fsck, INDEX_DELETE_GROUP, INDEX_BLOBS, span_make(hash, DIGEST_HASH_BYTES),
	        span_make(value, ROW_BLOB_PLACE_BYTES));
	row_record_key(key, blob->place.segment, blob->place.offset);
	fix_add(fsck, INDEX_DELETE, INDEX_RECORDS, span_make(key, sizeof(key)), span_make(NULL, 0));
	if (blob->place.segment < STORE_SEGMENTS_MAX && fsck->rows[blob->place.segment].state != SEGMENT_ABSENT)
		disturb(fsck, blob->place.segment);
	fsck->report->entries_repaired += fsck->repair;
}

/* ---- looking up ---- */

struct fsck_get {
	struct index_get get;
	int32_t size;
	uint8_t value[ROW_RECORD_BYTES];
};

static void on_get(struct index_get *get)
{
}

static bool fsck_find(struct fsck *fsck, enum index_table table, struct span key, struct fsck_get *found_row)
{
	found_row->get = (struct index_get){
		.table = table,
		.keys = key.data,
		.key_size = key.size,
		.count = 1,
		.values = found_row->value,
		.value_stride = sizeof(found_row->value),
		.sizes = &found_row->size,
		.fn = on_get,
	};
	index_lmdb.get(fsck->index, &found_row->get);
	return found_row->get.result == 0 && found_row->size >= 0;
}

/* ---- segments ---- */

static int seen_add(struct fsck *fsck, const struct record *record, bool whole)
{
	if (fsck->seen_count == fsck->seen_capacity) {
		size_t capacity = fsck->seen_capacity ? fsck->seen_capacity * 2 : 1024;
		struct seen *grown = reallocarray(fsck->seen, capacity, sizeof(*grown));

		if (!grown)
			return ERR_RAISE(-ENOMEM);
		fsck->seen = grown;
		fsck->seen_capacity = capacity;
	}
	fsck->seen[fsck->seen_count++] = (struct seen){
		.place = (uint64_t)record->segment << 32 | record->offset,
		.size = (uint32_t)record->digest.size,
		.whole = whole,
	};
	return 0;
}

static bool names_record(const struct row_blob *blob, const struct record *record)
{
	return blob->place.segment == record->segment && blob->place.generation == record->generation &&
	       blob->place.offset == record->offset && blob->size == record->digest.size;
}

/* A record that the index names. */
static int check_named(struct fsck *fsck, const struct record *record, bool whole)
{
	uint8_t key[ROW_RECORD_KEY_BYTES];
	char text[DIGEST_TEXT_MAX];
	struct fsck_get row;

	if (!whole) {
		fsck->report->records_corrupt++;
		found(fsck, "segment %u offset %u: %s is damaged", record->segment, record->offset,
		      digest_text(&record->digest, text));
	}
	row_record_key(key, record->segment, record->offset);
	if (whole && !fsck_find(fsck, INDEX_RECORDS, span_make(key, sizeof(key)), &row)) {
		fsck->report->entries_missing++;
		found(fsck, "segment %u offset %u: %s is not listed for eviction", record->segment, record->offset,
		      digest_text(&record->digest, text));
		fix_record_row(fsck, record);
		fsck->report->entries_repaired += fsck->repair;
	}
	return seen_add(fsck, record, whole);
}

/* A whole record that ought to be in the index, and is not. */
static int check_missing(struct fsck *fsck, const struct record *record)
{
	char text[DIGEST_TEXT_MAX];

	fsck->report->entries_missing++;
	if (!fsck->adopt)
		found(fsck, "segment %u offset %u: %s is not in the index", record->segment, record->offset,
		      digest_text(&record->digest, text));
	fix_entry(fsck, record);
	return seen_add(fsck, record, true);
}

/* While an index is made again: a second record of a blob tells of another who brought it. */
static void adopt_sight(struct fsck *fsck, const struct record *record, const struct row_blob *blob)
{
	uint8_t key[ROW_SIGHT_KEY_BYTES];

	if (record->tenant == blob->tenant && record->instance == blob->instance)
		return;
	row_sight_key(key, record->digest.hash, record->tenant, record->instance);
	fix_add(fsck, INDEX_PUT, INDEX_BLOBS, span_make(key, sizeof(key)), span_make(NULL, 0));
}

/*
 * A record that no entry names is dead, as after a crash or when a copy took its place, unless the index lists it for
 * eviction: then its entry was lost.
 */
static bool ought_to_be_named(struct fsck *fsck, const struct record *record)
{
	uint8_t key[ROW_RECORD_KEY_BYTES];
	struct fsck_get row;
	struct digest digest;

	row_record_key(key, record->segment, record->offset);
	return fsck_find(fsck, INDEX_RECORDS, span_make(key, sizeof(key)), &row) &&
	       row_record_decode(&digest, span_make(row.value, (size_t)row.size)) &&
	       digest_equal(&digest, &record->digest);
}

static int on_record(void *context, const struct record *record, bool whole)
{
	struct fsck *fsck = context;
	struct fsck_get row;
	struct row_blob blob;
	bool known;

	if (fingerprints_has(&fsck->unflushed, record->digest.hash))
		fsck->error = fixes_flush(fsck);
	if (fsck->error)
		return fsck->error;

	if (whole) {
		fsck->report->records++;
		fsck->report->bytes += record->digest.size;
		if (record->tenant > fsck->tenants)
			fsck->tenants = record->tenant;
		fsck->adopted_end = record->offset + record_bytes(record->digest.size);
	}
	known = fsck_find(fsck, INDEX_BLOBS, span_make(record->digest.hash, DIGEST_HASH_BYTES), &row) &&
	        row_blob_decode(&blob, span_make(row.value, (size_t)row.size));
	if (known && names_record(&blob, record))
		return check_named(fsck, record, whole);
	if (whole && !known && (fsck->adopt || ought_to_be_named(fsck, record)))
		return check_missing(fsck, record);
	if (whole && fsck->adopt && known)
		adopt_sight(fsck, record, &blob);
	fsck->report->records_dead++;
	return 0;
}

static void on_unreadable(void *context, uint64_t offset, int error)
{
	struct fsck *fsck = context;

	found(fsck, "segment %u offset %" PRIu64 ": %s", fsck->segment, offset, err_text(error));
}

static int walk_segment(struct fsck *fsck, int fd)
{
	struct salvage salvage = {
		.fd = fd,
		.segment = fsck->segment,
		.generation = fsck->rows[fsck->segment].generation,
		.segment_bytes = fsck->layout.segment_bytes,
		.secret = fsck->layout.secret,
		.visit = on_record,
		.unreadable = on_unreadable,
		.context = fsck,
	};

	return salvage_walk(&salvage);
}

/* The file's first block must say the same as the index. */
static int check_first_block(struct fsck *fsck, int fd)
{
	const struct row_segment *row = &fsck->rows[fsck->segment];
	uint8_t block[RECORD_BLOCK_BYTES];
	uint32_t generation;

	if (row->durable == 0 || (salvage_generation(fd, fsck->segment, fsck->layout.secret, &generation) &&
	                          generation == row->generation))
		return 0;
	found(fsck, "segment %u: its first block is damaged", fsck->segment);
	if (!fsck->repair)
		return 0;
	record_encode_segment(block, fsck->segment, row->generation, fsck->layout.segment_bytes, fsck->layout.secret);
	if (pwrite(fd, block, sizeof(block), 0) != (ssize_t)sizeof(block) || fdatasync(fd) < 0)
		return ERR_RAISE(-EIO);
	return 0;
}

/* A file that the index does not know: made just before a crash, or the index was lost. */
static int adopt_segment(struct fsck *fsck, int fd)
{
	struct row_segment *row = &fsck->rows[fsck->segment];
	uint64_t missing = fsck->report->entries_missing;
	int r;

	if (!salvage_generation(fd, fsck->segment, fsck->layout.secret, &row->generation))
		return 0;
	fsck->adopt = true;
	fsck->adopted_end = RECORD_BLOCK_BYTES;
	r = walk_segment(fsck, fd);
	fsck->adopt = false;
	found(fsck, "segment %u is not in the index; %" PRIu64 " blobs are in it", fsck->segment,
	      fsck->report->entries_missing - missing);
	row->state = SEGMENT_SEALED;
	row->durable = record_block_ceiling(fsck->adopted_end);
	fsck->changed[fsck->segment] = true;
	return r;
}

static int check_segment_file(struct fsck *fsck, int fd)
{
	int r;

	switch (fsck->rows[fsck->segment].state) {
	case SEGMENT_ABSENT:
		return adopt_segment(fsck, fd);
	case SEGMENT_OPEN:
	case SEGMENT_SEALED:
		r = check_first_block(fsck, fd);
		return r ? r : walk_segment(fsck, fd);
	case SEGMENT_FREE:
	case SEGMENT_EVICTING:           /* the next start goes on deleting its entries */
		break;
	}
	return 0;
}

static int check_segments(struct fsck *fsck)
{
	char name[SEGMENT_NAME_MAX];
	int r = 0;

	for (fsck->segment = 0; fsck->segment < STORE_SEGMENTS_MAX && !r; fsck->segment++) {
		CLEANUP(fd_closep) int fd = openat(fsck->dir_fd, segment_name(name, fsck->segment),
		                                   (fsck->repair ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW);
		struct stat st;

		if (fd < 0) {
			if (errno != ENOENT)
				return ERR_RAISE(-errno);
			if (fsck->rows[fsck->segment].state == SEGMENT_ABSENT)
				continue;
			found(fsck, "segment %u: its file is missing", fsck->segment);
			fsck->rows[fsck->segment].state = SEGMENT_ABSENT;
			fsck->changed[fsck->segment] = true;
			continue;
		}
		fsck->report->segments++;
		if (fstat(fd, &st) < 0)
			return ERR_RAISE(-errno);
		if ((uint64_t)st.st_size < fsck->layout.segment_bytes) {
			found(fsck, "segment %u: its file is cut short", fsck->segment);
			if (fsck->repair && fallocate(fd, 0, 0, (off_t)fsck->layout.segment_bytes) < 0)
				return ERR_RAISE(-errno);
		}
		r = check_segment_file(fsck, fd);
	}
	return r;
}

/* ---- the index's tables ---- */

static int scan_table(struct fsck *fsck, enum index_table table,
                      void (*visit)(struct fsck *fsck, const struct index_row *row))
{
	struct index_scan scan = {
		.table = table,
		.rows = fsck->page,
		.rows_capacity = FSCK_ROWS_MAX * INDEX_SCAN_ROW_MAX,
		.rows_max = FSCK_ROWS_MAX,
	};
	int r;

	do {
		struct index_row row;
		size_t at = 0;

		r = index_lmdb.scan_now(fsck->index, &scan);
		while (!r && index_scan_next(&scan, &at, &row))
			visit(fsck, &row);
	} while (!r && scan.more);
	return r;
}

static void load_segment(struct fsck *fsck, const struct index_row *row)
{
	struct row_segment segment;
	uint32_t number;

	if (row->key.size != ROW_SEGMENT_KEY_BYTES || !row_segment_decode(&segment, row->value) ||
	    (number = bytes_get32_key(row->key.data)) >= STORE_SEGMENTS_MAX) {
		found(fsck, "the index has a damaged row of a segment");
		fix_add(fsck, INDEX_DELETE, INDEX_SEGMENTS, row->key, span_make(NULL, 0));
		return;
	}
	fsck->rows[number] = segment;
	if (segment.disturbed > fsck->sequence)
		fsck->sequence = segment.disturbed;
}

static void load_meta(struct fsck *fsck, const struct index_row *row)
{
	if (span_is(row->key, ROW_SEQUENCE_KEY) && row->value.size == ROW_SEQUENCE_BYTES &&
	    bytes_get64(row->value.data) > fsck->sequence)
		fsck->sequence = bytes_get64(row->value.data);
}

static int seen_compare(const void *key, const void *element)
{
	uint64_t place = *(const uint64_t *)key, other = ((const struct seen *)element)->place;

	return (place > other) - (place < other);
}

static void check_blob(struct fsck *fsck, const struct index_row *row)
{
	char hex[DIGEST_HEX_BYTES];
	struct digest digest;
	struct row_blob blob;
	const struct seen *seen;
	uint64_t place;

	memcpy(digest.hash, row->key.data, DIGEST_HASH_BYTES);
	digest_hex(&digest, hex);
	if (!row_blob_decode(&blob, row->value)) {
		fsck->report->entries_dangling++;
		found(fsck, "%.*s: its entry is damaged", DIGEST_HEX_BYTES, hex);
		fix_add(fsck, INDEX_DELETE_GROUP, INDEX_BLOBS, row->key, row->value);
		fsck->report->entries_repaired += fsck->repair;
		return;
	}
	fsck->report->entries++;
	if (blob.place.segment < STORE_SEGMENTS_MAX && fsck->rows[blob.place.segment].state == SEGMENT_EVICTING)
		return;
	place = (uint64_t)blob.place.segment << 32 | blob.place.offset;
	seen = fsck->seen_count ? bsearch(&place, fsck->seen, fsck->seen_count, sizeof(*fsck->seen), seen_compare) : NULL;
	if (seen && seen->whole && seen->size == blob.size)
		return;
	if (!seen) {
		fsck->report->entries_dangling++;
		found(fsck, "%.*s: nothing is at segment %u offset %u", DIGEST_HEX_BYTES, hex, blob.place.segment,
		      blob.place.offset);
	}
	fix_forget(fsck, digest.hash, &blob);
}

/* Sights follow their blob: a sight without one is found by looking the blob up. */
static void check_sight(struct fsck *fsck, const struct index_row *row)
{
	char hex[DIGEST_HEX_BYTES];
	struct digest digest;
	struct fsck_get blob;

	memcpy(digest.hash, row->key.data, DIGEST_HASH_BYTES);
	if (fsck_find(fsck, INDEX_BLOBS, span_make(digest.hash, DIGEST_HASH_BYTES), &blob))
		return;
	digest_hex(&digest, hex);
	fsck->report->entries_dangling++;
	found(fsck, "%.*s: a tenant sees it, but it is not there", DIGEST_HEX_BYTES, hex);
	fix_add(fsck, INDEX_DELETE, INDEX_BLOBS, row->key, span_make(NULL, 0));
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
		found(fsck, "the index has a damaged key among the blobs");
		fix_add(fsck, INDEX_DELETE, INDEX_BLOBS, row->key, span_make(NULL, 0));
	}
}

static void check_mark(struct fsck *fsck, const struct index_row *row)
{
	fsck->report->marks++;
}

static void check_pin(struct fsck *fsck, const struct index_row *row)
{
	struct store_pin pin;

	fsck->report->pins++;
	if (row_pin_decode(&pin, row))
		return;
	found(fsck, "a pin is damaged");
	fix_add(fsck, INDEX_DELETE, INDEX_PINS, row->key, span_make(NULL, 0));
}

static int check_index(struct fsck *fsck)
{
	int r = scan_table(fsck, INDEX_BLOBS, check_blobs_row);

	if (!r)
		r = scan_table(fsck, INDEX_MARKS, check_mark);
	if (!r)
		r = scan_table(fsck, INDEX_PINS, check_pin);
	return r;
}

/* ---- names ---- */

static int check_scopes(struct fsck *fsck)
{
	int r = scopes_load(&fsck->scopes, fsck->dir_fd, false);

	if (r == -ENOENT) {
		found(fsck, "the names of tenants are lost: what they brought stays, but nobody sees it");
		r = fsck->repair ? scopes_load(&fsck->scopes, fsck->dir_fd, true) : 0;
		if (!r && fsck->repair)
			r = sync_directory(SYNC_STORE_DIRECTORY, fsck->dir_fd);
	} else if (r == -EUCLEAN) {
		found(fsck, "the file scopes is damaged; put its last good copy in place");
		return r;
	}
	if (!r && fsck->repair)
		r = scopes_reserve(&fsck->scopes, fsck->tenants);
	return r;
}

/* ---- the whole ---- */

static uint64_t index_map_bytes(int dir_fd)
{
	struct stat st;
	uint64_t bytes = 0;

	if (fstatat(dir_fd, "index/data.mdb", &st, 0) == 0)
		bytes = (uint64_t)st.st_blocks * 512 > (uint64_t)st.st_size ? (uint64_t)st.st_blocks * 512
		                                                           : (uint64_t)st.st_size;
	bytes = record_block_ceiling(bytes);
	return bytes > FSCK_MAP_LEAST ? bytes : FSCK_MAP_LEAST;
}

static int drop_index(int dir_fd)
{
	if ((unlinkat(dir_fd, "index/data.mdb", 0) < 0 && errno != ENOENT) ||
	    (unlinkat(dir_fd, "index/lock.mdb", 0) < 0 && errno != ENOENT))
		return ERR_RAISE(-errno);
	return 0;
}

/* An index that is lost or unreadable is made anew, from the segments. */
static int open_index(struct fsck *fsck)
{
	struct index_config config = { .dir_fd = fsck->dir_fd, .map_bytes = index_map_bytes(fsck->dir_fd) };
	int r = index_lmdb.open(&fsck->index, &config);

	if (r != -ENOENT && r != -EUCLEAN)
		return r;
	found(fsck, "the index is %s; it can be made again from the segments (pins and marks are lost)",
	      r == -ENOENT ? "missing" : "damaged");
	if (!fsck->repair)
		return 0;
	r = drop_index(fsck->dir_fd);
	if (r)
		return r;
	config.create = true;
	/* What the segments can hold at most decides; a start with another ceiling makes it larger. */
	config.map_bytes = layout_map_bytes((uint64_t)STORE_SEGMENTS_MAX * fsck->layout.segment_bytes / 4);
	config.sparse = true;
	return index_lmdb.open(&fsck->index, &config);
}

static int write_rows(struct fsck *fsck)
{
	uint8_t key[ROW_SEGMENT_KEY_BYTES], value[ROW_SEGMENT_BYTES], sequence[ROW_SEQUENCE_BYTES];

	for (uint32_t i = 0; i < STORE_SEGMENTS_MAX; i++) {
		if (!fsck->changed[i])
			continue;
		bytes_put32_key(key, i);
		row_segment_encode(value, &fsck->rows[i]);
		fix_add(fsck, fsck->rows[i].state == SEGMENT_ABSENT ? INDEX_DELETE : INDEX_PUT, INDEX_SEGMENTS,
		        span_make(key, sizeof(key)), span_make(value, sizeof(value)));
	}
	bytes_put64(sequence, fsck->sequence);
	fix_add(fsck, INDEX_PUT, INDEX_META, span_text(ROW_SEQUENCE_KEY), span_make(sequence, sizeof(sequence)));
	return fsck->error ? fsck->error : fixes_flush(fsck);
}

static int fsck_check(struct fsck *fsck)
{
	int r = open_index(fsck);

	if (r || !fsck->index)
		return r;
	r = scan_table(fsck, INDEX_SEGMENTS, load_segment);
	if (!r)
		r = scan_table(fsck, INDEX_META, load_meta);
	if (!r)
		r = check_segments(fsck);
	if (!r && fsck->repair)
		r = fixes_flush(fsck);
	if (!r)
		r = check_index(fsck);
	if (!r)
		r = check_scopes(fsck);
	if (!r && fsck->repair && fsck->problems)
		r = write_rows(fsck);
	return r;
}

static int fsck_run(struct fsck *fsck)
{
	CLEANUP(fd_closep) int lock_fd = -1;
	char why[FSCK_LINE_MAX] = "";
	int r;

	r = fsck->dir_fd = layout_open(fsck->path, false);
	if (r < 0)
		return r;
	r = lock_fd = layout_lock(fsck->dir_fd, fsck->path, why, sizeof(why));
	if (r >= 0)
		r = layout_read(fsck->dir_fd, &fsck->layout, fsck->path, why, sizeof(why));
	if (r < 0) {
		found(fsck, "%s", why[0] ? why : "there is no store here");
		return r;
	}
	return fsck_check(fsck);
}

int store_fsck(const char *path, bool repair, struct fsck_report *report,
               void (*problem)(void *context, const char *line), void *context)
{
	struct fsck *fsck = calloc(1, sizeof(*fsck));
	int r = -ENOMEM;

	*report = (struct fsck_report){ 0 };
	if (!fsck)
		return ERR_RAISE(-ENOMEM);
	fsck->path = path;
	fsck->repair = repair;
	fsck->report = report;
	fsck->problem = problem;
	fsck->context = context;
	fsck->dir_fd = fsck->scopes.fd = -1;
	fsck->fixes = calloc(FSCK_CHANGES_MAX, sizeof(*fsck->fixes));
	fsck->page = malloc(FSCK_ROWS_MAX * INDEX_SCAN_ROW_MAX);
	if (fsck->fixes && fsck->page)
		r = fsck_run(fsck);
	if (!r && fsck->problems)
		r = 1;
	index_lmdb.close(fsck->index);
	scopes_fini(&fsck->scopes);
	if (fsck->dir_fd >= 0)
		close(fsck->dir_fd);
	fingerprints_fini(&fsck->unflushed);
	free(fsck->seen);
	free(fsck->fixes);
	free(fsck->page);
	free(fsck);
	return r < 0 ? ERR_RAISE(r) : r;
}
