/*
 * executors_rig: a pool of executors and the leases on them, for tests. The daemons are stand-ins on the same ring, so one
 * thread sees both sides; the engine is the test's `state`.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "gateway/buildkitd/executors.h"
#include "tests/unit/buildkitd/daemon_stand_in.h"

#define MS          1000000ull
#define DAEMONS_MAX 4
#define LEASES_MAX  (EXECUTORS_QUEUE_MAX + 100)
#define WANTED_MAX  32

struct fixture;

/* A lease, and what it was told. */
struct holder {
	struct fixture *fixture;
	struct lease lease;
	unsigned granted, refused, lost, queued;
	uint32_t position, waiting;
	unsigned order;                  /* of its grant, among all */
	char why[1024];
	bool release_at_once;            /* when granted */
};

struct fixture {
	struct ring *ring;
	struct executors *executors;
	struct daemon_stand_in daemons[DAEMONS_MAX];
	struct executor *executor[DAEMONS_MAX];
	struct holder holders[LEASES_MAX];
	unsigned grants, gone, wanted, idle;
	char wanted_tenants[WANTED_MAX][16];
	bool spawnable;
};

/* Time-outs of 0 are the usual ones. */
struct fixture *rig_begin_with(void **state, uint64_t queue_timeout_ns, uint64_t answer_timeout_ns);
struct fixture *rig_begin(void **state);
/* Leases go, the pool and its daemons end. */
void rig_end(struct fixture *fixture);

/* The daemon of that number, which is started if it never was. */
void rig_add(struct fixture *fixture, unsigned number, const char *tenant, uint32_t slots);
/* And waits until it is ready. */
void rig_add_ready(struct fixture *fixture, unsigned number, const char *tenant, uint32_t slots);
bool rig_is(const struct fixture *fixture, unsigned number, enum executor_state state);
/* For executor_drain(): counts. */
void rig_on_gone(void *context);

/* A lease that is not asked for yet. */
struct holder *rig_prepare(struct fixture *fixture, unsigned number, const char *tenant, uint64_t affinity);
struct holder *rig_request(struct fixture *fixture, unsigned number, const char *tenant, uint64_t affinity);
/* It was granted there. */
bool rig_has(const struct fixture *fixture, const struct holder *holder, unsigned number);
