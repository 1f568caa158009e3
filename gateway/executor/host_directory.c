/* host_directory: see host_directory.h. The lock is on the directory itself: that takes no room on a disk that is full. */
#include "gateway/executor/host_directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/cleanup.h"
#include "gateway/base/clock.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/context/beneath.h"

#define DIRECTORY_MODE     0711
#define DIRECTORY_PID_FILE "sluice.pid"
#define DIRECTORY_WAIT_NS  20000000000ull        /* a host's slots get 15 s to end (HOST_END_SECONDS) */
#define DIRECTORY_TRY_NS   50000000u

/* ---- whose it is ---- */

struct contents {
	bool hosts;                      /* what only a host leaves: slots, or its gateway's number */
	bool known, unknown;             /* what has the name of something of ours; what has not */
};

static bool is_slot(int fd, const char *name)
{
	unsigned number;
	struct stat st;
	char more;

	return sscanf(name, "slot-%u%c", &number, &more) == 1 && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISDIR(st.st_mode) && st.st_uid == 0 && !(st.st_mode & 0007);
}

static bool is_pid_file(int fd, const char *name)
{
	struct stat st;

	return strcmp(name, DIRECTORY_PID_FILE) == 0 && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	       st.st_uid == 0;
}

static bool is_known(const char *name)
{
	static const char *const names[] = { "images", "state", "trial", "buildkit" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static int look_into(int directory_fd, struct contents *contents)
{
	int fd = beneath_open(directory_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	*contents = (struct contents){ 0 };
	if (!directory) {
		int r = fd < 0 ? fd : -errno;

		if (fd >= 0)
			close(fd);
		return ERR_RAISE(r);
	}
	while ((entry = readdir(directory))) {
		const char *name = entry->d_name;

		/* A file system that is made for it alone begins with a lost+found. */
		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "lost+found") == 0)
			continue;
		if (is_slot(directory_fd, name) || is_pid_file(directory_fd, name))
			contents->hosts = true;
		else if (is_known(name))
			contents->known = true;
		else
			contents->unknown = true;
	}
	closedir(directory);
	return 0;
}

/* An earlier version's that never came to have slots left less that tells it: then nothing else is to be there, and the mode that hosts give. */
static bool is_ours(const struct contents *contents, mode_t mode)
{
	if (contents->hosts)
		return true;
	return !contents->unknown && (!contents->known || (mode & 07777) == DIRECTORY_MODE);
}

/* Containers pass through it, and nobody else writes to it. More of what others may do is left to them. */
static mode_t mode_wanted(mode_t mode)
{
	return (mode & 07777 & ~0022u) | 0011;
}

static int check(int fd, const char *path, char *why, size_t why_size)
{
	static const char remedy[] = "name another by --executor-path, empty or not there yet";
	struct contents contents;
	struct stat st;
	int r = fstat(fd, &st) < 0 ? -errno : look_into(fd, &contents);

	if (r < 0) {
		snprintf(why, why_size, "%s cannot be looked into: %s", path, strerror(-r));
		return ERR_RAISE(r);
	}
	if (st.st_uid != 0 || st.st_mode & S_ISVTX)
		snprintf(why, why_size, "%s: the executor directory must be root's, and not shared by others as /tmp is; %s", path, remedy);
	else if (!is_ours(&contents, st.st_mode))
		snprintf(why, why_size, "%s holds what is not the executor's, which needs a directory of its own; %s", path, remedy);
	else if (mode_wanted(st.st_mode) == (st.st_mode & 07777) || fchmod(fd, mode_wanted(st.st_mode)) == 0)
		return 0;
	else
		snprintf(why, why_size, "the mode of %s cannot be changed so that containers pass through it and only root writes to it: %s",
		         path, strerror(errno));
	return ERR_RAISE(-EPERM);
}

/* ---- who has it ---- */

/* 0: not known. */
static pid_t read_pid(int directory_fd)
{
	CLEANUP(fd_closep) int fd = beneath_open(directory_fd, DIRECTORY_PID_FILE, O_RDONLY | O_NONBLOCK, 0);
	char text[32] = "";

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		return 0;
	return (pid_t)strtol(text, NULL, 10);
}

/* For who reads it only: on a full disk it is empty. */
static void write_pid(int directory_fd)
{
	CLEANUP(fd_closep) int fd = beneath_open(directory_fd, DIRECTORY_PID_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK, 0644);

	if (fd >= 0)
		dprintf(fd, "%ld\n", (long)getpid());
}

/* Another gateway, that is: after a restart in a container ours may have the number of the one before. */
static bool is_there(pid_t pid)
{
	return pid > 0 && pid != getpid() && (kill(pid, 0) == 0 || errno != ESRCH);
}

static int in_use(int fd, const char *path, char *why, size_t why_size)
{
	pid_t pid = read_pid(fd);

	if (is_there(pid))
		snprintf(why, why_size, "the executor directory %s is in use by process %ld; stop it, or give another --executor-path", path,
		         (long)pid);
	else
		snprintf(why, why_size, "the executor directory %s is in use by an executor host whose gateway cannot be found; end that "
		         "host, or give another --executor-path", path);
	return ERR_RAISE(-EBUSY);
}

static int lock(int fd, const char *path, char *why, size_t why_size)
{
	uint64_t began_ns = clock_now_ns();
	bool told = false;

	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		struct timespec pause = { .tv_nsec = DIRECTORY_TRY_NS };

		if (errno != EWOULDBLOCK) {
			int r = -errno;

			snprintf(why, why_size, "the executor directory %s cannot be locked: %s", path, strerror(-r));
			return ERR_RAISE(r);
		}
		if (is_there(read_pid(fd)) || clock_now_ns() - began_ns >= DIRECTORY_WAIT_NS)
			return in_use(fd, path, why, why_size);
		if (!told)
			log_event(LOG_INFO, "waiting for the executor host of another gateway to end", LOG_TEXT("path", path));
		told = true;
		nanosleep(&pause, NULL);
	}
	return 0;
}

int host_directory_take(int *lock_fd, const char *path, char *why, size_t why_size)
{
	bool made = mkdir(path, DIRECTORY_MODE) == 0;
	CLEANUP(fd_closep) int fd = -1;
	int r;

	if (!made && errno != EEXIST) {
		*lock_fd = -1;
		return 0;
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || (made && fchmod(fd, DIRECTORY_MODE) < 0)) {
		r = -errno;
		snprintf(why, why_size, "the executor directory %s cannot be opened: %s", path, strerror(-r));
		return ERR_RAISE(r);
	}
	r = made ? 0 : check(fd, path, why, why_size);
	if (r == 0)
		r = lock(fd, path, why, why_size);
	if (r < 0)
		return r;
	write_pid(fd);
	*lock_fd = fd_take(&fd);
	return 0;
}
