/* A conn's states and time-outs, its steps and its end. */
#include "gateway/net/conn_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/net/silence.h"

#define SECOND_NS            1000000000ull

/* How long a farewell (GOAWAY, TLS alert) may take to go out, and then the peer to close. */
#define FLUSH_TIMEOUT_NS     (1 * SECOND_NS)
#define LINGER_NS            (SECOND_NS / 4)
#define LINGER_BODY_NS       (2 * SECOND_NS)     /* for a client that still sends a body to read that it was refused */
#define LINGER_TAIL_NS       (5 * SECOND_NS)     /* for one that gives windows to read what the socket still has of its last answers */

/* For silent calls, where a stall has no limit, as behind a link. */
#define LOOK_MOST_NS         (3600 * SECOND_NS)

/* ---- states ---- */

static void conn_enter(struct conn *conn, enum conn_state state)
{
	CHECK(state > conn->state);
	conn->state = state;
}

static void conn_note(struct conn *conn, enum conn_end end, int error, const char *reason)
{
	if (conn->end != CONN_END_NONE)
		return;
	conn->end = end;
	conn->error = error;
	snprintf(conn->reason, sizeof(conn->reason), "%s", reason);
}

/* The step runs from the loop, once, however often it is asked for. */
static void conn_wake(struct conn *conn)
{
	if (!op_in_flight(&conn->step))
		ring_timer(conn->ring, &conn->step, 0);
}

/* The timer's handler looks at the deadlines and arms the timer again. */
void conn_retime(struct conn *conn)
{
	if (op_in_flight(&conn->timer))
		ring_cancel(conn->ring, &conn->timer);
	else
		ring_timer(conn->ring, &conn->timer, 0);
}

static void conn_cancel(struct conn *conn, struct op *op)
{
	if (op_in_flight(op))
		ring_cancel(conn->ring, op);
}

void conn_end_now(struct conn *conn, enum conn_end end, int error, const char *reason)
{
	if (conn->state >= CONN_CLOSING)
		return;
	conn_note(conn, end, error, reason);
	conn_enter(conn, CONN_CLOSING);
	conn_cancel(conn, &conn->connect);
	conn_cancel(conn, &conn->recv);
	conn_cancel(conn, &conn->send);
	conn_cancel(conn, &conn->timer);
	conn_wake(conn);
}

void conn_end_flush(struct conn *conn, enum conn_end end, int error, const char *reason)
{
	if (conn_ending(conn))
		return;
	conn_note(conn, end, error, reason);
	conn->answer_leaves = conn->state >= CONN_OPEN && op_in_flight(&conn->send);
	conn_enter(conn, CONN_FLUSHING);
	conn->deadline_ns = ring_now_ns(conn->ring) + FLUSH_TIMEOUT_NS;
	conn_retime(conn);
}

/* The farewell's time begins. */
void conn_answer_left(struct conn *conn)
{
	conn->answer_leaves = false;
	conn->deadline_ns = ring_now_ns(conn->ring) + FLUSH_TIMEOUT_NS;
	conn_retime(conn);
}

/* An alert or a GOAWAY that is still on its way to us explains more than EPIPE. */
void conn_send_failed(struct conn *conn, int error)
{
	conn->send_error = error;
	conn->deadline_ns = ring_now_ns(conn->ring) + FLUSH_TIMEOUT_NS;
	conn_retime(conn);
}

void conn_opened(struct conn *conn)
{
	conn_enter(conn, CONN_OPEN);
	conn->idle_since_ns = ring_now_ns(conn->ring);
	conn_retime(conn);               /* from the handshake's deadline to what is watched from now on */
	if (conn->events->on_ready)
		conn->events->on_ready(conn);
}

/* ---- the step: the only place that starts receives and sends ---- */

static void conn_watch_idle(struct conn *conn)
{
	bool streams = conn_streams_count(conn) > 0;

	if (streams || conn->streams_seen)
		conn->idle_since_ns = ring_now_ns(conn->ring);
	conn->streams_seen = streams;
}

/* The engine has nothing more to do: after GOAWAY and the last stream, or because it met a fault on its own. */
static void conn_end_engine(struct conn *conn)
{
	const struct h2_fault *fault = conn_engine_fault(conn);

	if (fault->scope == H2_FAULT_CONNECTION)
		conn_end_flush(conn, CONN_END_PROTOCOL, -EPROTO, fault->reason);
	else
		conn_end_flush(conn, CONN_END_DRAINED, 0, conn->http1 ? "the last answer has gone" :
		               "the connection was drained (GOAWAY)");
}

static uint64_t linger_ns(const struct conn *conn)
{
	if (conn->http1)
		return http1_cut(conn->http1) ? LINGER_BODY_NS : LINGER_NS;
	if (conn->end == CONN_END_DRAINED && ring_now_ns(conn->ring) < conn->idle_since_ns + LINGER_TAIL_NS)
		return LINGER_TAIL_NS;
	return LINGER_NS;
}

/*
 * A server lets the client close first: bytes that nobody reads turn the farewell, and what the socket has not sent yet, into a
 * reset. A client of HTTP/2 that reads a last answer sends windows; when it has all, it closes, as GOAWAY asks it to.
 */
static void conn_linger(struct conn *conn)
{
	if (!conn->server || conn->input_ended) {
		conn_end_now(conn, conn->end, 0, "");
	} else if (!conn->lingering) {
		conn->lingering = true;
		conn->deadline_ns = ring_now_ns(conn->ring) + linger_ns(conn);
		conn_retime(conn);
	}
}

/* HTTP/1.1 has no windows: what stops a client whose bytes nobody takes is that nobody reads them. */
static void conn_receive(struct conn *conn)
{
	bool wants = !conn->input_ended && (conn_ending(conn) || conn_engine_wants(conn));

	if (!op_in_flight(&conn->recv)) {
		conn->recv_stopped = false;
		if (wants)
			ring_recv(conn->ring, &conn->recv, conn->handle);
	} else if (!wants && !conn->recv_stopped) {
		conn->recv_stopped = true;
		ring_cancel(conn->ring, &conn->recv);
	}
}

void conn_step(struct conn *conn)
{
	if (conn->state >= CONN_CLOSING) {
		conn_join(conn);
		return;
	}
	if (conn->state == CONN_CONNECTING)
		return;
	conn_receive(conn);
	conn_send_more(conn);
	if (!conn_ending(conn) && !conn_engine_alive(conn)) {
		conn_end_engine(conn);
		conn_send_more(conn);
	}
	if (conn->http1 && conn->state < CONN_CLOSING)
		conn_receive(conn);      /* what an answer's end lets come */
	if (conn->state == CONN_FLUSHING && !op_in_flight(&conn->send))
		conn_linger(conn);
	if (!conn_ending(conn))
		conn_watch_idle(conn);
}

void conn_on_step(struct op *op, int32_t res)
{
	(void)res;
	conn_step(container_of(op, struct conn, step));
}

/* ---- time-outs ---- */

static bool conn_has_next(const struct conn *conn)
{
	return conn->candidates && conn->candidates->next < conn->candidates->count;
}

/* This address has had its time: conn_on_connect() goes on to the next. */
static void conn_give_up_address(struct conn *conn)
{
	conn->candidates->until_ns = UINT64_MAX;
	conn_cancel(conn, &conn->connect);
}

/*
 * When to look next. A send that starts after the look is seen at the following one, so a stall is noticed after one to
 * two times its limit; in return, time costs nothing a message.
 */
static uint64_t conn_deadline(const struct conn *conn)
{
	uint64_t stall = conn->stall_timeout_ns, idle = conn->idle_timeout_ns, deadline;

	if (conn->state == CONN_CONNECTING && conn_has_next(conn))
		return conn->candidates->until_ns < conn->deadline_ns ? conn->candidates->until_ns : conn->deadline_ns;
	if (conn->answer_leaves && !conn->send_error)
		return conn->send_since_ns + stall;
	if (conn->state < CONN_OPEN || conn->state == CONN_FLUSHING || conn->send_error)
		return conn->deadline_ns;
	deadline = ring_now_ns(conn->ring) + (stall < idle ? stall : idle);
	if (op_in_flight(&conn->send) && conn->send_since_ns + stall < deadline)
		deadline = conn->send_since_ns + stall;
	if (conn->unfinished_since_ns && conn->unfinished_since_ns + stall < deadline)
		deadline = conn->unfinished_since_ns + stall;
	if (conn->state == CONN_OPEN && !conn->streams_seen && conn->idle_since_ns + idle < deadline)
		deadline = conn->idle_since_ns + idle;
	return deadline;
}

static void conn_end_unread(struct conn *conn)
{
	if (conn->end == CONN_END_DRAINED || conn->end == CONN_END_IDLE)
		conn->end = CONN_END_NONE;       /* which all was well for */
	conn_end_now(conn, CONN_END_STALL, -ETIMEDOUT, "the peer takes no more bytes");
}

static void conn_expire(struct conn *conn, uint64_t now)
{
	if (conn->send_error)
		conn_end_now(conn, CONN_END_ERROR, conn->send_error, strerror(-conn->send_error));
	else if (conn->state == CONN_CONNECTING && conn_has_next(conn) && now < conn->deadline_ns)
		conn_give_up_address(conn);
	else if (conn->state == CONN_CONNECTING)
		conn_end_now(conn, CONN_END_CONNECT, -ETIMEDOUT, "connecting timed out");
	else if (conn->state == CONN_HANDSHAKING)
		conn_end_now(conn, CONN_END_HANDSHAKE_TIMEOUT, -ETIMEDOUT, "the handshake timed out");
	else if (conn->state == CONN_FLUSHING && conn->answer_leaves)
		conn_end_unread(conn);
	else if (conn->state == CONN_FLUSHING)
		conn_end_now(conn, conn->end, 0, "");
	else if (op_in_flight(&conn->send) && now >= conn->send_since_ns + conn->stall_timeout_ns)
		conn_end_unread(conn);
	else if (conn->unfinished_since_ns && now >= conn->unfinished_since_ns + conn->stall_timeout_ns)
		conn_end_flush(conn, CONN_END_STALL, -ETIMEDOUT, conn->http1 ? "the peer does not finish a head" : "the peer does not finish a frame");
	else if (conn->state == CONN_OPEN && !conn->streams_seen && now >= conn->idle_since_ns + conn->idle_timeout_ns) {
		conn_note(conn, CONN_END_IDLE, 0, "the connection was idle for too long");
		conn_drain(conn);
	}
}

static void conn_look(struct conn *conn, uint64_t now)
{
	uint64_t every = conn->stall_timeout_ns < LOOK_MOST_NS ? conn->stall_timeout_ns : LOOK_MOST_NS;
	bool first = conn->look_ns == 0;

	if (!conn->server || conn->http1 || !conn_is_ready(conn) || now < conn->look_ns)
		return;
	conn->look_ns = now + every;
	if (!first)
		silence_look(conn->h2);
}

void conn_on_timer(struct op *op, int32_t res)
{
	struct conn *conn = container_of(op, struct conn, timer);
	uint64_t now = ring_now_ns(conn->ring), deadline;

	(void)res;                       /* -ECANCELED: conn_retime */
	if (conn->state >= CONN_CLOSING) {
		conn_join(conn);
		return;
	}
	deadline = conn_deadline(conn);
	if (now >= deadline) {
		conn_expire(conn, now);
		deadline = conn_deadline(conn);
	}
	conn_look(conn, now);
	if (conn->state < CONN_CLOSING && !op_in_flight(op))
		ring_timer(conn->ring, op, deadline > now ? deadline - now : 0);
	conn_step(conn);
}

void conn_begin(struct conn *conn)
{
	conn_enter(conn, CONN_HANDSHAKING);
	if (!op_in_flight(&conn->timer))
		ring_timer(conn->ring, &conn->timer, conn->handshake_timeout_ns);
	conn_step(conn);
}

/* ---- the end ---- */

void conn_destroy(struct conn *conn)
{
	http1_destroy(conn->http1);
	h2_destroy(conn->h2);
	tls_destroy(conn->tls);
	buffer_fini(&conn->out);
	free(conn->candidates);
	free(conn);
}

void conn_on_close(struct op *op, int32_t res)
{
	struct conn *conn = container_of(op, struct conn, close);

	(void)res;
	CHECK(conn->state == CONN_CLOSED);
	conn->events->on_closed(conn, conn->reason);
	conn_destroy(conn);
}

/* Closing a descriptor ends no op on it: it is closed when all have landed, and freed when that has too. */
void conn_join(struct conn *conn)
{
	CHECK(conn->state == CONN_CLOSING);
	if (op_in_flight(&conn->connect) || op_in_flight(&conn->recv) || op_in_flight(&conn->send) ||
	    op_in_flight(&conn->timer) || op_in_flight(&conn->step))
		return;
	conn_enter(conn, CONN_CLOSED);
	conn_engine_carrier_closed(conn);
	if (conn->handle >= 0)
		ring_close(conn->ring, &conn->close, conn->handle);
	else
		conn_on_close(&conn->close, 0);
}

/* ---- events of the engine ---- */

static int conn_on_stream(void *owner, struct stream *stream, const struct h2_request *request)
{
	struct conn *conn = owner;

	if (conn_ending(conn) || !conn->stream_events || !conn->stream_events->on_stream)
		return ERR_RAISE(-EPIPE);
	conn->streams_seen = true;
	return conn->stream_events->on_stream(conn->stream_owner, stream, request);
}

static void conn_on_output(void *owner)
{
	struct conn *conn = owner;

	if (!conn->busy && conn->state < CONN_CLOSING)
		conn_wake(conn);
}

static void conn_on_goaway(void *owner, uint32_t code)
{
	struct conn *conn = owner;

	if (conn->stream_events && conn->stream_events->on_goaway)
		conn->stream_events->on_goaway(conn->stream_owner, code);
}

const struct h2_events conn_h2_events = {
	.on_stream = conn_on_stream,
	.on_output = conn_on_output,
	.on_goaway = conn_on_goaway,
};

/* ---- what the owner asks and tells ---- */

struct h2 *conn_h2(struct conn *conn)
{
	return conn->h2;
}

struct conn_copies conn_copies(const struct conn *conn)
{
	struct tls_copies tls = conn->tls ? tls_copies(conn->tls) : (struct tls_copies){ 0 };

	return (struct conn_copies){ .tls_received = tls.received, .tls_sent = tls.sent, .gathered = conn->gathered,
	                            .queued = h2_copied_bytes(conn->h2) + (conn->http1 ? http1_copied_bytes(conn->http1) : 0) };
}

const struct conn_peer *conn_peer(const struct conn *conn)
{
	return &conn->peer;
}

uint64_t conn_id(const struct conn *conn)
{
	return conn->id;
}

void *conn_owner(const struct conn *conn)
{
	return conn->owner;
}

enum conn_end conn_end(const struct conn *conn)
{
	return conn->end;
}

int conn_error(const struct conn *conn)
{
	return conn->error;
}

const char *conn_reason(const struct conn *conn)
{
	return conn->reason;
}

bool conn_is_ready(const struct conn *conn)
{
	return conn->state == CONN_OPEN || conn->state == CONN_DRAINING;
}

void conn_bytes(const struct conn *conn, uint64_t *received, uint64_t *sent)
{
	*received = conn->received;
	*sent = conn->sent;
}

void conn_handshake_bytes(const struct conn *conn, uint64_t *received, uint64_t *sent)
{
	*received = conn->handshake_received;
	*sent = conn->handshake_sent;
}

bool conn_flush(struct conn *conn)
{
	CHECK(!conn->busy);
	if (conn->state < CONN_CLOSING)
		conn_step(conn);
	return op_in_flight(&conn->send);
}

void conn_drain(struct conn *conn)
{
	if (conn->state < CONN_OPEN) {
		conn_end_now(conn, CONN_END_DRAINED, 0, "the connection was drained before it was ready");
	} else if (conn->state == CONN_OPEN) {
		conn_enter(conn, CONN_DRAINING);
		conn_engine_drain(conn);
		conn_wake(conn);
	}
}

void conn_close(struct conn *conn, const char *reason)
{
	conn_end_now(conn, CONN_END_LOCAL, 0, reason);
}
