/* aside: see aside.h. */
#include "gateway/cmd/aside.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/cleanup.h"
#include "gateway/context/beneath.h"

#define ASIDE_PREFIX ".sluice-output-"
#define ASIDE_TRIES  8

/* False: who sweeps found it before it was locked, and has removed it, or is about to. */
static bool aside_lock(const struct aside *aside, int parent_fd)
{
	struct stat ours, there;

	if (flock(aside->fd, LOCK_EX | LOCK_NB) < 0)
		return errno != EWOULDBLOCK;             /* a file system without locks: nobody sweeps there */
	return fstat(aside->fd, &ours) == 0 && fstatat(parent_fd, aside->name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

static int open_file(int parent_fd, const char *name)
{
	int fd = openat(parent_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

static int open_directory(int parent_fd, const char *name)
{
	return mkdirat(parent_fd, name, 0700) < 0 ? -errno : beneath_open(parent_fd, name, O_RDONLY | O_DIRECTORY, 0);
}

static int aside_make(struct aside *aside, int parent_fd, int (*make)(int parent_fd, const char *name))
{
	for (unsigned i = 0; i < ASIDE_TRIES; i++) {
		aside_name_make(aside->name, ASIDE_PREFIX);
		aside->fd = make(parent_fd, aside->name);
		if (aside->fd == -ENOENT)
			continue;                        /* the directory was swept before it was opened */
		if (aside->fd < 0)
			return aside->fd;
		if (aside_lock(aside, parent_fd))
			return 0;
		fd_closep(&aside->fd);
	}
	return -EBUSY;
}

int aside_make_file(struct aside *aside, int parent_fd)
{
	return aside_make(aside, parent_fd, open_file);
}

int aside_make_directory(struct aside *aside, int parent_fd)
{
	return aside_make(aside, parent_fd, open_directory);
}

static void sweep_one(int parent_fd, const char *name)
{
	CLEANUP(fd_closep) int fd = beneath_open(parent_fd, name, O_RDONLY | O_NONBLOCK, 0);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		return;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		beneath_remove(parent_fd, name);
}

void aside_sweep(int parent_fd)
{
	int fd = beneath_open(parent_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		fd_closep(&fd);
		return;
	}
	while ((entry = readdir(dir)))
		if (aside_name_is(entry->d_name, ASIDE_PREFIX))
			sweep_one(parent_fd, entry->d_name);
	closedir(dir);
}
