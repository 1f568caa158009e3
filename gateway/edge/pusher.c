/* A connection that is there when there is something to push. */
#include "gateway/edge/pusher.h"

#include <errno.h>
#include <stdio.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"

#define STREAM_WINDOW_BYTES     (1u << 20)
#define CONNECTION_WINDOW_BYTES (8u << 20)
#define STREAMS_MAX             256
#define IDLE_NS                 600000000000ull          /* ten minutes without a push */

static void pusher_on_ready(struct conn *conn)
{
	upstream_ready(((struct pusher *)conn_owner(conn))->upstream);
}

static void pusher_on_closed(struct conn *conn, const char *reason)
{
	struct pusher *pusher = conn_owner(conn);

	(void)reason;
	upstream_closed(pusher->upstream, conn);
	upstream_describe(pusher->upstream, conn, pusher->why, sizeof(pusher->why));
	log_event(LOG_DEBUG, "push connection closed", LOG_U64("conn", conn_id(conn)), LOG_TEXT("reason", pusher->why));
	CHECK(pusher->open > 0);
	pusher->open--;
	if (pusher->conn == conn)
		pusher->conn = NULL;
}

static const struct conn_events pusher_events = { .on_ready = pusher_on_ready, .on_closed = pusher_on_closed };
static const struct h2_events pusher_h2_events = { 0 };

static int pusher_connect(struct pusher *pusher)
{
	struct conn_config config = {
		.h2 = {
			.events = &pusher_h2_events, .owner = pusher, .streams_max = STREAMS_MAX,
			.stream_window_bytes = STREAM_WINDOW_BYTES, .connection_window_bytes = CONNECTION_WINDOW_BYTES,
			.frame_bytes_max = CONN_FRAME_BYTES,
		},
		.events = &pusher_events, .owner = pusher, .idle_timeout_ns = IDLE_NS,
	};
	int r = upstream_connect(pusher->upstream, &pusher->conn, &config, pusher->why, sizeof(pusher->why));

	if (r < 0) {
		pusher->conn = NULL;
		return ERR_RAISE(r);
	}
	pusher->open++;
	return 0;
}

void pusher_init(struct pusher *pusher)
{
	pusher->conn = NULL;
	pusher->open = 0;
	pusher->why[0] = '\0';
}

void pusher_warm(struct pusher *pusher)
{
	if (!pusher->conn || conn_end(pusher->conn) != CONN_END_NONE)
		(void)pusher_connect(pusher);
}

static int pusher_start(struct pusher *pusher, struct call *call, const char *path, size_t message_bytes_max,
                        const struct call_events *events, void *owner)
{
	const struct upstream *upstream = pusher->upstream;
	struct header metadata[3] = { { .name = span_text("grpc-encoding"), .value = span_text("zstd") } };
	size_t count = 1;

	for (size_t i = 0; i < upstream->credential_count; i++)
		metadata[count++] = upstream->credential[i];
	if (!pusher->conn || conn_end(pusher->conn) != CONN_END_NONE) {
		int r = pusher_connect(pusher);

		if (r < 0)
			return r;
	}
	return call_start(call, conn_h2(pusher->conn), path, span_text(upstream->authority), 0, metadata, count,
	                  message_bytes_max, events, owner);
}

/* Where it takes no new calls (GOAWAY), those that it has go on, and it ends by itself: it is counted until then. */
int pusher_call(struct pusher *pusher, struct call *call, const char *path, size_t message_bytes_max,
                const struct call_events *events, void *owner)
{
	int r = pusher_start(pusher, call, path, message_bytes_max, events, owner);

	if (r == -EPIPE && pusher->conn) {
		pusher->conn = NULL;
		r = pusher_start(pusher, call, path, message_bytes_max, events, owner);
	}
	/* Why there is no connection is said already. */
	if (r < 0 && pusher->conn)
		snprintf(pusher->why, sizeof(pusher->why), "%s", r == -EAGAIN ?
		         "the gateway takes no more calls on the connection that contexts are pushed over" : err_text(r));
	return r;
}

const char *pusher_lost(struct pusher *pusher)
{
	if (!pusher->conn || conn_end(pusher->conn) == CONN_END_NONE)
		return NULL;
	upstream_describe(pusher->upstream, pusher->conn, pusher->why, sizeof(pusher->why));
	return pusher->why;
}

uint64_t pusher_line_rate(const struct pusher *pusher)
{
	if (pusher->upstream->link)
		return link_line_rate(pusher->upstream->link);
	return pusher->conn ? conn_line_rate(pusher->conn) : 0;
}

void pusher_close(struct pusher *pusher)
{
	if (pusher->conn)
		conn_close(pusher->conn, "the edge ends");
}
