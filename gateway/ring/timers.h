/*
 * timers: ops ordered by deadline, ties in order of their start. An intrusive pairing heap: no memory of its own, so it
 * has no bound to run into; starting is O(1), taking the first O(log n) amortised.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct op;

struct timers {
	struct op *first;
	uint64_t started;                /* numbers the starts, to break ties */
};

/* Uses op->deadline_ns (given), op->offset and op->u.heap. */
void timers_insert(struct timers *timers, struct op *op);
void timers_remove(struct timers *timers, struct op *op);
/* The earliest whose deadline is not after `now_ns`, taken out; NULL: none. */
struct op *timers_take(struct timers *timers, uint64_t now_ns);
/* Deadline of the earliest; UINT64_MAX when there is none. */
uint64_t timers_next_ns(const struct timers *timers);
