/* The headers and trailers of a call: those a server sends, and what a client reads in them. */
#include "proto/call_private.h"

#include <assert.h>
#include <stdio.h>

struct header call_field(const char *name, struct span value)
{
	return (struct header){ .name = span_text(name), .value = value };
}

struct span call_field_find(const struct header *headers, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (span_is(headers[i].name, name))
			return headers[i].value;
	return span_make(NULL, 0);
}

/* ---- a server's ---- */

void call_send_headers(struct call *call, const struct header *more, size_t more_count, bool end)
{
	struct header headers[4 + CALL_MORE_HEADERS_MAX] = {
		call_field(":status", span_text("200")),
		call_field("content-type", span_text("application/grpc")),
		call_field("grpc-accept-encoding", span_text(CALL_ENCODINGS)),
	};
	size_t count = 3;

	assert(more_count <= CALL_MORE_HEADERS_MAX);
	/* Says only that flagged messages are zstd; each message has its own flag. */
	if (call->peer_zstd && !end)
		headers[count++] = call_field("grpc-encoding", span_text("zstd"));
	for (size_t i = 0; i < more_count; i++)
		headers[count++] = more[i];
	call->headers_sent = true;
	if (stream_headers(call->stream, headers, count, end) < 0)
		stream_reset(call->stream, CALL_CODE_CANCEL);
}

#define BASE64_BYTES(size) (((size) + 2) / 3 * 4)

/* Without padding, as gRPC writes binary header fields. */
static struct span base64(struct span bytes, char *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t bits = 0;
	unsigned have = 0;
	char *at = out;

	for (size_t i = 0; i < bytes.size; i++) {
		bits = bits << 8 | bytes.data[i];
		for (have += 8; have >= 6; have -= 6)
			*at++ = digits[bits >> (have - 6) & 63];
	}
	if (have)
		*at++ = digits[bits << (6 - have) & 63];
	return span_make(out, (size_t)(at - out));
}

void call_send_status(struct call *call)
{
	char number[8];
	uint8_t text[3 * CALL_STATUS_TEXT_MAX];
	struct buffer message = buffer_over(text, sizeof(text));
	char details[BASE64_BYTES(CALL_DETAILS_BYTES_MAX)];
	struct header trailers[3];
	size_t count = 0;

	snprintf(number, sizeof(number), "%u", (unsigned)call->status);
	trailers[count++] = call_field("grpc-status", span_text(number));
	grpc_message_encode(&message, span_make(call->status_message, call->status_size));
	if (message.size)
		trailers[count++] = call_field("grpc-message", buffer_span(&message));
	if (call->details.size)
		trailers[count++] = call_field("grpc-status-details-bin", base64(buffer_span(&call->details), details));
	if (!call->headers_sent)
		call_send_headers(call, trailers, count, true);
	else if (stream_trailers(call->stream, trailers, count) < 0)
		stream_reset(call->stream, CALL_CODE_CANCEL);
}

/* ---- the client's view ---- */

static void read_status(struct call *call, const struct header *headers, size_t count)
{
	struct span status = call_field_find(headers, count, "grpc-status");
	uint8_t text[CALL_STATUS_TEXT_ROOM];
	struct buffer message = buffer_over(text, sizeof(text));

	if (status.size == 0)
		return;
	grpc_message_decode(&message, call_field_find(headers, count, "grpc-message"));
	call_status_set(call, grpc_status_parse(status), buffer_span(&message));
}

static void read_http_status(struct call *call, struct span status)
{
	char text[64];

	snprintf(text, sizeof(text), "the server answered HTTP %.*s",
	         (int)(status.size < 3 ? status.size : 3), (const char *)status.data);
	call_status_set(call, grpc_status_from_http(status), span_text(text));
}

static bool content_is_grpc(struct span type)
{
	struct span wanted = span_text("application/grpc");

	return type.size >= wanted.size && memcmp(type.data, wanted.data, wanted.size) == 0;
}

void call_on_headers(struct stream *stream, const struct header *headers, size_t count)
{
	struct call *call = stream->owner;
	struct span status = call_field_find(headers, count, ":status");
	struct span encoding = call_field_find(headers, count, "grpc-encoding");

	read_status(call, headers, count);       /* "trailers only" */
	if (!call->status_known && !span_is(status, "200")) {
		read_http_status(call, status);
		call->deaf = true;               /* a body, if any, is a web page */
	} else if (!call->status_known && !content_is_grpc(call_field_find(headers, count, "content-type"))) {
		call_status_set(call, GRPC_UNKNOWN, span_text("the answer is not application/grpc"));
		call->deaf = true;
	}
	call->incoming_zstd = span_is(encoding, "zstd");
	if (encoding.size && !call->incoming_zstd && !span_is(encoding, "identity"))
		call_break(call, GRPC_UNIMPLEMENTED, CALL_TEXT_ENCODING);
}

void call_on_trailers(struct stream *stream, const struct header *headers, size_t count)
{
	struct call *call = stream->owner;

	if (!call->server)
		read_status(call, headers, count);
}
