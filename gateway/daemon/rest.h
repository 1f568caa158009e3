/*
 * rest: what was freed goes back to the system once there is little to do. heap_keep() lets a busy process keep it, as getting it
 * again costs page faults; an idle one needs none of it. Loop context: on the ring's thread.
 */
#pragma once

#include "gateway/ring/ring.h"

/* Belongs to its owner; all-zero before rest_start() and after rest_stop(). */
struct rest {
	struct ring *ring;
	struct op timer;
	uint64_t completions;                    /* of the ring, a second ago */
	bool worked;                             /* since memory was given back */
};

/* Looks once a second, and gives back after each first second of rest. */
void rest_start(struct rest *rest, struct ring *ring);
/* Runs the ring until the timer has landed. All-zero is accepted. */
void rest_stop(struct rest *rest);
