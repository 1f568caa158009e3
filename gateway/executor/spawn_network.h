/*
 * spawn_network: the way out of a daemon's network namespace. slirp4netns, a program of its own that runs on the host's
 * side, carries what the namespace sends, as connections of its own; the host's loopback is closed to it, so neither the
 * admin port nor anything else that listens on 127.0.0.1 can be reached. Not network.h's, which waits until all is ready
 * before the container is made: here the daemon starts meanwhile. Blocking; root.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "gateway/executor/network.h"

enum spawn_network {
	SPAWN_NETWORK_SLIRP,             /* its own namespace, slirp4netns the way out */
	SPAWN_NETWORK_NONE,              /* its own namespace, no way out */
	SPAWN_NETWORK_HOST,              /* the host's: no isolation; for operators who close it by other means */
};

extern const char *const spawn_network_names[];  /* by value; ends with NULL */

/* What resolves names inside. */
#define SPAWN_NETWORK_RESOLV_CONF "nameserver " NETWORK_NAMESERVER "\n"

struct spawn_way_out {
	pid_t pid;                       /* 0: none is needed */
	int pid_fd;                      /* readable once it has ended */
	int ready_fd;                    /* readable with a byte once it works, at its end without one when it failed */
};

/*
 * Starts the way out of the network namespace of process `pid`. It ends when the caller does. 0; -ENOENT: the program
 * is not installed; or -errno. `output_fd` gets what it says.
 */
int spawn_network_start(struct spawn_way_out *way_out, enum spawn_network network, pid_t pid, int output_fd, char *why,
                        size_t why_size);
void spawn_network_stop(struct spawn_way_out *way_out);
