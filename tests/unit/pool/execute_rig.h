/*
 * execute_rig: what tests of Execute begin with: a gateway, a client, and an executor host of one slot, each step of which is
 * the test's (stand_in.h). One at a time.
 */
#pragma once

#include "tests/unit/pool/stand_in.h"

extern struct gateway_thread *gateway;
extern struct client *client;            /* of the tenant "default"; a second one, "acme", has the token "token-a" */
/* A test that loses one sets it to NULL. */
extern struct stand_in *control, *slot;

/* For cmocka. `linger_ns`: how long an action outlives its last caller's connection. `index` NULL: the usual one. */
int rig_setup_with(uint64_t linger_ns, const struct index_engine *index);
int rig_setup(void **state);
int rig_teardown(void **state);

struct gauges {
	uint32_t queued, busy, slots;
	unsigned open;
	uint64_t lost;
};

/* Waits until the pool says so. */
void rig_until(struct gauges gauges);

/* One whole run: with `output` on stdout and this exit code. */
struct caller rig_run(struct client *from, const struct digest *action, uint8_t environment, const char *output, int exit_code);
/* One that is answered from the cache. */
struct caller rig_hit(struct client *from, const struct digest *action, uint8_t environment);
