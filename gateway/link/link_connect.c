/* The conns of a link: resolving, connecting, greeting, and what their ends mean. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/link/link_private.h"

#define STREAM_WINDOW_BYTES     (4u << 20)
#define CONNECTION_WINDOW_BYTES (16u << 20)

static int conn_attempt(struct link *link, struct link_conn *at);

/* ---- when ---- */

static unsigned conns_there(const struct link *link)
{
	unsigned count = 0;

	for (unsigned i = 0; i < LINK_PATHS_MAX; i++)
		count += link->conns[i].conn != NULL;
	return count;
}

/* One at first: the further ones name a link that the gateway knows. */
static unsigned conns_allowed(const struct link *link)
{
	return link->state == LINK_UP ? link->wanted : 1;
}

static void retry_later(struct link *link)
{
	uint64_t delay_ns = LINK_RETRY_NS_FIRST;

	for (unsigned i = 2; i < link->failures && delay_ns < LINK_RETRY_NS_MAX; i++)
		delay_ns *= 2;
	if (!op_in_flight(&link->retry))
		ring_timer(link->ring, &link->retry, delay_ns < LINK_RETRY_NS_MAX ? delay_ns : LINK_RETRY_NS_MAX);
}

/* The first attempt after a success is made at once, and so is the one after it: a gateway may have another address now. */
static void count_failure(struct link *link)
{
	link->failures++;
	link->stale = true;
	if (link->failures >= 2)
		retry_later(link);
}

void link_on_retry(struct op *op, int32_t res)
{
	struct link *link = container_of(op, struct link, retry);

	(void)res;
	link_wake(link);
}

static int32_t resolve_work(struct op *op)
{
	struct link *link = container_of(op, struct link, resolve);

	return address_resolve_all(&link->config.address, false, link->resolving, link->resolve_why, sizeof(link->resolve_why));
}

void link_on_resolved(struct op *op, int32_t res)
{
	struct link *link = container_of(op, struct link, resolve);

	if (link->state >= LINK_LOST) {
		link_wake(link);
		return;
	}
	link->stale = false;
	if (res > 0) {
		memcpy(link->resolved, link->resolving, sizeof(link->resolved));
		link->resolved_count = res;
	} else if (link->state == LINK_CONNECTING && !link->attempted) {
		link_lose(link, CONN_END_NONE, res, "%s", link->resolve_why);
		return;
	} else if (!link->resolved_count) {
		link_note(link, CONN_END_NONE, res, link->resolve_why);
		count_failure(link);
	}
	link_wake(link);
}

void link_connect(struct link *link)
{
	if (link->state >= LINK_LOST || op_in_flight(&link->resolve) || op_in_flight(&link->retry) ||
	    conns_there(link) >= conns_allowed(link))
		return;
	if (!link->resolved_count || link->stale) {
		ring_work_slow(link->ring, &link->resolve, resolve_work);
		return;
	}
	for (unsigned i = 0; i < LINK_PATHS_MAX && conns_there(link) < conns_allowed(link); i++)
		if (!link->conns[i].conn && conn_attempt(link, &link->conns[i]) < 0) {
			count_failure(link);
			retry_later(link);       /* no conn is there whose end would wake it */
			return;
		}
}

/* ---- an attempt ---- */

static void on_conn_ready(struct conn *conn)
{
	struct link_conn *at = conn_owner(conn);

	at->ready = true;
	at->ready_ns = ring_now_ns(at->link->ring);
}

/* A path was lost. One after the other, as of a balancer that takes each connection and drops it, they would keep both ends busy. */
static void count_brief(struct link *link, const struct link_conn *at)
{
	if (ring_now_ns(link->ring) - at->ready_ns >= LINK_BRIEF_NS)
		link->brief = 0;
	else if (++link->brief >= 2)
		retry_later(link);
}

static bool refused(const struct link_conn *at)
{
	switch (at->status) {
	case GRPC_OK:
	case GRPC_CANCELLED:
	case GRPC_UNAVAILABLE:
	case GRPC_DEADLINE_EXCEEDED:
		return false;
	default:
		return true;
	}
}

static void conn_gone(struct link_conn *at, enum conn_end end, int error, const char *reason)
{
	struct link *link = at->link;

	if (link->state >= LINK_LOST) {
		link_wake(link);
		return;
	}
	if (refused(at) && link_mux_paths(&link->mux)) {
		/* Then without it, for good: of a balancer's, say, that leads to another gateway each time. */
		link->config.conns = link->wanted = link_mux_paths(&link->mux);
		return;
	}
	if (refused(at)) {
		link_lose(link, CONN_END_NONE, 0, "%s", at->text);
		return;
	}
	/* Before anything worked, whoever waits should hear at once why. */
	if (!link->welcomed && !at->ready) {
		link_lose(link, end, error, "%s", reason);
		return;
	}
	if (!link_mux_paths(&link->mux))
		link_note(link, end, error, at->text[0] ? at->text : reason);
	if (at->path.greeted)
		count_brief(link, at);
	else
		count_failure(link);
	link_wake(link);
}

static void on_conn_closed(struct conn *conn, const char *reason)
{
	struct link_conn *at = conn_owner(conn);
	struct link *link = at->link;
	uint64_t received, sent;

	CHECK(!at->call_open);
	conn_bytes(conn, &received, &sent);
	link->received += received;
	link->sent += sent;
	conn_handshake_bytes(conn, &received, &sent);
	link->handshake_received += received;
	link->handshake_sent += sent;
	at->conn = NULL;
	call_fini(&at->path.call);
	conn_gone(at, conn_end(conn), conn_error(conn), reason);
}

static const struct conn_events link_conn_events = { .on_ready = on_conn_ready, .on_closed = on_conn_closed };
static const struct h2_events link_h2_events = { 0 };

static int open_conn(struct link *link, struct link_conn *at)
{
	struct conn_config config = {
		.h2 = {
			.events = &link_h2_events, .owner = at,
			.stream_window_bytes = STREAM_WINDOW_BYTES, .connection_window_bytes = CONNECTION_WINDOW_BYTES,
			.frame_bytes_max = CONN_FRAME_BYTES,
		},
		.events = &link_conn_events, .owner = at, .server_name = link->server_name,
		.handshake_timeout_ns = link->config.connect_timeout_ns,
		.idle_timeout_ns = UINT64_MAX / 4,               /* the link decides */
		.resolved = link->resolved, .resolved_count = link->resolved_count,
	};
	char why[256];
	int r = conn_connect(&at->conn, link->ring, &link->config.address, link->config.address.tls ? link->config.tls : NULL,
	                     &config, why, sizeof(why));

	if (r < 0)
		link_note(link, CONN_END_NONE, r, why);
	return r;
}

static void send_hello(struct link *link, struct link_conn *at)
{
	struct buffer ahead = buffer_heap(LINK_MESSAGE_BYTES_MAX), hello = buffer_heap(LINK_MESSAGE_BYTES_MAX);
	struct link_hello greeting = {
		.id = span_make(link->id, sizeof(link->id)), .resume = link->welcomed, .path = at->path.number,
		.timeout_ms = link->config.timeout_ns / 1000000u,
	};
	struct link_message message = { 0 };
	uint64_t received = link_core_received(&link->mux.core);

	link_core_put_ahead(&link->mux.core, &ahead);
	greeting.ahead = buffer_span(&ahead);
	message_encode(&link_hello_type, &hello, &greeting);
	message.hello = buffer_span(&hello);
	if (received > 1)
		message.received = received;
	link_path_send(&at->path, &message);
	buffer_fini(&ahead);
	buffer_fini(&hello);
}

static int open_call(struct link *link, struct link_conn *at)
{
	struct header authorization = {
		.name = span_text("authorization"), .value = span_text(link->authorization ? link->authorization : ""),
		.sensitive = true,
	};

	return call_start(&at->path.call, conn_h2(at->conn), SLUICE_LINK_CARRY, span_text(link->authority), 0, &authorization,
	                  link->authorization ? 1 : 0, LINK_MESSAGE_BYTES_MAX, &link_path_call_events, NULL);
}

static int conn_attempt(struct link *link, struct link_conn *at)
{
	unsigned number = (unsigned)(at - link->conns);
	int r;

	*at = (struct link_conn){ .link = link, .path = { .events = &link_conn_path_events, .number = number } };
	r = open_conn(link, at);
	if (r < 0)
		return r;
	r = open_call(link, at);
	if (r < 0) {
		conn_close(at->conn, "cannot open a call");
		return 0;                        /* its end counts as the failure */
	}
	at->call_open = true;
	link->paths_total++;
	send_hello(link, at);
	/* A link that the gateway cannot know has nothing to be told first: what waits goes out with the hello. */
	if (!link->attempted) {
		link->attempted = true;
		link_mux_attach(&link->mux, &at->path);
		at->attached = true;
	}
	return 0;
}

/* ---- what the gateway says ---- */

static int path_on_greeting(struct link_path *path, const struct link_message *message)
{
	struct link_conn *at = container_of(path, struct link_conn, path);
	struct link *link = at->link;
	struct link_welcome welcome;

	if (!message->welcome.data || !message_decode(&link_welcome_type, message->welcome, &welcome) ||
	    link_core_resume(&link->mux.core, message->received, welcome.ahead) < 0) {
		link_mux_fail(&link->mux, LINK_TROUBLE_RULES);
		return ERR_RAISE(-EPROTO);
	}
	if (welcome.timeout_ms && welcome.timeout_ms < link->config.timeout_ns / 1000000u)
		link->timeout_ns = welcome.timeout_ms * 1000000u;
	link->welcomed = true;
	link->failures = 0;
	if (!at->attached) {
		link_mux_attach(&link->mux, path);
		at->attached = true;
	}
	/* One that is being closed is welcomed so that it can say goodbye. */
	if (link->state < LINK_LOST && link->state != LINK_UP)
		link_came_up(link);
	link_wake(link);
	return 0;
}

static void path_on_fault(struct link_path *path)
{
	struct link_conn *at = container_of(path, struct link_conn, path);

	link_mux_fail(&at->link->mux, LINK_TROUBLE_RULES);
}

static void path_on_closed(struct link_path *path, enum grpc_status status, struct span message)
{
	struct link_conn *at = container_of(path, struct link_conn, path);
	struct link *link = at->link;

	at->call_open = false;
	/* "Connection lost" says less than the conn's own sentence. */
	if (conn_end(at->conn) == CONN_END_NONE) {
		at->status = status;
		snprintf(at->text, sizeof(at->text), "%.*s", (int)message.size, (const char *)message.data);
		conn_close(at->conn, "the call ended");
	}
	if (at->attached) {
		at->attached = false;
		link_path_lost(link);
	}
}

const struct link_path_events link_conn_path_events = {
	.on_greeting = path_on_greeting, .on_fault = path_on_fault, .on_closed = path_on_closed,
};

/* The hello goes out before anything comes back: from then on the gateway may know the link. */
static bool may_be_known(const struct link_conn *at)
{
	uint64_t received, sent;

	if (!at->call_open)
		return false;
	if (conn_flush(at->conn))
		return true;
	conn_bytes(at->conn, &received, &sent);
	return sent > 0;
}

void link_conn_farewell(struct link_conn *at)
{
	uint64_t under_way;

	if (!at->conn)
		return;
	if (!may_be_known(at)) {
		link_path_detach(&at->path);
		conn_close(at->conn, "closed here");
		return;
	}
	under_way = at->path.mux ? at->link->mux.core.paths[at->path.number].window.in_flight : 0;
	link_path_leave(&at->path);
	at->farewell = true;
	at->answer = at->path.over_owed || under_way > LINK_ACK_BYTES;
}

bool link_conn_ended(struct link_conn *at, bool late)
{
	bool sending;

	if (!at->farewell)
		return true;
	/*
	 * A reset would overtake what is not sent yet, and so would the socket's, which is closed while it holds much, or before it is
	 * ready, when a conn cannot be drained.
	 */
	sending = at->conn && conn_flush(at->conn);
	if (at->conn && !late && (sending || !conn_is_ready(at->conn) || (at->answer && at->call_open)))
		return false;
	at->farewell = false;
	if (at->conn && at->call_open)
		call_cancel(&at->path.call);
	if (at->conn)
		conn_drain(at->conn);
	return true;
}
