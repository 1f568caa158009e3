/*
 * Checking a store: first every segment's records, against themselves and the index; then every entry of the index,
 * against the records that were found whole.
 */
#include "gateway/store/fsck_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/store/bytes.h"
#include "gateway/store/sync.h"

#define FSCK_LINE_MAX     512
#define FSCK_MAP_LEAST    (16ull << 20)
#define FSCK_READ_BYTES   (1u << 20)

void fsck_found(struct fsck *fsck, const char *format, ...)
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

void fsck_note(struct fsck *fsck, int r)
{
	if (r && !fsck->error)
		fsck->error = r;
	fsck->index_damaged |= r == -EUCLEAN;
}

/* ---- reading the index ---- */

static void on_get(struct index_get *get)
{
}

bool fsck_find(struct fsck *fsck, enum index_table table, struct span key, struct fsck_get *row)
{
	row->get = (struct index_get){
		.table = table,
		.keys = key.data,
		.key_size = key.size,
		.count = 1,
		.values = row->value,
		.value_stride = sizeof(row->value),
		.sizes = &row->size,
		.fn = on_get,
	};
	index_lmdb.get(fsck->index, &row->get);
	fsck_note(fsck, row->get.result);
	return row->get.result == 0 && row->size >= 0;
}

int fsck_scan(struct fsck *fsck, enum index_table table,
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
		fsck_note(fsck, r);
		while (!fsck->error && index_scan_next(&scan, &at, &row))
			visit(fsck, &row);
	} while (!fsck->error && scan.more);
	return fsck->error;
}

static void load_segment(struct fsck *fsck, const struct index_row *row)
{
	struct row_segment segment;
	uint32_t number;

	if (row->key.size != ROW_SEGMENT_KEY_BYTES || !row_segment_decode(&segment, row->value) ||
	    (number = bytes_get32_key(row->key.data)) >= STORE_SEGMENTS_MAX) {
		fsck_found(fsck, "the index has a damaged row of a segment");
		fsck_fix(fsck, INDEX_DELETE, INDEX_SEGMENTS, row->key, span_make(NULL, 0));
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
	if (span_is(row->key, ROW_REPAIRING_KEY) && !fsck->repairing)
		fsck_found(fsck, "a repair has not come to its end");
}

/* ---- names ---- */

static int check_scopes(struct fsck *fsck)
{
	int r = scopes_load(&fsck->scopes, fsck->dir_fd, false);

	if (r == -ENOENT) {
		fsck_found(fsck, "the names of tenants are lost: what they brought stays, but nobody sees it");
		r = fsck->repair ? scopes_load(&fsck->scopes, fsck->dir_fd, true) : 0;
		if (!r && fsck->repair)
			r = sync_directory(SYNC_STORE_DIRECTORY, fsck->dir_fd);
	} else if (r == -EUCLEAN) {
		fsck_found(fsck, "the file scopes is damaged; put its last good copy in place");
		return r;
	}
	if (!r && fsck->repair)
		r = scopes_reserve(&fsck->scopes, fsck->tenants);
	return r;
}

/* ---- the whole ---- */

/* What comes to be in it by a repair depends on the segments; a start with another ceiling makes it larger. */
static uint64_t index_map_bytes(const struct fsck *fsck)
{
	uint64_t least = fsck->repair ? layout_map_bytes((uint64_t)STORE_SEGMENTS_MAX * fsck->layout.segment_bytes / 4)
	                              : FSCK_MAP_LEAST;
	struct stat st;
	uint64_t bytes = 0;

	if (fstatat(fsck->dir_fd, "index/data.mdb", &st, 0) == 0)
		bytes = (uint64_t)st.st_blocks * 512 > (uint64_t)st.st_size ? (uint64_t)st.st_blocks * 512
		                                                           : (uint64_t)st.st_size;
	bytes = record_block_ceiling(bytes);
	return bytes > least ? bytes : least;
}

static int drop_index(int dir_fd)
{
	if ((unlinkat(dir_fd, "index/data.mdb", 0) < 0 && errno != ENOENT) ||
	    (unlinkat(dir_fd, "index/lock.mdb", 0) < 0 && errno != ENOENT))
		return ERR_RAISE(-errno);
	return 0;
}

/* Read as a file first: what the disk does not give back would be SIGBUS in LMDB's map. */
static int read_index(const struct fsck *fsck)
{
	CLEANUP(fd_closep) int fd = openat(fsck->dir_fd, "index/data.mdb", O_RDONLY | O_CLOEXEC);
	CLEANUP(free_p) uint8_t *data = malloc(FSCK_READ_BYTES);
	off_t at = 0;
	ssize_t got;

	if (!data)
		return ERR_RAISE(-ENOMEM);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : ERR_RAISE(-errno);
	while ((got = pread(fd, data, FSCK_READ_BYTES, at)) > 0)
		at += got;
	if (got < 0)
		return errno == EIO ? -EUCLEAN : ERR_RAISE(-errno);
	return 0;
}

static int open_index(struct fsck *fsck, bool create)
{
	struct index_config config = {
		.dir_fd = fsck->dir_fd, .map_bytes = index_map_bytes(fsck), .create = create, .sparse = true,
	};

	return index_lmdb.open(&fsck->index, &config);
}

/* What was found so far was of another index. */
static void forget_findings(struct fsck *fsck)
{
	*fsck->report = (struct fsck_report){ 0 };
	memset(fsck->rows, 0, sizeof(fsck->rows));
	memset(fsck->changed, 0, sizeof(fsck->changed));
	fingerprints_clear(&fsck->unflushed);
	scopes_fini(&fsck->scopes);
	fsck->scopes.fd = -1;
	fsck->seen_count = fsck->fixes_count = 0;
	fsck->segment_lost = fsck->index_damaged = fsck->ending = false;
	fsck->error = 0;
}

/* In place of one that is lost or damaged; its rows come from the segments. */
static int make_index(struct fsck *fsck)
{
	int r;

	index_lmdb.close(fsck->index);
	fsck->index = NULL;
	forget_findings(fsck);
	r = drop_index(fsck->dir_fd);
	if (!r)
		r = open_index(fsck, true);
	return r ? r : fsck_commit(fsck);
}

static int check_all(struct fsck *fsck)
{
	int r;

	r = fsck_scan(fsck, INDEX_SEGMENTS, load_segment);
	if (!r)
		r = fsck_scan(fsck, INDEX_META, load_meta);
	if (!r)
		r = fsck_segments(fsck);
	if (!r && fsck->repair)
		r = fsck_flush(fsck);
	if (!r)
		r = fsck_index_entries(fsck);
	if (!r)
		r = check_scopes(fsck);
	if (!r && fsck->repair && fsck->problems)
		r = fsck->error ? fsck->error : fsck_end(fsck);
	return r;
}

/* Damage below the root of the index shows only when the page is needed. */
static int fsck_check(struct fsck *fsck)
{
	int r = read_index(fsck);
	bool lost;

	if (!r)
		r = open_index(fsck, false);
	lost = r == -ENOENT;
	if (!r)
		r = check_all(fsck);
	else
		fsck_note(fsck, r);
	if (!lost && !fsck->index_damaged)
		return r;
	fsck_found(fsck, "the index is %s; it can be made again from the segments (pins and marks are lost)",
	      lost ? "missing" : "damaged");
	if (!fsck->repair)
		return 0;
	r = make_index(fsck);
	return r ? r : check_all(fsck);
}

static int fsck_run(struct fsck *fsck)
{
	struct fsck_report *report = fsck->report;
	CLEANUP(fd_closep) int lock_fd = -1;
	int r;

	r = fsck->dir_fd = layout_open(fsck->path, false);
	/* Before the lock, which is made where there is none: somebody's directory that is no store stays as it is. */
	if (r >= 0)
		r = layout_read(fsck->dir_fd, &fsck->layout, fsck->path, report->why, sizeof(report->why));
	if (r < 0)
		return r;
	r = lock_fd = layout_lock(fsck->dir_fd, fsck->path, report->why, sizeof(report->why));
	if (r >= 0)
		r = fsck_become_owner(fsck, lock_fd);
	return r < 0 ? r : fsck_check(fsck);
}

static void say_why(struct fsck_report *report, const char *path, int r)
{
	if (report->why[0])
		return;
	if (r == -ENOENT)
		snprintf(report->why, sizeof(report->why), "there is no store at %s: %s/format is missing", path, path);
	else if (r == -EROFS)
		snprintf(report->why, sizeof(report->why), "the store %s is mounted read-only: a check locks it", path);
	else
		snprintf(report->why, sizeof(report->why), "the store %s cannot be checked: %s", path, err_text(r));
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
	fsck_become_root(fsck);
	if (!r && fsck->problems)
		r = 1;
	if (r < 0)
		say_why(report, path, r);
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
