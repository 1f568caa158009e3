/*
 * nest: an HTTP/2 connection inside a gRPC call of BytesMessages, as BuildKit's Control/Session carries one. The outer
 * peer's role and the inner one cross: where buildx is our client outside, it is the server inside, and the other way
 * round at the daemon. Message boundaries mean nothing.
 *
 * Embedded in its owner. Back-pressure: inner frames are made only while the outer call has room, so what waits is bounded by
 * the out-queues of both; outer bytes are taken at once, as the inner windows bound what they may bring.
 *
 * Loop context: on the ring's thread; inner events come from inside the outer stream's events or from the nest's own turn.
 * Source: research of the wire (Control/Session, B.2), moby/buildkit session/grpchijack.
 */
#pragma once

#include "gateway/ring/ring.h"
#include "proto/buildkit.h"
#include "proto/call.h"

#define NEST_MESSAGE_BYTES_MAX (16u << 20)       /* what BuildKit's own ends allow */
/*
 * Inner streams at a time that the outer server may open. buildx's end takes 250: a call that cannot be carried there is refused, and
 * grpc-go tries a refused one once more and fails, while it waits for one of these to end. The rest is for calls of our own.
 */
#define NEST_STREAMS_MAX       240
/*
 * Larger than grpc-go's 64 KiB, as both of BuildKit's own inner ends announce: the windows bound what may wait in a stream
 * whose other side does not take it.
 */
#define NEST_STREAM_WINDOW_BYTES     (2u << 20)
#define NEST_CONNECTION_WINDOW_BYTES (16u << 20)
#define NEST_QUIET_NS                5000000000ull       /* a Go server gives up a client that says no preface for 10 s */
#define NEST_HEADERS_MAX       8192u             /* a call: a field for each pattern of a .dockerignore */
#define NEST_HEADER_BYTES_MAX  (1u << 20)        /* as BuildKit's own inner ends take */

struct nest;

struct nest_events {
	/* As h2_events.on_stream, of the inner engine where it is the server. */
	int (*on_stream)(struct nest *nest, struct stream *stream, const struct h2_request *request);
	/* The outer peer has half-closed: no more inner bytes come. Optional. */
	void (*on_end)(struct nest *nest);
	/*
	 * Last, once: the outer call has ended, after the inner streams have had their on_close (H2_CARRIER_CLOSED). Status and
	 * `message` (borrowed) are those of call_events.on_closed. The nest may be used again after the return.
	 */
	void (*on_closed)(struct nest *nest, enum grpc_status status, struct span message);
};

struct nest {
	struct h2 *h2;                           /* the inner engine; NULL before the start and from on_closed on */
	struct call call;
	/* The rest is the nest's. */
	struct ring *ring;
	const struct nest_events *events;
	void *owner;
	struct op turn;
	bool quiet;                              /* says nothing yet; the turn is when it does */
	uint64_t bytes_copied;                   /* in on_closed: to and from the queues of both levels */
	bool closed;                             /* the call has ended; on_closed waits for the turn to land */
	struct bytes_message_reader incoming;
	enum grpc_status status;
	char message[CALL_STATUS_TEXT_MAX + 1];
};

struct nest_config {
	struct ring *ring;
	const struct nest_events *events;
	void *owner;
};

/*
 * We are the outer server and the inner client: takes `stream` over inside on_stream. The outer response headers and
 * the inner preface go out with the first stream that is opened, or after NEST_QUIET_NS: BuildKit's end makes garbage of what is
 * still on its way to it when it closes (grpchijack's conn.Close() keeps its whole buffer instead of the message), and tells its
 * user of a PROTOCOL_ERROR. buildx's probe opens a session and closes it at once. 0 or -ENOMEM, and the stream is as before.
 */
int nest_accept(struct nest *nest, const struct nest_config *config, struct stream *stream, const struct grpc_request *head);
/*
 * We are the outer client and the inner server: opens `path` on `outer` with these header fields besides gRPC's own. 0, or
 * as call_start().
 */
int nest_start(struct nest *nest, const struct nest_config *config, struct h2 *outer, const char *path, struct span authority,
               const struct header *metadata, size_t metadata_count);

/* Open, and new inner streams have a meaning. */
bool nest_is_open(const struct nest *nest);
/* Ends the inner connection: inner streams get on_close, nothing more goes in or out. Not from inside an inner event. */
void nest_shut(struct nest *nest);
/* True while the nest must not be freed: from the start to the end of on_closed. */
bool nest_in_use(const struct nest *nest);
