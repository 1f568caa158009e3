/* The first half of a check: the records of each segment, against their checksums and what the index says of them. */
#include "gateway/store/fsck_private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/store/salvage.h"

static int seen_add(struct fsck *fsck, const struct record *record, bool whole)
{
	if (fsck->seen_count == fsck->seen_capacity) {
		size_t capacity = fsck->seen_capacity ? fsck->seen_capacity * 2 : 1024;
		struct fsck_record *grown = reallocarray(fsck->seen, capacity, sizeof(*grown));

		if (!grown)
			return ERR_RAISE(-ENOMEM);
		fsck->seen = grown;
		fsck->seen_capacity = capacity;
	}
	fsck->seen[fsck->seen_count++] = (struct fsck_record){
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

static bool is_listed(struct fsck *fsck, const struct record *record)
{
	uint8_t key[ROW_RECORD_KEY_BYTES];
	struct fsck_get row;
	struct digest digest;

	row_record_key(key, record->segment, record->offset);
	return fsck_find(fsck, INDEX_RECORDS, span_make(key, sizeof(key)), &row) &&
	       row_record_decode(&digest, span_make(row.value, (size_t)row.size)) &&
	       digest_equal(&digest, &record->digest);
}

/* A record that the index names. */
static int check_named(struct fsck *fsck, const struct record *record, bool whole)
{
	char text[DIGEST_TEXT_MAX];

	if (!whole) {
		fsck->report->records_corrupt++;
		fsck_found(fsck, "segment %u offset %u: %s is damaged", record->segment, record->offset,
		      digest_text(&record->digest, text));
	}
	if (whole && !is_listed(fsck, record) && !fsck->error) {
		fsck->report->entries_missing++;
		fsck_found(fsck, "segment %u offset %u: %s is not listed for eviction", record->segment, record->offset,
		      digest_text(&record->digest, text));
		fsck_fix_record_row(fsck, record);
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
		fsck_found(fsck, "segment %u offset %u: %s is not in the index", record->segment, record->offset,
		      digest_text(&record->digest, text));
	fsck_fix_entry(fsck, record);
	return seen_add(fsck, record, true);
}

/* While an index is made again: a second record of a blob tells of another who brought it. */
static void adopt_sight(struct fsck *fsck, const struct record *record, const struct row_blob *blob)
{
	uint8_t key[ROW_SIGHT_KEY_BYTES];

	if (record->tenant == blob->tenant && record->instance == blob->instance)
		return;
	row_sight_key(key, record->digest.hash, record->tenant, record->instance);
	fsck_fix(fsck, INDEX_PUT, INDEX_BLOBS, span_make(key, sizeof(key)), span_make(NULL, 0));
}

static int on_record(void *context, const struct record *record, bool whole)
{
	struct fsck *fsck = context;
	struct fsck_get row;
	struct row_blob blob;
	bool known;

	if (!fsck->error && fingerprints_has(&fsck->unflushed, record->digest.hash))
		fsck->error = fsck_flush(fsck);
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
	if (fsck->error)
		return fsck->error;      /* what could not be looked up is not missing */
	if (known && names_record(&blob, record))
		return check_named(fsck, record, whole);
	/*
	 * A record that no entry names is dead, as after a crash or when a copy took its place, unless the index lists it for
	 * eviction: then its entry was lost.
	 */
	if (whole && !known && (fsck->adopt || is_listed(fsck, record)))
		return check_missing(fsck, record);
	if (whole && fsck->adopt && known)
		adopt_sight(fsck, record, &blob);
	fsck->report->records_dead++;
	return 0;
}

static void on_unreadable(void *context, uint64_t offset, int error)
{
	struct fsck *fsck = context;

	fsck_found(fsck, "segment %u offset %" PRIu64 ": %s", fsck->segment, offset, err_text(error));
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
	fsck_found(fsck, "segment %u: its first block is damaged", fsck->segment);
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
	if (r)
		return r;
	fsck_found(fsck, "segment %u is not in the index; %" PRIu64 " blobs are in it", fsck->segment,
	      fsck->report->entries_missing - missing);
	row->state = SEGMENT_SEALED;
	row->durable = record_block_ceiling(fsck->adopted_end);
	row->disturbed = ++fsck->sequence;       /* marks that rest on what it lost */
	fsck->changed[fsck->segment] = true;
	return 0;
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

int fsck_segments(struct fsck *fsck)
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
			fsck_found(fsck, "segment %u: its file is missing", fsck->segment);
			fsck->rows[fsck->segment].state = SEGMENT_ABSENT;
			fsck->segment_lost = true;
			fsck->changed[fsck->segment] = true;
			continue;
		}
		fsck->report->segments++;
		if (fstat(fd, &st) < 0)
			return ERR_RAISE(-errno);
		if ((uint64_t)st.st_size < fsck->layout.segment_bytes) {
			fsck_found(fsck, "segment %u: its file is cut short", fsck->segment);
			if (fsck->repair && fallocate(fd, 0, 0, (off_t)fsck->layout.segment_bytes) < 0)
				return ERR_RAISE(-errno);
		}
		r = check_segment_file(fsck, fd);
	}
	return r;
}
