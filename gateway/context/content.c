/* content: files and the pieces that they are waiting for. */
#include "gateway/context/content.h"

#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/list.h"
#include "gateway/context/beneath.h"
#include "proto/recipe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define HOLE_BYTES      4096             /* zeros shorter than that, or not aligned to it, are written */
#define TABLE_SLOTS     2048             /* a power of two, twice CONTENT_BATCH_PIECES */
#define XATTR_NAMES_MAX 65536            /* the kernel's own bound of a list of names */
#define KNOWN_CHUNKS_MAX (1u << 18)      /* of a former version: what is beyond is fetched */

struct content_file {
	struct list link;
	int fd;                          /* -1 until its first bytes come */
	int before_fd;                   /* -1: no former version */
	struct digest recipe, before_recipe;
	uint64_t size, remaining;
	uint64_t before_size;
	bool expanding;                  /* its recipe is being read: whoever reads it destroys it */
	uint32_t mode;
	struct tree_xattr *xattrs;       /* with names and values behind it, one allocation */
	size_t xattrs_count;
	char path[];
};

/* Bytes that a file waits for. Pieces of one blob are chained. */
struct piece {
	struct content_file *file;
	uint64_t offset;
	int32_t next;                    /* -1: the last */
};

struct content {
	struct content_options options;
	struct content_totals totals;
	struct list files;
	struct content_file *recipes[CONTENT_RECIPES];
	size_t recipes_count;

	struct piece pieces[CONTENT_BATCH_PIECES];
	size_t pieces_count;
	struct digest blobs[CONTENT_BATCH_PIECES];
	int32_t first[CONTENT_BATCH_PIECES];             /* of each blob: its newest piece */
	size_t blobs_count, blobs_seen;
	uint64_t blobs_bytes;
	int16_t table[TABLE_SLOTS];                      /* digest to blob, open addressing; -1: free */
};

/* A blob that one fetch of one blob brings. */
struct copy {
	uint8_t *data;
	size_t size;
};

/* Where the chunks of a former version are: sorted by digest. */
struct known_chunk {
	struct digest digest;
	uint64_t offset;
};

struct known {
	struct known_chunk *chunks;
	size_t count, capacity;
};

struct content *content_create(const struct content_options *options)
{
	struct content *content = calloc(1, sizeof(*content));

	if (!content)
		return NULL;
	content->options = *options;
	list_init(&content->files);
	memset(content->table, 0xff, sizeof(content->table));
	return content;
}

static void file_destroy(struct content_file *file)
{
	list_remove(&file->link);
	if (file->fd >= 0)
		close(file->fd);
	if (file->before_fd >= 0)
		close(file->before_fd);
	free(file->xattrs);
	free(file);
}

void content_destroy(struct content *content)
{
	if (!content)
		return;
	list_for_each_safe(link, after, &content->files)
		file_destroy(container_of(link, struct content_file, link));
	free(content);
}

const struct content_totals *content_totals(const struct content *content)
{
	return &content->totals;
}

static int fail(const struct content *content, const char *path, const char *what)
{
	int r = -errno;

	return WHY_RAISE(content->options.why, r, path, "%s: %s", what, strerror(-r));
}

/* One allocation: the array, then names (with a NUL for the kernel) and values. */
static bool copy_xattrs(struct content_file *file, const struct tree_node *node)
{
	size_t bytes = node->xattrs_count * sizeof(struct tree_xattr);
	uint8_t *at;

	for (size_t i = 0; i < node->xattrs_count; i++)
		bytes += node->xattrs[i].name.size + node->xattrs[i].value.size;
	if (!bytes)
		return true;
	file->xattrs = malloc(bytes);
	if (!file->xattrs)
		return false;
	file->xattrs_count = node->xattrs_count;
	at = (uint8_t *)(file->xattrs + node->xattrs_count);
	for (size_t i = 0; i < node->xattrs_count; i++) {
		struct span name = node->xattrs[i].name, value = node->xattrs[i].value;

		memcpy(at, name.data, name.size);
		file->xattrs[i].name = span_make(at, name.size);
		at += name.size;
		if (value.size)
			memcpy(at, value.data, value.size);
		file->xattrs[i].value = span_make(at, value.size);
		at += value.size;
	}
	return true;
}

static struct content_file *file_create(struct content *content, const char *path, const struct tree_node *node)
{
	size_t path_size = strlen(path) + 1;
	struct content_file *file = calloc(1, sizeof(*file) + path_size);

	if (!file)
		return NULL;
	file->fd = file->before_fd = -1;
	file->recipe = node->digest;
	file->size = file->remaining = node->file_size;
	file->mode = node->mode & content->options.mode_mask;
	memcpy(file->path, path, path_size);
	list_append(&content->files, &file->link);
	if (copy_xattrs(file, node))
		return file;
	file_destroy(file);
	return NULL;
}

/* Attributes that are there and not wanted go. */
static int remove_xattrs(struct why why, int fd, const char *path, const struct tree_xattr *xattrs, size_t count)
{
	CLEANUP(free_p) char *names = malloc(XATTR_NAMES_MAX);
	ssize_t size;

	if (!names)
		return ERR_RAISE(-ENOMEM);
	size = flistxattr(fd, names, XATTR_NAMES_MAX);
	if (size < 0)
		return errno == ENOTSUP ? 0 : WHY_RAISE(why, -errno, path, "cannot list extended attributes");
	for (char *name = names; name < names + size; name += strlen(name) + 1) {
		bool wanted = strncmp(name, "user.", 5) != 0;

		for (size_t i = 0; i < count && !wanted; i++)
			wanted = span_is(xattrs[i].name, name);
		if (!wanted && fremovexattr(fd, name) && errno != ENODATA)
			return WHY_RAISE(why, -errno, path, "cannot remove extended attribute %s", name);
	}
	return 0;
}

int content_set_xattrs(struct why why, int fd, const char *path, const struct tree_xattr *xattrs, size_t count, bool fresh)
{
	int r = fresh ? 0 : remove_xattrs(why, fd, path, xattrs, count);

	for (size_t i = 0; i < count && !r; i++) {
		char name[TREE_NAME_MAX + 1];

		CHECK(xattrs[i].name.size <= TREE_NAME_MAX);
		memcpy(name, xattrs[i].name.data, xattrs[i].name.size);
		name[xattrs[i].name.size] = 0;
		if (fsetxattr(fd, name, xattrs[i].value.data, xattrs[i].value.size, 0)) {
			int error = errno;

			r = WHY_RAISE(why, -error, path, "cannot set extended attribute %s: %s", name, strerror(error));
		}
	}
	return r;
}

static int file_open(struct content *content, struct content_file *file)
{
	file->fd = beneath_open(content->options.dir_fd, file->path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (file->fd < 0) {
		errno = -file->fd;
		file->fd = -1;
		return fail(content, file->path, "cannot create");
	}
	if (file->size > RECIPE_WHOLE_MAX && ftruncate(file->fd, (off_t)file->size))
		return fail(content, file->path, "cannot set its length");
	return 0;
}

/* Owner before mode: a change of owner takes setuid and setgid away. */
static int file_finish(struct content *content, struct content_file *file)
{
	const struct content_options *options = &content->options;
	int r = content_set_xattrs(options->why, file->fd, file->path, file->xattrs, file->xattrs_count, true);

	if (r)
		return r;
	if (options->set_owner && fchown(file->fd, options->uid, options->gid))
		return fail(content, file->path, "cannot set its owner");
	if (fchmod(file->fd, file->mode))
		return fail(content, file->path, "cannot set its mode");
	content->totals.files++;
	if (!file->expanding)
		file_destroy(file);
	return 0;
}

static int write_all(int fd, const uint8_t *data, size_t size, uint64_t offset)
{
	while (size) {
		ssize_t written = pwrite(fd, data, size, (off_t)offset);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return -1;
		data += written;
		size -= (size_t)written;
		offset += (size_t)written;
	}
	return 0;
}

static bool is_zero(const uint8_t *data, size_t size)
{
	return data[0] == 0 && memcmp(data, data + 1, size - 1) == 0;
}

/* The length of the run at the start of `data` that is either all holes (`*hole`) or all to be written. */
static size_t next_run(const uint8_t *data, size_t size, uint64_t offset, bool *hole)
{
	size_t at = 0;

	while (at < size) {
		size_t block = HOLE_BYTES - (offset + at) % HOLE_BYTES;
		bool zero;

		block = block < size - at ? block : size - at;
		zero = block == HOLE_BYTES && is_zero(data + at, block);
		if (at == 0)
			*hole = zero;
		else if (*hole != zero)
			break;
		at += block;
	}
	return at;
}

/* What is not written stays a hole; a hole at the end of a file needs its length set. */
static int write_sparse(const struct content_file *file, const uint8_t *data, size_t size, uint64_t offset)
{
	bool hole = false;

	while (size) {
		size_t run = next_run(data, size, offset, &hole);

		if (!hole && write_all(file->fd, data, run, offset))
			return -1;
		data += run;
		size -= run;
		offset += run;
	}
	return hole && offset == file->size ? ftruncate(file->fd, (off_t)file->size) : 0;
}

static int file_wrote(struct content *content, struct content_file *file, uint64_t size)
{
	CHECK(file->remaining >= size);
	file->remaining -= size;
	content->totals.bytes += size;
	return file->remaining ? 0 : file_finish(content, file);
}

static int file_write(struct content *content, struct content_file *file, struct span data, uint64_t offset)
{
	int r = file->fd < 0 ? file_open(content, file) : 0;

	if (r)
		return r;
	if (write_sparse(file, data.data, data.size, offset))
		return fail(content, file->path, "cannot write");
	return file_wrote(content, file, data.size);
}

static int on_blob(void *context, size_t index, struct span blob)
{
	struct content *content = context;
	int32_t next;
	int r = 0;

	CHECK(index < content->blobs_count && blob.size == content->blobs[index].size);
	content->blobs_seen++;
	content->totals.bytes_fetched += blob.size;
	for (int32_t at = content->first[index]; at >= 0 && !r; at = next) {
		struct piece *piece = &content->pieces[at];

		next = piece->next;
		r = file_write(content, piece->file, blob, piece->offset);
	}
	return r;
}

static int fetch(struct content *content, const struct digest *digests, size_t count,
                 int (*visit)(void *context, size_t index, struct span blob), void *context)
{
	struct source *source = content->options.source;

	return source->fetch(source, digests, count, visit, context, content->options.why.text, content->options.why.size);
}

static int flush_pieces(struct content *content)
{
	int r;

	if (content->blobs_count == 0)
		return 0;
	content->blobs_seen = 0;
	r = fetch(content, content->blobs, content->blobs_count, on_blob, content);
	if (!r)
		CHECK(content->blobs_seen == content->blobs_count);
	content->pieces_count = content->blobs_count = 0;
	content->blobs_bytes = 0;
	memset(content->table, 0xff, sizeof(content->table));
	if (content->options.progress)
		content->options.progress(content->options.context, content->totals.files, content->totals.bytes);
	return r;
}

/* The blob's place in the table: it is there, or a free slot. Half of the slots are free, so the loop ends. */
static int16_t *table_find(struct content *content, const struct digest *digest)
{
	uint32_t slot;

	memcpy(&slot, digest->hash, sizeof(slot));
	for (;; slot++) {
		int16_t *at = &content->table[slot & (TABLE_SLOTS - 1)];

		if (*at < 0 || digest_equal(&content->blobs[*at], digest))
			return at;
	}
}

static int want_piece(struct content *content, struct content_file *file, const struct digest *digest, uint64_t offset)
{
	int16_t *slot = table_find(content, digest);
	bool full = content->pieces_count == CONTENT_BATCH_PIECES;
	size_t at;

	if (full || (*slot < 0 && content->blobs_count && content->blobs_bytes + digest->size > CONTENT_BATCH_BYTES)) {
		int r = flush_pieces(content);

		if (r)
			return r;
		slot = table_find(content, digest);
	}
	if (*slot < 0) {
		*slot = (int16_t)content->blobs_count;
		content->blobs[content->blobs_count] = *digest;
		content->first[content->blobs_count++] = -1;
		content->blobs_bytes += digest->size;
	}
	at = content->pieces_count++;
	content->pieces[at] = (struct piece){ .file = file, .offset = offset, .next = content->first[*slot] };
	content->first[*slot] = (int32_t)at;
	return 0;
}

static int compare_known(const void *a, const void *b)
{
	return memcmp(((const struct known_chunk *)a)->digest.hash, ((const struct known_chunk *)b)->digest.hash,
	              DIGEST_HASH_BYTES);
}

static bool known_add(struct known *known, const struct digest *digest, uint64_t offset)
{
	if (known->count == known->capacity) {
		size_t capacity = known->capacity ? 2 * known->capacity : 1024;
		struct known_chunk *grown;

		if (capacity > KNOWN_CHUNKS_MAX)
			return false;
		grown = realloc(known->chunks, capacity * sizeof(*grown));
		if (!grown)
			return false;
		known->chunks = grown;
		known->capacity = capacity;
	}
	known->chunks[known->count++] = (struct known_chunk){ .digest = *digest, .offset = offset };
	return true;
}

static const struct known_chunk *known_find(const struct known *known, const struct digest *digest)
{
	struct known_chunk key = { .digest = *digest };
	const struct known_chunk *found;

	if (!known->count)
		return NULL;
	found = bsearch(&key, known->chunks, known->count, sizeof(*known->chunks), compare_known);
	return found && found->digest.size == digest->size ? found : NULL;
}

static int copy_data(int from_fd, uint64_t from, int to_fd, uint64_t to, uint64_t size)
{
	while (size) {
		off64_t in = (off64_t)from, out = (off64_t)to;
		ssize_t copied = copy_file_range(from_fd, &in, to_fd, &out, size, 0);

		if (copied < 0 && errno == EINTR)
			continue;
		if (copied <= 0)
			return -1;
		from += (size_t)copied;
		to += (size_t)copied;
		size -= (size_t)copied;
	}
	return 0;
}

/* copy_file_range would write the holes out. Where a file system does not know its holes all is data. */
static int copy_range(int from_fd, uint64_t from, int to_fd, uint64_t to, uint64_t size)
{
	uint64_t end = from + size;

	while (from < end) {
		off64_t data = lseek64(from_fd, (off64_t)from, SEEK_DATA), hole;
		uint64_t until;

		if (data < 0 && errno != ENXIO)
			return copy_data(from_fd, from, to_fd, to, end - from);
		if (data < 0 || (uint64_t)data >= end)
			return 0;
		to += (uint64_t)data - from;
		from = (uint64_t)data;
		hole = lseek64(from_fd, data, SEEK_HOLE);
		until = hole < 0 || (uint64_t)hole > end ? end : (uint64_t)hole;
		if (copy_data(from_fd, from, to_fd, to, until - from))
			return -1;
		to += until - from;
		from = until;
	}
	return 0;
}

/* A chunk that the former version holds; false: it has to be fetched after all. */
static int reuse_chunk(struct content *content, struct content_file *file, const struct known_chunk *known, uint64_t offset,
                       bool *reused)
{
	int r = file->fd < 0 ? file_open(content, file) : 0;

	if (r || copy_range(file->before_fd, known->offset, file->fd, offset, known->digest.size))
		return r;
	*reused = true;
	content->totals.bytes_reused += known->digest.size;
	return file_wrote(content, file, known->digest.size);
}

static int malformed(const struct content *content, const struct content_file *file)
{
	return WHY_RAISE(content->options.why, -EBADMSG, file->path, "malformed recipe");
}

/* The chunks of one level-0 recipe, which holds the file's bytes from `offset` on. `*size` gets how many. */
static int expand_chunks(struct content *content, struct content_file *file, struct span blob, uint64_t offset,
                         const struct known *known, uint64_t *size)
{
	uint64_t file_size = file->size;
	struct recipe_reader reader;
	struct digest chunk;

	if (!recipe_open(&reader, blob) || reader.head.level != 0 || reader.head.file_size > file_size - offset)
		return malformed(content, file);
	*size = reader.head.file_size;
	while (recipe_next(&reader, &chunk)) {
		const struct known_chunk *found = known_find(known, &chunk);
		bool reused = false;
		int r;

		if (chunk.size > CONTENT_BLOB_BYTES_MAX)
			return malformed(content, file);
		r = found ? reuse_chunk(content, file, found, offset, &reused) : 0;
		if (!r && !reused)
			r = want_piece(content, file, &chunk, offset);
		if (r)
			return r;
		offset += chunk.size;
	}
	return reader.failed ? malformed(content, file) : 0;
}

static int on_copy(void *context, size_t index, struct span blob)
{
	struct copy *copy = (struct copy *)context + index;

	free(copy->data);
	copy->data = malloc(blob.size ? blob.size : 1);
	if (!copy->data)
		return -ENOMEM;
	memcpy(copy->data, blob.data, blob.size);
	copy->size = blob.size;
	return 0;
}

static struct span copy_span(const struct copy *copy)
{
	return span_make(copy->data, copy->size);
}

static int expand_parts(struct content *content, struct content_file *file, struct recipe_reader *reader,
                        const struct known *known)
{
	uint64_t offset = 0;
	struct digest part;

	while (recipe_next(reader, &part)) {
		struct copy copy = { 0 };
		uint64_t size = 0;
		int r = fetch(content, &part, 1, on_copy, &copy);

		if (!r)
			r = expand_chunks(content, file, copy_span(&copy), offset, known, &size);
		free(copy.data);
		if (r)
			return r;
		offset += size;
	}
	return reader->failed || offset != file->size ? malformed(content, file) : 0;
}

static int expand(struct content *content, struct content_file *file, struct span blob, const struct known *known)
{
	struct recipe_reader reader;
	uint64_t size;

	if (!recipe_open(&reader, blob) || reader.head.file_size != file->size)
		return malformed(content, file);
	if (reader.head.level == 1)
		return expand_parts(content, file, &reader, known);
	return expand_chunks(content, file, blob, 0, known, &size);
}

/* The chunks of a former version, as far as its recipe is to be had: without them the file is fetched whole. */
static void known_read(struct content *content, struct known *known, const struct digest *recipe, uint64_t *offset,
                       uint32_t level)
{
	struct recipe_reader reader;
	struct copy copy = { 0 };
	struct digest entry;

	if (fetch(content, recipe, 1, on_copy, &copy) == 0 && recipe_open(&reader, copy_span(&copy)) &&
	    reader.head.level <= level) {
		while (recipe_next(&reader, &entry)) {
			if (reader.head.level == 1) {
				known_read(content, known, &entry, offset, 0);
				continue;
			}
			if (!known_add(known, &entry, *offset))
				break;
			*offset += entry.size;
		}
	}
	free(copy.data);
}

static struct known known_make(struct content *content, const struct content_file *file)
{
	struct known known = { 0 };
	uint64_t offset = 0;
	struct stat stat;

	if (file->before_fd < 0 || fstat(file->before_fd, &stat) || (uint64_t)stat.st_size != file->before_size)
		return known;
	known_read(content, &known, &file->before_recipe, &offset, 1);
	if (known.count)
		qsort(known.chunks, known.count, sizeof(*known.chunks), compare_known);
	return known;
}

static int file_expand(struct content *content, struct content_file *file, struct span recipe)
{
	struct known known = known_make(content, file);
	int r;

	file->expanding = true;
	r = expand(content, file, recipe, &known);
	file->expanding = false;
	free(known.chunks);
	if (!r && file->remaining == 0)
		file_destroy(file);
	return r;
}

static int flush_recipes(struct content *content)
{
	struct digest digests[CONTENT_RECIPES];
	struct copy copies[CONTENT_RECIPES] = { 0 };
	size_t count = content->recipes_count;
	int r;

	if (count == 0)
		return 0;
	content->recipes_count = 0;
	for (size_t i = 0; i < count; i++)
		digests[i] = content->recipes[i]->recipe;
	r = fetch(content, digests, count, on_copy, copies);
	for (size_t i = 0; i < count; i++) {
		if (!r)
			r = file_expand(content, content->recipes[i], copy_span(&copies[i]));
		free(copies[i].data);
	}
	return r;
}

static int add_large(struct content *content, struct content_file *file)
{
	uint64_t bytes = file->recipe.size;

	if (file->recipe.size > RECIPE_BYTES_MAX)
		return malformed(content, file);
	for (size_t i = 0; i < content->recipes_count; i++)
		bytes += content->recipes[i]->recipe.size;
	if (content->recipes_count == CONTENT_RECIPES || bytes > CONTENT_BATCH_BYTES) {
		int r = flush_recipes(content);

		if (r)
			return r;
	}
	content->recipes[content->recipes_count++] = file;
	return 0;
}

static int add_empty(struct content *content, struct content_file *file)
{
	int r = file_open(content, file);

	return r ? r : file_finish(content, file);
}

struct streamed {
	struct content *content;
	struct content_file *file;
};

static int on_piece(void *context, uint64_t offset, struct span bytes)
{
	struct streamed *streamed = context;

	streamed->content->totals.bytes_fetched += bytes.size;
	return file_write(streamed->content, streamed->file, bytes, offset);
}

/* A file of another client's: one blob, longer than a fetch would bring. */
static int add_streamed(struct content *content, struct content_file *file, const struct digest *digest)
{
	struct source *source = content->options.source;
	struct streamed streamed = { .content = content, .file = file };

	return source->stream(source, digest, on_piece, &streamed, content->options.why.text, content->options.why.size);
}

int content_add(struct content *content, const char *path, const struct tree_node *node, const struct tree_node *before,
                int before_fd)
{
	struct content_file *file = file_create(content, path, node);

	CHECK(node->kind == TREE_FILE);
	if (!file || !node->recipe || !before || !before->recipe) {
		if (before_fd >= 0)
			close(before_fd);
	} else {
		file->before_fd = before_fd;
		file->before_recipe = before->digest;
		file->before_size = before->file_size;
	}
	if (!file)
		return ERR_RAISE(-ENOMEM);
	if (node->recipe)
		return add_large(content, file);
	if (node->file_size == 0)
		return add_empty(content, file);
	if (node->file_size > CONTENT_BATCH_BYTES && content->options.source->stream)
		return add_streamed(content, file, &node->digest);
	if (node->file_size > CONTENT_BLOB_BYTES_MAX)
		return WHY_RAISE(content->options.why, -EFBIG, path, "a file without a recipe is longer than %u bytes",
		                 CONTENT_BLOB_BYTES_MAX);
	return want_piece(content, file, &node->digest, 0);
}

int content_finish(struct content *content)
{
	int r = flush_recipes(content);

	if (!r)
		r = flush_pieces(content);
	if (!r)
		CHECK(list_empty(&content->files));
	return r;
}
