/*
 * tool: runs another program to its end: an OCI runtime, mostly. Its environment is PATH alone, its stdin an empty pipe, and
 * it inherits no descriptor but the two given. Blocking, with a time-out; any thread.
 *
 * Nothing of it is /dev/null unless the caller says so: crun 1.8 gives its standard streams to the container's user, and would give away
 * the host's node.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct tool_options {
	const char *const *argv;         /* argv[0] is a path */
	int stdout_fd, stderr_fd;        /* -1: /dev/null. Not closed */
	uint64_t timeout_ns;             /* then it is killed; 0: none */
	pid_t *group;                    /* out: it is in a process group of its own, of this id. NULL: in the caller's */
};

/* 0: `*status` is its exit status, or 128 + the signal that ended it. -ETIMEDOUT, or another -errno when it did not start. */
int tool_run(const struct tool_options *options, int *status);

/* The same, with the first `size` - 1 bytes of its output (both streams) in `text`. */
int tool_read(const char *const *argv, uint64_t timeout_ns, char *text, size_t size, int *status);

/*
 * Starts one that goes on, with `stdin_fd` (not closed) as its stdin; the caller waits for `*pid`. `timeout_ns` is not looked
 * at. 0 or -errno.
 */
int tool_start(const struct tool_options *options, int stdin_fd, pid_t *pid);

/* Where the program is: `name` itself when it has a slash, else the first in PATH or the usual directories. 0 or -ENOENT. */
int tool_find(const char *name, char *path, size_t path_size);
