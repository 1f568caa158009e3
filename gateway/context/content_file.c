/*
 * Of content: a file that is being written. Made when its first bytes come; written as they come, with holes where they
 * are zeros, or copied from its former version; its attributes are set after the last ones.
 */
#include "gateway/context/content_private.h"

#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/context/beneath.h"
#include "proto/recipe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define HOLE_BYTES      4096             /* zeros shorter than that, or not aligned to it, are written */
#define XATTR_NAMES_MAX 65536            /* the kernel's own bound of a list of names */

/* ---- life cycle ---- */

void content_file_destroy(struct content_file *file)
{
	list_remove(&file->link);
	if (file->fd >= 0)
		close(file->fd);
	if (file->before_fd >= 0)
		close(file->before_fd);
	free(file->xattrs);
	free(file);
}

/*
 * It has its name, and its length if it is large: it would pass for whole. A name for the time of writing would show a kill as
 * well, and cost a rename for each file of a tree, which is not whole then either.
 */
void content_file_abandon(const struct content *content, struct content_file *file)
{
	const char *name;
	CLEANUP(fd_closep) int fd = file->made ? beneath_open_parent(content->options.dir_fd, file->path, &name) : -1;

	if (fd >= 0)
		unlinkat(fd, name, 0);
	content_file_destroy(file);
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

struct content_file *content_file_create(struct content *content, const char *path, const struct tree_node *node)
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
	content_file_destroy(file);
	return NULL;
}

/* ---- made and finished ---- */

static int fail(const struct content *content, const char *path, const char *what)
{
	int r = -errno;

	return WHY_RAISE(content->options.why, r, path, "%s: %s", what, strerror(-r));
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

int content_set_xattrs(struct why why, int fd, const char *path, const struct tree_xattr *xattrs, size_t count,
                       bool fresh)
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
	file->made = true;
	if (file->size > RECIPE_WHOLE_MAX && ftruncate(file->fd, (off_t)file->size))
		return fail(content, file->path, "cannot set its length");
	return 0;
}

/* Owner before mode: a change of owner takes setuid and setgid away. */
static int file_finish(struct content *content, struct content_file *file)
{
	const struct content_options *options = &content->options;
	int r = content_set_xattrs(options->why, file->fd, file->path, file->xattrs, file->xattrs_count, true);
	int fd = file->fd;

	if (r)
		return r;
	if (options->set_owner && fchown(file->fd, options->uid, options->gid))
		return fail(content, file->path, "cannot set its owner");
	if (fchmod(file->fd, file->mode))
		return fail(content, file->path, "cannot set its mode");
	file->fd = -1;
	if (close(fd))                           /* where a quota or a server refuses late */
		return fail(content, file->path, "cannot write");
	content->totals.files++;
	if (!file->expanding)
		content_file_destroy(file);
	return 0;
}

int content_file_empty(struct content *content, struct content_file *file)
{
	int r = file_open(content, file);

	return r ? r : file_finish(content, file);
}

/* ---- bytes that came ---- */

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

int content_file_write(struct content *content, struct content_file *file, struct span data, uint64_t offset)
{
	int r = file->fd < 0 ? file_open(content, file) : 0;

	if (r)
		return r;
	if (write_sparse(file, data.data, data.size, offset))
		return fail(content, file->path, "cannot write");
	return file_wrote(content, file, data.size);
}

/* ---- bytes of a former version ---- */

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

static int write_zeros(int fd, uint64_t size, uint64_t offset)
{
	static const uint8_t zeros[65536];

	while (size) {
		ssize_t wrote = pwrite(fd, zeros, size < sizeof(zeros) ? size : sizeof(zeros), (off_t)offset);

		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote <= 0)
			return -1;
		offset += (size_t)wrote;
		size -= (size_t)wrote;
	}
	return 0;
}

int content_file_reuse(struct content *content, struct content_file *file, const struct known_chunk *known,
                       uint64_t offset, bool *reused)
{
	int r = file->fd < 0 ? file_open(content, file) : 0;

	if (r)
		return r;
	if (copy_range(file->before_fd, known->offset, file->fd, offset, known->digest.size))
		/* It is fetched, and written around its zeros: what was copied so far may not stand in their place. */
		return write_zeros(file->fd, known->digest.size, offset) ? fail(content, file->path, "cannot write") : 0;
	*reused = true;
	content->totals.bytes_reused += known->digest.size;
	return file_wrote(content, file, known->digest.size);
}
