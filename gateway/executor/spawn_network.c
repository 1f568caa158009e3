/* spawn_network: see spawn_network.h. */
#include "gateway/executor/spawn_network.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/err.h"
#include "gateway/executor/tool.h"

#define READY_FD      3
#define STATUS_FAILED 125

const char *const spawn_network_names[] = { "slirp4netns", "none", "host", NULL };

/* The sandbox and the filter are for itself: it reads what containers send. */
_Noreturn static void execute(const char *program, pid_t pid, int ready_fd, int output_fd)
{
	char target[16], ready[32];
	const char *const argv[] = {
		program, "--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp", ready, target,
		"tap0", NULL,
	};
	char *const environment[] = { NULL };
	int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(target, sizeof(target), "%d", (int)pid);
	snprintf(ready, sizeof(ready), "--ready-fd=%d", READY_FD);
	dup2(null_fd, STDIN_FILENO);
	dup2(output_fd, STDOUT_FILENO);
	dup2(output_fd, STDERR_FILENO);
	if (ready_fd == READY_FD)
		fcntl(READY_FD, F_SETFD, 0);
	else
		dup2(ready_fd, READY_FD);
	close_range(READY_FD + 1, ~0u, 0);
	execve(program, (char *const *)argv, environment);
	_exit(STATUS_FAILED);
}

int spawn_network_start(struct spawn_way_out *way_out, enum spawn_network network, pid_t pid, int output_fd, char *why,
                        size_t why_size)
{
	char program[PATH_MAX];
	int ready[2];
	pid_t child;

	*way_out = (struct spawn_way_out){ .pid_fd = -1, .ready_fd = -1 };
	if (network != SPAWN_NETWORK_SLIRP)
		return 0;
	if (tool_find(NETWORK_PROGRAM, program, sizeof(program))) {
		snprintf(why, why_size, NETWORK_PROGRAM " is not installed (apt-get install " NETWORK_PROGRAM
		         "), and --spawn-network asks for it");
		return ERR_RAISE(-ENOENT);
	}
	if (pipe2(ready, O_CLOEXEC | O_NONBLOCK))
		return ERR_RAISE(-errno);
	child = fork();
	if (child == 0)
		execute(program, pid, ready[1], output_fd);
	close(ready[1]);
	if (child < 0) {
		snprintf(why, why_size, "fork: %s", strerror(errno));
		close(ready[0]);
		return ERR_RAISE(-EAGAIN);
	}
	*way_out = (struct spawn_way_out){ .pid = child, .pid_fd = pidfd_open(child, 0), .ready_fd = ready[0] };
	return 0;
}

void spawn_network_stop(struct spawn_way_out *way_out)
{
	if (way_out->pid > 0) {
		kill(way_out->pid, SIGKILL);
		while (waitpid(way_out->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	if (way_out->pid_fd >= 0)
		close(way_out->pid_fd);
	if (way_out->ready_fd >= 0)
		close(way_out->ready_fd);
	*way_out = (struct spawn_way_out){ .pid_fd = -1, .ready_fd = -1 };
}
