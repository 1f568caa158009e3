/* host_directory: see host_directory.h. The lock is on the directory itself: that takes no room on a disk that is full. */
#include "gateway/executor/host_directory.h"

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
	r = lock(fd, path, why, why_size);
	if (r < 0)
		return r;
	write_pid(fd);
	*lock_fd = fd_take(&fd);
	return 0;
}
