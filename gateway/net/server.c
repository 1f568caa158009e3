/* Listeners, connections within their limit, and the orderly end of both. */
#include "gateway/net/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/net/dispatch.h"
#include "gateway/net/gathering.h"
#include "gateway/net/listener.h"

#define CONNECTIONS_MAX         1024
#define STREAMS_MAX             256
#define GATHERED_BYTES_MAX      (1ull << 30)
#define STREAM_WINDOW_BYTES     (4u << 20)       /* a whole packed batch may be under way */
#define CONNECTION_WINDOW_BYTES (16u << 20)
#define FULL_TOLD_NS            (60ull * 1000000000) /* a warning a minute */

/* Accepted by the kernel before accepting paused: they wait as bare sockets. Beyond, they are closed. */
struct parked {
	struct listener *listener;
	int handle;
};

struct server_conn {
	struct server *server;
	struct conn *conn;
	struct gathering_conn gathering;
	bool own;
	struct list link;
};

/*
 *	RUNNING -> DRAINING -> DRAINED
 */
enum server_state {
	SERVER_RUNNING,
	SERVER_DRAINING,                 /* listeners close, connections end; the drain timer runs or is cancelled */
	SERVER_DRAINED,
};

struct server {
	struct ring *ring;
	enum server_state state;
	struct server_config config;
	struct list listeners, conns;
	size_t listeners_open;
	uint64_t connections;            /* all; own_connections of them are no clients' */
	uint64_t own_connections;
	uint64_t full_told_ns;           /* 0: never */
	struct gathering gathering;
	struct op drain;
	struct parked parked[SERVER_PARKED_MAX];
	size_t parked_first, parked_count;
	struct server_status closed;     /* totals, and what closed connections had */
};

static void server_start_parked(struct server *server);

/* ---- the end of the server ---- */

/* The drain timer lands last, so that on_drained always comes from the loop. */
static void server_join(struct server *server)
{
	if (server->state == SERVER_DRAINING && server->connections == 0 && server->listeners_open == 0 &&
	    op_in_flight(&server->drain))
		ring_cancel(server->ring, &server->drain);
}

static void server_close_all(struct server *server)
{
	list_for_each(link, &server->conns)
		conn_close(container_of(link, struct server_conn, link)->conn, "the server shuts down");
}

static void server_on_drain_timer(struct op *op, int32_t res)
{
	struct server *server = container_of(op, struct server, drain);

	(void)res;
	CHECK(server->state == SERVER_DRAINING);
	if (server->connections || server->listeners_open) {
		server_close_all(server);
		ring_timer(server->ring, op, UINT64_MAX / 4);    /* server_join ends it */
		return;
	}
	server->state = SERVER_DRAINED;
	if (server->config.on_drained)
		server->config.on_drained(server->config.context);
}

void server_drain(struct server *server, uint64_t timeout_ns)
{
	if (server->state == SERVER_DRAINED)
		return;
	if (server->state == SERVER_DRAINING) {
		if (timeout_ns == 0)
			server_close_all(server);
		return;
	}
	server->state = SERVER_DRAINING;
	while (server->parked_count)
		server_start_parked(server);
	list_for_each(link, &server->listeners)
		listener_stop(container_of(link, struct listener, link));
	list_for_each(link, &server->conns) {
		struct server_conn *each = container_of(link, struct server_conn, link);

		if (!each->own)
			conn_drain(each->conn);
	}
	ring_timer(server->ring, &server->drain, timeout_ns);
	server_join(server);
}

/* ---- connections ---- */

static int server_on_stream(void *owner, struct stream *stream, const struct h2_request *head)
{
	struct server_conn *each = owner;
	struct call *call;
	int r;

	each->server->closed.streams_total++;
	r = dispatch_request(&each->server->config, each->server->ring, each->conn, stream, head);
	call = call_of(stream);
	if (call)
		gathering_watch(&each->gathering, call);
	return r;
}

static const struct h2_events server_h2_events = { .on_stream = server_on_stream };

static void count_end(struct server_status *status, enum conn_end end)
{
	switch (end) {
	case CONN_END_HANDSHAKE:
		status->handshake_failures++;
		break;
	case CONN_END_HANDSHAKE_TIMEOUT:
		status->handshake_timeouts++;
		break;
	case CONN_END_IDLE:
		status->idle_closed++;
		break;
	case CONN_END_STALL:
		status->stalls++;
		break;
	case CONN_END_PROTOCOL:
		status->protocol_faults++;
		break;
	default:
		break;
	}
}

/* What scanners and clients that were killed cause is no warning: one a connection would drown the others. */
static enum log_level end_level(enum conn_end end)
{
	switch (end) {
	case CONN_END_PROTOCOL:
	case CONN_END_STALL:
		return LOG_WARNING;
	case CONN_END_HANDSHAKE:
	case CONN_END_HANDSHAKE_TIMEOUT:
	case CONN_END_ERROR:
		return LOG_INFO;
	default:
		return LOG_DEBUG;
	}
}

static void log_end(const struct conn *conn, const char *reason)
{
	log_event(end_level(conn_end(conn)), "connection closed", LOG_U64("conn", conn_id(conn)),
	          LOG_TEXT("peer", conn_peer(conn)->address), LOG_TEXT("reason", reason));
}

static void count_bytes(struct server_status *status, const struct conn *conn)
{
	struct conn_copies copies = conn_copies(conn);
	uint64_t received, sent;

	conn_bytes(conn, &received, &sent);
	status->bytes_received += received;
	status->bytes_sent += sent;
	status->copied_bytes_tls_received += copies.tls_received;
	status->copied_bytes_tls_sent += copies.tls_sent;
	status->copied_bytes_gathered += copies.gathered;
	status->copied_bytes_queued += copies.queued;
}

static bool is_full(const struct server *server)
{
	return server->connections - server->own_connections >= server->config.connections_max;
}

static void server_on_conn_closed(struct conn *conn, const char *reason)
{
	struct server_conn *each = conn_owner(conn);
	struct server *server = each->server;

	count_bytes(&server->closed, conn);
	count_end(&server->closed, conn_end(conn));
	log_end(conn, reason);
	if (server->config.on_conn_closed)
		server->config.on_conn_closed(server->config.context, conn);
	list_remove(&each->link);
	CHECK(server->connections > 0);
	server->connections--;
	server->own_connections -= each->own;
	free(each);
	while (server->state == SERVER_RUNNING && server->parked_count && !is_full(server))
		server_start_parked(server);
	server_join(server);
}

static void server_on_conn_ready(struct conn *conn)
{
	log_event(LOG_DEBUG, "connection opened", LOG_U64("conn", conn_id(conn)),
	          LOG_TEXT("peer", conn_peer(conn)->address));
}

static const struct conn_events server_conn_events = {
	.on_ready = server_on_conn_ready, .on_closed = server_on_conn_closed,
};

static void server_add(struct server *server, struct server_conn *each)
{
	gathering_conn_init(&each->gathering, &server->gathering);
	list_append(&server->conns, &each->link);
	server->connections++;
	server->own_connections += each->own;
	server->closed.connections_total++;
}

static struct conn_config conn_config(struct server_conn *each)
{
	const struct server_config *config = &each->server->config;

	return (struct conn_config){
		.h2 = {
			.server = true, .events = &server_h2_events, .owner = each, .streams_max = config->streams_max,
			.stream_window_bytes = STREAM_WINDOW_BYTES, .connection_window_bytes = CONNECTION_WINDOW_BYTES,
			.frame_bytes_max = CONN_FRAME_BYTES,
		},
		.events = &server_conn_events,
		.owner = each,
		.handshake_timeout_ns = config->handshake_timeout_ns,
		.http1 = config->web,
		.idle_timeout_ns = config->idle_timeout_ns,
		.stall_timeout_ns = config->stall_timeout_ns,
	};
}

static void server_refuse(struct server *server, int handle)
{
	server->closed.refused_connections++;
	ring_close(server->ring, NULL, handle);
}

static void server_start_conn(struct server *server, struct listener *listener, int handle)
{
	struct server_conn *each = calloc(1, sizeof(*each));
	struct conn_config config;
	struct conn_peer peer;
	int r = -ENOMEM;

	if (each) {
		each->server = server;
		each->own = listener->own;
		config = conn_config(each);
		listener_peer(listener, handle, &peer);
		r = conn_accept(&each->conn, server->ring, handle, &peer, listener->tls, &config);
	}
	if (r < 0) {
		log_event(LOG_WARNING, "connection refused", LOG_TEXT("error", err_report(r)));
		server_refuse(server, handle);
		free(each);
		return;
	}
	server_add(server, each);
}

static void server_start_parked(struct server *server)
{
	struct parked parked = server->parked[server->parked_first];

	server->parked_first = (server->parked_first + 1) % SERVER_PARKED_MAX;
	server->parked_count--;
	if (server->state != SERVER_RUNNING) {
		server_refuse(server, parked.handle);
		return;
	}
	server_start_conn(server, parked.listener, parked.handle);
	if (server->parked_count > 0)
		return;
	list_for_each(link, &server->listeners)
		listener_resume(container_of(link, struct listener, link));
}

static void tell_full(struct server *server)
{
	uint64_t now = ring_now_ns(server->ring);

	if (server->full_told_ns && now < server->full_told_ns + FULL_TOLD_NS)
		return;
	server->full_told_ns = now;
	log_event(LOG_WARNING, "all connections are taken, others wait for one to end: raise --connections, or find out who holds so many",
	          LOG_U64("connections", server->config.connections_max));
}

static void server_park(struct server *server, struct listener *listener, int handle)
{
	tell_full(server);
	if (server->parked_count == SERVER_PARKED_MAX) {
		server_refuse(server, handle);
		return;
	}
	server->parked[(server->parked_first + server->parked_count++) % SERVER_PARKED_MAX] =
		(struct parked){ .listener = listener, .handle = handle };
	if (server->parked_count < SERVER_PARKED_MAX / 2)
		return;
	list_for_each(link, &server->listeners) {
		struct listener *each = container_of(link, struct listener, link);

		if (!each->own)
			listener_hold(each);
	}
}

static void server_on_accepted(struct listener *listener, int handle)
{
	struct server *server = listener->owner;

	if (listener->own && server->own_connections >= SERVER_OWN_MAX)
		server_refuse(server, handle);
	else if (listener->own || !is_full(server))
		server_start_conn(server, listener, handle);
	else
		server_park(server, listener, handle);
}

/* ---- listeners ---- */

static void server_on_listener_closed(struct listener *listener)
{
	struct server *server = listener->owner;

	CHECK(server->listeners_open > 0);
	server->listeners_open--;
	server_join(server);
}

static int server_start_listener(struct server *server, const struct address *address, struct tls_context *tls, bool own,
                                 char *bound, size_t bound_size, char *why, size_t why_size)
{
	struct listener *listener;
	int r;

	CHECK(server->state == SERVER_RUNNING);
	listener = calloc(1, sizeof(*listener));
	if (!listener)
		return ERR_RAISE(-ENOMEM);
	listener->ring = server->ring;
	listener->address = *address;
	listener->tls = address->tls ? tls : NULL;
	listener->unix_mode = server->config.unix_mode;
	listener->own = own;
	listener->owner = server;
	listener->accepted = server_on_accepted;
	listener->closed = server_on_listener_closed;
	r = listener_start(listener, why, why_size);
	if (r < 0) {
		free(listener);
		return ERR_RAISE(r);
	}
	list_append(&server->listeners, &listener->link);
	server->listeners_open++;
	snprintf(bound, bound_size, "%s", listener->bound);
	return 0;
}

int server_listen(struct server *server, const struct address *address, struct tls_context *tls, char *bound,
                  size_t bound_size, char *why, size_t why_size)
{
	if (address->tls && !tls) {
		snprintf(why, why_size, "a grpcs:// listener needs a certificate and a key (`sluice cert issue` makes them)");
		return ERR_RAISE(-EINVAL);
	}
	return server_start_listener(server, address, tls, false, bound, bound_size, why, why_size);
}

int server_listen_own(struct server *server, const struct address *address, char *bound, size_t bound_size, char *why,
                      size_t why_size)
{
	CHECK(address->local);
	return server_start_listener(server, address, NULL, true, bound, bound_size, why, why_size);
}

void server_set_tls(struct server *server, struct tls_context *tls)
{
	list_for_each(link, &server->listeners) {
		struct listener *listener = container_of(link, struct listener, link);

		if (listener->tls)
			listener->tls = tls;
	}
}

/* ---- life ---- */

int server_create(struct server **out, struct ring *ring, const struct server_config *config)
{
	struct server *server = calloc(1, sizeof(*server));

	if (!server)
		return ERR_RAISE(-ENOMEM);
	server->ring = ring;
	server->config = *config;
	if (!server->config.connections_max)
		server->config.connections_max = CONNECTIONS_MAX;
	if (!server->config.streams_max)
		server->config.streams_max = STREAMS_MAX;
	server->drain.fn = server_on_drain_timer;
	gathering_init(&server->gathering, config->gathered_bytes_max ? config->gathered_bytes_max : GATHERED_BYTES_MAX);
	list_init(&server->listeners);
	list_init(&server->conns);
	*out = server;
	return 0;
}

int server_adopt(struct server *server, int fd, const struct conn_peer *peer)
{
	struct server_conn *each;
	struct conn_config config;
	int r;

	if (server->state != SERVER_RUNNING)
		return ERR_RAISE(-ESHUTDOWN);
	if (is_full(server))
		return ERR_RAISE(-EMFILE);
	each = calloc(1, sizeof(*each));
	if (!each)
		return ERR_RAISE(-ENOMEM);
	each->server = server;
	config = conn_config(each);
	config.peer = peer;
	/* A link that is down takes no bytes, and may come back: its own time-outs decide. */
	if (peer && peer->linked)
		config.stall_timeout_ns = UINT64_MAX / 4;
	r = conn_adopt(&each->conn, server->ring, fd, &config);
	if (r < 0) {
		free(each);
		return ERR_RAISE(r);
	}
	server_add(server, each);
	return 0;
}

void server_destroy(struct server *server)
{
	struct list *link;

	if (!server)
		return;
	CHECK(server->connections == 0 && server->listeners_open == 0);
	CHECK(!op_in_flight(&server->drain));
	while ((link = list_take(&server->listeners)))
		free(container_of(link, struct listener, link));
	free(server);
}

void server_status(const struct server *server, struct server_status *status)
{
	*status = server->closed;
	status->connections = server->connections;
	status->gathered_bytes = server->gathering.bytes;
	status->refused_messages = server->gathering.refused;
	list_for_each(link, &server->conns) {
		struct conn *conn = container_of(link, struct server_conn, link)->conn;

		count_bytes(status, conn);
		status->streams += conn_streams_count(conn);
	}
}
