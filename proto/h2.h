/*
 * h2: one HTTP/2 connection, client or server, as a machine without I/O: received bytes go in with h2_feed(), bytes
 * to send come out of h2_output(), and what happens in between arrives as events of its streams. It neither knows nor
 * cares whether a socket, TLS, or a stream of another h2 carries it (nested use: see h2_nested in tests).
 *
 * Over nghttp2: no automatic window updates; the windows follow stream_consumed(). Frames we send are at most
 * `frame_bytes_max` (16,384 towards grpc-go peers, whatever they advertise).
 * Source: RFC 9113; gRPC over HTTP/2 for the header rules in call.h.
 */
#pragma once

#include "proto/stream.h"

struct h2;

/*
 * The code of on_close when the carrier ended under a stream: CONNECT_ERROR, which no peer of ours sends, as nobody
 * serves CONNECT here. grpc_status_from_h2() makes UNAVAILABLE of it.
 */
#define H2_CARRIER_CLOSED 10u

/* Peer misbehaviour is data: what was done, and how far the refusal reaches. */
enum h2_fault_scope {
	H2_FAULT_NONE,
	H2_FAULT_STREAM,
	H2_FAULT_CONNECTION,
};

struct h2_fault {
	enum h2_fault_scope scope;
	uint32_t code;                           /* RFC 9113 section 7 */
	const char *reason;                      /* static text */
};

struct h2_request {                              /* borrowed during on_stream */
	struct span method, path, authority, scheme;
	const struct header *headers;            /* the other fields, in order */
	size_t headers_count;
	bool ended;                              /* no body follows */
};

struct h2_events {
	/*
	 * Server: the peer opened a stream. Set stream->events and stream->owner before returning 0; a negative errno
	 * refuses it (REFUSED_STREAM).
	 */
	int (*on_stream)(void *owner, struct stream *stream, const struct h2_request *request);
	/*
	 * Something was queued outside h2_feed() and h2_output(): call h2_output() soon, but not from inside this event
	 * (it comes from within the consumer's own stream_*() or h2_open() call). Said once until h2_output() is called.
	 */
	void (*on_output)(void *owner);
	/* The peer's GOAWAY arrived, no new streams may be opened. Optional. */
	void (*on_goaway)(void *owner, uint32_t code);
};

/* BuildKit sends a field for each line of a .dockerignore. */
#define H2_HEADERS_LIMIT 16384u

struct h2_config {
	bool server;
	const struct h2_events *events;
	void *owner;
	uint32_t streams_max;                    /* concurrent, per direction; 0: 256 */
	uint32_t stream_window_bytes;            /* receive; 0: 1 MiB */
	uint32_t connection_window_bytes;        /* receive; 0: 8 MiB */
	uint32_t frame_bytes_max;                /* what we send and advertise; 0: 16,384 */
	uint32_t out_queue_bytes;                /* a stream's out-queue; 0: 256 KiB */
	uint32_t header_list_bytes_max;          /* 0: 64 KiB */
	/*
	 * The owner takes DATA frames from h2_output() in pieces: the head, then the payload from where it lies, uncopied.
	 * Else each frame is one span, for owners who make something of a frame.
	 */
	bool pieces;
	uint32_t headers_max;                    /* fields a block, either way; 0: STREAM_HEADERS_MAX; at most H2_HEADERS_LIMIT */
};

/* 0, -ENOMEM, -EINVAL. The preface and SETTINGS are queued at once. */
int h2_create(struct h2 **h2, const struct h2_config *config);

/* Every open stream gets on_close (INTERNAL_ERROR unless it ended); NULL is accepted. Not from inside an event. */
void h2_destroy(struct h2 *h2);

/*
 * Received bytes, in any split. 0, or -EPROTO when the connection must end: h2_fault() says why, h2_output() still
 * yields the GOAWAY. Control-frame floods (more than 1,000 frames that carry nothing between two moments when all our
 * output was fetched), rapid reset (resets by the peer in excess of completed streams, more than twice streams_max), oversize
 * header lists and unasked CONTINUATION are such faults. What nghttp2 itself refuses may show one step later, when h2_output()
 * has yielded the GOAWAY: h2_alive() is false then. So: always fetch output after a feed, then ask h2_alive().
 */
int h2_feed(struct h2 *h2, struct span data);

/*
 * The next bytes to send (a frame; with `pieces`, perhaps a part of one), borrowed until the next h2_feed() or h2_output() or
 * call of a stream's; size 0: nothing now. Delivers on_writable and on_close, and returns loans.
 */
struct span h2_output(struct h2 *h2);

/* With `pieces`: how many bytes of the frame that h2_output() has begun it has yet to give; what comes until then belongs to it. */
size_t h2_output_left(const struct h2 *h2);

/* False once nothing is left to read or write (after GOAWAY and the last stream): the owner may close the carrier. */
bool h2_alive(const struct h2 *h2);

/* Graceful end: GOAWAY, present streams go on, new ones are refused. */
void h2_drain(struct h2 *h2);

const struct h2_fault *h2_fault(const struct h2 *h2);
size_t h2_streams_count(const struct h2 *h2);
/* `fn` for each open stream that has a consumer; it may end that one, and opens none. Not from inside an event. */
void h2_each_stream(struct h2 *h2, void (*fn)(struct stream *stream));

/* Bytes of payload that were copied into out-queues, and from there or from loans into frames. */
uint64_t h2_copied_bytes(const struct h2 *h2);

/* Bytes that came in by h2_feed(). */
uint64_t h2_received_bytes(const struct h2 *h2);

/*
 * Client: open a stream. `end`: no body follows. 0, -EAGAIN (peer's stream limit reached), -EPIPE (GOAWAY), -ENOMEM, -EINVAL
 * (more fields, or longer ones, than the config allows).
 * `events` and `owner` are put into the new stream.
 */
int h2_open(struct h2 *h2, struct stream **stream, const struct h2_request *request, bool end,
            const struct stream_events *events, void *owner);

/* The carrier has ended: every stream gets on_close, h2_alive is false from now on. Not from inside an event. */
void h2_carrier_closed(struct h2 *h2);
