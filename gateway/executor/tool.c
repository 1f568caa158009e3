/* tool: posix_spawn and a pidfd. */
#include "gateway/executor/tool.h"

#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/clock.h"
#include "gateway/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#define TOOL_DIRECTORIES "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define NS_PER_MS        1000000u

static int redirect(posix_spawn_file_actions_t *actions, int fd, int as)
{
	if (fd < 0)
		return posix_spawn_file_actions_addopen(actions, as, "/dev/null", O_WRONLY, 0);
	return posix_spawn_file_actions_adddup2(actions, fd, as);
}

/* A caller's mask and ignored signals are its own business: the program starts with neither. */
static int spawn_with(pid_t *pid, const struct tool_options *options, int stdin_fd, posix_spawn_file_actions_t *actions,
                      posix_spawnattr_t *attributes)
{
	static char path[] = "PATH=" TOOL_DIRECTORIES;
	char *const environment[] = { path, NULL };
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	r = posix_spawnattr_setsigmask(attributes, &none);
	r = r ? r : posix_spawnattr_setsigdefault(attributes, &all);
	r = r ? r : posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
	                                                 (options->group ? POSIX_SPAWN_SETPGROUP : 0));
	r = r ? r : redirect(actions, stdin_fd, 0);
	r = r ? r : redirect(actions, options->stdout_fd, 1);
	r = r ? r : redirect(actions, options->stderr_fd, 2);
	r = r ? r : posix_spawn_file_actions_addclosefrom_np(actions, 3);
	r = r ? r : posix_spawn(pid, options->argv[0], actions, attributes, (char *const *)options->argv, environment);
	if (!r && options->group)
		*options->group = *pid;
	return r ? ERR_RAISE(-r) : 0;
}

int tool_start(const struct tool_options *options, int stdin_fd, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int r;

	CHECK(options->stdout_fd < 0 || options->stdout_fd > 2);
	CHECK(options->stderr_fd < 0 || options->stderr_fd > 2);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	r = spawn_with(pid, options, stdin_fd, &actions, &attributes);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return r;
}

static int spawn(pid_t *pid, const struct tool_options *options)
{
	int ends[2], r;

	if (pipe2(ends, O_CLOEXEC))
		return ERR_RAISE(-errno);
	close(ends[1]);
	r = tool_start(options, ends[0], pid);
	close(ends[0]);
	return r;
}

static int wait_for(pid_t pid, int *status)
{
	int wait_status;

	while (waitpid(pid, &wait_status, 0) != pid) {
		if (errno != EINTR)
			return ERR_RAISE(-errno);
	}
	*status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
	return 0;
}

/* Until the process ends; 0 or -ETIMEDOUT. */
static int wait_until(int pid_fd, uint64_t deadline_ns)
{
	struct pollfd poll_fd = { .fd = pid_fd, .events = POLLIN };

	for (;;) {
		uint64_t now = clock_now_ns();
		int ready;

		if (now >= deadline_ns)
			return -ETIMEDOUT;
		ready = poll(&poll_fd, 1, (int)((deadline_ns - now) / NS_PER_MS) + 1);
		if (ready > 0)
			return 0;
		if (ready < 0 && errno != EINTR)
			return ERR_RAISE(-errno);
	}
}

int tool_run(const struct tool_options *options, int *status)
{
	CLEANUP(fd_closep) int pid_fd = -1;
	pid_t pid;
	int r = spawn(&pid, options);
	int waited = 0;

	if (r)
		return r;
	if (options->timeout_ns) {
		pid_fd = pidfd_open(pid, 0);
		if (pid_fd >= 0)
			waited = wait_until(pid_fd, clock_now_ns() + options->timeout_ns);
		if (waited)
			kill(pid, SIGKILL);
	}
	r = wait_for(pid, status);
	return waited ? waited : r;
}

int tool_read(const char *const *argv, uint64_t timeout_ns, char *text, size_t size, int *status)
{
	CLEANUP(fd_closep) int fd = memfd_create("output", MFD_CLOEXEC);
	ssize_t got;
	int r;

	CHECK(size > 0);
	*text = 0;
	if (fd < 0)
		return ERR_RAISE(-errno);
	r = tool_run(&(struct tool_options){ .argv = argv, .stdout_fd = fd, .stderr_fd = fd, .timeout_ns = timeout_ns }, status);
	got = pread(fd, text, size - 1, 0);
	text[got > 0 ? got : 0] = 0;
	return r;
}

static bool is_program(const char *path)
{
	return access(path, X_OK) == 0;
}

/* Only directories that are given from the root on. */
static int find_in(const char *directories, const char *name, char *path, size_t path_size)
{
	size_t name_size = strlen(name) + 1;

	while (*directories) {
		size_t size = strcspn(directories, ":");

		if (*directories == '/' && size + 1 + name_size <= path_size) {
			memcpy(path, directories, size);
			path[size] = '/';
			memcpy(path + size + 1, name, name_size);
			if (is_program(path))
				return 0;
		}
		directories += size + (directories[size] == ':');
	}
	return -ENOENT;
}

int tool_find(const char *name, char *path, size_t path_size)
{
	const char *directories = getenv("PATH");

	if (strchr(name, '/')) {
		size_t size = strlen(name) + 1;

		if (size > path_size || !is_program(name))
			return -ENOENT;
		memcpy(path, name, size);
		return 0;
	}
	if (directories && find_in(directories, name, path, path_size) == 0)
		return 0;
	return find_in(TOOL_DIRECTORIES, name, path, path_size);
}
