/* A call's life: how it begins, what breaks it, how it ends. */
#include "proto/call_private.h"

#include "proto/escape.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define OWN_HEADERS 4                            /* that a client's call adds to its owner's, at most */

/* ---- status ---- */

/* A status is text: who hears it may put it into a message, which strict readers refuse as a whole when a string is none. */
void call_status_set(struct call *call, enum grpc_status status, struct span text)
{
	struct buffer message = buffer_over(call->status_message, CALL_STATUS_TEXT_MAX);

	if (call->status_known)
		return;                          /* the first reason is the reason */
	call->status_known = true;
	call->status = status;
	utf8_put(&message, text);
	call->status_message[message.size] = 0;
	call->status_size = message.size;
}

/* The server thinks that all went well, and it did not arrive so: then it did not go well. */
static void forget_ok(struct call *call)
{
	if (call->status == GRPC_OK)
		call->status_known = false;
}

void call_break(struct call *call, enum grpc_status status, const char *text)
{
	if (call->server) {
		call_finish(call, status, text);
		return;
	}
	forget_ok(call);
	call_status_set(call, status, span_text(text));
	call_go_deaf(call);
	if (call->stream)
		stream_reset(call->stream, CALL_CODE_CANCEL);
}

/* ---- the end ---- */

void call_deliver_closed(struct call *call)
{
	struct loan *loan = call->lent;

	call->lent = NULL;
	if (loan)
		loan->returned(loan);
	call->closing = false;
	call->stream = NULL;
	call_go_deaf(call);                      /* a release that comes late finds nothing to deliver */
	if (call->metered)
		call->meter->kept(call->meter, call, 0);
	call->meter = NULL;
	call->events->on_closed(call, call->status, span_make(call->status_message, call->status_size));
}

static void code_text(uint32_t code, char text[static 64])
{
	if (code == H2_CARRIER_CLOSED)
		snprintf(text, 64, "connection lost");
	else if (code == CALL_CODE_NO_ERROR)
		snprintf(text, 64, "stream ended without a status");
	else
		snprintf(text, 64, "stream reset with HTTP/2 code %u", code);
}

/* The owner knows what status it gave; what it learns here is if that went out. */
static void close_server(struct call *call, uint32_t code)
{
	char text[64] = "";
	bool said = call->finished && code == CALL_CODE_NO_ERROR;

	if (!said)
		code_text(code, text);
	call->status_known = false;
	call_status_set(call, said ? GRPC_OK : GRPC_CANCELLED, span_text(text));
	call_deliver_closed(call);
}

/*
 * A client may hold messages that have all arrived, with their status, before the stream closes: then the end waits
 * behind them. A stream that broke in the middle has no such order to keep.
 */
static void call_on_close(struct stream *stream, uint32_t code)
{
	struct call *call = stream->owner;
	char text[64];

	call->stream = NULL;
	call->carrier_lost = code == H2_CARRIER_CLOSED;
	if (call->server) {
		close_server(call, code);
		return;
	}
	if (call->held && call->end_pending) {
		call->closing = true;
		return;
	}
	if (!call->ended)
		forget_ok(call);
	code_text(code, text);
	call_status_set(call, grpc_status_from_h2(code), span_text(text));
	call_deliver_closed(call);
}

void call_cancel(struct call *call)
{
	call_go_deaf(call);
	if (call->stream)
		stream_reset(call->stream, CALL_CODE_CANCEL);
	else if (call->closing && !call->delivering)
		call_deliver_closed(call);
}

static const struct stream_events call_stream_events = {
	.on_headers = call_on_headers,
	.on_data = call_on_data,
	.on_trailers = call_on_trailers,
	.on_end = call_on_end,
	.on_writable = call_on_writable,
	.on_close = call_on_close,
};

/* ---- the beginning ---- */

static void call_init(struct call *call, bool server, size_t message_bytes_max, const struct call_events *events,
                      void *owner)
{
	assert(events && events->on_message && events->on_closed);
	*call = (struct call){
		.events = events,
		.owner = owner,
		.server = server,
		.message_bytes_max = message_bytes_max,
	};
	grpc_reader_init(&call->reader, message_bytes_max);
}

void call_accept(struct call *call, struct stream *stream, const struct grpc_request *head, size_t message_bytes_max,
                 const struct call_events *events, void *owner)
{
	call_init(call, true, message_bytes_max, events, owner);
	call->stream = stream;
	call->peer_zstd = head->accepts_zstd;
	call->incoming_zstd = head->sends_zstd;
	stream->events = &call_stream_events;
	stream->owner = call;
	if (head->unknown_compressor)
		call_finish(call, GRPC_UNIMPLEMENTED, CALL_TEXT_ENCODING);
}

struct call *call_of(const struct stream *stream)
{
	return stream->events == &call_stream_events ? stream->owner : NULL;
}

int call_start(struct call *call, struct h2 *h2, const char *path, struct span authority, uint64_t timeout_ns,
               const struct header *metadata, size_t metadata_count, size_t message_bytes_max,
               const struct call_events *events, void *owner)
{
	char timeout[16];
	struct header few[STREAM_HEADERS_MAX], *headers = few;
	struct h2_request request = {
		.method = span_text("POST"), .scheme = span_text("http"), .path = span_text(path), .authority = authority,
		.headers_count = 3,
	};
	int r;

	if (metadata_count > STREAM_HEADERS_MAX - OWN_HEADERS)
		headers = malloc((metadata_count + OWN_HEADERS) * sizeof(*headers));
	if (!headers)
		return -ENOMEM;
	request.headers = headers;
	headers[0] = call_field("content-type", span_text("application/grpc"));
	headers[1] = call_field("te", span_text("trailers"));
	headers[2] = call_field("grpc-accept-encoding", span_text(CALL_ENCODINGS));
	if (timeout_ns) {
		size_t size = grpc_timeout_format(timeout_ns, timeout);

		headers[request.headers_count++] = call_field("grpc-timeout", span_make(timeout, size));
	}
	for (size_t i = 0; i < metadata_count; i++)
		headers[request.headers_count++] = metadata[i];
	call_init(call, false, message_bytes_max, events, owner);
	call->peer_zstd = span_is(call_field_find(metadata, metadata_count, "grpc-encoding"), "zstd");
	r = h2_open(h2, &call->stream, &request, false, &call_stream_events, call);
	if (headers != few)
		free(headers);
	if (r < 0)
		call_fini(call);
	return r;
}

struct stream *call_give_back(struct call *call)
{
	struct stream *stream = call->stream;

	assert(call->server);
	if (!stream || call->headers_sent || call->finishing || call->ended || call->end_pending || call->bytes_received ||
	    call->backlog.size || !grpc_reader_idle(&call->reader))
		return NULL;
	call->stream = NULL;
	call_fini(call);
	*call = (struct call){ 0 };
	return stream;
}

uint64_t call_bytes_copied(const struct call *call)
{
	return call->bytes_copied + call->reader.bytes_copied;
}

void call_fini(struct call *call)
{
	assert(!call->stream);
	grpc_reader_fini(&call->reader);
	buffer_fini(&call->backlog);
	buffer_fini(&call->pending);
	buffer_fini(&call->inflated);
	buffer_fini(&call->details);
	*call = (struct call){ 0 };
}
