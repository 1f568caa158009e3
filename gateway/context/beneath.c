/* beneath: see beneath.h. */
#include "gateway/context/beneath.h"

#include "gateway/base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* openat2 answers EAGAIN when a rename elsewhere raced with it; the kernel asks us to try again, a bounded number of times. */
#define BENEATH_RETRIES_MAX 64

int beneath_open(int root_fd, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
	};
	long fd = -EAGAIN;

	for (int tries = 0; tries < BENEATH_RETRIES_MAX; tries++) {
		fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
		if (fd >= 0)
			return (int)fd;
		if (errno != EAGAIN && errno != EINTR)
			break;
	}
	return -errno;
}

int beneath_open_parent(int root_fd, const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	char parent[4096] = ".";
	int fd;

	if (slash) {
		size_t size = (size_t)(slash - path);

		if (size >= sizeof(parent))
			return -ENAMETOOLONG;
		memcpy(parent, path, size);
		parent[size] = 0;
	}
	fd = beneath_open(root_fd, parent, O_RDONLY | O_DIRECTORY, 0);
	if (fd >= 0)
		*name = slash ? slash + 1 : path;
	return fd;
}

/* Opens a directory to empty it; where its owner took away his own rights, gives them back first. */
static int open_to_clear(int parent_fd, const char *name)
{
	int fd = beneath_open(parent_fd, name, O_RDONLY | O_DIRECTORY, 0);

	if (fd == -EACCES && fchmodat(parent_fd, name, 0700, AT_SYMLINK_NOFOLLOW) == 0)
		fd = beneath_open(parent_fd, name, O_RDONLY | O_DIRECTORY, 0);
	return fd;
}

static int unlink_entry(int dir_fd, const char *name, int flags)
{
	if (unlinkat(dir_fd, name, flags) == 0 || errno == ENOENT)
		return 0;
	if (errno == EACCES && fchmod(dir_fd, 0700) == 0 && unlinkat(dir_fd, name, flags) == 0)
		return 0;
	return -errno;
}

/* One removal: `top_fd` is the topmost directory that is being emptied. */
struct removal {
	int top_fd;
	unsigned moved;
};

static int clear_level(struct removal *removal, int dir_fd, int depth);

/* Too deep: moved into the topmost directory, where a later pass finds it, and so with a depth of 1. */
static int move_to_top(struct removal *removal, int parent_fd, const char *name)
{
	char moved[32];

	for (;;) {
		snprintf(moved, sizeof(moved), ".removed-%u", removal->moved++);
		if (renameat2(parent_fd, name, removal->top_fd, moved, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
}

static int remove_directory(struct removal *removal, int parent_fd, const char *name, int depth)
{
	CLEANUP(fd_closep) int fd = -1;
	int r;

	if (depth >= BENEATH_DEPTH_MAX)
		return move_to_top(removal, parent_fd, name);
	fd = open_to_clear(parent_fd, name);
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	if (depth == 0)
		removal->top_fd = fd;
	r = clear_level(removal, fd, depth + 1);
	return r ? r : unlink_entry(parent_fd, name, AT_REMOVEDIR);
}

static int remove_entry(struct removal *removal, int parent_fd, const char *name, bool directory, int depth)
{
	int r = directory ? -EISDIR : unlink_entry(parent_fd, name, 0);

	return r == -EISDIR ? remove_directory(removal, parent_fd, name, depth) : r;
}

static void closedir_p(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static bool is_dot(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

static int clear_pass(struct removal *removal, int dir_fd, int depth, bool *found)
{
	CLEANUP(fd_closep) int fd = beneath_open(dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	CLEANUP(closedir_p) DIR *dir = NULL;
	struct dirent *entry;

	if (fd == -EACCES && fchmod(dir_fd, 0700) == 0)
		fd = beneath_open(dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir)
		return -errno;
	fd_take(&fd);
	while ((errno = 0, entry = readdir(dir))) {
		int r;

		if (is_dot(entry->d_name))
			continue;
		*found = true;
		r = remove_entry(removal, dir_fd, entry->d_name, entry->d_type == DT_DIR, depth);
		if (r)
			return r;
	}
	return -errno;
}

/* Entries may be skipped when a directory changes while it is read, and the topmost gets new ones: until none is left. */
static int clear_level(struct removal *removal, int dir_fd, int depth)
{
	bool found = true;
	int r = 0;

	while (!r && found) {
		found = false;
		r = clear_pass(removal, dir_fd, depth, &found);
	}
	return r;
}

int beneath_remove(int parent_fd, const char *name)
{
	struct removal removal = { .top_fd = -1 };

	return remove_entry(&removal, parent_fd, name, false, 0);
}

int beneath_clear(int dir_fd)
{
	struct removal removal = { .top_fd = dir_fd };

	return clear_level(&removal, dir_fd, 1);
}

int beneath_is_empty(int dir_fd)
{
	CLEANUP(fd_closep) int fd = beneath_open(dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	CLEANUP(closedir_p) DIR *dir = NULL;
	struct dirent *entry;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir)
		return -errno;
	fd_take(&fd);
	while ((errno = 0, entry = readdir(dir))) {
		if (!is_dot(entry->d_name))
			return 0;
	}
	return errno ? -errno : 1;
}
