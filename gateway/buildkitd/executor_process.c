/* The process behind a unix socket. */
#include "gateway/buildkitd/executor_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "gateway/base/cleanup.h"
#include "gateway/net/conn.h"

#define DAEMON_COMM "buildkitd\n"

uint32_t executor_process_of(const struct conn_peer *peer)
{
	CLEANUP(fd_closep) int fd = -1;
	char path[32], comm[32] = "";

	if (!peer->local || peer->pid == 0 || peer->pid > INT32_MAX)
		return 0;
	snprintf(path, sizeof(path), "/proc/%u/comm", peer->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, comm, sizeof(comm) - 1) < 0)
		return 0;
	return strcmp(comm, DAEMON_COMM) == 0 ? peer->pid : 0;
}

/* Asked of the id and not of /proc, which may hide other users' processes, or be mounted for another namespace. */
bool executor_process_ended(uint32_t process)
{
	return process && kill((pid_t)process, 0) < 0 && errno == ESRCH;
}
