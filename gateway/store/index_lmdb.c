/*
 * The index in LMDB. Readers never block and run inline on the ring's thread; write transactions (and their fdatasync)
 * run on a worker, one at a time, durable when they end.
 */
#include "gateway/store/index.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/store/bytes.h"
#include "gateway/store/recall.h"

#define LMDB_DIR         "index"
#define STAT_BLOCK_BYTES 512
/* What a file system counts beside the bytes that it was asked for. */
#define RESERVE_SLACK_BYTES (1u << 20)

/* Rows that a look-up takes along for the filter, until that has seen all of them: about as long as 256 look-ups. */
#define FILL_ROWS       1024
#define SORT_LEAST      64

struct index {
	struct ring *ring;
	MDB_env *env;
	MDB_dbi tables[INDEX_TABLES];
	MDB_txn *reader;                 /* of the ring's thread; renewed for each call, never left open */
	struct list applies;             /* waiting; the first one is running when `work` is in flight */
	struct op work;
	struct index_usage usage;
	struct recall recall;
	struct recall_changes changes;    /* of the apply that is running */
	uint8_t fill_key[INDEX_KEY_MAX]; /* where to go on with the rows that were there when the index was opened */
	size_t fill_key_size;
	bool reading;                    /* `reader` is renewed */
	MDB_cursor *scanning;
	jmp_buf broken;                  /* where a scan of fsck's goes on after a page that LMDB would abort at */
};

static const char *const table_names[INDEX_TABLES] = {
	[INDEX_BLOBS] = "blobs",       [INDEX_RECORDS] = "records", [INDEX_MARKS] = "marks", [INDEX_PINS] = "pins",
	[INDEX_NOTES] = "notes",       [INDEX_SEGMENTS] = "segments", [INDEX_META] = "meta",
};

/* LMDB's own codes as errno. */
static int lmdb_error(int r)
{
	switch (r) {
	case 0:
		return 0;
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
		return -ENOSPC;
	case MDB_INVALID:
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_PANIC:
	case MDB_VERSION_MISMATCH:
		return -EUCLEAN;
	default:
		return r > 0 ? -r : -EIO;
	}
}

bool index_scan_next(const struct index_scan *scan, size_t *at, struct index_row *row)
{
	const uint8_t *in = scan->rows + *at;
	size_t key_size, value_size;

	if (*at >= scan->rows_size)
		return false;
	key_size = (size_t)(in[0] | in[1] << 8);
	value_size = (size_t)(in[2] | in[3] << 8);
	row->key = span_make(in + 4, key_size);
	row->value = span_make(in + 4 + key_size, value_size);
	*at += 4 + key_size + value_size;
	CHECK(*at <= scan->rows_size);
	return true;
}

static void scan_add_row(struct index_scan *scan, const MDB_val *key, const MDB_val *value)
{
	uint8_t *out = scan->rows + scan->rows_size;

	out[0] = (uint8_t)key->mv_size;
	out[1] = (uint8_t)(key->mv_size >> 8);
	out[2] = (uint8_t)value->mv_size;
	out[3] = (uint8_t)(value->mv_size >> 8);
	memcpy(out + 4, key->mv_data, key->mv_size);
	if (value->mv_size)
		memcpy(out + 4 + key->mv_size, value->mv_data, value->mv_size);
	scan->rows_size += 4 + key->mv_size + value->mv_size;
	scan->count++;
}

/* ---- opening ---- */

static int lmdb_open_tables(struct index *index)
{
	MDB_txn *txn;
	int r;

	r = mdb_txn_begin(index->env, NULL, 0, &txn);
	if (r)
		return r;
	for (int i = 0; i < INDEX_TABLES; i++) {
		r = mdb_dbi_open(txn, table_names[i], MDB_CREATE, &index->tables[i]);
		if (r) {
			mdb_txn_abort(txn);
			return r;
		}
	}
	return mdb_txn_commit(txn);
}

/* Those that the file has not, and the disk has not, either. A cheap question, so that nothing is taken in vain. */
static bool lmdb_room(int fd, uint64_t bytes, const struct stat *file)
{
	uint64_t taken = (uint64_t)file->st_blocks * STAT_BLOCK_BYTES;
	struct statvfs disk;

	return bytes <= taken || fstatvfs(fd, &disk) < 0 || bytes - taken <= (uint64_t)disk.f_bfree * disk.f_frsize;
}

/*
 * The room is taken at once, so that a disk that fills up later cannot stop a commit half-way. What a higher ceiling had
 * taken is given back first, as is what was got before the disk was full: blocks behind the end of the file, which no
 * length shows.
 */
static int lmdb_reserve(int dir_fd, uint64_t bytes)
{
	CLEANUP(fd_closep) int fd = openat(dir_fd, LMDB_DIR "/data.mdb", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stat file;

	if (fd < 0 || fstat(fd, &file) < 0)
		return -errno;
	if ((uint64_t)file.st_blocks * STAT_BLOCK_BYTES > bytes + RESERVE_SLACK_BYTES && ftruncate(fd, file.st_size) < 0)
		return -errno;
	if (!lmdb_room(fd, bytes, &file))
		return -ENOSPC;
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes) < 0 && errno != EOPNOTSUPP) {
		int r = -errno;

		return ftruncate(fd, file.st_size) < 0 ? -errno : r;
	}
	return 0;
}

static void lmdb_measure(struct index *index, struct index_usage *usage)
{
	MDB_txn *txn;
	MDB_cursor *cursor;
	MDB_envinfo info;
	MDB_stat stat;
	MDB_val key, value;
	uint64_t pages_free = 0;

	if (mdb_txn_begin(index->env, NULL, MDB_RDONLY, &txn))
		return;
	if (mdb_cursor_open(txn, 0, &cursor) == 0) {     /* table 0 is LMDB's list of free pages */
		while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
			size_t pages;

			memcpy(&pages, value.mv_data, sizeof(pages));
			pages_free += pages;
		}
		mdb_cursor_close(cursor);
	}
	mdb_env_info(index->env, &info);
	mdb_env_stat(index->env, &stat);
	usage->map_bytes = info.me_mapsize;
	usage->used_bytes = (info.me_last_pgno + 1 - pages_free) * stat.ms_psize;
	if (mdb_stat(txn, index->tables[INDEX_RECORDS], &stat) == 0)
		usage->blobs = stat.ms_entries;
	if (mdb_stat(txn, index->tables[INDEX_MARKS], &stat) == 0)
		usage->marks = stat.ms_entries;
	if (mdb_stat(txn, index->tables[INDEX_NOTES], &stat) == 0)
		usage->notes = stat.ms_entries;
	mdb_txn_abort(txn);
}

/* A scan that comes to a damaged page by its neighbour is no error to LMDB, but the end; fsck wants to hear of it. */
static void lmdb_on_assert(MDB_env *env, const char *text)
{
	struct index *index = mdb_env_get_userctx(env);

	if (index->scanning)
		longjmp(index->broken, 1);
}

static int lmdb_start(struct index *index, const struct index_config *config)
{
	char path[64];
	struct stat file;
	int r, dead;

	if (config->create && mkdirat(config->dir_fd, LMDB_DIR, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (!config->create && fstatat(config->dir_fd, LMDB_DIR "/data.mdb", &file, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!config->create && file.st_size == 0)        /* LMDB would make a new one of it */
		return -EUCLEAN;
	if (!config->sparse) {
		r = lmdb_reserve(config->dir_fd, config->map_bytes);
		if (r)
			return r;
	}
	r = mdb_env_create(&index->env);
	if (!r && !config->ring) {       /* one thread only: with a ring a worker may be in LMDB, too */
		mdb_env_set_userctx(index->env, index);
		mdb_env_set_assert(index->env, lmdb_on_assert);
	}
	if (!r)
		r = mdb_env_set_maxdbs(index->env, INDEX_TABLES);
	if (!r)
		r = mdb_env_set_mapsize(index->env, config->map_bytes);
	/* LMDB takes paths only; this one stays right when the directory is renamed or was given relatively. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d/" LMDB_DIR, config->dir_fd);
	if (!r)
		r = mdb_env_open(index->env, path, MDB_NOTLS | MDB_NORDAHEAD, 0600);
	if (!r)
		r = mdb_reader_check(index->env, &dead);
	if (!r)
		r = lmdb_open_tables(index);
	if (!r)
		r = mdb_txn_begin(index->env, NULL, MDB_RDONLY, &index->reader);
	if (r)
		return lmdb_error(r);
	mdb_txn_reset(index->reader);
	return 0;
}

static void lmdb_close(struct index *index)
{
	if (!index)
		return;
	CHECK(!op_in_flight(&index->work));
	CHECK(list_empty(&index->applies));
	if (index->reader)
		mdb_txn_abort(index->reader);
	if (index->env)
		mdb_env_close(index->env);
	recall_fini(&index->recall);
	free(index);
}

static int lmdb_open(struct index **out, const struct index_config *config)
{
	struct index *index = calloc(1, sizeof(*index));
	int r;

	if (!index)
		return ERR_RAISE(-ENOMEM);
	index->ring = config->ring;
	list_init(&index->applies);
	if (config->ring)
		recall_init(&index->recall, config->map_bytes);
	r = lmdb_start(index, config);
	if (r) {
		lmdb_close(index);
		return ERR_RAISE(r);
	}
	lmdb_measure(index, &index->usage);
	*out = index;
	return 0;
}

/* ---- reading ---- */

/* Some more of the rows that were there at the start; what came since is in the filter already. */
static void lmdb_fill(struct index *index)
{
	MDB_val key = { .mv_data = index->fill_key, .mv_size = index->fill_key_size }, value;
	MDB_cursor *cursor;
	int r = mdb_cursor_open(index->reader, index->tables[INDEX_BLOBS], &cursor);

	if (r)
		return;
	r = mdb_cursor_get(cursor, &key, &value, index->fill_key_size ? MDB_SET_RANGE : MDB_FIRST);
	/* A key that has no place here is none of ours: no round ends at one. */
	for (unsigned row = 0; !r && (row < FILL_ROWS || key.mv_size > sizeof(index->fill_key)); row++) {
		if (key.mv_size == DIGEST_HASH_BYTES)
			recall_add(&index->recall, key.mv_data);
		r = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
	}
	if (r) {
		index->recall.complete = r == MDB_NOTFOUND;
	} else {
		index->fill_key_size = key.mv_size;
		memcpy(index->fill_key, key.mv_data, key.mv_size);
	}
	mdb_cursor_close(cursor);
}

static int lmdb_read(struct index *index)
{
	int r = index->reading ? 0 : mdb_txn_renew(index->reader);

	index->reading = !r;
	return lmdb_error(r);
}

static void lmdb_read_end(struct index *index)
{
	if (index->reading)
		mdb_txn_reset(index->reader);
	index->reading = false;
}

static int lmdb_get_one(struct index *index, const struct index_get *get, size_t i)
{
	MDB_val key = { .mv_data = (void *)(uintptr_t)(get->keys + i * get->key_stride), .mv_size = get->key_size }, value;
	int r = mdb_get(index->reader, index->tables[get->table], &key, &value);

	if (r == MDB_NOTFOUND) {
		get->sizes[i] = -1;
		return 0;
	}
	if (r)
		return lmdb_error(r);
	get->sizes[i] = (int32_t)value.mv_size;
	if (recall_understand(get))
		recall_learn(&index->recall, key.mv_data, span_make(value.mv_data, value.mv_size));
	if (value.mv_size > get->value_stride)
		value.mv_size = get->value_stride;
	if (value.mv_size)
		memcpy(get->values + i * get->value_stride, value.mv_data, value.mv_size);
	return 0;
}

/* By their first byte: neighbours share the pages that lead to them, which is all that there is to gain. */
static void lmdb_sort(const struct index_get *get, size_t from, uint16_t which[static RECALL_SIFT_MAX], size_t count)
{
	uint16_t sorted[RECALL_SIFT_MAX], ends[257] = { 0 };

	for (size_t i = 0; i < count; i++)
		ends[get->keys[(from + which[i]) * get->key_stride] + 1]++;
	for (size_t byte = 1; byte < 257; byte++)
		ends[byte] = (uint16_t)(ends[byte] + ends[byte - 1]);
	for (size_t i = 0; i < count; i++)
		sorted[ends[get->keys[(from + which[i]) * get->key_stride]]++] = which[i];
	memcpy(which, sorted, count * sizeof(*which));
}

/* Those of a part of the keys that have to be looked up. */
static size_t lmdb_sift(struct index *index, const struct index_get *get, size_t from, size_t count,
                        uint16_t which[static RECALL_SIFT_MAX])
{
	if (recall_understand(get))
		return recall_sift(&index->recall, get, from, count, which);
	for (size_t i = 0; i < count; i++)
		which[i] = (uint16_t)i;
	return count;
}

static int lmdb_get_part(struct index *index, const struct index_get *get, size_t from, size_t count)
{
	uint16_t which[RECALL_SIFT_MAX];
	size_t kept = lmdb_sift(index, get, from, count, which);
	int r = kept ? lmdb_read(index) : 0;

	if (kept >= SORT_LEAST)
		lmdb_sort(get, from, which, kept);
	for (size_t k = 0; k < kept && !r; k++)
		r = lmdb_get_one(index, get, from + which[k]);
	return r;
}

static int lmdb_get_all(struct index *index, const struct index_get *get)
{
	int r = 0;

	if (recall_understand(get) && !index->recall.complete && index->recall.filter.blocks) {
		r = lmdb_read(index);
		if (!r)
			lmdb_fill(index);
	}
	for (size_t from = 0, left; from < get->count && !r; from += RECALL_SIFT_MAX) {
		left = get->count - from;
		r = lmdb_get_part(index, get, from, left < RECALL_SIFT_MAX ? left : RECALL_SIFT_MAX);
	}
	return r;
}

static void lmdb_get(struct index *index, struct index_get *get)
{
	get->result = lmdb_get_all(index, get);
	lmdb_read_end(index);
	get->fn(get);
}

static int lmdb_scan_rows(struct index_scan *scan, MDB_cursor *cursor)
{
	MDB_val key = { .mv_data = scan->key, .mv_size = scan->key_size }, value;
	uint8_t prefix[INDEX_KEY_MAX];
	int r;

	memcpy(prefix, scan->key, scan->prefix_size);
	for (r = mdb_cursor_get(cursor, &key, &value, scan->key_size ? MDB_SET_RANGE : MDB_FIRST); !r;
	     r = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
		if (key.mv_size < scan->prefix_size || memcmp(key.mv_data, prefix, scan->prefix_size) != 0)
			return 0;
		if (key.mv_size > INDEX_KEY_MAX || value.mv_size > INDEX_VALUE_MAX)
			return MDB_CORRUPTED;
		if (scan->count == scan->rows_max ||
		    scan->rows_size + 4 + key.mv_size + value.mv_size > scan->rows_capacity) {
			memcpy(scan->key, key.mv_data, key.mv_size);
			scan->key_size = key.mv_size;
			scan->more = true;
			return 0;
		}
		scan_add_row(scan, &key, &value);
	}
	return r == MDB_NOTFOUND ? 0 : r;
}

static int lmdb_scan_now(struct index *index, struct index_scan *scan)
{
	int r;

	CHECK(scan->rows_capacity >= INDEX_SCAN_ROW_MAX);
	CHECK(scan->rows_max > 0);
	scan->rows_size = scan->count = 0;
	scan->more = false;
	r = lmdb_read(index);
	if (r)
		return r;
	r = mdb_cursor_open(index->reader, index->tables[scan->table], &index->scanning);
	if (!r) {
		if (setjmp(index->broken))
			r = MDB_CORRUPTED;
		else
			r = lmdb_scan_rows(scan, index->scanning);
		mdb_cursor_close(index->scanning);
		index->scanning = NULL;
	}
	lmdb_read_end(index);
	return lmdb_error(r);
}

static void lmdb_scan(struct index *index, struct index_scan *scan)
{
	scan->result = lmdb_scan_now(index, scan);
	scan->fn(scan);
}

/* ---- writing ---- */

static int lmdb_delete_group(MDB_cursor *cursor, const struct index_change *change)
{
	MDB_val key = { .mv_data = (void *)(uintptr_t)change->key, .mv_size = change->key_size }, value;
	int r;

	r = mdb_cursor_get(cursor, &key, &value, MDB_SET_KEY);
	if (r)
		return r == MDB_NOTFOUND ? 0 : r;
	if (value.mv_size < change->value.size || memcmp(value.mv_data, change->value.data, change->value.size) != 0)
		return 0;
	while (key.mv_size >= change->key_size && memcmp(key.mv_data, change->key, change->key_size) == 0) {
		r = mdb_cursor_del(cursor, 0);
		if (r)
			return r;
		key = (MDB_val){ .mv_data = (void *)(uintptr_t)change->key, .mv_size = change->key_size };
		r = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
		if (r)
			return r == MDB_NOTFOUND ? 0 : r;
	}
	return 0;
}

static int lmdb_delete(MDB_cursor *cursor, const struct index_change *change)
{
	MDB_val key = { .mv_data = (void *)(uintptr_t)change->key, .mv_size = change->key_size }, value;
	int r = mdb_cursor_get(cursor, &key, &value, MDB_SET_KEY);

	if (r)
		return r == MDB_NOTFOUND ? 0 : r;
	if (change->kind == INDEX_DELETE_SAME && !span_equal(span_make(value.mv_data, value.mv_size), change->value))
		return 0;
	return mdb_cursor_del(cursor, 0);
}

static int lmdb_change(MDB_cursor *cursor, const struct index_change *change)
{
	MDB_val key = { .mv_data = (void *)(uintptr_t)change->key, .mv_size = change->key_size };
	MDB_val value = { .mv_data = (void *)(uintptr_t)change->value.data, .mv_size = change->value.size };

	switch (change->kind) {
	case INDEX_PUT:
		return mdb_cursor_put(cursor, &key, &value, 0);
	case INDEX_DELETE:
	case INDEX_DELETE_SAME:
		return lmdb_delete(cursor, change);
	case INDEX_DELETE_GROUP:
		return lmdb_delete_group(cursor, change);
	}
	return EINVAL;
}

static int lmdb_change_all(struct index *index, struct index_apply *apply, struct recall_changes *changes, MDB_txn *txn)
{
	MDB_cursor *cursors[INDEX_TABLES] = { 0 };
	struct index_change change;
	int r = 0;

	if (apply->prepare)
		apply->prepare(apply);
	while (!r && apply->next(apply, &change)) {
		if (!cursors[change.table])
			r = mdb_cursor_open(txn, index->tables[change.table], &cursors[change.table]);
		if (!r)
			r = lmdb_change(cursors[change.table], &change);
		recall_note(&index->recall, changes, &change);
	}
	recall_noted(&index->recall, changes);
	for (int i = 0; i < INDEX_TABLES; i++)
		if (cursors[i])
			mdb_cursor_close(cursors[i]);
	return r;
}

static int lmdb_commit(struct index *index, struct index_apply *apply, struct recall_changes *changes)
{
	MDB_txn *txn;
	int r;

	r = mdb_txn_begin(index->env, NULL, 0, &txn);
	if (r)
		return lmdb_error(r);
	r = lmdb_change_all(index, apply, changes, txn);
	if (r)
		mdb_txn_abort(txn);
	else
		r = mdb_txn_commit(txn);
	changes->lost |= r != 0;         /* whatever became of it */
	lmdb_measure(index, &apply->usage);
	return lmdb_error(r);
}

static int lmdb_apply_now(struct index *index, struct index_apply *apply)
{
	struct recall_changes changes = { 0 };
	int r = lmdb_commit(index, apply, &changes);

	recall_take(&index->recall, &changes);
	return r;
}

static int32_t lmdb_work(struct op *op)
{
	struct index *index = container_of(op, struct index, work);

	return lmdb_commit(index, container_of(index->applies.next, struct index_apply, link), &index->changes);
}

static void lmdb_step(struct index *index);

static void lmdb_on_work(struct op *op, int32_t res)
{
	struct index *index = container_of(op, struct index, work);
	struct index_apply *apply = container_of(list_take(&index->applies), struct index_apply, link);

	recall_take(&index->recall, &index->changes);
	apply->result = res;
	index->usage = apply->usage;
	lmdb_step(index);
	apply->fn(apply);
}

static void lmdb_step(struct index *index)
{
	if (op_in_flight(&index->work) || list_empty(&index->applies))
		return;
	index->work.fn = lmdb_on_work;
	ring_work(index->ring, &index->work, lmdb_work);
}

static void lmdb_apply(struct index *index, struct index_apply *apply)
{
	list_append(&index->applies, &apply->link);
	lmdb_step(index);
}

static void lmdb_usage(struct index *index, struct index_usage *usage)
{
	*usage = index->usage;
}

const struct index_engine index_lmdb = {
	.name = "lmdb",
	.open = lmdb_open,
	.close = lmdb_close,
	.get = lmdb_get,
	.scan = lmdb_scan,
	.apply = lmdb_apply,
	.scan_now = lmdb_scan_now,
	.apply_now = lmdb_apply_now,
	.usage = lmdb_usage,
};
