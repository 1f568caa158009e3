/*
 * spawner_rig: a spawner with the real pool, stand-in daemons on the same ring, and a host that does what it is told between
 * turns of the loop. For tests; the ring's engine is the test's `state`.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "gateway/buildkitd/spawner.h"
#include "tests/unit/buildkitd/daemon_stand_in.h"

#define MS           1000000ull
#define HOSTED_MAX   64
#define HOLDERS_MAX  8
#define LONG_NS      3600000000000ull

/* A daemon as the host has it. */
struct hosted {
	uint64_t id;
	char tenant[32];
	uint32_t number;
	bool listens, stopped, ended;
	struct daemon_stand_in daemon;
};

struct holder {
	struct lease lease;
	unsigned granted, refused, lost;
	char why[1024];
};

struct fixture {
	struct ring *ring;
	struct executors *executors;
	struct spawner *spawner;
	struct hosted hosted[HOSTED_MAX];
	unsigned hosted_count, closed;
	struct holder holders[HOLDERS_MAX];
	char directory[64];
	bool deaf;                       /* the host cannot be told anything */
	bool idles;                      /* it does nothing of what it was told */
	bool fails;                      /* nothing can be started */
	unsigned stops_refused;
};

/* Intervals of 0 are short ones, but for idle_ns, which is never. */
struct fixture *rig_begin(void **state, struct spawner_config config);
void rig_end(struct fixture *fixture);

/* The host is there, and works. */
void rig_attach(struct fixture *fixture);
/* What the host was told, done. */
void rig_host_work(struct fixture *fixture);
/* A daemon ends. */
void rig_host_end(struct fixture *fixture, struct hosted *hosted, const char *why);

#define UNTIL(fixture, condition)                                                                                      \
	do {                                                                                                           \
		uint64_t begun_ns = ring_now_ns((fixture)->ring);                                                      \
		while (!(condition)) {                                                                                 \
			rig_host_work(fixture);                                                                        \
			ring_run((fixture)->ring, 1 * MS);                                                             \
			if (ring_now_ns((fixture)->ring) - begun_ns > 20000 * MS)                                      \
				fail_msg("never: %s", #condition);                                                     \
		}                                                                                                      \
	} while (0)

/* Some turns in which something would happen if it were going to. */
void rig_turns(struct fixture *fixture);
/* The queue's next turn, which comes within a second. */
void rig_take_turn(struct fixture *fixture);

/* In the place of what that holder had. */
struct holder *rig_request(struct fixture *fixture, unsigned number, const char *tenant);
struct spawner_status rig_status(const struct fixture *fixture);
/* Daemons that have not ended; `tenant` NULL: of all. */
unsigned rig_running(const struct fixture *fixture, const char *tenant);
