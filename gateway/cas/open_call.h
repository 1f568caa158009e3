/*
 * open_call: a Push, Fetch or Pin from its start until its memory is released: whose it is, and whether it moves. One that waits for its
 * client, and of which nothing moves for too long, is told so: a client that was stopped keeps its connection, and without this what
 * its call holds, for ever. On the ring's thread.
 *
 * Who counts his calls himself has them watched alone.
 *
 * A look every few seconds compares what came and what was taken with the look before, so it costs nothing a message; who is late is
 * found that much later.
 */
#pragma once

#include "gateway/cas/cas.h"
#include "gateway/net/conn.h"

struct open_call;

struct open_call_events {
	/*
	 * How long it may be the client's turn, to send or to take, as the call stands; 0: it is not. What a link may add is
	 * not in it: its peer may be cut off, and come back, for `--link-timeout`.
	 */
	uint64_t (*patience_ns)(const struct open_call *open);
	/* It has been for so long. Comes again when it has been so long again. */
	void (*on_expired)(struct open_call *open);
};

/* Embedded in its owner. */
struct open_call {
	uint32_t tenant;
	struct list link;                /* cas.calls */
	/* Of one that is watched: */
	struct list watched;             /* cas.watched */
	struct cas *cas;                 /* NULL: it is not */
	const struct call *call;
	const struct open_call_events *events;
	uint64_t more_ns;                /* that a link adds */
	uint64_t received, taken;        /* message bytes of the call, at the last look */
	uint64_t moved_ns;               /* the look that saw it move last, or not to be waiting */
};

/* Room for one more of that scope's tenant. False with `why` for RESOURCE_EXHAUSTED: then it is not begun. */
bool open_call_begin(struct open_call *open, struct cas *cas, const struct scope *scope, char *why, size_t why_size);
/* Also of an all-zero one. Not while it is watched. */
void open_call_end(struct open_call *open);

/* From now until the second, which is to come at the latest with the call's on_closed, or what comes of that. Begun or not. */
void open_call_watch(struct open_call *open, struct cas *cas, const struct call *call, const struct conn_peer *peer,
                     const struct open_call_events *events);
void open_call_unwatch(struct open_call *open);
/* A look at all that are watched. */
void open_calls_sweep(struct cas *cas, uint64_t now);
