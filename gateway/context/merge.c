/* merge: see merge.h. */
#include "gateway/context/merge.h"

#include "gateway/base/cleanup.h"
#include "gateway/context/beneath.h"
#include "proto/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MODE_RWX 0700u                   /* what its owner needs on a directory whose content moves, or that moves itself */

struct merge {
	struct why why;
	char path[TREE_PATH_MAX + 1];
	size_t path_size;
};

static int merge_level(struct merge *merge, int from_fd, int to_fd);

int merge_refuse(struct why why, const char *path, int r)
{
	if (r == -ELOOP || r == -EXDEV || r == -ENOTDIR)
		return WHY_RAISE(why, r, path,
		                 "something in its way is a symlink, another mount or no directory; outputs do not go through these");
	if (r == -EISDIR)
		return WHY_RAISE(why, r, path, "is no directory, and one is in its way");
	return WHY_RAISE(why, r, path, "%s", strerror(-r));
}

static int fail(const struct merge *merge, int r)
{
	return merge_refuse(merge->why, merge->path, r);
}

/* A directory of ours, whose mode may be any: its owner may work in it afterwards. */
static int open_own(int parent_fd, const char *name, mode_t *mode)
{
	struct stat st;

	if (fstatat(parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	*mode = st.st_mode & 07777;
	if ((*mode & MODE_RWX) != MODE_RWX && fchmodat(parent_fd, name, *mode | MODE_RWX, 0) < 0)
		return -errno;
	return beneath_open(parent_fd, name, O_RDONLY | O_DIRECTORY, 0);
}

/* One that is there may be without its owner's rights, too, as what was pulled before left it. Whose it is not keeps it so. */
static mode_t open_up(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return MODE_RWX;
	if ((st.st_mode & MODE_RWX) != MODE_RWX && fchmod(fd, (st.st_mode & 07777) | MODE_RWX) < 0)
		return MODE_RWX;
	return st.st_mode & 07777;
}

static int merge_below(struct merge *merge, int from_fd, const char *from, int to_fd, const char *to)
{
	mode_t mode = 0;
	CLEANUP(fd_closep) int fd = open_own(from_fd, from, &mode);
	CLEANUP(fd_closep) int there_fd = -1;
	mode_t there_mode;
	int r;

	if (fd < 0)
		return fail(merge, fd);
	there_fd = beneath_open(to_fd, to, O_RDONLY | O_DIRECTORY, 0);
	if (there_fd == -ENOENT)         /* it moves as it is */
		return renameat(from_fd, from, to_fd, to) < 0 || fchmod(fd, mode) < 0 ? fail(merge, -errno) : 0;
	if (there_fd < 0)
		return fail(merge, there_fd);
	there_mode = open_up(there_fd);
	r = merge_level(merge, fd, there_fd);
	if ((there_mode & MODE_RWX) != MODE_RWX && fchmod(there_fd, there_mode) < 0 && r == 0)
		r = fail(merge, -errno);
	if (r == 0 && unlinkat(from_fd, from, AT_REMOVEDIR) < 0)
		r = fail(merge, -errno);
	return r;
}

static int merge_entry(struct merge *merge, int from_fd, int to_fd, const char *name)
{
	size_t path_size = merge->path_size, size = strlen(name);
	struct stat st;
	int r = 0;

	if (path_size + 1 + size > TREE_PATH_MAX)
		return fail(merge, -ENAMETOOLONG);
	merge->path_size += (size_t)snprintf(merge->path + path_size, sizeof(merge->path) - path_size, "/%s", name);
	if (fstatat(from_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		r = fail(merge, -errno);
	else if (S_ISDIR(st.st_mode))
		r = merge_below(merge, from_fd, name, to_fd, name);
	else if (renameat(from_fd, name, to_fd, name) < 0)
		r = fail(merge, -errno);
	merge->path_size = path_size;
	merge->path[path_size] = 0;
	return r;
}

static int merge_pass(struct merge *merge, int from_fd, int to_fd, bool *found)
{
	int fd = beneath_open(from_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int r = dir ? 0 : fail(merge, fd < 0 ? fd : -errno);

	if (!dir && fd >= 0)
		close(fd);
	while (r == 0 && (errno = 0, entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		*found = true;
		r = merge_entry(merge, from_fd, to_fd, entry->d_name);
	}
	if (r == 0 && errno)
		r = fail(merge, -errno);
	if (dir)
		closedir(dir);
	return r;
}

/* Entries may be skipped when a directory changes while it is read: until none is left. */
static int merge_level(struct merge *merge, int from_fd, int to_fd)
{
	bool found = true;
	int r = 0;

	while (r == 0 && found) {
		found = false;
		r = merge_pass(merge, from_fd, to_fd, &found);
	}
	return r;
}

int merge_directory(int parent_fd, const char *from, const char *to, const char *path, struct why why)
{
	struct merge *merge = calloc(1, sizeof(*merge));
	int r;

	if (!merge)
		return ERR_RAISE(-ENOMEM);
	merge->why = why;
	snprintf(merge->path, sizeof(merge->path), "%s", path);
	merge->path_size = strlen(merge->path);
	r = merge_below(merge, parent_fd, from, parent_fd, to);
	free(merge);
	return r;
}
