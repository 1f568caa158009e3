/* image_layer: libarchive reads, this writes: beneath the root and nowhere else. */
#include "gateway/executor/image_layer.h"

#include "chunker/sha256.h"
#include "gateway/base/cleanup.h"
#include "gateway/context/beneath.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define WHITEOUT_PREFIX ".wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"

/* Two passes: what a layer hides is what was below it, wherever in the layer it says so. */
enum pass { PASS_WHITEOUTS, PASS_ENTRIES };

struct unpacking {
	const struct image_layer *layer;
	struct why why;
	enum pass pass;
	struct sha256_stream hash;
	off_t offset;
	uint8_t buffer[65536];
};

static int open_in_root(int root_fd, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
	};
	long fd = syscall(SYS_openat2, root_fd, *path ? path : ".", &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

/* One step; a symlink to a directory inside the root counts as one. */
static int make_step(int root_fd, char *path, uint32_t uid, uint32_t gid)
{
	char *slash = strrchr(path, '/');
	CLEANUP(fd_closep) int parent_fd = -1;
	int fd = open_in_root(root_fd, path, O_RDONLY | O_DIRECTORY);

	if (fd != -ENOENT)
		return fd;
	if (slash)
		*slash = 0;
	parent_fd = open_in_root(root_fd, slash ? path : ".", O_RDONLY | O_DIRECTORY);
	if (slash)
		*slash = '/';
	if (parent_fd < 0)
		return parent_fd;
	if (mkdirat(parent_fd, slash ? slash + 1 : path, 0755))
		return -errno;
	fd = beneath_open(parent_fd, slash ? slash + 1 : path, O_RDONLY | O_DIRECTORY, 0);
	if (fd >= 0 && (fchown(fd, uid, gid) || fchmod(fd, 0755))) {
		close(fd);
		return -errno;
	}
	return fd;
}

int image_layer_make_directory(int root_fd, const char *path, uint32_t uid, uint32_t gid)
{
	char copy[PATH_MAX];
	int fd = open_in_root(root_fd, ".", O_RDONLY | O_DIRECTORY);

	if (strlen(path) >= sizeof(copy))
		return -ENAMETOOLONG;
	strcpy(copy, path);
	for (char *end = copy; *end && fd >= 0;) {
		char kept;

		end += strcspn(end, "/");
		kept = *end;
		*end = 0;
		close(fd);
		fd = make_step(root_fd, copy, uid, gid);
		*end = kept;
		end += kept != 0;
	}
	return fd;
}

static int fail(const struct unpacking *unpacking, const char *path, int r)
{
	return WHY_RAISE(unpacking->why, r, unpacking->layer->name, "%.150s: %s", path, strerror(-r));
}

/* Whoever returns -EBADMSG has said why. */
static int malformed(const struct unpacking *unpacking, const char *path, const char *what)
{
	return WHY_RAISE(unpacking->why, -EBADMSG, unpacking->layer->name, "%.150s: %s", path, what);
}

static int archive_fault(const struct unpacking *unpacking, struct archive *archive)
{
	const char *text = archive_error_string(archive);

	return WHY_RAISE(unpacking->why, -EBADMSG, unpacking->layer->name, "malformed layer: %s", text ? text : "cannot be read");
}

/* "./a//b/" as "a/b"; false: ".." in it, or too long. The root itself is "". */
static bool clean_path(const char *path, char out[static PATH_MAX])
{
	size_t used = 0;

	while (*path) {
		size_t size = strcspn(path, "/");

		if (size == 2 && path[0] == '.' && path[1] == '.')
			return false;
		if (size && !(size == 1 && path[0] == '.')) {
			if (used + size + 2 > PATH_MAX)
				return false;
			if (used)
				out[used++] = '/';
			memcpy(out + used, path, size);
			used += size;
		}
		path += size + (path[size] == '/');
	}
	out[used] = 0;
	return true;
}

static int owner_of(const struct unpacking *unpacking, int64_t id, uint32_t *mapped)
{
	if (id < 0 || (uint64_t)id >= unpacking->layer->uid_count)
		return -EOVERFLOW;
	*mapped = unpacking->layer->uid_base + (uint32_t)id;
	return 0;
}

/* The directory that holds `path`, made when it is missing; `*name` points into `path`, which is cut there. */
static int open_parent(const struct unpacking *unpacking, char *path, const char **name)
{
	const struct image_layer *layer = unpacking->layer;
	char *slash = strrchr(path, '/');

	*name = slash ? slash + 1 : path;
	if (!slash)
		return open_in_root(layer->root_fd, ".", O_RDONLY | O_DIRECTORY);
	*slash = 0;
	return image_layer_make_directory(layer->root_fd, path, layer->uid_base, layer->uid_base);
}

/*
 * Below a directory that is not there, or that this layer puts in the place of something else, there is nothing to hide. A
 * mark of opaqueness means the layer's own directory, not where a symlink leads that it replaces.
 */
static int apply_whiteout(const struct unpacking *unpacking, char *path)
{
	char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path, *hidden = name + strlen(WHITEOUT_PREFIX), *directory = slash ? path : ".";
	bool opaque = strcmp(name, WHITEOUT_OPAQUE) == 0;
	CLEANUP(fd_closep) int fd = -1;

	if (!*hidden || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0)
		return -EINVAL;
	if (slash)
		*slash = 0;
	fd = opaque ? beneath_open(unpacking->layer->root_fd, directory, O_RDONLY | O_DIRECTORY, 0) :
	              open_in_root(unpacking->layer->root_fd, directory, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? 0 : fd;
	return opaque ? beneath_clear(fd) : beneath_remove(fd, hidden);
}

static void set_xattrs(int fd, struct archive_entry *entry)
{
	const char *name;
	const void *value;
	size_t size;

	archive_entry_xattr_reset(entry);
	while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
		if (strncmp(name, "user.", 5) == 0)
			fsetxattr(fd, name, value, size, 0);     /* not every file system has them */
	}
}

static int set_metadata(const struct unpacking *unpacking, int fd, struct archive_entry *entry)
{
	const struct timespec times[2] = {
		{ .tv_nsec = UTIME_OMIT }, { .tv_sec = archive_entry_mtime(entry), .tv_nsec = archive_entry_mtime_nsec(entry) },
	};
	uint32_t uid, gid;
	int r = owner_of(unpacking, archive_entry_uid(entry), &uid);

	if (!r)
		r = owner_of(unpacking, archive_entry_gid(entry), &gid);
	if (r)
		return r;
	set_xattrs(fd, entry);
	if (fchown(fd, uid, gid) || fchmod(fd, archive_entry_perm(entry) & 07777))
		return -errno;
	futimens(fd, times);             /* compilers of bytecode look at it; no failure matters */
	return 0;
}

static int write_at(int fd, const uint8_t *data, size_t size, off_t offset)
{
	while (size) {
		ssize_t written = pwrite(fd, data, size, offset);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return written < 0 ? -errno : -EIO;
		data += written;
		size -= (size_t)written;
		offset += written;
	}
	return 0;
}

static int write_content(struct unpacking *unpacking, struct archive *archive, int fd, int64_t size)
{
	const void *data;
	size_t length;
	la_int64_t offset;
	int r, status;

	while ((status = archive_read_data_block(archive, &data, &length, &offset)) == ARCHIVE_OK) {
		*unpacking->layer->bytes += length;
		if (*unpacking->layer->bytes > IMAGE_BYTES_MAX)
			return -E2BIG;
		r = write_at(fd, data, length, offset);
		if (r)
			return r;
	}
	if (status != ARCHIVE_EOF)
		return archive_fault(unpacking, archive);
	return ftruncate(fd, size) ? -errno : 0;
}

static int put_file(struct unpacking *unpacking, struct archive *archive, struct archive_entry *entry, int parent_fd,
                    const char *name)
{
	CLEANUP(fd_closep) int fd = beneath_open(parent_fd, name, O_CREAT | O_EXCL | O_WRONLY, 0600);
	int r;

	if (fd < 0)
		return fd;
	r = write_content(unpacking, archive, fd, archive_entry_size(entry));
	return r ? r : set_metadata(unpacking, fd, entry);
}

static int put_directory(struct unpacking *unpacking, struct archive_entry *entry, int parent_fd, const char *name)
{
	CLEANUP(fd_closep) int fd = -1;

	if (mkdirat(parent_fd, name, 0700) && errno != EEXIST)
		return -errno;
	fd = beneath_open(parent_fd, name, O_RDONLY | O_DIRECTORY, 0);
	return fd < 0 ? fd : set_metadata(unpacking, fd, entry);
}

static int put_symlink(struct unpacking *unpacking, struct archive_entry *entry, int parent_fd, const char *name)
{
	const char *target = archive_entry_symlink(entry);
	uint32_t uid, gid;
	int r = owner_of(unpacking, archive_entry_uid(entry), &uid);

	if (!r)
		r = owner_of(unpacking, archive_entry_gid(entry), &gid);
	if (r)
		return r;
	if (!target || !*target)
		return malformed(unpacking, archive_entry_pathname(entry), "a symlink to nothing");
	if (symlinkat(target, parent_fd, name) || fchownat(parent_fd, name, uid, gid, AT_SYMLINK_NOFOLLOW))
		return -errno;
	return 0;
}

static int put_hardlink(struct unpacking *unpacking, struct archive_entry *entry, int parent_fd, const char *name)
{
	const char *given = archive_entry_pathname(entry);
	CLEANUP(fd_closep) int target_fd = -1;
	char path[PATH_MAX];
	const char *target_name;
	struct stat stat;

	if (!clean_path(archive_entry_hardlink(entry), path) || !*path)
		return malformed(unpacking, given, "a hard link out of the image, or to nothing");
	target_fd = open_parent(unpacking, path, &target_name);
	if (target_fd < 0)
		return target_fd;
	if (fstatat(target_fd, target_name, &stat, AT_SYMLINK_NOFOLLOW))
		return -errno;
	if (S_ISDIR(stat.st_mode))
		return malformed(unpacking, given, "a hard link to a directory");
	return linkat(target_fd, target_name, parent_fd, name, 0) ? -errno : 0;
}

static int put_fifo(struct unpacking *unpacking, struct archive_entry *entry, int parent_fd, const char *name)
{
	CLEANUP(fd_closep) int fd = -1;

	if (mkfifoat(parent_fd, name, 0600))
		return -errno;
	fd = beneath_open(parent_fd, name, O_RDONLY | O_NONBLOCK, 0);
	return fd < 0 ? fd : set_metadata(unpacking, fd, entry);
}

/* What is in the way goes, but a directory stays under a directory. */
static int make_room(int parent_fd, const char *name, bool directory)
{
	struct stat stat;

	if (fstatat(parent_fd, name, &stat, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : -errno;
	return directory && S_ISDIR(stat.st_mode) ? 0 : beneath_remove(parent_fd, name);
}

static int put_entry(struct unpacking *unpacking, struct archive *archive, struct archive_entry *entry, int parent_fd,
                     const char *name)
{
	const char *target = archive_entry_hardlink(entry);
	mode_t type = archive_entry_filetype(entry);
	int r = make_room(parent_fd, name, !target && type == AE_IFDIR);

	if (r)
		return r;
	if (target)
		return put_hardlink(unpacking, entry, parent_fd, name);
	switch (type) {
	case AE_IFREG:
		return put_file(unpacking, archive, entry, parent_fd, name);
	case AE_IFDIR:
		return put_directory(unpacking, entry, parent_fd, name);
	case AE_IFLNK:
		return put_symlink(unpacking, entry, parent_fd, name);
	case AE_IFIFO:
		return put_fifo(unpacking, entry, parent_fd, name);
	}
	return 0;                        /* devices and sockets are left out */
}

static int process_root(struct unpacking *unpacking, struct archive_entry *entry)
{
	CLEANUP(fd_closep) int fd = open_in_root(unpacking->layer->root_fd, ".", O_RDONLY | O_DIRECTORY);
	int r;

	if (unpacking->pass == PASS_WHITEOUTS || archive_entry_filetype(entry) != AE_IFDIR)
		return 0;
	r = fd < 0 ? fd : set_metadata(unpacking, fd, entry);
	return r ? fail(unpacking, archive_entry_pathname(entry), r) : 0;
}

static int process_entry(struct unpacking *unpacking, struct archive *archive, struct archive_entry *entry)
{
	const char *given = archive_entry_pathname(entry), *name;
	CLEANUP(fd_closep) int parent_fd = -1;
	char path[PATH_MAX];
	bool whiteout;
	int r;

	if (!given || !clean_path(given, path))
		return WHY_RAISE(unpacking->why, -EBADMSG, unpacking->layer->name, "a path leads out of the image: %.150s",
		                 given ? given : "(none)");
	/* In the first pass, before anything is written. */
	if (unpacking->pass == PASS_WHITEOUTS && ++*unpacking->layer->entries > IMAGE_ENTRIES_MAX)
		return fail(unpacking, path, -E2BIG);
	if (!*path)
		return process_root(unpacking, entry);
	name = strrchr(path, '/');
	whiteout = strncmp(name ? name + 1 : path, WHITEOUT_PREFIX, strlen(WHITEOUT_PREFIX)) == 0;
	if (whiteout != (unpacking->pass == PASS_WHITEOUTS))
		return 0;
	parent_fd = whiteout ? -1 : open_parent(unpacking, path, &name);
	r = whiteout ? apply_whiteout(unpacking, path) :
	    parent_fd < 0 ? parent_fd : put_entry(unpacking, archive, entry, parent_fd, name);
	return r && r != -EBADMSG ? fail(unpacking, given, r) : r;
}

static la_ssize_t on_read(struct archive *archive, void *context, const void **data)
{
	struct unpacking *unpacking = context;
	ssize_t got = pread(unpacking->layer->blob_fd, unpacking->buffer, sizeof(unpacking->buffer), unpacking->offset);

	if (got < 0) {
		archive_set_error(archive, errno, "cannot read the layer");
		return -1;
	}
	sha256_stream_update(&unpacking->hash, unpacking->buffer, (size_t)got);
	unpacking->offset += got;
	*data = unpacking->buffer;
	return got;
}

static int read_entries(struct unpacking *unpacking, struct archive *archive)
{
	struct archive_entry *entry;
	int status, r = 0;

	if (archive_read_open(archive, unpacking, NULL, on_read, NULL) != ARCHIVE_OK)
		return archive_fault(unpacking, archive);
	while (!r && (status = archive_read_next_header(archive, &entry)) != ARCHIVE_EOF) {
		if (status != ARCHIVE_OK && status != ARCHIVE_WARN)
			return archive_fault(unpacking, archive);
		r = process_entry(unpacking, archive, entry);
	}
	return r;
}

/* A tar may end before its blob does; the hash is over all of it. */
static int check_hash(struct unpacking *unpacking, struct archive *archive)
{
	uint8_t hash[SHA256_BYTES];
	const void *data;

	for (;;) {
		la_ssize_t got = on_read(archive, unpacking, &data);

		if (got < 0)
			return archive_fault(unpacking, archive);
		if (got == 0)
			break;
	}
	sha256_stream_final(&unpacking->hash, hash);
	if (memcmp(hash, unpacking->layer->hash, sizeof(hash)) != 0)
		return WHY_RAISE(unpacking->why, -EBADMSG, unpacking->layer->name, "the layer's bytes do not match its digest");
	return 0;
}

static int run_pass(struct unpacking *unpacking, enum pass pass)
{
	struct archive *archive = archive_read_new();
	int r;

	if (!archive)
		return ERR_RAISE(-ENOMEM);
	unpacking->pass = pass;
	unpacking->offset = 0;
	sha256_stream_init(&unpacking->hash);
	archive_read_support_filter_gzip(archive);
	archive_read_support_filter_zstd(archive);
	archive_read_support_format_tar(archive);
	archive_read_support_format_empty(archive);
	r = read_entries(unpacking, archive);
	if (!r)
		r = check_hash(unpacking, archive);
	archive_read_free(archive);
	return r;
}

int image_layer_unpack(const struct image_layer *layer, struct why why)
{
	struct unpacking *unpacking = calloc(1, sizeof(*unpacking));
	int r;

	if (!unpacking)
		return ERR_RAISE(-ENOMEM);
	unpacking->layer = layer;
	unpacking->why = why;
	r = run_pass(unpacking, PASS_WHITEOUTS);
	if (!r)
		r = run_pass(unpacking, PASS_ENTRIES);
	free(unpacking);
	return r;
}
