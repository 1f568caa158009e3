/* collect: see collect.h. */
#include "gateway/context/collect.h"

#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/context/beneath.h"
#include "gateway/context/names.h"
#include "gateway/context/why.h"
#include "proto/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define OVERLAY_PREFIX  "trusted.overlay."
#define OVERLAY_OPAQUE  "trusted.overlay.opaque"
#define XATTR_NAMES_MAX 65536

struct collect {
	const struct collect_options *options;
	struct why why;
	char path[TREE_PATH_MAX + 1];
	size_t path_size;
};

static int collect_directory(struct collect *collect, int fd, int depth);

static int fail(const struct collect *collect, const char *what)
{
	int r = -errno;

	return WHY_RAISE(collect->why, r, collect->path, "%s: %s", what, strerror(-r));
}

static int report(const struct collect *collect, enum collect_kind kind)
{
	return collect->options->deleted(collect->options->context, kind, collect->path);
}

/* The overlay's own marks go; what a file's owner wrote (user.*) stays. */
static int remove_marks(const struct collect *collect, int fd)
{
	CLEANUP(free_p) char *names = malloc(XATTR_NAMES_MAX);
	ssize_t size;

	if (!names)
		return ERR_RAISE(-ENOMEM);
	size = flistxattr(fd, names, XATTR_NAMES_MAX);
	if (size < 0)
		return errno == ENOTSUP ? 0 : fail(collect, "cannot list extended attributes");
	for (char *name = names; name < names + size; name += strlen(name) + 1) {
		if (strncmp(name, OVERLAY_PREFIX, strlen(OVERLAY_PREFIX)) == 0 && fremovexattr(fd, name) && errno != ENODATA)
			return fail(collect, "cannot remove an extended attribute");
	}
	return 0;
}

static int collect_below(struct collect *collect, int parent_fd, const char *name, int depth)
{
	CLEANUP(fd_closep) int fd = beneath_open(parent_fd, name, O_RDONLY | O_DIRECTORY, 0);
	char opaque = 0;
	int r = 0;

	if (fd < 0) {
		errno = -fd;
		return fail(collect, "cannot open");
	}
	if (depth > TREE_DEPTH_MAX)
		return WHY_RAISE(collect->why, -ENAMETOOLONG, collect->path, "deeper than %d directories", TREE_DEPTH_MAX);
	if (fgetxattr(fd, OVERLAY_OPAQUE, &opaque, 1) == 1 && opaque == 'y')
		r = report(collect, COLLECT_REPLACED);
	if (!r)
		r = remove_marks(collect, fd);
	return r ? r : collect_directory(collect, fd, depth);
}

static int collect_file(struct collect *collect, int parent_fd, const char *name)
{
	CLEANUP(fd_closep) int fd = beneath_open(parent_fd, name, O_RDONLY | O_NONBLOCK, 0);

	if (fd < 0) {
		errno = -fd;
		return fail(collect, "cannot open");
	}
	return remove_marks(collect, fd);
}

static int collect_device(struct collect *collect, int parent_fd, const char *name, const struct stat *stat)
{
	if (!S_ISCHR(stat->st_mode) || stat->st_rdev != makedev(0, 0))
		return WHY_RAISE(collect->why, -EPERM, collect->path, "device nodes are refused");
	if (unlinkat(parent_fd, name, 0))
		return fail(collect, "cannot remove white-out");
	return report(collect, COLLECT_DELETED);
}

static int collect_entry(struct collect *collect, int parent_fd, const char *name, int depth)
{
	struct stat stat;

	if (fstatat(parent_fd, name, &stat, AT_SYMLINK_NOFOLLOW))
		return fail(collect, "cannot stat");
	switch (stat.st_mode & S_IFMT) {
	case S_IFDIR:
		return collect_below(collect, parent_fd, name, depth + 1);
	case S_IFREG:
		return collect_file(collect, parent_fd, name);
	case S_IFCHR:
	case S_IFBLK:
		return collect_device(collect, parent_fd, name, &stat);
	}
	return 0;                        /* symlinks, fifos and sockets have no marks that a tree would show */
}

static int enter_name(struct collect *collect, const char *name)
{
	size_t size = strlen(name), slash = collect->path_size ? 1 : 0;

	if (collect->path_size + slash + size > TREE_PATH_MAX)
		return WHY_RAISE(collect->why, -ENAMETOOLONG, collect->path, "a path below is longer than %d bytes", TREE_PATH_MAX);
	if (slash)
		collect->path[collect->path_size] = '/';
	memcpy(collect->path + collect->path_size + slash, name, size + 1);
	collect->path_size += slash + size;
	return 0;
}

static int read_names(struct names *names, int dir_fd)
{
	int fd = beneath_open(dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int r;

	if (!dir) {
		r = fd < 0 ? fd : -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while ((errno = 0, entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") && !names_add(names, entry->d_name)) {
			errno = ENOMEM;
			break;
		}
	}
	r = -errno;
	closedir(dir);
	return r;
}

/* The names are read first: white-outs are removed on the way. */
static int collect_directory(struct collect *collect, int fd, int depth)
{
	struct names names = { 0 };
	size_t path_size = collect->path_size;
	int r = read_names(&names, fd);

	if (r) {
		errno = -r;
		r = fail(collect, "cannot read directory");
	}
	for (const char *name = names_next(&names, NULL); name && !r; name = names_next(&names, name)) {
		r = enter_name(collect, name);
		if (!r)
			r = collect_entry(collect, fd, name, depth);
		if (!r) {
			collect->path_size = path_size;
			collect->path[path_size] = 0;
		}
	}
	names_fini(&names);
	return r;
}

int collect_prepare(const struct collect_options *options, char *why, size_t why_size)
{
	struct collect collect = { .options = options, .why = { why, why_size } };
	int r;

	CHECK(options->upper_fd >= 0 && options->deleted);
	if (why_size)
		*why = 0;
	r = remove_marks(&collect, options->upper_fd);
	return r ? r : collect_directory(&collect, options->upper_fd, 0);
}
