/* network: the namespace is made by a thread that steps into it and out again; slirp4netns by posix_spawn. */
#include "gateway/executor/network.h"

#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/executor/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_TIMEOUT_MS 10000
#define END_TIMEOUT_MS   5000
#define MTU              "65520"         /* nothing of it is on a wire: fewer, larger frames */

static int make_namespace(int *namespace_fd)
{
	int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), made = -1, r = 0;

	if (own < 0)
		return ERR_RAISE(-errno);
	if (unshare(CLONE_NEWNET) < 0) {
		r = -errno;
	} else {
		made = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
		r = made < 0 ? -errno : 0;
		/* This thread must not stay where nobody can be reached. */
		CHECK(setns(own, CLONE_NEWNET) == 0);
	}
	close(own);
	if (r < 0)
		return ERR_RAISE(r);
	*namespace_fd = made;
	return 0;
}

/* It says "1" on its stdout once the container could send. */
static int wait_ready(int ready_fd)
{
	struct pollfd wait = { .fd = ready_fd, .events = POLLIN };
	char byte;
	int ready;

	while ((ready = poll(&wait, 1, READY_TIMEOUT_MS)) < 0 && errno == EINTR)
		;
	if (ready <= 0)
		return ERR_RAISE(ready < 0 ? -errno : -ETIMEDOUT);
	return read(ready_fd, &byte, 1) == 1 ? 0 : ERR_RAISE(-ECHILD);
}

/* Its stdin is its leash: with the other end closed, by us or by our death, it ends. */
static int start_program(struct network *network, const char *program, int ready_fd, int leash_fd)
{
	char path[64];
	const char *const argv[] = {
		program, "--configure", "--mtu=" MTU, "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp",
		"--exit-fd=0", "--ready-fd=1", "--netns-type=path", path, "tap0", NULL,
	};

	network_path(network, path, sizeof(path));
	return tool_start(&(struct tool_options){ .argv = argv, .stdout_fd = ready_fd, .stderr_fd = -1 }, leash_fd, &network->pid);
}

static int start(struct network *network, const char *program)
{
	int ready[2], leash[2], r;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return ERR_RAISE(-errno);
	if (pipe2(leash, O_CLOEXEC) < 0) {
		r = -errno;
		close(ready[0]);
		close(ready[1]);
		return ERR_RAISE(r);
	}
	network->exit_fd = leash[1];
	r = start_program(network, program, ready[1], leash[0]);
	close(ready[1]);
	close(leash[0]);
	if (r == 0)
		r = wait_ready(ready[0]);
	close(ready[0]);
	return r;
}

int network_open(struct network *network, char *why, size_t why_size)
{
	char program[PATH_MAX];
	int r = tool_find(NETWORK_PROGRAM, program, sizeof(program));

	*network = (struct network){ .namespace_fd = -1, .exit_fd = -1 };
	if (r < 0) {
		snprintf(why, why_size, "%s is not installed where actions run: `apt-get install %s`", NETWORK_PROGRAM, NETWORK_PROGRAM);
		*network = (struct network){ 0 };
		return -ENOENT;
	}
	r = make_namespace(&network->namespace_fd);
	if (r == 0)
		r = start(network, program);
	if (r == 0)
		return 0;
	snprintf(why, why_size, "no network for an action: %s", r == -ECHILD ? NETWORK_PROGRAM " gave up: is there /dev/net/tun?" : strerror(-r));
	network_close(network);
	return r;
}

/* By itself, when it can: killed just as it got ready, it would leave us a child of its own. */
static void wait_end(pid_t pid)
{
	int pid_fd = pidfd_open(pid, 0);
	struct pollfd wait = { .fd = pid_fd, .events = POLLIN };
	int ready;

	while ((ready = poll(&wait, 1, END_TIMEOUT_MS)) < 0 && errno == EINTR)
		;
	if (pid_fd < 0 || ready <= 0)
		kill(pid, SIGKILL);
	if (pid_fd >= 0)
		close(pid_fd);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

void network_close(struct network *network)
{
	if (network->exit_fd > 0)
		close(network->exit_fd);
	if (network->pid > 0)
		wait_end(network->pid);
	if (network->namespace_fd > 0)
		close(network->namespace_fd);
	*network = (struct network){ 0 };
}

void network_path(const struct network *network, char *path, size_t size)
{
	snprintf(path, size, "/proc/%d/fd/%d", (int)getpid(), network->namespace_fd);
}
