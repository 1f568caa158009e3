/* Finds, makes and reads blobs. */
#include "gateway/context/blob_reader.h"

#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/context/assemble.h"
#include "gateway/context/digester.h"
#include "gateway/context/file_recipe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>

struct blob_reader {
	struct table *table;
	int dir_fd;
	const struct sha256 *hasher;
	struct lookup *directories, *contents;   /* made when first needed */
	struct blob_reader *first;               /* NULL: they are its own; else whose they are */
	atomic_bool unseen;                      /* of those that have no first */
	int open_directory_fd, open_file_fd;
	uint32_t open_directory, open_file;      /* directory, row */
};

struct blob_reader *blob_reader_create(struct table *table, int dir_fd, const struct sha256 *hasher)
{
	struct blob_reader *reader = calloc(1, sizeof(*reader));

	if (!reader)
		return NULL;
	*reader = (struct blob_reader){
		.table = table,
		.dir_fd = dir_fd,
		.hasher = hasher,
		.open_directory_fd = -1,
		.open_file_fd = -1,
	};
	return reader;
}

static int need(struct blob_reader *reader, struct lookup **lookup, uint32_t kinds)
{
	return *lookup ? 0 : lookup_create(lookup, reader->table, kinds);
}

struct blob_reader *blob_reader_beside(struct blob_reader *first)
{
	struct blob_reader *reader;

	if (need(first, &first->directories, LOOKUP_DIRECTORY) || need(first, &first->contents, LOOKUP_CONTENTS))
		return NULL;
	reader = blob_reader_create(first->table, first->dir_fd, first->hasher);
	if (!reader)
		return NULL;
	reader->directories = first->directories;
	reader->contents = first->contents;
	reader->first = first;
	return reader;
}

static void close_open(struct blob_reader *reader)
{
	fd_closep(&reader->open_file_fd);
	fd_closep(&reader->open_directory_fd);
	reader->open_file_fd = reader->open_directory_fd = -1;
}

void blob_reader_destroy(struct blob_reader *reader)
{
	if (!reader)
		return;
	close_open(reader);
	if (!reader->first) {
		lookup_destroy(reader->directories);
		lookup_destroy(reader->contents);
	}
	free(reader);
}

static int find(struct blob_reader *reader, struct lookup **lookup, uint32_t kinds, const struct digest *digest,
                struct lookup_place *place)
{
	int r = need(reader, lookup, kinds);

	if (r)
		return ERR_RAISE(r);
	return lookup_find(*lookup, digest, place) ? 0 : -ENOENT;
}

bool blob_reader_unseen(const struct blob_reader *first)
{
	return atomic_load(&first->unseen);
}

int blob_reader_find_directory(struct blob_reader *reader, const struct digest *digest, struct lookup_place *place)
{
	return find(reader, &reader->directories, LOOKUP_DIRECTORY, digest, place);
}

int blob_reader_find_content(struct blob_reader *reader, const struct digest *digest, struct lookup_place *place)
{
	return find(reader, &reader->contents, LOOKUP_CONTENTS, digest, place);
}

/* The sentence of a file that cannot be had; the next try opens it again. */
static int refuse(struct blob_reader *reader, uint32_t row, int r, const char *text, struct why why)
{
	struct buffer path = buffer_heap(TABLE_PATH_BYTES_MAX + 1);

	table_path(reader->table, row, &path);
	buffer_put(&path, "", 1);
	why_write(why, path.failed ? "" : (const char *)path.data, "%s", text);
	buffer_fini(&path);
	close_open(reader);
	return ERR_RAISE(r);
}

static int open_row(struct blob_reader *reader, uint32_t row);

/* Of a fresh row that is no wonder, and the next scan reads its file again. */
static bool is_unseen(struct blob_reader *reader, uint32_t number)
{
	const struct table_row *row = &reader->table->rows[number];
	struct stat st;

	return !(row->flags & TABLE_ROW_FRESH) && open_row(reader, number) == 0 && fstat(reader->open_file_fd, &st) == 0 &&
	       digester_same(row, &st);
}

static int stale(struct blob_reader *reader, uint32_t row, struct why why)
{
	if (is_unseen(reader, row))
		atomic_store(&(reader->first ? reader->first : reader)->unseen, true);
	return refuse(reader, row, -ESTALE, "has changed since it was scanned", why);
}

/* Whatever else an open or a read may say of a file that was read by the scan is a change. */
static int read_failed(struct blob_reader *reader, uint32_t row, int r, struct why why)
{
	switch (r) {
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
		return ERR_RAISE(r);
	case -EIO:
	case -EUCLEAN:                   /* a file system's own "corrupted" */
		return refuse(reader, row, r, "cannot be read: the disk failed", why);
	default:
		return stale(reader, row, why);
	}
}

static int open_name(int dir_fd, const struct table *table, uint32_t row, int flags)
{
	struct span of = table_name(table, &table->rows[row]);
	char name[TREE_NAME_MAX + 1];

	memcpy(name, of.data, of.size);
	name[of.size] = 0;
	return openat(dir_fd, name, flags | O_NOFOLLOW | O_CLOEXEC);
}

/* One name at a time from the root down: paths may be longer than the kernel takes, and symlinks are not followed. */
static int open_chain(struct blob_reader *reader, uint32_t directory)
{
	const struct table *table = reader->table;
	uint32_t chain[TREE_DEPTH_MAX], depth = 0;
	int fd;

	for (uint32_t at = directory; at; at = table->directories[at].parent)
		chain[depth++] = table->directories[at].row;
	fd = fcntl(reader->dir_fd, F_DUPFD_CLOEXEC, 0);
	while (fd >= 0 && depth) {
		int next = open_name(fd, table, chain[--depth], O_PATH | O_DIRECTORY);

		close(fd);
		fd = next;
	}
	return fd;
}

/* -errno of the opening, or 0 with open_file_fd open at `row`. */
static int open_row(struct blob_reader *reader, uint32_t row)
{
	uint32_t directory = table_directory_of(reader->table, row);

	if (reader->open_file_fd >= 0 && reader->open_file == row)
		return 0;
	if (reader->open_directory_fd < 0 || reader->open_directory != directory) {
		close_open(reader);
		reader->open_directory_fd = open_chain(reader, directory);
		if (reader->open_directory_fd < 0)
			return -errno;
		reader->open_directory = directory;
	}
	fd_closep(&reader->open_file_fd);
	reader->open_file = row;
	reader->open_file_fd = open_name(reader->open_directory_fd, reader->table, row, O_RDONLY | O_NONBLOCK);
	return reader->open_file_fd < 0 ? -errno : 0;
}

/* What is short is stale; what has other bytes, the digest will tell. */
static int read_file(struct blob_reader *reader, const struct lookup_place *place, void *buffer, uint64_t size,
                     struct why why)
{
	const struct table_row *row = &reader->table->rows[place->number];
	uint64_t offset = 0, have = 0;
	int r = open_row(reader, place->number);

	if (r)
		return read_failed(reader, place->number, r, why);
	if (place->kind == LOOKUP_CHUNK)
		offset = table_chunks(reader->table, &reader->table->recipes[row->link])[place->index].offset;
	while (have < size) {
		ssize_t got =
		    pread(reader->open_file_fd, (uint8_t *)buffer + have, size - have, (off_t)(offset + have));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return read_failed(reader, place->number, -errno, why);
		if (got == 0)
			return stale(reader, place->number, why);
		have += (uint64_t)got;
	}
	return 0;
}

static int read_directory(struct blob_reader *reader, uint32_t directory, struct buffer *out, struct why why)
{
	struct assembler *assembler = assembler_create(reader->table, reader->hasher, why);
	int r = assembler ? assembler_encode(assembler, directory, out) : ERR_RAISE(-ENOMEM);

	assembler_destroy(assembler);
	return r;
}

static int read_recipe(struct blob_reader *reader, const struct lookup_place *place, struct buffer *out)
{
	const struct table *table = reader->table;
	const struct table_recipe *recipe = &table->recipes[table->rows[place->number].link];

	if (place->kind == LOOKUP_RECIPE)
		return file_recipe_put(table, recipe, out);
	file_recipe_put_part(table, recipe, place->index, out);
	return out->failed ? -ENOMEM : 0;
}

static int make_piece(struct blob_reader *reader, const struct blob_piece *piece, const struct lookup_place *place, struct why why)
{
	/* Roomy: when the buffer is full it is for want of memory, see tree_encode(). */
	struct buffer made = buffer_heap(2 * TREE_DIRECTORY_BYTES_MAX);
	int r = place->kind == LOOKUP_DIRECTORY ? read_directory(reader, place->number, &made, why) :
	                                          read_recipe(reader, place, &made);

	if (!r && made.size != piece->digest.size)
		r = ERR_RAISE(-EBADMSG);
	if (!r && made.size)
		memcpy(piece->buffer, made.data, made.size);
	buffer_fini(&made);
	return r;
}

static int find_piece(struct blob_reader *reader, const struct blob_piece *piece, struct lookup_place *place)
{
	int r = blob_reader_find_directory(reader, &piece->digest, place);

	return r == -ENOENT ? blob_reader_find_content(reader, &piece->digest, place) : r;
}

/* Reads without checking. `row` is whom to blame; the root, for what is made from the table. */
static int read_piece(struct blob_reader *reader, const struct blob_piece *piece, uint32_t *row, struct why why)
{
	struct lookup_place place;
	int r = find_piece(reader, piece, &place);

	if (r == -ENOENT && piece->digest.size == 0)
		return 0;
	if (r)
		return r;
	*row = place.number;
	if (place.kind == LOOKUP_WHOLE || place.kind == LOOKUP_CHUNK)
		return read_file(reader, &place, piece->buffer, piece->digest.size, why);
	*row = 0;
	return make_piece(reader, piece, &place, why);
}

int blob_reader_make(struct blob_reader *reader, const struct blob_piece *piece, struct why why)
{
	uint8_t hash[DIGEST_HASH_BYTES];
	struct lookup_place place;
	int r = find_piece(reader, piece, &place);

	if (!r && (place.kind == LOOKUP_WHOLE || place.kind == LOOKUP_CHUNK))
		r = -ENOENT;
	if (!r)
		r = make_piece(reader, piece, &place, why);
	if (r)
		return r;
	sha256_once(piece->buffer, piece->digest.size, hash);
	return memcmp(hash, piece->digest.hash, sizeof(hash)) == 0 ? 0 : ERR_RAISE(-EBADMSG);
}

static int read_some(struct blob_reader *reader, const struct blob_piece *pieces, size_t count, struct why why)
{
	struct sha256_job jobs[BLOB_READER_BATCH];
	uint32_t rows[BLOB_READER_BATCH] = { 0 };

	for (size_t i = 0; i < count; i++) {
		int r = read_piece(reader, &pieces[i], &rows[i], why);

		if (r)
			return r;
		jobs[i] = (struct sha256_job){ .data = pieces[i].buffer, .size = pieces[i].digest.size };
	}
	sha256_batch(reader->hasher, jobs, count);
	for (size_t i = 0; i < count; i++) {
		if (memcmp(jobs[i].digest, pieces[i].digest.hash, DIGEST_HASH_BYTES) == 0)
			continue;
		if (pieces[i].digest.size == 0)
			return -ENOENT;          /* the one piece that was not looked up: its name is wrong */
		return rows[i] ? stale(reader, rows[i], why) : ERR_RAISE(-EBADMSG);
	}
	return 0;
}

int blob_reader_read(struct blob_reader *reader, const struct blob_piece *pieces, size_t count, struct why why)
{
	for (size_t i = 0; i < count; i += BLOB_READER_BATCH) {
		size_t left = count - i;
		int r = read_some(reader, pieces + i, left < BLOB_READER_BATCH ? left : BLOB_READER_BATCH, why);

		if (r)
			return r;
	}
	return 0;
}
