/*
 * spawns: buildkitd processes of the executor host, each in namespaces of its own (spawn_namespace.h) with directories of
 * its own (spawn_directory.h). For the host's control process. Each daemon has a *keeper*, a process of the host that
 * starts it, watches it, and cleans up after it; so nothing here blocks. Keepers die with the control process, and
 * daemons with their keepers, however they end.
 *
 *	start -> (STARTING) -> SPAWN_READY -> SPAWN_ENDED      the last event of an id, always
 *	                    \________________/
 */
#pragma once

#include "gateway/executor/spawn_cgroup.h"
#include "gateway/executor/spawn_directory.h"
#include "gateway/executor/spawn_network.h"
#include "proto/span.h"

#define SPAWN_MAX       64               /* daemons at a time */
#define SPAWN_WHY_MAX   512
#define SPAWN_TENANT_MAX 256             /* length of a tenant's name */

struct spawn_config {
	const char *path;                /* the host's directory (host.h) */
	const char *buildkitd;           /* NULL: found on PATH */
	const char *init;                /* sluice-init */
	enum spawn_network network;
	uint32_t uid, gid;               /* the gateway's: who may connect */
	const char *const *hidden;       /* ends with NULL */
	struct spawn_limits limits;      /* of each daemon with its builds */
	uint64_t keep_bytes;             /* of its cache, when it collects garbage; 0: BuildKit's own choice */
};

enum spawn_state { SPAWN_READY = 1, SPAWN_ENDED = 2 };

struct spawn_event {
	uint64_t id;
	enum spawn_state state;
	char socket[SPAWN_SOCKET_PATH_MAX];      /* SPAWN_READY */
	char why[SPAWN_WHY_MAX];         /* SPAWN_ENDED: how, or why it could not be started; "" when it was asked to */
};

struct spawns;

/* `config` outlives it. 0 or -errno. */
int spawns_create(struct spawns **spawns, const struct spawn_config *config);
/* Its keepers are told to stop their daemons, if they have not been; they are the caller's to reap. */
void spawns_close(struct spawns *spawns);
void spawns_destroy(struct spawns *spawns);      /* NULL is accepted */

/*
 * 0: an event follows. -ENOSPC: SPAWN_MAX; -EEXIST: the id, or that root of the tenant, is in use; -EINVAL: the name is
 * empty or too long; or another -errno.
 */
int spawns_start(struct spawns *spawns, uint64_t id, struct span tenant, uint32_t number);
/* SIGTERM, and SIGKILL when it has not ended after 10 s. An unknown id is nothing. */
void spawns_stop(struct spawns *spawns, uint64_t id);

/* Readable when spawns_next() has something; after spawns_reaped() said yes it may have something, too. */
int spawns_fd(const struct spawns *spawns);
bool spawns_next(struct spawns *spawns, struct spawn_event *event);
/* A child of this process has ended. True: it was a keeper that had not said its last word; spawns_next() says it. */
bool spawns_reaped(struct spawns *spawns, pid_t pid);

/*
 * What would hold of a daemon here, tried and not guessed. Used by `sluice doctor`, and told to the gateway at start.
 */
enum spawn_trait_kind { SPAWN_BUILDKITD, SPAWN_RUNC, SPAWN_NAMESPACES, SPAWN_WAY_OUT, SPAWN_CGROUPS, SPAWN_TRAITS };

struct spawn_trait {
	const char *name;                /* "way out of the network" */
	bool holds;
	char detail[256];                /* what it is, or what is wrong */
	const char *remedy;              /* when it does not hold */
};

struct spawn_probe {
	struct spawn_trait traits[SPAWN_TRAITS];
	bool works;                      /* a daemon can be started, isolated as the setting asks; cgroups need not hold */
	char why[SPAWN_WHY_MAX];         /* when not: the first one that has to and does not, with its remedy */
	char isolation[SPAWN_WHY_MAX];   /* when it works, in one line */
};

/* `buildkitd`: as in struct spawn_config. Blocking, some tenths of a second. */
void spawn_probe(struct spawn_probe *probe, const char *buildkitd, enum spawn_network network);
