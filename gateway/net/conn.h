/*
 * conn: one socket of one ring, with or without TLS, speaking HTTP/2 through an h2 engine. Owns the socket, the TLS
 * state and the engine; its owner sees only on_ready and on_closed, and the engine's streams. A server that allows it
 * speaks HTTP/1.1 to a client that does not begin with HTTP/2's preface: then a http1 engine takes the h2 engine's place.
 *
 *	CONNECTING -> HANDSHAKING -> OPEN -> DRAINING -> FLUSHING -> CLOSING -> CLOSED -> (freed)
 *
 * Memory: an idle conn holds no buffers. Output is pulled from the engine one send at a time (CONN_SEND_BYTES), so what
 * waits here is bounded by one send, and what waits in the engine by its streams' out-queues. Reading never stops for
 * the sake of output: two peers that both did so would wait for each other for ever. A peer that makes us answer without
 * ever reading meets the engine's flood limits, the output bound of tls.h, and the stall time-out.
 */
#pragma once

#include "gateway/net/address.h"
#include "gateway/net/tls.h"
#include "gateway/ring/ring.h"
#include "proto/h2.h"

#define CONN_SEND_BYTES  262144          /* gathered for one send, when there is that much */
/*
 * The longest frame between two sluices: past the knee of what frames cost, short enough that nothing waits long behind one.
 * What grpc-go speaks to stays at HTTP/2's 16 KiB, which is all that it sends and takes.
 */
#define CONN_FRAME_BYTES 65536

struct conn;

/* How a conn ended; for counters and for the sentence that a user reads. */
enum conn_end {
	CONN_END_NONE,                   /* it has not ended */
	CONN_END_LOCAL,                  /* conn_close() */
	CONN_END_DRAINED,                /* GOAWAY (ours or the peer's) and the last stream has ended */
	CONN_END_PEER,                   /* the peer closed it */
	CONN_END_IDLE,
	CONN_END_CONNECT,                /* no connection was made; conn_error() says why */
	CONN_END_HANDSHAKE,              /* TLS, or what the peer sent first, was refused; by either side */
	CONN_END_HANDSHAKE_TIMEOUT,
	CONN_END_STALL,
	CONN_END_PROTOCOL,               /* the peer broke HTTP or TLS after the handshake */
	CONN_END_ERROR,                  /* the socket failed; conn_error() says how */
};

struct conn_events {
	/* Handshake done; streams may be opened (client) or will arrive (server). */
	void (*on_ready)(struct conn *conn);
	/* Last event, after the streams' on_close; `reason` is one sentence, borrowed. The conn is gone after the return. */
	void (*on_closed)(struct conn *conn, const char *reason);
};

struct conn_peer;

struct conn_config {
	struct h2_config h2;             /* events and owner of the streams */
	const struct conn_events *events;
	void *owner;
	bool http1;                      /* a server: HTTP/1.1 is spoken, too */
	const char *server_name;         /* client with TLS: the name to expect; NULL: the address's host */
	const struct address_resolved *resolved;         /* conn_connect(): where the address leads, for who has asked already */
	int resolved_count;              /* at most ADDRESS_RESOLVED_MAX; 0: it is asked then, which blocks */
	const struct conn_peer *peer;    /* conn_adopt(): whom the socket stands for; NULL: whoever the socket tells */
	uint64_t handshake_timeout_ns;   /* 0: 10 s. Connect + TLS + first SETTINGS */
	uint64_t idle_timeout_ns;        /* 0: 1 h without a stream (bytes alone, PINGs say, keep nobody) -> GOAWAY */
	uint64_t stall_timeout_ns;       /* 0: 2 min: a send of at most CONN_SEND_BYTES that does not end, or a frame (but
	                                    for DATA) that the peer does not finish -> closed; four to five of these, or
	                                    hours, in which nothing at all comes in a call to a server -> DEADLINE_EXCEEDED */
};

struct conn_peer {
	bool local;                      /* unix socket */
	bool loopback;                   /* came by a listener that only this machine reaches, or by a unix socket */
	bool linked;                     /* it is a channel of a link, whose credential it has */
	bool certificate;                /* a verified client certificate: */
	char organisation[256], common_name[256];
	uint32_t uid, pid;               /* unix: SO_PEERCRED, at a client of who listens; uid UINT32_MAX, pid 0: not known */
	char address[128];               /* for logs; known by on_ready; "?" when the socket does not tell */
};

/* Takes over an accepted handle. `tls` may be NULL. 0 or -ENOMEM (the caller closes the handle). */
int conn_accept(struct conn **conn, struct ring *ring, int handle, const struct conn_peer *peer,
                struct tls_context *tls, const struct conn_config *config);
/*
 * Connects a new socket; each address that a name has is tried. Resolving blocks. 0 or -errno with `why`; later failures
 * come with on_closed. Streams may be opened at once, they go out when the handshake is done.
 */
int conn_connect(struct conn **conn, struct ring *ring, const struct address *address, struct tls_context *tls,
                 const struct conn_config *config, char *why, size_t why_size);
/* Takes over a connected stream socket (socketpair). Client or server as config->h2.server says. */
int conn_adopt(struct conn **conn, struct ring *ring, int fd, const struct conn_config *config);

struct h2 *conn_h2(struct conn *conn);                   /* not of one that speaks HTTP/1.1 */
bool conn_is_http1(const struct conn *conn);
size_t conn_streams_count(const struct conn *conn);
const struct conn_peer *conn_peer(const struct conn *conn);
uint64_t conn_id(const struct conn *conn);               /* for logs: counts up from 1 in this process */
void *conn_owner(const struct conn *conn);
enum conn_end conn_end(const struct conn *conn);
int conn_error(const struct conn *conn);                 /* negative errno that ended it, 0 when there was none */
const char *conn_reason(const struct conn *conn);        /* one sentence once it ends, "" before */
bool conn_is_ready(const struct conn *conn);             /* on_ready has come and it has not ended */

/* Bytes of the TCP (or unix) stream, both ways, TLS included. */
void conn_bytes(const struct conn *conn, uint64_t *received, uint64_t *sent);
/* The same at the moment the TLS handshake was done; 0 without TLS. Exact at the client; a server may have received more. */
void conn_handshake_bytes(const struct conn *conn, uint64_t *received, uint64_t *sent);

/*
 * Bytes a second that the line is thought to carry from here: of what the kernel measures by what is acknowledged (tcp(7),
 * tcpi_delivery_rate), as far as the first proxy; net/line.h says what of that counts. Each call may take a sample, so it wants to
 * be asked now and then while much is sent. 0: not known yet. CONN_LINE_LOCAL: a unix socket.
 */
uint64_t conn_line_rate(struct conn *conn);
#define CONN_LINE_LOCAL UINT64_MAX

/*
 * Bytes that were copied here, in user space: ciphertext to and from TLS, what streams queued to be sent, what was gathered for a
 * record or a send. What else copies a payload counts it elsewhere.
 */
struct conn_copies {
	uint64_t tls_received, tls_sent, queued, gathered;
};
struct conn_copies conn_copies(const struct conn *conn);

/*
 * Starts to send what is queued now, not in the loop's next turn. Not from inside an event of any conn of this thread or of its
 * streams, which it may bring. True: a send is in flight; what is queued behind it follows from the loop.
 */
bool conn_flush(struct conn *conn);
/* GOAWAY, present streams go on, then close. */
void conn_drain(struct conn *conn);
/* At once. May be called at any time, any number of times; on_closed follows from the loop. */
void conn_close(struct conn *conn, const char *reason);
