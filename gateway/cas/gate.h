/*
 * gate: at most so many at once of something that takes memory; the others wait in line, first come, first served. On the
 * ring's thread.
 */
#pragma once

#include "gateway/base/list.h"

struct gate {
	unsigned max, busy;
	bool opening;
	struct list waiting;
};

struct gate_pass {
	void (*fn)(struct gate_pass *pass);      /* inside now; gate_leave() when done */
	struct list link;
};

void gate_init(struct gate *gate, unsigned max);
/* `fn` comes inline when there is room, else from somebody's gate_leave(). */
void gate_enter(struct gate *gate, struct gate_pass *pass);
/* Lets the next one in. One that leaves from inside its `fn` does not deepen the stack, however many wait. */
void gate_leave(struct gate *gate);
/* Out of the line, if it waits there: then true, and `fn` does not come. */
bool gate_cancel(struct gate_pass *pass);
