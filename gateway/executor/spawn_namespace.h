/*
 * spawn_namespace: the namespaces of one daemon: mount, pid, ipc, uts, network and cgroup. Its / is a tmpfs that holds
 * the host's programs read-only, the few files of /etc that they need, the daemon's own root, a temporary directory and
 * the directory of its socket; nothing else of the host, so no store, key, setting, or root and socket of another daemon.
 *
 * The first process in there is sluice-init, whose death kills all that is in there. It dies with the process that
 * called spawn_namespace_start(), however that ends. Blocking; root; from a process with one thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "gateway/executor/spawn_cgroup.h"

/* Where the daemon finds its things. Always the same: what it keeps in its root may name them. */
#define SPAWN_INSIDE_ROOT    "/var/lib/buildkit"
#define SPAWN_INSIDE_SOCKETS "/run/buildkit"
#define SPAWN_INSIDE_PROGRAM "/sluice/buildkitd"
#define SPAWN_INSIDE_INIT    "/sluice/init"

struct spawn_namespace_config {
	const char *stage;               /* an empty directory to mount the new / at, before it is / */
	const char *root, *temporary, *sockets;          /* directories of the host */
	const char *program, *init;      /* files of the host */
	const char *const *arguments;    /* of the program, without its name; ends with NULL */
	const char *const *hidden;       /* host paths to cover where /usr and the like would show them; ends with NULL */
	const struct spawn_cgroup *cgroup;       /* NULL: the host's cgroups are seen */
	bool own_network;
	const char *resolv_conf;         /* its text; NULL: the host's file */
	int output_fd;                   /* stdout and stderr */
};

struct spawn_namespace {
	pid_t pid;                       /* of its first process, as the caller sees it */
	int go_fd, error_fd;
};

/*
 * Starts it as far as its namespaces: it waits there, so that the caller can give it a network and a cgroup. 0 or
 * -errno. On success one of the other two has to follow.
 */
int spawn_namespace_start(struct spawn_namespace *namespace, const struct spawn_namespace_config *config, char *why,
                          size_t why_size);
/* Lets it go on. 0 once the program's init runs; else -EIO with what it could not do. The caller reaps it, also then. */
int spawn_namespace_go(struct spawn_namespace *namespace, char *why, size_t why_size);
/* Instead of going on: kills and reaps it. */
void spawn_namespace_abort(struct spawn_namespace *namespace);
