/*
 * link_window: how many bytes may be under way on one path: about what the path holds (rate times shortest round trip) and a
 * little more, so that little is lost with a socket and the path is busy all the same. TCP's own window is no help: it fills
 * the queues of sockets and routers, and all of it would have to be sent again.
 *
 * In rounds of one round trip: it doubles while the rate grows by a quarter at least; follows the rate from then on. Now and
 * then it narrows for a moment, so that the queue that it makes itself does not hide the shortest round trip.
 *
 * Pure: times are arguments.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_WINDOW_BYTES_MIN    (128u << 10)    /* and to begin with */
#define LINK_WINDOW_BYTES_MAX    (8u << 20)
#define LINK_WINDOW_SPARE_BYTES  (32u << 10)     /* more than the path holds, or an eighth of that */
#define LINK_WINDOW_ROUNDS       4               /* the rate is the best of so many */
#define LINK_WINDOW_NARROW_NS    10000000000ull  /* how often it narrows */

/* Of something that is sent: kept with it, and handed back when it has arrived. */
struct link_window_mark {
	uint64_t sent_ns;
	bool limited;                            /* the window was full with it */
};

struct link_window {
	uint64_t bytes;                          /* the window */
	uint64_t in_flight, delivered;
	uint64_t round_trip_ns;                  /* the shortest; 0: none yet */
	uint64_t measured_ns;                    /* when it was last as short as that, or the window was narrow */
	uint64_t begun_ns, begun_delivered;      /* the round */
	uint64_t ends_delivered;                 /* it ends when what was sent since it began arrives: beyond this */
	bool limited;                            /* the window was full in this round */
	uint64_t rates[LINK_WINDOW_ROUNDS];      /* bytes a second */
	unsigned round;
	bool growing;                            /* first: doubling */
	unsigned plateau;                        /* rounds in which the rate did not grow */
	uint64_t plateau_rate;
	unsigned narrow;                         /* rounds that it stays narrow */
	uint64_t narrow_ns;                      /* the shortest round trip meanwhile */
};

void link_window_init(struct link_window *window, uint64_t now_ns);
/* There is room for more. What is sent then may overshoot by its own size. */
static inline bool link_window_open(const struct link_window *window)
{
	return window->in_flight < window->bytes;
}
struct link_window_mark link_window_sent(struct link_window *window, size_t bytes, uint64_t now_ns);
void link_window_arrived(struct link_window *window, const struct link_window_mark *mark, size_t bytes, uint64_t now_ns);
