/*
 * grpc: what gRPC adds to HTTP/2: the five-byte message prefix, status codes, `grpc-timeout`, percent-encoded status
 * messages, and the request's header rules. Source: gRPC's PROTOCOL-HTTP2.md.
 */
#pragma once

#include "proto/buffer.h"
#include "proto/h2.h"

enum grpc_status {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_NOT_FOUND = 5,
	GRPC_ALREADY_EXISTS = 6,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_ABORTED = 10,
	GRPC_OUT_OF_RANGE = 11,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_DATA_LOSS = 15,
	GRPC_UNAUTHENTICATED = 16,
};

/* "OK", "NOT_FOUND", …; "UNKNOWN" for what is no code. */
const char *grpc_status_name(enum grpc_status status);

/* What an HTTP/2 reset code means as a status (PROTOCOL-HTTP2.md, "HTTP2 error codes"). */
enum grpc_status grpc_status_from_h2(uint32_t code);

/* `grpc-status`: one or two digits; what is no code is UNKNOWN. */
enum grpc_status grpc_status_parse(struct span text);

/* Of an answer that is no gRPC, from a proxy or some other server (gRPC's "HTTP to gRPC Status Code Mapping"). */
enum grpc_status grpc_status_from_http(struct span status);

#define GRPC_PREFIX_BYTES 5

/* Writes the prefix of a message of `size` bytes. */
void grpc_prefix(uint8_t prefix[static GRPC_PREFIX_BYTES], bool compressed, uint32_t size);

/*
 * Cuts a byte stream into messages. Feed any split; each message comes out once, whole and contiguous: borrowed from
 * `data` where it lies whole in it, else collected in the reader's own buffer.
 */
struct grpc_reader {
	uint8_t prefix[GRPC_PREFIX_BYTES];
	size_t prefix_size;
	struct buffer body;
	uint32_t body_size;
	uint32_t passed;                         /* of a message that comes in parts: given out already */
	bool compressed;
	size_t message_bytes_max;
	uint64_t bytes_copied;                   /* into `body` */
};

enum grpc_read {
	GRPC_READ_MORE = 0,                      /* all of `data` was taken, no message ended */
	GRPC_READ_MESSAGE = 1,                   /* `message` is set, borrowed until the next call or until `data` dies */
	GRPC_READ_TOO_LARGE = 2,
	GRPC_READ_BAD_FLAG = 3,
	GRPC_READ_PART = 4,                      /* grpc_reader_feed_parts() only */
};

void grpc_reader_init(struct grpc_reader *reader, size_t message_bytes_max);
void grpc_reader_fini(struct grpc_reader *reader);
/* Takes bytes from the front of `data` (advances it) until a message ends or it is empty. */
enum grpc_read grpc_reader_feed(struct grpc_reader *reader, struct span *data, struct span *message, bool *compressed);
/*
 * The same, but what is not compressed comes in parts, as it lies in `data`: GRPC_READ_PART with `message` the next part, of at
 * most GRPC_PART_BYTES_MAX, of which a message has one at least, and `left` the bytes of it that are still to come.
 */
#define GRPC_PART_BYTES_MAX (64u << 10)
enum grpc_read grpc_reader_feed_parts(struct grpc_reader *reader, struct span *data, struct span *message, bool *compressed,
                                      size_t *left);
/* True between messages: a stream may end here. */
bool grpc_reader_idle(const struct grpc_reader *reader);

/* `grpc-timeout` ("100m", at most 8 digits and a unit) to and from ns; false on anything else. */
bool grpc_timeout_parse(struct span text, uint64_t *timeout_ns);
size_t grpc_timeout_format(uint64_t timeout_ns, char text[static 16]);

/* Percent-encoding of `grpc-message`. Both write into `out` and return nothing lost but what did not fit. */
void grpc_message_encode(struct buffer *out, struct span text);
void grpc_message_decode(struct buffer *out, struct span text);

/* The parts of a request's headers that a call needs. Spans are borrowed from the request. */
struct grpc_request {
	struct span path;
	struct span authority;
	struct span authorization;               /* empty: none */
	uint64_t timeout_ns;                     /* 0: none */
	bool accepts_zstd;
	bool sends_zstd;
	bool unknown_compressor;                 /* grpc-encoding is neither identity nor zstd */
	const struct header *headers;
	size_t headers_count;
};

/* False when it is no gRPC request (method not POST, content-type not application/grpc*): answer HTTP 415. */
bool grpc_request_parse(struct grpc_request *request, const struct h2_request *head);
