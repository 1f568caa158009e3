/*
 * network: a network namespace for one container, and its way out: slirp4netns, which makes the container's TCP, UDP and
 * DNS its own sockets. So the container reaches what this machine reaches, but its loopback, where the gateway, its admin
 * page and others' daemons listen without asking who comes. Nothing reaches in.
 *
 * Blocking (some 50 ms); root; any thread. Whoever holds it dies: slirp4netns ends with the pipe, the namespace with the
 * last process in it.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#define NETWORK_PROGRAM    "slirp4netns"
#define NETWORK_NAMESERVER "10.0.2.3"            /* as the container sees it; asks this machine's own */

struct network {
	int namespace_fd;
	int exit_fd;                     /* slirp4netns runs as long as this is open */
	pid_t pid;
};

/* 0; -ENOENT: slirp4netns is not installed; else another -errno. `why` says it. */
int network_open(struct network *network, char *why, size_t why_size);
/* Also of an all-zero object. */
void network_close(struct network *network);

/* A path of the namespace that is good for other processes of root's, as long as this process has it open. */
void network_path(const struct network *network, char *path, size_t size);
