/* A conn's bytes: from the socket through TLS into the engine, and back, one send in flight. */
#include "gateway/net/conn_private.h"

#include <errno.h>
#include <stdio.h>
#include "gateway/base/check.h"

/* One send and the span that overshot it. */
#define OUT_MAX              (CONN_SEND_BYTES + (1u << 20))
/* What a full send takes, with a frame that overshoots it and TLS's share: made room for at once when it begins with bulk. */
#define OUT_FULL_BYTES       (CONN_SEND_BYTES + 2 * CONN_FRAME_BYTES)
/* The client's preface and a frame header; a server's SETTINGS frame header (RFC 9113 section 3.4). */
#define SERVER_SETTLED_BYTES (24 + 9)
#define CLIENT_SETTLED_BYTES 9

/*
 * The head of a TLS record, gathered from the engine's small spans and from what was left of a long one: fewer records, fewer bytes.
 * Of one conn at a time: what the engine calls meanwhile, as a loan's return, may wake another but not make it send, as its bytes
 * would go out on this one.
 */
static _Thread_local uint8_t record[TLS_RECORD_BYTES];
static _Thread_local bool record_taken;

/* ---- receiving ---- */

static void conn_take_plain(struct conn *conn, struct span data)
{
	uint64_t settled = conn->server ? SERVER_SETTLED_BYTES : CLIENT_SETTLED_BYTES;
	const struct h2_fault *fault;
	int r;

	if (conn_ending(conn))
		return;
	conn->plain_received += data.size;
	r = conn_engine_feed(conn, data);
	if (r == -ENOMEM) {
		conn_end_now(conn, CONN_END_ERROR, r, "no memory for what was received");
		return;
	}
	if (r < 0) {
		fault = conn_engine_fault(conn);
		conn_end_flush(conn, conn->state == CONN_HANDSHAKING ? CONN_END_HANDSHAKE : CONN_END_PROTOCOL, -EPROTO,
		               fault->reason ? fault->reason : "the peer broke the rules of HTTP");
		return;
	}
	/* A first head that is none, or never ends, is what scanners send: the handshake's time, and no warning, are for it. */
	if (conn->state == CONN_HANDSHAKING && (conn->http1 ? conn->streams_seen : conn->plain_received >= settled))
		conn_opened(conn);
}

static void conn_handshaken(struct conn *conn)
{
	conn->handshaken = true;
	conn->handshake_received = conn->received;
	conn->handshake_sent = conn->sent + tls_output_bytes(conn->tls);
	conn->peer.certificate = tls_peer(conn->tls, conn->peer.organisation, conn->peer.common_name);
}

/* The first request may ride right behind the end of the handshake: the peer's name has to be known before it. */
static void conn_on_decrypted(void *context, struct span data)
{
	struct conn *conn = context;

	if (!conn->handshaken)
		conn_handshaken(conn);
	conn_take_plain(conn, data);
}

/*
 * An HTTP/1.1 client that has closed its side of TCP, or of TLS (RFC 8446 section 6.1), may still read what it asked for. With HTTP/2
 * nothing more can be asked or allowed then: that is the end.
 */
static void conn_take_close(struct conn *conn)
{
	bool open = conn->http1 && conn_is_ready(conn);
	bool answers = (open && op_in_flight(&conn->send)) || (conn->http1 && conn->answer_leaves);

	if (conn->input_ended)
		return;
	if (open)
		answers |= conn_engine_input_ended(conn);
	if (answers)
		conn->input_ended = true;
	else
		conn_end_now(conn, CONN_END_PEER, 0, "the peer closed the connection");
}

static void conn_take_tls(struct conn *conn, struct span data)
{
	int r = tls_feed(conn->tls, data, conn_on_decrypted, conn);

	if (!conn->handshaken && tls_ready(conn->tls))
		conn_handshaken(conn);
	if (r < 0)
		conn_end_flush(conn, conn->state == CONN_HANDSHAKING ? CONN_END_HANDSHAKE : CONN_END_PROTOCOL, r,
		               tls_error(conn->tls));
	else if (r == TLS_CLOSED)
		conn_take_close(conn);
}

/* A TLS record (RFC 8446 section 5.1) where HTTP/2 in the clear was expected: an alert at a client, a hello at a server. */
static bool conn_meets_tls(const struct conn *conn, struct span data)
{
	return !conn->tls && conn->plain_received == 0 && data.size >= 2 && data.data[1] == 3 &&
	       (data.data[0] == 21 || data.data[0] == 22);
}

/* OpenSSL, where the records are its own, says nothing while a part of a message of its own has come. */
static bool conn_may_encrypt(const struct conn *conn)
{
	return conn->handshaken && tls_ready(conn->tls) && !tls_failed(conn->tls);
}

static void conn_note_unfinished(struct conn *conn)
{
	if (!conn_engine_unfinished(conn) && (!conn->tls || !conn->handshaken || !tls_unfinished(conn->tls)))
		conn->unfinished_since_ns = 0;
	else if (!conn->unfinished_since_ns)
		conn->unfinished_since_ns = ring_now_ns(conn->ring);
}

static void conn_take(struct conn *conn, struct span data)
{
	conn->received += data.size;
	if (conn_ending(conn) || conn->input_ended)
		return;
	if (conn_meets_tls(conn, data))
		conn_end_flush(conn, CONN_END_HANDSHAKE, -EPROTO, conn->server ?
		               "the client speaks TLS to a plain listener: it should use a grpc:// address" :
		               "the other side speaks TLS: use a grpcs:// address");
	else if (conn->tls)
		conn_take_tls(conn, data);
	else
		conn_take_plain(conn, data);
	if (!conn_ending(conn))
		conn_note_unfinished(conn);
}

static void conn_take_end(struct conn *conn, int error)
{
	bool early = conn->state < CONN_OPEN;
	char reason[128];

	if (error == -ECONNRESET && !early && conn_streams_count(conn) == 0) {
		conn_end_now(conn, CONN_END_PEER, 0, "the peer reset the connection");
	} else if (error) {
		snprintf(reason, sizeof(reason), "connection broken%s: %s", early ? " during the handshake" : "",
		         strerror(-error));
		conn_end_now(conn, early ? CONN_END_HANDSHAKE : CONN_END_ERROR, error, reason);
	} else if (early && conn->server && conn->received == 0) {
		conn_end_now(conn, CONN_END_PEER, 0, "the peer only knocked");   /* a load balancer's probe */
	} else if (early) {
		conn_end_now(conn, CONN_END_HANDSHAKE, -ECONNRESET, "the other side closed the connection during the handshake");
	} else {
		conn_take_close(conn);
	}
}

void conn_on_recv(struct op *op, int32_t res)
{
	struct conn *conn = container_of(op, struct conn, recv);

	if (conn->state >= CONN_CLOSING) {
		conn_join(conn);
		return;
	}
	conn->busy = true;
	if (res > 0)
		conn_take(conn, op->received);
	else if (res != -ECANCELED)      /* conn_receive(): it is read again when the engine wants more */
		conn_take_end(conn, res);
	conn->busy = false;
	conn_step(conn);
}

/* ---- sending ---- */

void conn_out_init(struct conn *conn)
{
	conn->out = buffer_heap(OUT_MAX);
}

static void conn_gather_plain(struct conn *conn)
{
	struct span span;

	while (conn->out.size < CONN_SEND_BYTES) {
		span = conn_engine_output(conn);
		if (span.size == 0)
			return;
		if (span.size >= TLS_RECORD_BYTES && conn->out.capacity == 0 && !buffer_reserve(&conn->out, OUT_FULL_BYTES))
			conn->out.failed = false;
		buffer_put(&conn->out, span.data, span.size);
		conn->gathered += span.size;
		if (conn->out.failed) {
			conn_end_now(conn, CONN_END_ERROR, -ENOMEM, "no memory for output");
			return;
		}
	}
}

/* Takes the front of `span`: into a whole record, or to the head of the next one. */
static int conn_fill_record(struct conn *conn, struct span *span, size_t *filled)
{
	size_t room = TLS_RECORD_BYTES - *filled, n = room < span->size ? room : span->size;
	struct span front = span_make(span->data, n), head = span_make(record, *filled);

	*span = span_make(span->data + n, span->size - n);
	if (n == room) {
		*filled = 0;
		return tls_write(conn->tls, head, front);
	}
	memcpy(record + *filled, front.data, n);
	conn->gathered += n;
	*filled += n;
	return 0;
}

static void conn_gather_tls(struct conn *conn)
{
	struct span span;
	size_t filled = 0;
	int r = 0;

	record_taken = true;
	while (r == 0 && tls_output_bytes(conn->tls) < CONN_SEND_BYTES) {
		span = conn_engine_output(conn);
		if (span.size == 0)
			break;
		if (span.size >= TLS_RECORD_BYTES)
			tls_expect(conn->tls, OUT_FULL_BYTES);
		while (r == 0 && span.size)
			r = conn_fill_record(conn, &span, &filled);
	}
	if (r == 0)
		r = tls_write(conn->tls, span_make(record, filled), (struct span){ 0 });
	record_taken = false;
	if (r < 0)
		conn_end_now(conn, CONN_END_ERROR, r, tls_error(conn->tls));
}

/* What to send next. An idle conn gives its buffers back here. */
static struct span conn_gather(struct conn *conn)
{
	struct span span;

	if (!conn->tls) {
		conn_gather_plain(conn);
		if (conn->out.size == 0) {
			buffer_fini(&conn->out);
			conn_out_init(conn);
		}
		return buffer_span(&conn->out);
	}
	if (conn_may_encrypt(conn))
		conn_gather_tls(conn);
	span = tls_output(conn->tls);
	if (span.size == 0 && conn->state == CONN_FLUSHING && !conn->shutdown_queued) {
		conn->shutdown_queued = true;
		tls_shutdown(conn->tls);
		span = tls_output(conn->tls);
	}
	if (span.size == 0)
		tls_trim(conn->tls);
	return span;
}

void conn_send_more(struct conn *conn)
{
	struct span span;

	CHECK(!record_taken);            /* also where it would have sent nothing just now: next time it might */
	if (op_in_flight(&conn->send) || conn->send_error)
		return;
	conn->busy = true;
	span = conn_gather(conn);
	conn->busy = false;
	if (span.size == 0 || conn->state >= CONN_CLOSING)
		return;
	conn->send_bytes = span.size;
	conn->send_since_ns = ring_now_ns(conn->ring);
	ring_send(conn->ring, &conn->send, conn->handle, span);
}

void conn_on_send(struct op *op, int32_t res)
{
	struct conn *conn = container_of(op, struct conn, send);

	if (conn->state >= CONN_CLOSING) {
		conn_join(conn);
		return;
	}
	if (res < 0) {
		conn_send_failed(conn, res);
		return;
	}
	CHECK((size_t)res == conn->send_bytes);
	conn->sent += conn->send_bytes;
	if (conn->tls)
		tls_sent(conn->tls, conn->send_bytes);
	else
		buffer_clear(&conn->out);
	if (conn->answer_leaves)
		conn_answer_left(conn);
	conn_step(conn);
}
