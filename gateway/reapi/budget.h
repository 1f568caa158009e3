/*
 * budget: at most so many bytes of memory for something; who wants some waits in line, first come, first served. Each user
 * enters once and asks for all that it will need, so nobody holds a part while waiting for the rest. On the ring's thread.
 */
#pragma once

#include "gateway/base/list.h"

#include <stdint.h>

struct budget {
	uint64_t max, used;
	bool opening;
	struct list waiting;
};

struct budget_share {
	void (*fn)(struct budget_share *share);  /* inside now; budget_leave() when done */
	uint64_t bytes;                          /* 0: none is held */
	struct list link;
};

void budget_init(struct budget *budget, uint64_t max);
/* Above `max` counts as `max`. `fn` comes inline when there is room and nobody waits. */
void budget_enter(struct budget *budget, struct budget_share *share, uint64_t bytes);
/* There is room for so many more, and nobody waits. */
bool budget_has(const struct budget *budget, uint64_t bytes);
/* One that is not in line wants `bytes` in all from now on. False: there are not so many; it has what it had. */
bool budget_grow(struct budget *budget, struct budget_share *share, uint64_t bytes);
/* At any time: out of the line, or what was held goes back and lets others in. An all-zero share is accepted. */
void budget_leave(struct budget *budget, struct budget_share *share);
