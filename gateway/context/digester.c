/* Reads files, cuts the large ones, hashes in batches. */
#include "gateway/context/digester.h"

#include "chunker/guide.h"
#include "chunker/profile.h"
#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/context/file_recipe.h"
#include "gateway/context/file_xattrs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* File systems without sub-second times: two changes up to this far apart may look alike. */
#define COARSE_NS INT64_C(2000000000)
#define SECOND_NS INT64_C(1000000000)

_Static_assert(DIGESTER_BATCH_BYTES > 2 * RECIPE_WHOLE_MAX, "a small file fits");
_Static_assert(DIGESTER_CONTENTS_MAX >= DIGESTER_BATCH_FILES, "a batch's files are not more");
_Static_assert(DIGESTER_WINDOW_BYTES >= 2 * PROFILE_CHUNK_MAX, "a chunk fits");

struct digester {
	struct digester_options options;
	struct digester_totals totals;
	uint8_t *batch;                          /* the small files' bytes, one after the other */
	size_t batch_bytes, batch_files;
	struct sha256_job jobs[DIGESTER_BATCH_FILES];
	uint32_t rows[DIGESTER_BATCH_FILES];
	uint8_t *window;                         /* a piece of a large file; allocated at the first one */
	struct sha256_job *chunk_jobs;           /* as proposed, see guide.h; DIGESTER_CONTENTS_MAX each */
	struct guide_reason *chunk_reasons;
	struct sha256_job *chunks;               /* as they are */
	struct buffer recipe;
	struct file_xattrs xattrs;
};

/* One file that is being read. */
struct reading {
	int fd;
	uint32_t row;
	struct stat before;
};

static int64_t nanoseconds(const struct timespec *time)
{
	return (int64_t)time->tv_sec * SECOND_NS + time->tv_nsec;
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return nanoseconds(&now);
}

static bool is_fresh(const struct stat *st, int64_t fresh_after_ns)
{
	int64_t mtime = nanoseconds(&st->st_mtim), ctime = nanoseconds(&st->st_ctim);
	int64_t newest = mtime > ctime ? mtime : ctime;

	if (st->st_ctim.tv_nsec == 0 && st->st_mtim.tv_nsec == 0)
		fresh_after_ns -= COARSE_NS;
	return newest >= fresh_after_ns;
}

void digester_stat(struct table_row *row, const struct stat *st, int64_t fresh_after_ns)
{
	row->size = (uint64_t)st->st_size;
	row->mtime_ns = nanoseconds(&st->st_mtim);
	row->ctime_ns = nanoseconds(&st->st_ctim);
	row->inode = st->st_ino;
	row->device = (uint32_t)st->st_dev;
	row->mode = st->st_mode;
	row->flags &= (uint8_t) ~(TABLE_ROW_FRESH | TABLE_ROW_LINKED);
	if (is_fresh(st, fresh_after_ns))
		row->flags |= TABLE_ROW_FRESH;
	if (S_ISREG(st->st_mode) && st->st_nlink > 1)
		row->flags |= TABLE_ROW_LINKED;
}

bool digester_same(const struct table_row *row, const struct stat *st)
{
	return row->size == (uint64_t)st->st_size && row->mtime_ns == nanoseconds(&st->st_mtim) &&
	       row->ctime_ns == nanoseconds(&st->st_ctim) && row->inode == st->st_ino && row->mode == st->st_mode;
}

static bool same_stat(const struct stat *a, const struct stat *b)
{
	struct table_row row = { 0 };

	digester_stat(&row, a, 0);
	return digester_same(&row, b);
}

struct digester *digester_create(const struct digester_options *options)
{
	struct digester *digester = calloc(1, sizeof(*digester));

	if (!digester)
		return NULL;
	digester->options = *options;
	digester->recipe = buffer_heap(2 * RECIPE_BYTES_MAX);
	file_xattrs_init(&digester->xattrs);
	digester->batch = malloc(DIGESTER_BATCH_BYTES);
	if (!digester->batch) {
		digester_destroy(digester);
		return NULL;
	}
	return digester;
}

void digester_destroy(struct digester *digester)
{
	if (!digester)
		return;
	buffer_fini(&digester->recipe);
	file_xattrs_fini(&digester->xattrs);
	free(digester->batch);
	free(digester->window);
	free(digester->chunk_jobs);
	free(digester->chunk_reasons);
	free(digester->chunks);
	free(digester);
}

const struct digester_totals *digester_totals(const struct digester *digester)
{
	return &digester->totals;
}

static struct table_row *row_at(struct digester *digester, uint32_t row)
{
	return &digester->options.table->rows[row];
}

/* Writes the reason with the path of the row, or that of the directory at hand when it is TABLE_NONE. */
__attribute__((format(printf, 4, 5))) static int refuse(struct digester *digester, uint32_t row, int r,
                                                        const char *format, ...)
{
	struct buffer path = buffer_heap(TABLE_PATH_BYTES_MAX + 1);
	char text[TREE_NAME_MAX + 160];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (digester->options.path)
		digester->options.path(digester->options.context, row, &path);
	else
		table_path(digester->options.table, row, &path);
	buffer_put(&path, "", 1);
	why_write(digester->options.why, path.failed ? "" : (const char *)path.data, "%s", text);
	buffer_fini(&path);
	return ERR_RAISE(r);
}

/* Reads until `size` bytes are there or the file ends. The count, or -errno. */
static ssize_t read_full(int fd, uint8_t *data, size_t size)
{
	size_t have = 0;

	while (have < size) {
		ssize_t got = read(fd, data + have, size - have);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		have += (size_t)got;
		/* A regular file gives less than was asked for only at its end. */
		if (got == 0 || have < size)
			break;
	}
	return (ssize_t)have;
}

/* Room in place of the bytes that contents lie in; NULL: they are not wanted. */
static uint8_t *taker_room(const struct digester *digester, size_t count)
{
	const struct digester_taker *taker = &digester->options.taker;

	return taker->room && count ? taker->room(taker->context) : NULL;
}

static void hash_batch(struct digester *digester)
{
	const struct digester_taker *taker = &digester->options.taker;
	uint8_t *room;

	sha256_batch(digester->options.hasher, digester->jobs, digester->batch_files);
	for (size_t i = 0; i < digester->batch_files; i++)
		memcpy(row_at(digester, digester->rows[i])->hash, digester->jobs[i].digest, DIGEST_HASH_BYTES);
	room = taker_room(digester, digester->batch_files);
	if (room) {
		taker->give(taker->context, digester->batch, digester->jobs, digester->batch_files);
		digester->batch = room;
	}
	digester->batch_files = 0;
	digester->batch_bytes = 0;
}

void digester_flush(struct digester *digester)
{
	int64_t start = now_ns();

	hash_batch(digester);
	digester->totals.ns += (uint64_t)(now_ns() - start);
}

/* Reads the file behind what the batch holds. 1: done; 0: the size was another than it seemed; -errno. */
static int read_small(struct digester *digester, const struct reading *reading)
{
	size_t size = (size_t)reading->before.st_size;
	ssize_t got;

	/* One byte more is asked for: so the end is seen without another read. */
	if (digester->batch_files == DIGESTER_BATCH_FILES ||
	    digester->batch_bytes + size + 1 > DIGESTER_BATCH_BYTES)
		hash_batch(digester);
	got = read_full(reading->fd, digester->batch + digester->batch_bytes, size + 1);
	if (got < 0)
		return (int)got;
	digester->totals.bytes += (uint64_t)got;
	return (size_t)got == size;
}

static void keep_small(struct digester *digester, const struct reading *reading)
{
	size_t size = (size_t)reading->before.st_size;

	digester->rows[digester->batch_files] = reading->row;
	digester->jobs[digester->batch_files] =
		(struct sha256_job){ .data = digester->batch + digester->batch_bytes, .size = size };
	digester->batch_files++;
	digester->batch_bytes += size;
}

/* What is cut of one large file so far. */
struct cutting {
	const struct fastcdc *fastcdc;           /* NULL: nothing was read yet */
	const struct table *former_table;        /* with the recipe of what the file was, when there is one */
	const struct table_recipe *former;
	struct guide guide;
	uint64_t offset;                         /* in the file, of the window's first byte */
	size_t have;                             /* bytes in the window */
	bool ended;
	bool sparse;
	uint64_t data_end;                       /* sparse: where the data ends that the reading has come to */
	uint8_t zero_hash[DIGEST_HASH_BYTES];    /* of a chunk of `zero_size` zeros: holes give many of them */
	size_t zero_size;
};

static bool is_zero(const uint8_t *data, size_t size)
{
	return data[0] == 0 && memcmp(data, data + 1, size - 1) == 0;
}

/* Hashes what was cut of the window; a chunk of zeros only when the last one had another size. */
static void hash_window(struct digester *digester, struct cutting *cutting, size_t count)
{
	struct sha256_job *jobs = digester->chunk_jobs;
	size_t wanted = 0;

	for (size_t i = 0; i < count; i++) {
		if (cutting->zero_size && jobs[i].size == cutting->zero_size && is_zero(jobs[i].data, jobs[i].size))
			continue;
		wanted = i + 1;
	}
	/* Only a tail of known zeros is spared; zeros between data are hashed along. */
	sha256_batch(digester->options.hasher, jobs, wanted);
	for (size_t i = wanted; i < count; i++)
		memcpy(jobs[i].digest, cutting->zero_hash, sizeof(jobs[i].digest));
	for (size_t i = 0; i < wanted; i++) {
		if (is_zero(jobs[i].data, jobs[i].size)) {
			memcpy(cutting->zero_hash, jobs[i].digest, sizeof(cutting->zero_hash));
			cutting->zero_size = jobs[i].size;
		}
	}
}

/* The first `at` bytes of the window have been cut into `count` chunks; the rest moves to the front. */
static void leave_window(struct digester *digester, struct cutting *cutting, size_t at, size_t count)
{
	const struct digester_taker *taker = &digester->options.taker;
	uint8_t *window = digester->window, *room = taker_room(digester, count);

	cutting->have -= at;
	cutting->offset += at;
	if (room) {
		memcpy(room, window + at, cutting->have);
		digester->window = room;
		taker->give(taker->context, window, digester->chunks, count);
	} else {
		memmove(window, window + at, cutting->have);
	}
}

/* Cuts the window as far as the cuts are certain. */
static int cut_window(struct digester *digester, struct cutting *cutting)
{
	const uint8_t *window = digester->window;
	struct guide *guide = &cutting->guide;
	size_t at = 0;
	size_t count = guide_propose(guide, window, cutting->have, cutting->ended, digester->chunk_jobs,
				     digester->chunk_reasons, DIGESTER_CONTENTS_MAX);
	int r = 0;

	hash_window(digester, cutting, count);
	count = guide_confirm(guide, window, cutting->have, cutting->ended, digester->chunk_jobs, digester->chunk_reasons,
			      count, digester->options.hasher, digester->chunks, DIGESTER_CONTENTS_MAX);
	for (size_t i = 0; !r && i < count; i++) {
		struct table_chunk chunk = { .offset = cutting->offset + at };

		memcpy(chunk.hash, digester->chunks[i].digest, sizeof(chunk.hash));
		r = table_add_chunk(digester->options.table, &chunk);
		at += digester->chunks[i].size;
	}
	leave_window(digester, cutting, at, r ? 0 : count);
	return r;
}

static struct guide_chunk former_chunk(const void *context, size_t index)
{
	const struct cutting *cutting = context;

	return (struct guide_chunk){
		.digest = table_chunks(cutting->former_table, cutting->former)[index].hash,
		.size = table_chunk_digest(cutting->former_table, cutting->former, (uint32_t)index).size,
	};
}

/* The recipe that the file of `row` had at the last scan; NULL: none. */
static const struct table_recipe *former_recipe(const struct table *table, const struct table_row *row)
{
	const struct table_row *former = row->former ? &table->former->rows[row->former - 1] : NULL;

	return former && former->flags & TABLE_ROW_RECIPE ? &table->former->recipes[former->link] : NULL;
}

/* With the first bytes of the file: how it is cut, and whether its former recipe can guide. */
static uint32_t cutting_begin(struct digester *digester, const struct reading *reading, struct cutting *cutting)
{
	const struct table *table = digester->options.table;
	uint32_t profile = profile_for(digester->window, cutting->have);

	cutting->fastcdc = profile_fastcdc(profile);
	cutting->former_table = table->former;
	cutting->former = former_recipe(table, &table->rows[reading->row]);
	if (cutting->former && cutting->former->profile != profile)
		cutting->former = NULL;
	guide_init(&cutting->guide, cutting->fastcdc, former_chunk, cutting, cutting->former ? cutting->former->count : 0);
	return profile;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* How many bytes from `at` on are a hole. 0: data, up to `data_end`. -errno. */
static int64_t hole_at(const struct reading *reading, struct cutting *cutting, uint64_t at)
{
	off_t next;

	if (at < cutting->data_end)
		return 0;
	next = lseek(reading->fd, (off_t)at, SEEK_DATA);
	if (next < 0 && errno == ENXIO)
		next = reading->before.st_size;  /* no more data */
	if (next > (off_t)at)
		return next - (off_t)at;
	if (next >= 0)
		next = lseek(reading->fd, (off_t)at, SEEK_HOLE);
	if (next < 0)
		return -errno;
	cutting->data_end = (uint64_t)next;
	return 0;
}

/* As read_full(), but does not have the kernel make pages of holes, which is slow and drives others out of memory. */
static ssize_t read_sparse(const struct reading *reading, struct cutting *cutting, uint8_t *data, size_t size)
{
	uint64_t start = cutting->offset + cutting->have, end = (uint64_t)reading->before.st_size;
	size_t have = 0;

	size = (size_t)least(size, start < end ? end - start : 0);
	while (have < size) {
		int64_t hole = hole_at(reading, cutting, start + have);
		ssize_t got;

		if (hole < 0)
			return (ssize_t)hole;
		if (hole > 0) {
			got = (ssize_t)least(size - have, (uint64_t)hole);
			memset(data + have, 0, (size_t)got);
		} else {
			got = pread(reading->fd, data + have, least(size - have, cutting->data_end - start - have),
			            (off_t)(start + have));
		}
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		have += (size_t)got;
	}
	return (ssize_t)have;
}

static int fill_window(struct digester *digester, const struct reading *reading, struct cutting *cutting)
{
	uint8_t *place = digester->window + cutting->have;
	size_t room = DIGESTER_WINDOW_BYTES - cutting->have;
	ssize_t got =
	    cutting->sparse ? read_sparse(reading, cutting, place, room) : read_full(reading->fd, place, room);

	if (got < 0)
		return (int)got;
	cutting->have += (size_t)got;
	cutting->ended = (size_t)got < room;
	digester->totals.bytes += (uint64_t)got;
	return 0;
}

static int window_prepare(struct digester *digester)
{
	if (!digester->window)
		digester->window = malloc(DIGESTER_WINDOW_BYTES);
	if (!digester->chunk_jobs)
		digester->chunk_jobs = calloc(DIGESTER_CONTENTS_MAX, sizeof(digester->chunk_jobs[0]));
	if (!digester->chunk_reasons)
		digester->chunk_reasons = calloc(DIGESTER_CONTENTS_MAX, sizeof(digester->chunk_reasons[0]));
	if (!digester->chunks)
		digester->chunks = calloc(DIGESTER_CONTENTS_MAX, sizeof(digester->chunks[0]));
	return digester->window && digester->chunk_jobs && digester->chunk_reasons && digester->chunks ? 0 : -ENOMEM;
}

/* As read_small(); the chunks are in the table then, behind those that were there. */
static int read_large(struct digester *digester, const struct reading *reading, uint32_t *profile)
{
	struct cutting cutting = { .sparse = reading->before.st_blocks < reading->before.st_size / 512 };
	int r = window_prepare(digester);

	while (!r && !cutting.ended) {
		r = fill_window(digester, reading, &cutting);
		if (r)
			break;
		if (!cutting.fastcdc)
			*profile = cutting_begin(digester, reading, &cutting);
		r = cut_window(digester, &cutting);
		if (!r && digester->options.progress && !digester->options.progress(digester->options.context))
			r = -ECANCELED;
		/* A file that grows while it is read need not be followed for ever. */
		if (cutting.offset + cutting.have > (uint64_t)reading->before.st_size)
			return r;
	}
	digester->totals.guided += cutting.guide.proposed - cutting.guide.refuted;
	return r ? r : cutting.offset == (uint64_t)reading->before.st_size;
}

static int keep_large(struct digester *digester, const struct reading *reading, uint64_t first, uint32_t profile)
{
	struct table *table = digester->options.table;
	struct table_row *row = row_at(digester, reading->row);
	struct table_recipe recipe = {
		.file_size = (uint64_t)reading->before.st_size,
		.first = first,
		.count = (uint32_t)(table->chunks_count - first),
		.profile = (uint16_t)profile,
	};
	int r;

	if (table->chunks_count - first > UINT32_MAX)
		return -EFBIG;
	buffer_clear(&digester->recipe);
	r = file_recipe_put(table, &recipe, &digester->recipe);
	if (r)
		return r;
	sha256_once(digester->recipe.data, digester->recipe.size, row->hash);
	recipe.size = digester->recipe.size;
	r = table_add_recipe(table, &recipe, &row->link);
	if (r)
		return r;
	row->flags |= TABLE_ROW_RECIPE;
	return 0;
}

/* Reads once. 1: what was read is what the file holds; 0: it has changed meanwhile; -errno. */
static int read_once(struct digester *digester, struct reading *reading, unsigned reads)
{
	bool large = reading->before.st_size > RECIPE_WHOLE_MAX;
	uint64_t first = digester->options.table->chunks_count;
	uint32_t profile = 0;
	struct stat after;
	int r = large ? read_large(digester, reading, &profile) : read_small(digester, reading);

	if (r < 0)
		return r;
	if (digester->options.after_read)
		digester->options.after_read(digester->options.after_read_context, reads);
	if (fstat(reading->fd, &after) < 0)
		return -errno;
	if (r == 1 && same_stat(&reading->before, &after)) {
		r = large ? keep_large(digester, reading, first, profile) : (keep_small(digester, reading), 0);
		return r ? r : 1;
	}
	digester->options.table->chunks_count = first;
	digester->totals.changed_during_read++;
	reading->before = after;
	return 0;
}

static int read_xattrs(struct digester *digester, const struct reading *reading)
{
	uint32_t offset;
	int r = digester_xattrs(digester, reading->fd, reading->row, &offset);

	if (!r)
		row_at(digester, reading->row)->xattrs = offset;
	return r;
}

static int read_still(struct digester *digester, struct reading *reading)
{
	for (unsigned reads = 1; reads <= DIGESTER_READS; reads++) {
		struct table_row *row = row_at(digester, reading->row);
		int r;

		if (reads > 1 && lseek(reading->fd, 0, SEEK_SET) < 0)
			return -errno;
		row->flags &= (uint8_t)~TABLE_ROW_RECIPE;
		r = read_xattrs(digester, reading);
		if (r)
			return r;
		r = read_once(digester, reading, reads);
		if (r < 0)
			return refuse(digester, reading->row, r, "cannot be read: %s", err_text(r));
		if (r == 1) {
			digester_stat(row_at(digester, reading->row), &reading->before,
				      digester->options.fresh_after_ns);
			return 0;
		}
	}
	return refuse(digester, reading->row, -EBUSY, "changes while it is read");
}

int digester_add(struct digester *digester, int dir_fd, const char *name, uint32_t row)
{
	struct reading reading = { .row = row };
	int64_t start = now_ns();
	CLEANUP(fd_closep) int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int r;

	if (fd < 0 && (errno == ENOENT || errno == ELOOP))
		return DIGESTER_GONE;
	if (fd < 0)
		return refuse(digester, row, -errno, "cannot be opened: %s", err_text(errno));
	if (fstat(fd, &reading.before) < 0)
		return ERR_RAISE(-errno);
	if (!S_ISREG(reading.before.st_mode))
		return DIGESTER_GONE;
	reading.fd = fd;
	digester->totals.files++;
	r = read_still(digester, &reading);
	digester->totals.ns += (uint64_t)(now_ns() - start);
	return r;
}

int digester_xattrs(struct digester *digester, int fd, uint32_t row, uint32_t *offset)
{
	struct file_xattrs *xattrs = &digester->xattrs;
	int r = file_xattrs_read(xattrs, fd);

	if (r)
		return refuse(digester, row, r, "%s", xattrs->fault);
	return table_add_xattrs(digester->options.table, xattrs->xattrs, xattrs->count, offset);
}
