/* spawner_private: what spawner.c and spawner_tenants.c share. */
#pragma once

#include "gateway/buildkitd/spawner.h"

struct spawner_tenant {
	struct list link;
	char name[EXECUTOR_TENANT_MAX];
	bool warm;
	uint64_t wanted_until_ns;        /* a build waits */
	unsigned failures;               /* in a row */
	uint64_t not_before_ns;
};

enum daemon_state {
	DAEMON_STARTING,
	DAEMON_SERVING,                  /* an executor of the pool */
	DAEMON_DRAINING,                 /* the pool lets its last leases go */
	DAEMON_STOPPING,                 /* the host is told, or still to be told, to stop it */
	DAEMON_DEAD,                     /* it ended by itself, and leases on it remain */
};

struct daemon {
	struct list link;
	struct spawner *spawner;
	struct spawner_tenant *tenant;
	enum daemon_state state;
	uint64_t id, started_ns;
	uint32_t number;
	struct executor *executor;       /* SERVING, DRAINING, DEAD */
	bool stop_sent;
};

struct spawner {
	struct spawner_config config;
	struct executors *executors;
	struct list tenants, daemons;
	size_t tenants_count;
	struct op tick;
	bool host_heard, host_works, closing, closed_told;
	uint64_t last_id, started_total, died_total, idle_stopped_total;
	char why[256];                   /* the host starts none */
};

static inline uint64_t spawner_now_ns(const struct spawner *spawner)
{
	return ring_now_ns(spawner->config.ring);
}

/* ---- spawner_tenants.c ---- */

struct spawner_tenant *spawner_tenant_find(const struct spawner *spawner, const char *name);
/* Found or made; NULL: its name is too long, SPAWNER_TENANTS_MAX are of use, or no memory. */
struct spawner_tenant *spawner_tenant_get(struct spawner *spawner, const char *name);
/* Those that are of no use. */
void spawner_tenants_forget(struct spawner *spawner);
/* A start failed, or its daemon: the first try after one that failed comes at once, the next ones later and later. */
void spawner_tenant_failed(struct spawner *spawner, struct spawner_tenant *tenant);
