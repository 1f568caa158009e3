/*
 * channel: a connection of buildx's, and those to the gateway that belong to it: one that its calls are opened on and, after
 * the gateway said goodbye on it, earlier ones that still carry some. So the gateway sees as many connections as there are
 * here, each with the calls of one.
 *
 * On the ring's thread.
 */
#pragma once

#include "gateway/base/list.h"
#include "gateway/edge/upstream.h"
#include "gateway/net/server.h"
#include "gateway/session/relay.h"
#include "gateway/session/session.h"

struct channels_counters {
	uint64_t calls, calls_lost, sessions;    /* ever; calls_lost: ended by the loss of their connection to the gateway */
};

/* All of an edge's. The first fields are the owner's. */
struct channels {
	struct ring *ring;
	struct upstream *upstream;
	/* The inner calls that the edge answers itself; as session_events.on_call. `uid`: whose client it is. NULL: none. */
	int (*on_inner)(void *context, struct session *session, uint32_t uid, struct stream *stream,
	                const struct grpc_request *head);
	void *context;
	const struct header *session_headers;    /* that the gateway is to see on each Session, besides buildx's own */
	size_t session_headers_count;
	/* What follows is channels_init()'s. */
	struct list channels;
	unsigned count;
	struct channels_counters counters;
};

void channels_init(struct channels *channels);
/* As server_config.unknown: carries the request to the gateway. */
int channels_start(struct channels *channels, const struct server_request *request, char *why, size_t why_size);
/* A connection of buildx's has gone, and its calls have ended. */
void channels_conn_closed(struct channels *channels, const struct conn *client);
/* No connection to the gateway is left. */
static inline bool channels_idle(const struct channels *channels)
{
	return channels->count == 0;
}
