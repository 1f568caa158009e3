/*
 * doubt: whether the executor that a binding was lent is still there, when somebody else's connection to it broke or
 * its health check failed. Ours may be well, and one bad connection is to end no other's builds; but a daemon that
 * hangs says nothing at all, and its kernel still takes connections. So it gets a while to be reachable again.
 *
 *	NONE -> HELD -> NONE          HELD -> GIVEN_UP: it was not reachable when the while was over
 *	any  -> NONE                  another executor, or none: doubt_drop()
 *
 * A doubt is of the executor, not of a connection: it stays when another connection to the same one is made. Pure: no
 * clock, no ring; what follows from one that is given up is its owner's. Embedded; all-zero is none.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DOUBT_GRACE_NS 10000000000ull    /* to be reachable again, while our own connection stands */

enum doubt_state {
	DOUBT_NONE,
	DOUBT_HELD,                      /* until deadline_ns */
	DOUBT_GIVEN_UP,                  /* the owner closes its connection, and makes no other to this executor */
};

struct doubt {
	enum doubt_state state;
	uint64_t deadline_ns;            /* when it is to be judged; 0: it is not HELD */
};

/*
 * The executor is lost to somebody: it has the whole while, also when it was doubted before. Nothing once it is given
 * up.
 */
void doubt_raise(struct doubt *doubt, uint64_t now_ns);
/*
 * From time to time, at deadline_ns at the latest, with what is known of the executor now. True, once: it was doubted
 * for too long, and is given up. Before the deadline nothing changes: it may be lost again until then.
 */
bool doubt_judge(struct doubt *doubt, uint64_t now_ns, bool reachable);
/* The binding has no executor, or asks for another. */
void doubt_drop(struct doubt *doubt);
