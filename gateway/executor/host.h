/*
 * host: the executor host: the privileged half of `sluice serve`. One control process, forked from serve before any
 * socket opens, and one process a slot, each with its own connection to the gateway's executor socket. The control
 * process starts slots again when they die, answers what environment an action would meet, starts and stops buildkitd
 * processes (spawns.h) as the gateway asks, and cleans up after a host that was killed. It ends when the gateway does.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/executor/spawn_cgroup.h"
#include "gateway/executor/spawn_network.h"

#define HOST_SLOTS_MAX  64
#define HOST_HIDDEN_MAX 7
#define HOST_RUNTIME_WORKS "works"       /* the host's answer to the gateway */

/* Of buildkitd processes; struct spawn_config has the meaning of each. */
struct host_spawn {
	bool enabled;
	const char *buildkitd;
	enum spawn_network network;
	struct spawn_limits limits;
	uint64_t keep_bytes;
};

struct host_config {
	uint32_t slots;                  /* 0: no actions, and no runtime is looked for */
	const char *path;                /* host_directory.h: whoever forks the host has taken it, and leaves it the lock */
	const char *runtime;             /* NULL: the first of crun, runc that works */
	const char *images;              /* OCI layout directories for --image; NULL: none */
	const char *hidden[HOST_HIDDEN_MAX + 1];         /* host paths that no action may see: store, keys, settings; NULLs are skipped */
	bool allow_network;              /* to actions that ask for one */
	struct host_spawn spawn;
	uint32_t uid, gid;               /* the gateway's */
	/*
	 * A stream socket. The gateway writes the path of its executor socket, then shuts down its side. The host answers
	 * HOST_RUNTIME_WORKS, also when none was named, or why the one that was named does not, and closes.
	 */
	int socket_fd;
	int engine;                      /* enum ring_engine */
};

/* Runs in the forked child until the gateway is gone; the child's exit status. */
int host_run(const struct host_config *config);
