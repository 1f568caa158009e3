/* Calls of buildx's, each opened anew on a connection to the gateway. */
#include "gateway/edge/channel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"

/* As between a gateway and its executors: a context passes at the speed of the link. */
#define STREAM_WINDOW_BYTES     (1u << 20)
#define CONNECTION_WINDOW_BYTES (8u << 20)
#define STREAMS_MAX             256
#define IDLE_NS                 (UINT64_MAX / 4)         /* buildx's connection decides */

struct uplink {
	struct channel *channel;
	struct conn *conn;               /* NULL: it has gone */
	struct relay_owner relays;
	bool leaving;                    /* the gateway, or a proxy before it, takes no new calls on it */
	unsigned sessions;               /* that ride it, or have not yet heard that it is gone */
	char lost[UPSTREAM_TEXT_MAX];    /* why it has gone */
	struct list link;
};

struct channel {
	struct channels *channels;
	const struct conn *client;       /* NULL: it has gone */
	uint32_t uid;                    /* whose it is */
	struct uplink *uplink;           /* for new calls; NULL: the next one makes it */
	struct list uplinks, link;
	struct siblings siblings;
	unsigned sessions;
};

/* A Session among the calls. */
struct carried {
	struct channel *channel;
	struct uplink *uplink;           /* NULL: the gateway's side has ended */
	struct session *session;
};

/* ---- ends ---- */

static void channel_join(struct channel *channel)
{
	struct channels *channels = channel->channels;

	if (channel->client || !list_empty(&channel->uplinks) || channel->sessions)
		return;
	list_remove(&channel->link);
	CHECK(channels->count > 0);
	channels->count--;
	free(channel);
}

static void uplink_join(struct uplink *uplink)
{
	struct channel *channel = uplink->channel;

	if (uplink->conn || !list_empty(&uplink->relays.relays) || uplink->sessions)
		return;
	channel->channels->counters.calls_lost += uplink->relays.lost;
	if (channel->uplink == uplink)
		channel->uplink = NULL;
	list_remove(&uplink->link);
	free(uplink);
	channel_join(channel);
}

static const char *uplink_lost_text(struct uplink *uplink)
{
	if (uplink->conn)
		upstream_describe(uplink->channel->channels->upstream, uplink->conn, uplink->lost, sizeof(uplink->lost));
	return uplink->lost;
}

static const char *relays_lost_text(struct relay_owner *relays)
{
	return uplink_lost_text(container_of(relays, struct uplink, relays));
}

static void relays_on_idle(struct relay_owner *relays)
{
	uplink_join(container_of(relays, struct uplink, relays));
}

static void uplink_on_ready(struct conn *conn)
{
	const struct uplink *uplink = conn_owner(conn);

	upstream_ready(uplink->channel->channels->upstream);
	log_event(LOG_DEBUG, "gateway connected", LOG_U64("conn", conn_id(conn)));
}

/* The next call tries again. */
static void uplink_on_closed(struct conn *conn, const char *reason)
{
	struct uplink *uplink = conn_owner(conn);
	struct channel *channel = uplink->channel;
	bool wanted = channel->client && conn_end(conn) != CONN_END_DRAINED && conn_end(conn) != CONN_END_IDLE;

	(void)reason;
	uplink_lost_text(uplink);
	upstream_closed(channel->channels->upstream, conn);
	log_event(wanted ? LOG_WARNING : LOG_DEBUG, "gateway connection closed", LOG_U64("conn", conn_id(conn)),
	          LOG_TEXT("reason", uplink->lost));
	uplink->conn = NULL;
	if (channel->uplink == uplink)
		channel->uplink = NULL;
	uplink_join(uplink);
}

static void uplink_on_goaway(void *owner, uint32_t code)
{
	(void)code;
	((struct uplink *)owner)->leaving = true;
}

/* ---- connecting ---- */

static const struct conn_events uplink_events = { .on_ready = uplink_on_ready, .on_closed = uplink_on_closed };
static const struct h2_events uplink_h2_events = { .on_goaway = uplink_on_goaway };

static int uplink_open(struct uplink **opened, struct channel *channel, char *why, size_t why_size)
{
	struct uplink *uplink = calloc(1, sizeof(*uplink));
	struct conn_config config = {
		.h2 = {
			.events = &uplink_h2_events, .owner = uplink, .streams_max = STREAMS_MAX,
			.stream_window_bytes = STREAM_WINDOW_BYTES, .connection_window_bytes = CONNECTION_WINDOW_BYTES,
		},
		.events = &uplink_events, .owner = uplink, .idle_timeout_ns = IDLE_NS,
	};
	int r;

	if (!uplink) {
		snprintf(why, why_size, "the edge is out of memory");
		return ERR_RAISE(-ENOMEM);
	}
	uplink->channel = channel;
	relay_owner_init(&uplink->relays, relays_lost_text);
	uplink->relays.on_idle = relays_on_idle;
	r = upstream_connect(channel->channels->upstream, &uplink->conn, &config, why, why_size);
	if (r < 0) {
		free(uplink);
		return ERR_RAISE(r);
	}
	list_append(&channel->uplinks, &uplink->link);
	channel->uplink = *opened = uplink;
	return 0;
}

/*
 * A gateway that says goodbye keeps its present calls; the next goes over a new connection. Whether one could be made is no matter to
 * who has one. GRPC_OK, or what the caller is told.
 */
static enum grpc_status uplink_for(struct uplink **found, struct channel *channel, char *why, size_t why_size)
{
	const char *unreachable = upstream_unreachable(channel->channels->upstream);

	*found = channel->uplink;
	if (*found && !(*found)->leaving && conn_end((*found)->conn) == CONN_END_NONE)
		return GRPC_OK;
	if (unreachable) {
		snprintf(why, why_size, "%s", unreachable);
		return GRPC_FAILED_PRECONDITION;
	}
	if (upstream_is_down(channel->channels->upstream, why, why_size))
		return GRPC_UNAVAILABLE;
	return uplink_open(found, channel, why, why_size) < 0 ? GRPC_UNAVAILABLE : GRPC_OK;
}

/* ---- sessions ---- */

static void carried_leave_uplink(struct carried *carried)
{
	struct uplink *uplink = carried->uplink;

	carried->uplink = NULL;
	if (!uplink)
		return;
	uplink->sessions--;
	uplink_join(uplink);
}

static int session_on_call(struct session *session, struct stream *stream, const struct grpc_request *head)
{
	const struct carried *carried = session_owner(session);
	const struct channels *channels = carried->channel->channels;
	uint32_t uid = carried->channel->uid;

	return channels->on_inner ? channels->on_inner(channels->context, session, uid, stream, head) : SESSION_PASS;
}

/* Whose status it is shows its text: the gateway's own, or the edge's about its connection. */
static void session_on_executor_closed(struct session *session, enum grpc_status status, struct span message)
{
	struct carried *carried = session_owner(session);
	const struct uplink *uplink = carried->uplink;
	char text[UPSTREAM_TEXT_MAX];

	if (!uplink->conn || conn_end(uplink->conn) != CONN_END_NONE)
		snprintf(text, sizeof(text), "%s", uplink_lost_text(carried->uplink));
	else
		snprintf(text, sizeof(text), "%.*s", (int)message.size, (const char *)message.data);
	carried_leave_uplink(carried);
	session_finish(session, status, text);
}

static void session_on_closed(struct session *session)
{
	struct carried *carried = session_owner(session);
	struct channel *channel = carried->channel;

	carried_leave_uplink(carried);
	free(carried);
	channel->sessions--;
	channel_join(channel);
}

static const struct session_events session_events = {
	.on_call = session_on_call, .on_executor_closed = session_on_executor_closed, .on_closed = session_on_closed,
};

static struct header *session_headers(const struct channels *channels, size_t *count)
{
	const struct upstream *upstream = channels->upstream;
	struct header *headers = malloc((channels->session_headers_count + upstream->credential_count + 1) * sizeof(*headers));

	*count = 0;
	if (!headers)
		return NULL;
	for (size_t i = 0; i < channels->session_headers_count; i++)
		headers[(*count)++] = channels->session_headers[i];
	for (size_t i = 0; i < upstream->credential_count; i++)
		headers[(*count)++] = upstream->credential[i];
	return headers;
}

static int carry_session(struct channel *channel, struct uplink *uplink, const struct server_request *request)
{
	const struct channels *channels = channel->channels;
	struct carried *carried = calloc(1, sizeof(*carried));
	struct session_config config = {
		.ring = channels->ring, .events = &session_events, .owner = carried, .siblings = &channel->siblings,
	};
	struct header *headers = session_headers(channels, &config.headers_count);
	int r = -ENOMEM;

	config.headers = headers;
	if (carried && headers)
		r = session_accept(&carried->session, &config, request->stream, request->head);
	free(headers);
	if (r < 0) {
		free(carried);
		return ERR_RAISE(r);
	}
	carried->channel = channel;
	channel->sessions++;
	r = session_carry(carried->session, conn_h2(uplink->conn));
	if (r < 0) {
		session_finish(carried->session, GRPC_RESOURCE_EXHAUSTED, "the gateway takes no more calls on this connection");
		return 0;
	}
	carried->uplink = uplink;
	uplink->sessions++;
	return 0;
}

/* ---- calls ---- */

static int carry_call(struct channel *channel, struct uplink *uplink, const struct server_request *request)
{
	struct grpc_request head = *request->head;
	struct header *headers = upstream_headers(channel->channels->upstream, &head, &head.headers_count);
	int r;

	if (!headers)
		return ERR_RAISE(-ENOMEM);
	head.headers = headers;
	r = relay_open(&uplink->relays, conn_h2(uplink->conn), request->stream, &head);
	free(headers);
	return r;
}

static struct channel *channel_of(struct channels *channels, const struct conn *client)
{
	list_for_each(link, &channels->channels) {
		struct channel *channel = container_of(link, struct channel, link);

		if (channel->client == client)
			return channel;
	}
	return NULL;
}

static struct channel *channel_create(struct channels *channels, const struct conn *client)
{
	struct channel *channel = calloc(1, sizeof(*channel));

	if (!channel)
		return NULL;
	channel->channels = channels;
	channel->client = client;
	channel->uid = conn_peer(client)->uid;
	list_init(&channel->uplinks);
	siblings_init(&channel->siblings);
	list_append(&channels->channels, &channel->link);
	channels->count++;
	return channel;
}

int channels_start(struct channels *channels, const struct server_request *request, char *why, size_t why_size)
{
	struct channel *channel = channel_of(channels, request->conn);
	enum grpc_status status;
	struct uplink *uplink;
	int r;

	if (!channel)
		channel = channel_create(channels, request->conn);
	if (!channel) {
		snprintf(why, why_size, "the edge is out of memory");
		return GRPC_RESOURCE_EXHAUSTED;
	}
	status = uplink_for(&uplink, channel, why, why_size);
	if (status != GRPC_OK)
		return (int)status;
	channels->counters.calls++;
	if (span_is(request->head->path, SESSION_PATH)) {
		channels->counters.sessions++;
		r = carry_session(channel, uplink, request);
	} else {
		r = carry_call(channel, uplink, request);
	}
	if (r == 0)
		return 0;
	snprintf(why, why_size, r == -ENOMEM ? "the edge is out of memory" :
	         r == -EAGAIN ? "the gateway takes no more calls on this connection" :
	         r == -EPIPE ? "the gateway has just ended this connection: try again" : "too many header fields to carry on");
	return r == -EPIPE ? GRPC_UNAVAILABLE : GRPC_RESOURCE_EXHAUSTED;
}

void channels_conn_closed(struct channels *channels, const struct conn *client)
{
	struct channel *channel = channel_of(channels, client);

	if (!channel)
		return;
	channel->client = NULL;
	list_for_each(link, &channel->uplinks) {
		struct uplink *uplink = container_of(link, struct uplink, link);

		if (uplink->conn)
			conn_drain(uplink->conn);
	}
	channel_join(channel);
}

void channels_init(struct channels *channels)
{
	list_init(&channels->channels);
	channels->count = 0;
}
