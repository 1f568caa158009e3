/*
 * stream: one HTTP/2 stream as the code above sees it, whatever carries it: an outer connection, one nested inside
 * another stream, or a resumable link. Bytes only; gRPC messages are call.h's.
 *
 * Loop context: everything happens on the thread that feeds the carrier. Events are never delivered from inside a
 * stream_*() call made by the consumer. A stream belongs to its carrier; the consumer holds a pointer until on_close,
 * which is the last event and comes exactly once, also after stream_reset().
 */
#pragma once

#include "proto/span.h"

#define STREAM_HEADERS_MAX 64                    /* header fields a block, unless h2_config.headers_max says more; beyond, refused */

struct stream;

struct header {
	struct span name;                        /* lower case; borrowed during the call or event */
	struct span value;
	bool sensitive;                          /* sent never-indexed, never logged */
};

struct stream_events {
	/* Response headers (client side). The request's come with the carrier's on_stream. */
	void (*on_headers)(struct stream *stream, const struct header *headers, size_t count);
	/* Body bytes, borrowed until return. The peer's window stays shut for them until stream_consumed(). */
	void (*on_data)(struct stream *stream, struct span data);
	/* Trailers, before on_end. */
	void (*on_trailers)(struct stream *stream, const struct header *headers, size_t count);
	/* The peer has ended its side. */
	void (*on_end)(struct stream *stream);
	/* stream_write() took less than offered, and can take more now. */
	void (*on_writable)(struct stream *stream);
	/* Both sides ended (0), or an HTTP/2 error code (RFC 9113 section 7). The stream is gone after the return. */
	void (*on_close)(struct stream *stream, uint32_t code);
};

/*
 * Bytes that a consumer lends to a stream instead of having them copied: pieces in memory of its own, which stays as it is
 * until `returned`. That comes once for each loan that was taken: when all has gone out, before on_writable; or nothing more
 * of it ever will, before on_close.
 */
struct loan {
	const struct span *pieces;
	size_t count;
	void (*returned)(struct loan *loan);
	/* The carrier's: the next byte to go out, and how many are left. */
	size_t at, offset, left;
};

/* What a carrier provides; consumers use the functions below. */
struct stream_transport {
	int (*headers)(struct stream *stream, const struct header *headers, size_t count, bool end);
	size_t (*write)(struct stream *stream, struct span data);
	bool (*lend)(struct stream *stream, struct loan *loan);
	size_t (*untaken)(const struct stream *stream);
	void (*end)(struct stream *stream);
	int (*trailers)(struct stream *stream, const struct header *headers, size_t count);
	void (*consumed)(struct stream *stream, size_t bytes);
	void (*reset)(struct stream *stream, uint32_t code);
};

struct stream {
	const struct stream_transport *transport;        /* the carrier's */
	const struct stream_events *events;              /* the consumer's */
	void *owner;                                     /* the consumer's */
};

/* Send response headers (server). `end`: no body and no trailers follow. 0 or -EINVAL, -ENOMEM, -EPIPE (closing). */
static inline int stream_headers(struct stream *stream, const struct header *headers, size_t count, bool end)
{
	return stream->transport->headers(stream, headers, count, end);
}

/*
 * Queue bytes; they are copied. Returns how many were taken: fewer than offered when the stream's out-queue (a named
 * bound of the carrier) is full; on_writable follows when at least half of it is free again.
 */
static inline size_t stream_write(struct stream *stream, struct span data)
{
	return stream->transport->write(stream, data);
}

/*
 * Queue a loan behind what is queued. False: not taken, as one is there already, it holds no bytes, or the stream ends.
 * While a loan is there stream_write() takes nothing; on_writable follows after `returned`.
 */
static inline bool stream_lend(struct stream *stream, struct loan *loan)
{
	return stream->transport->lend(stream, loan);
}

/* Bytes that are queued or lent, and have not gone to the carrier yet. */
static inline size_t stream_untaken(const struct stream *stream)
{
	return stream->transport->untaken(stream);
}

/* End our side after what is queued. */
static inline void stream_end(struct stream *stream)
{
	stream->transport->end(stream);
}

/* End our side with trailers after what is queued (server). 0 or as stream_headers. */
static inline int stream_trailers(struct stream *stream, const struct header *headers, size_t count)
{
	return stream->transport->trailers(stream, headers, count);
}

/* The consumer is done with `bytes` of what on_data brought: opens the peer's window (stream and connection) again. */
static inline void stream_consumed(struct stream *stream, size_t bytes)
{
	stream->transport->consumed(stream, bytes);
}

/* Abandon the stream in both directions. on_close still comes. May be called again. */
static inline void stream_reset(struct stream *stream, uint32_t code)
{
	stream->transport->reset(stream, code);
}
