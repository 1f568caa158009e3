/*
 * call: one gRPC call over a stream, either side: messages instead of bytes, a status instead of trailers.
 * Embedded in its owner (call_accept / call_start fill it in; call_fini frees its buffers after on_closed).
 *
 * Messages: length-prefixed (gRPC over HTTP/2 "Length-Prefixed-Message"); compressed ones with `zstd` or `identity`
 * only, anything else -> UNIMPLEMENTED naming what is accepted. A message longer than `message_bytes_max`, before or
 * after decompression -> RESOURCE_EXHAUSTED. A stream that ends inside a message -> INTERNAL "truncated".
 */
#pragma once

#include "proto/buffer.h"
#include "proto/grpc.h"
#include "proto/h2.h"

struct call;

struct call_events {
	/*
	 * One whole message, borrowed until return. While the call is held (call_hold) none is delivered and the peer's
	 * window stays shut, which is back-pressure.
	 */
	void (*on_message)(struct call *call, struct span message);
	/*
	 * Optional: messages that are not compressed come in parts instead, as they arrive: the next bytes of one, at most
	 * GRPC_PART_BYTES_MAX, borrowed until return, and how many are `left`; the last part of each has none left, and is the
	 * only one when it is empty.
	 */
	void (*on_part)(struct call *call, struct span part, size_t left);
	/* The peer has sent its last message (server: half-close). Not delivered while held. */
	void (*on_end)(struct call *call);
	/* call_send() said CALL_FULL earlier; there is room now. */
	void (*on_writable)(struct call *call);
	/*
	 * Last event. Client: the server's status, or one made here when the stream broke (UNAVAILABLE; DEADLINE_EXCEEDED
	 * is the owner's to raise: no clock here). Server: GRPC_OK when our status went out, GRPC_CANCELLED when the peer
	 * went away first. `message` is borrowed until return. The other calls are harmless after it, until call_fini.
	 */
	void (*on_closed)(struct call *call, enum grpc_status status, struct span message);
};

/*
 * Counts what calls keep of messages that are being put together: the window does not bound it, as it opens for what has come, or
 * no message longer than it would ever come whole.
 */
struct call_meter {
	/*
	 * The call keeps so many bytes now, above CALL_UNMETERED_BYTES; 0: no longer. False: there is no room for them, and the call ends
	 * with RESOURCE_EXHAUSTED. Not from inside an event of the call; other calls may be ended, or trimmed, from here.
	 */
	bool (*kept)(struct call_meter *meter, struct call *call, size_t bytes);
};

#define CALL_UNMETERED_BYTES (64u << 10)

enum call_outcome {
	CALL_SENT = 0,
	CALL_FULL = 1,                           /* nothing was taken; wait for on_writable */
	CALL_CLOSED = 2,                         /* the call has ended; nothing was taken */
};

#define CALL_STATUS_TEXT_MAX   511               /* longer status texts are cut; what is no UTF-8 in them is '?' */
#define CALL_SEND_BYTES_MAX    (64u << 20)       /* of one message that we send */

struct call {
	struct stream *stream;                   /* NULL after on_closed, and while `closing` waits for call_release */
	const struct call_events *events;
	void *owner;
	size_t message_bytes_max;                /* of a received message, compressed or not */
	bool server;
	bool held;                               /* call_hold */
	bool shut;                               /* call_shut */
	bool delivering;                         /* inside on_message or on_end: call_release leaves the rest to it */
	bool ended;                              /* on_end was delivered */
	bool end_pending;                        /* the peer has ended; on_end waits for call_release */
	bool closing;                            /* the stream has closed; on_closed waits for call_release */
	bool deaf;                               /* what still arrives is thrown away */
	bool headers_sent;                       /* server */
	bool finishing;                          /* call_end or call_finish was called */
	bool finished;                           /* and went out behind the last message */
	bool lending;                            /* a loan is with the stream, or waits in `lent` */
	bool full_told;                          /* call_send said CALL_FULL: on_writable is owed */
	bool carrier_lost;                       /* the connection went away, not the peer's interest in the call alone */
	bool status_known;
	bool peer_zstd;                          /* the peer accepts zstd messages */
	bool incoming_zstd;
	struct grpc_reader reader;
	struct buffer backlog;                   /* arrived while held; at most the stream's window, which stays shut */
	size_t backlog_taken;
	size_t withheld;                         /* delivered while the call was shut: the peer's window is to open by as much */
	struct buffer pending;                   /* the tail of a message that the stream's out-queue could not take */
	size_t pending_sent;
	size_t unsent;                           /* of the message that call_send_begin() began */
	struct loan *lent;                       /* waits for `pending` to go out; NULL: none */
	struct buffer inflated;
	struct call_meter *meter;                /* NULL, or set behind call_accept(): until on_closed */
	void *metered;                           /* the meter's own; NULL: the call keeps nothing that counts */
	uint64_t bytes_copied;                   /* here, of messages that had to wait, either way */
	uint64_t bytes_received, bytes_sent;     /* message bytes on the wire, with prefixes */
	unsigned silent_looks;                   /* server: whoever looks may count here at how many looks none had come */
	enum grpc_status status;                 /* client: from trailers, or made here; server: ours */
	size_t status_size;
	char status_message[CALL_STATUS_TEXT_MAX + 1];
	struct buffer details;                   /* server: google.rpc.Status that goes with the status */
};

/*
 * Server: take over a stream inside on_stream. `head` was parsed from the request (grpc_request_parse).
 * Response headers go out with the first message or the status.
 */
void call_accept(struct call *call, struct stream *stream, const struct grpc_request *head, size_t message_bytes_max,
                 const struct call_events *events, void *owner);

/* The call that took the stream over; NULL when none did. */
struct call *call_of(const struct stream *stream);

/*
 * Client: open a call. `metadata` are extra header fields; `grpc-encoding: zstd` among them says that this server is
 * known to take zstd, and lets call_send() compress. `timeout_ns` 0: none sent. 0 or h2_open's errors.
 */
int call_start(struct call *call, struct h2 *h2, const char *path, struct span authority, uint64_t timeout_ns,
               const struct header *metadata, size_t metadata_count, size_t message_bytes_max,
               const struct call_events *events, void *owner);

/*
 * Send one message of at most CALL_SEND_BYTES_MAX. With `level` other than 0 and a peer that accepts it, zstd at that
 * level over the whole message (a probe of its first 64 KiB that saves under 5 % sends it as it is). Taken whole or not
 * at all: it is refused with CALL_FULL while an earlier message still waits.
 */
enum call_outcome call_send(struct call *call, struct span message, int level);
/* The same, never compressed, for a message that lies in pieces: a head that was made here and a body that was lent. */
enum call_outcome call_send_parts(struct call *call, const struct span *parts, size_t count);
/*
 * The same for a message that is not there yet, or lies where spans do not last: its bytes follow by call_send_more(), which takes
 * them all. Until then there is no room for another message, and on_writable does not tell when there is. A call that ends in
 * between is reset.
 */
enum call_outcome call_send_begin(struct call *call, size_t size);
void call_send_more(struct call *call, struct span part);
/*
 * The same, uncopied: the message is the loan's pieces, at least a byte of them. After CALL_SENT loan->returned comes once, at
 * the latest before on_closed; until then further messages are refused with CALL_FULL.
 */
enum call_outcome call_lend(struct call *call, struct loan *loan);
/* The same for a message that zstd_message_deflate() made smaller already, elsewhere; only when call_takes_zstd(). */
enum call_outcome call_send_deflated(struct call *call, struct span deflated);
bool call_takes_zstd(const struct call *call);

/* True: the next call_send() is taken. False: on_writable follows when it would be, unless the call has ended. */
bool call_has_room(struct call *call);

/* Of the messages that were taken: what has not gone to the stream's carrier yet, as the peer takes no more. 0 after the end. */
size_t call_untaken(const struct call *call);

/* Client: no more messages from us. After pending ones. May be called again. */
void call_end(struct call *call);

/* Server: the status, after pending messages. `text` may be NULL. Later sends say CALL_CLOSED. May be called again. */
void call_finish(struct call *call, enum grpc_status status, const char *text);
/* With `details`, an encoded google.rpc.Status, as `grpc-status-details-bin`; left out above CALL_DETAILS_BYTES_MAX. */
#define CALL_DETAILS_BYTES_MAX 8192
void call_finish_details(struct call *call, enum grpc_status status, const char *text, struct span details);
void call_finishf(struct call *call, enum grpc_status status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Stop and go on delivering messages. Delivery restarts from call_release() itself, at most one level deep; that can
 * bring on_closed, so the caller must not touch the call after it without looking.
 */
void call_hold(struct call *call);
void call_release(struct call *call);

/*
 * Milder: messages go on being delivered, but the peer's window stays shut until call_release(). For who has room for what is on
 * its way, at most the stream's window, and would only copy it twice if it waited here.
 */
void call_shut(struct call *call);

/*
 * Give the call up: RST_STREAM(CANCEL). No more messages; on_closed still comes: later, or from inside this call when
 * the stream had ended already and only call_release() was awaited (`closing`).
 */
void call_cancel(struct call *call);

/*
 * Server: before anything of the client's has come, and anything of ours has gone: gives the stream up, for another consumer
 * to take over before the next event. The call is all-zero then. NULL: it is too late, and the call is as before.
 */
struct stream *call_give_back(struct call *call);

/* Of messages, so far: what had to wait, either way, and what was put together. */
uint64_t call_bytes_copied(const struct call *call);

/*
 * From inside on_message of a call whose uncompressed messages come in parts: the message's memory becomes the caller's. What
 * `message` was is all of it.
 */
struct buffer call_take_message(struct call *call);

/*
 * From inside on_message of any other call: what `message` was, in memory that is the caller's; copied only when it came in one
 * piece, and so was never put together.
 */
struct buffer call_keep_message(struct call *call, struct span message);

/* Gives back what a call keeps between messages for the next one. In the middle of one, or from inside an event: nothing. */
void call_trim(struct call *call);

/* Frees buffers. Only after on_closed, or before call_accept/call_start. All-zero is accepted. */
void call_fini(struct call *call);
