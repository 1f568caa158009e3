/*
 * pusher: the edge's own connection to the gateway, which contexts are pushed over: one for all builds, opened when the
 * first session comes, so that its handshakes are over before there is something to push. When it is lost, or takes no new calls,
 * the next call opens another.
 *
 * On the ring's thread.
 */
#pragma once

#include "gateway/edge/upstream.h"
#include "proto/call.h"

struct pusher {
	struct ring *ring;               /* the owner's, before pusher_init(), as is the next */
	struct upstream *upstream;
	struct conn *conn;               /* NULL: none now */
	unsigned open;
	char why[UPSTREAM_TEXT_MAX];     /* why the last one has gone, or pusher_call() failed */
};

void pusher_init(struct pusher *pusher);
/* Connects, unless it is connected. */
void pusher_warm(struct pusher *pusher);
/* Opens a call, with the edge's credential and messages that may be compressed. 0, or -errno with pusher->why. */
int pusher_call(struct pusher *pusher, struct call *call, const char *path, size_t message_bytes_max,
                const struct call_events *events, void *owner);
/* Of a call that has just ended: why its connection has gone. NULL: it has not, and what the call says of its end is the reason. */
const char *pusher_lost(struct pusher *pusher);
/* Of its connection, or of the link that carries it: conn_line_rate(). */
uint64_t pusher_line_rate(const struct pusher *pusher);
/* No call is open: ends the connection, others have ended or do so by themselves; pusher_idle() once it has gone. */
void pusher_close(struct pusher *pusher);
static inline bool pusher_idle(const struct pusher *pusher)
{
	return pusher->open == 0;
}
