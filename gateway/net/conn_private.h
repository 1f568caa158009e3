/*
 * conn_private: what conn.c (life, states, time-outs) and conn_traffic.c (bytes in, bytes out) share of a conn.
 *
 *	CONNECTING -> HANDSHAKING -> OPEN -> DRAINING -> FLUSHING -> CLOSING -> CLOSED
 *	     |             |           |                    ^           ^
 *	     |             '-----------'--- a fault --------'           |
 *	     '---------- conn_close, end of stream, socket error, time-out
 */
#pragma once

#include "gateway/net/conn.h"
#include "gateway/net/frame_watch.h"
#include "gateway/net/line.h"
#include "proto/http1.h"

#define CONN_SNIFF_BYTES 3               /* what tells HTTP/2's preface from any method of HTTP/1.1 */

enum conn_state {
	CONN_CONNECTING,                 /* the socket is being connected, or asked who is at its other end */
	CONN_HANDSHAKING,                /* TLS, then the peer's preface and SETTINGS */
	CONN_OPEN,
	CONN_DRAINING,                   /* GOAWAY is queued; present streams go on */
	CONN_FLUSHING,                   /* what arrives is thrown away; the farewell (GOAWAY, alert) goes out */
	CONN_CLOSING,                    /* waits until every op has landed */
	CONN_CLOSED,                     /* the handle is being closed */
};

/* Where to connect, and what is left to try. */
struct conn_candidates {
	int count, next;
	uint64_t until_ns;               /* the time of the present one, if it is not the last */
	struct address_resolved resolved[ADDRESS_RESOLVED_MAX];
};

struct conn {
	struct ring *ring;
	enum conn_state state;
	uint64_t id;
	int handle;                      /* -1: none */
	const struct conn_events *events;
	void *owner;
	const struct h2_events *stream_events;
	void *stream_owner;
	bool server;
	bool busy;                       /* in a handler that ends with a step */
	bool streams_seen;               /* there was one since the last step */
	bool handshaken;                 /* TLS is done, or there is none */
	bool shutdown_queued, lingering;
	bool answer_leaves;              /* FLUSHING, and what is being sent began before: it has the time of any send */
	int send_error;                  /* nothing more can be sent; what still arrives may explain why */
	struct h2 *h2;
	bool recv_stopped;               /* its cancel is under way */
	bool undecided;                  /* nothing is said before the client has shown what it speaks */
	struct http1 *http1;             /* NULL: HTTP/2 */
	bool input_ended;                /* a client of HTTP/1.1 has closed its side, and still gets its answers */
	uint8_t sniffed[CONN_SNIFF_BYTES];
	size_t sniffed_size;
	struct tls *tls;
	struct buffer out;               /* without TLS: the send in flight */
	size_t send_bytes;
	struct op connect, recv, send, timer, step, close;
	struct conn_candidates *candidates;
	struct frame_watch watch;
	uint64_t unfinished_since_ns;    /* 0: the peer is between two frames */
	struct conn_peer peer;
	struct line line;
	uint64_t gathered;
	uint64_t plain_received, received, sent, handshake_received, handshake_sent;
	uint64_t deadline_ns;            /* of the handshake; of the flush */
	uint64_t idle_since_ns, send_since_ns;
	uint64_t look_ns;                /* a server's: for silent calls, next */
	uint64_t handshake_timeout_ns, idle_timeout_ns, stall_timeout_ns;
	enum conn_end end;
	int error;
	char reason[384];
};

/* conn.c */
extern const struct h2_events conn_h2_events;
/* The socket is connected: talk. */
void conn_begin(struct conn *conn);
void conn_opened(struct conn *conn);
void conn_end_now(struct conn *conn, enum conn_end end, int error, const char *reason);
/* Say farewell, then close. */
void conn_end_flush(struct conn *conn, enum conn_end end, int error, const char *reason);
/* What was under way when the farewell began has gone out: its own time begins. */
void conn_answer_left(struct conn *conn);
/* The output is gone, the input may have more to say: for a moment. */
void conn_send_failed(struct conn *conn, int error);
/* A deadline has moved. */
void conn_retime(struct conn *conn);
void conn_step(struct conn *conn);
void conn_join(struct conn *conn);
void conn_destroy(struct conn *conn);    /* no op in flight */
void conn_on_step(struct op *op, int32_t res);
void conn_on_timer(struct op *op, int32_t res);
void conn_on_close(struct op *op, int32_t res);

static inline bool conn_ending(const struct conn *conn)
{
	return conn->state >= CONN_FLUSHING;
}

/* conn_engine.c: whichever of the two engines it is. */
int conn_engine_feed(struct conn *conn, struct span data);
struct span conn_engine_output(struct conn *conn);
bool conn_engine_alive(const struct conn *conn);
const struct h2_fault *conn_engine_fault(const struct conn *conn);
void conn_engine_drain(struct conn *conn);
void conn_engine_carrier_closed(struct conn *conn);
/* The peer has begun something short that it has to end. */
bool conn_engine_unfinished(const struct conn *conn);
/* False: nothing is left to answer. */
bool conn_engine_input_ended(struct conn *conn);
/* False: no more is to be read before the engine says so. */
bool conn_engine_wants(const struct conn *conn);

/* conn_traffic.c */
void conn_on_recv(struct op *op, int32_t res);
void conn_on_send(struct op *op, int32_t res);
void conn_send_more(struct conn *conn);
void conn_out_init(struct conn *conn);
