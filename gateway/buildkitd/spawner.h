/*
 * spawner: decides when the executor host starts and stops buildkitd processes, and makes those that are ready executors
 * of the pool (executors.h). On the ring's thread.
 *
 * A tenant's daemon is started when a build of the tenant waits and none of its executors has room (spawner_on_wanted),
 * and, for tenants that are kept warm, before anybody asks. It is stopped when it was idle for some time, unless it is
 * one of those kept warm; when the bound on all daemons is reached, the one that is idle longest makes room. One that
 * listens has half a minute to become ready before it counts as idle, or is stopped, as is one that does not answer for so
 * long and has no lease: what has failed is no longer in the way of the next. One that dies is taken out of the pool, whose leases
 * on it are told so, and started again when it is needed, the sooner the longer it lived.
 *
 *	STARTING -> SERVING -> DRAINING -> STOPPING -> (gone)
 *	        \          \-> DEAD -> (gone)      \-- a daemon that ends by itself is DEAD, or gone when no executor is left
 *	         \-> STOPPING
 */
#pragma once

#include "gateway/buildkitd/executor_address.h"
#include "gateway/buildkitd/executors.h"
#include "proto/span.h"

#define SPAWNER_DAEMONS_MAX 64           /* as the host has room for */
#define SPAWNER_TENANTS_MAX EXECUTORS_TENANTS_MAX

struct spawner;

struct spawner_config {
	struct ring *ring;
	uint32_t daemons_max;            /* of all tenants; 1 to SPAWNER_DAEMONS_MAX */
	uint32_t tenant_max;             /* of one tenant, each with a root of its own; 0: 1 */
	const char *const *warm_tenants; /* outlive it */
	size_t warm_tenants_count;
	uint32_t warm;                   /* daemons of each of these that are kept */
	uint64_t idle_ns;                /* 0: 10 min */
	uint64_t join_ns;                /* 0: 30 s; that one has to become ready, and again when it was lost */
	uint32_t slots;                  /* builds at a time on each; 0: EXECUTOR_SLOTS_DEFAULT */
	uint64_t tick_ns;                /* 0: 1 s; how often it looks at clocks */
	uint64_t retry_ns;               /* 0: 1 s; before the second start after failures, doubled up to 64 times that */
	/*
	 * To the host: 0, or -errno when it cannot be told now. start(): spawner_on_ready() and spawner_on_ended(), or the
	 * second alone, come later with this id. `number` says which of the tenant's roots.
	 */
	int (*start)(void *context, uint64_t id, const char *tenant, uint32_t number);
	int (*stop)(void *context, uint64_t id);
	/* After spawner_close(), once: no daemon needs the host any longer. From the loop or from inside spawner_close(). */
	void (*on_closed)(void *context);
	void *context;
};

/* 0; -EINVAL with `why`: the bounds contradict each other; -ENOMEM. */
int spawner_create(struct spawner **spawner, const struct spawner_config *config, char *why, size_t why_size);
/* The pool, which outlives the spawner's daemons; once, before any event. */
void spawner_use(struct spawner *spawner, struct executors *executors);
/* No new daemons; each is stopped once its last lease has gone. May be called again. */
void spawner_close(struct spawner *spawner);
/* Closed, with no executor in the pool and nothing on the ring. */
bool spawner_idle(const struct spawner *spawner);
void spawner_destroy(struct spawner *spawner);           /* idle, or never used; NULL is accepted */

/* For struct executors_config; `spawner` is the context. */
void spawner_on_wanted(void *spawner, const char *tenant);
bool spawner_spawnable(void *spawner, const char *tenant, bool waiting);
void spawner_on_idle(void *spawner, struct executor *executor);

/* From the host. `works` false: it starts none, and `why` is its word. */
void spawner_on_host(struct spawner *spawner, bool works, struct span why);
/* It is gone, and every daemon with it. */
void spawner_on_host_lost(struct spawner *spawner);
void spawner_on_ready(struct spawner *spawner, uint64_t id, struct span socket);
/* `why` is empty when it was asked to. */
void spawner_on_ended(struct spawner *spawner, uint64_t id, struct span why);

struct spawner_status {
	uint64_t daemons, starting, started_total, died_total, idle_stopped_total;
};
void spawner_status(const struct spawner *spawner, struct spawner_status *status);
