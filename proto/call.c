/* A gRPC call: messages and a status over the bytes, headers and trailers of a stream. */
#include "proto/call.h"

#include "proto/zstd_message.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define CODE_NO_ERROR 0
#define CODE_CANCEL   8

#define OWN_HEADERS   4                          /* that a client's call adds to its owner's, at most */

/* What we take as message encodings, in every direction. */
#define ACCEPTED_ENCODINGS "identity,zstd"

static const struct stream_events call_stream_events;

static struct header field(const char *name, struct span value)
{
	return (struct header){ .name = span_text(name), .value = value };
}

/* ---- status ---- */

static void status_set(struct call *call, enum grpc_status status, struct span text)
{
	size_t size = text.size < CALL_STATUS_TEXT_MAX ? text.size : CALL_STATUS_TEXT_MAX;

	if (call->status_known)
		return;                          /* the first reason is the reason */
	call->status_known = true;
	call->status = status;
	if (size)
		memcpy(call->status_message, text.data, size);
	call->status_message[size] = 0;
	call->status_size = size;
}

/* The server thinks that all went well, and it did not arrive so: then it did not go well. */
static void forget_ok(struct call *call)
{
	if (call->status == GRPC_OK)
		call->status_known = false;
}

static void consumed(struct call *call, size_t bytes)
{
	if (call->stream && bytes)
		stream_consumed(call->stream, bytes);
}

/* The owner has had it: the peer's window opens by as much, at once or with call_release(). */
static void taken(struct call *call, size_t bytes)
{
	if (call->shut)
		call->withheld += bytes;
	else
		consumed(call, bytes);
}

static void give_withheld(struct call *call)
{
	consumed(call, call->withheld);
	call->withheld = 0;
}

/* From now on nothing that arrives matters; what waits already opens the peer's window again. */
static void go_deaf(struct call *call)
{
	call->deaf = true;
	call->shut = false;
	consumed(call, call->backlog.size - call->backlog_taken);
	give_withheld(call);
	buffer_fini(&call->backlog);
	call->backlog_taken = 0;
	call->end_pending = false;
}

/* The peer broke the rules of messages: a server says so with the status, a client takes note of it and hangs up. */
static void call_break(struct call *call, enum grpc_status status, const char *text)
{
	if (call->server) {
		call_finish(call, status, text);
		return;
	}
	forget_ok(call);
	status_set(call, status, span_text(text));
	go_deaf(call);
	if (call->stream)
		stream_reset(call->stream, CODE_CANCEL);
}

static void call_break_too_large(struct call *call)
{
	char text[80];

	snprintf(text, sizeof(text), "message is larger than the limit of %zu bytes", call->message_bytes_max);
	call_break(call, GRPC_RESOURCE_EXHAUSTED, text);
}

/* ---- receiving ---- */

static void deliver_inflated(struct call *call, struct span message)
{
	if (!call->incoming_zstd) {
		call_break(call, GRPC_INTERNAL, "compressed message in a stream without grpc-encoding");
		return;
	}
	if (!call->inflated.size_max)
		call->inflated = buffer_heap(call->message_bytes_max);
	switch (zstd_message_inflate(&call->inflated, message)) {
	case ZSTD_MESSAGE_OK:
		call->events->on_message(call, buffer_span(&call->inflated));
		break;
	case ZSTD_MESSAGE_TOO_LARGE:
		call_break_too_large(call);
		break;
	case ZSTD_MESSAGE_CORRUPT:
		call_break(call, GRPC_INTERNAL, "message is not valid zstd");
		break;
	}
}

static enum grpc_read feed(struct call *call, struct span *data, struct span *message, bool *compressed, size_t *left)
{
	if (call->events->on_part)
		return grpc_reader_feed_parts(&call->reader, data, message, compressed, left);
	return grpc_reader_feed(&call->reader, data, message, compressed);
}

/* Takes bytes off the front of `data` until it is empty or the owner wants no more; the rest stays in it. */
static void deliver_messages(struct call *call, struct span *data)
{
	while (data->size && !call->held && !call->deaf) {
		struct span message;
		bool compressed;
		size_t left;

		switch (feed(call, data, &message, &compressed, &left)) {
		case GRPC_READ_MORE:
			break;
		case GRPC_READ_PART:
			call->events->on_part(call, message, left);
			break;
		case GRPC_READ_MESSAGE:
			if (compressed)
				deliver_inflated(call, message);
			else
				call->events->on_message(call, message);
			break;
		case GRPC_READ_TOO_LARGE:
			call_break_too_large(call);
			break;
		case GRPC_READ_BAD_FLAG:
			call_break(call, GRPC_INTERNAL, "unknown flag in a message prefix");
			break;
		}
	}
}

static void call_on_data(struct stream *stream, struct span data)
{
	struct call *call = stream->owner;
	struct span rest = data;

	if (call->deaf) {
		consumed(call, data.size);
		return;
	}
	call->bytes_received += data.size;
	call->delivering = true;
	/* While anything waits, everything queues behind it. */
	if (call->backlog.size == call->backlog_taken)
		deliver_messages(call, &rest);
	call->delivering = false;
	if (call->deaf) {
		consumed(call, data.size);
		return;
	}
	taken(call, data.size - rest.size);
	if (rest.size == 0)
		return;
	/* Bounded by the stream's window: these bytes are not consumed before they are delivered. */
	if (!call->backlog.size_max)
		call->backlog = buffer_heap(SIZE_MAX);
	buffer_put(&call->backlog, rest.data, rest.size);
	call->bytes_copied += rest.size;
	if (call->backlog.failed) {
		consumed(call, rest.size);
		call_break(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	}
}

/* An owner that takes one message at a time must not let the taken ones pile up; moved when it is worth it. */
static void backlog_compact(struct call *call)
{
	size_t left = call->backlog.size - call->backlog_taken;

	if (call->backlog_taken < left)
		return;
	memmove(call->backlog.data, call->backlog.data + call->backlog_taken, left);
	call->backlog.size = left;
	call->backlog_taken = 0;
}

/* The messages that came in while the call was held. */
static void deliver_backlog(struct call *call)
{
	/* Out of the call's hands meanwhile, so that going deaf does not free what is being read. */
	struct buffer backlog = call->backlog;
	size_t before = backlog.size - call->backlog_taken;
	struct span rest;

	if (before == 0)
		return;
	rest = span_make(backlog.data + call->backlog_taken, before);
	call->backlog = (struct buffer){ 0 };
	call->backlog_taken = 0;
	deliver_messages(call, &rest);
	if (call->deaf || rest.size == 0) {
		taken(call, before);
		buffer_fini(&backlog);
		return;
	}
	taken(call, before - rest.size);
	call->backlog = backlog;
	call->backlog_taken = backlog.size - rest.size;
	backlog_compact(call);
}

/* The client's half of a call that the server has ended: nobody reads what it would still send. */
static void stop_sending(struct call *call)
{
	if (call->stream && !call->server && !call->finished)
		stream_reset(call->stream, CODE_NO_ERROR);
}

static void deliver_end(struct call *call)
{
	call->end_pending = false;
	if (!grpc_reader_idle(&call->reader)) {
		call_break(call, GRPC_INTERNAL, "stream ended inside a message (truncated)");
		return;
	}
	if (!call->server && !call->status_known)
		status_set(call, GRPC_INTERNAL, span_text("stream ended without a status"));
	call->ended = true;
	call->delivering = true;
	if (call->events->on_end)
		call->events->on_end(call);
	call->delivering = false;
	stop_sending(call);
}

static void call_on_end(struct stream *stream)
{
	struct call *call = stream->owner;

	if (call->deaf) {
		stop_sending(call);
		return;
	}
	call->end_pending = true;
	if (!call->held)
		deliver_end(call);
}

/* ---- sending ---- */

static bool has_pending(const struct call *call)
{
	return call->pending.size > call->pending_sent;
}

/* Behind what already waits, else as far as the stream takes it. */
static void put(struct call *call, struct span data)
{
	size_t taken = has_pending(call) ? 0 : stream_write(call->stream, data);

	call->bytes_sent += data.size;
	if (taken == data.size)
		return;
	if (!call->pending.size_max)
		call->pending = buffer_heap(CALL_SEND_BYTES_MAX + GRPC_PREFIX_BYTES);
	buffer_put(&call->pending, data.data + taken, data.size - taken);
	call->bytes_copied += data.size - taken;
}

static void send_headers(struct call *call, const struct header *more, size_t more_count, bool end)
{
	struct header headers[8] = {
		field(":status", span_text("200")),
		field("content-type", span_text("application/grpc")),
		field("grpc-accept-encoding", span_text(ACCEPTED_ENCODINGS)),
	};
	size_t count = 3;

	/* Says only that flagged messages are zstd; each message has its own flag. */
	if (call->peer_zstd && !end)
		headers[count++] = field("grpc-encoding", span_text("zstd"));
	for (size_t i = 0; i < more_count; i++)
		headers[count++] = more[i];
	call->headers_sent = true;
	stream_headers(call->stream, headers, count, end);
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

static void send_status(struct call *call)
{
	char number[8];
	uint8_t text[3 * CALL_STATUS_TEXT_MAX];
	struct buffer message = buffer_over(text, sizeof(text));
	char details[BASE64_BYTES(CALL_DETAILS_BYTES_MAX)];
	struct header trailers[3];
	size_t count = 0;

	snprintf(number, sizeof(number), "%u", (unsigned)call->status);
	trailers[count++] = field("grpc-status", span_text(number));
	grpc_message_encode(&message, span_make(call->status_message, call->status_size));
	if (message.size)
		trailers[count++] = field("grpc-message", buffer_span(&message));
	if (call->details.size)
		trailers[count++] = field("grpc-status-details-bin", base64(buffer_span(&call->details), details));
	if (!call->headers_sent)
		send_headers(call, trailers, count, true);
	else if (stream_trailers(call->stream, trailers, count) < 0)
		stream_reset(call->stream, CODE_CANCEL);
}

/* After the last message: a client ends its side, a server says the status. */
static void send_end(struct call *call)
{
	if (!call->finishing || call->finished || has_pending(call) || call->lent)
		return;
	call->finished = true;
	if (call->unsent)
		stream_reset(call->stream, CODE_CANCEL); /* no status can follow half a message */
	else if (call->server)
		send_status(call);
	else
		stream_end(call->stream);
}

/* The stream has room for the loan that waited. False: the stream takes none any more, and the loan went back. */
static bool lend_now(struct call *call)
{
	struct loan *loan = call->lent;

	call->lent = NULL;
	if (stream_lend(call->stream, loan)) {
		send_end(call);
		return true;
	}
	loan->returned(loan);
	return false;
}

static void call_on_writable(struct stream *stream)
{
	struct call *call = stream->owner;

	if (has_pending(call))
		call->pending_sent += stream_write(stream, span_make(call->pending.data + call->pending_sent,
		                                                     call->pending.size - call->pending_sent));
	if (has_pending(call))
		return;
	buffer_fini(&call->pending);
	call->pending_sent = 0;
	if (call->lent && lend_now(call))
		return;
	call->lending = false;
	send_end(call);
	if (call->full_told && !call->finishing && call->events->on_writable) {
		call->full_told = false;
		call->events->on_writable(call);
	}
}

static enum call_outcome may_send(struct call *call)
{
	if (!call->stream || call->finishing || call->deaf)
		return CALL_CLOSED;
	if (!has_pending(call) && !call->lending && !call->unsent)
		return CALL_SENT;
	call->full_told = true;
	return CALL_FULL;
}

bool call_has_room(struct call *call)
{
	return may_send(call) == CALL_SENT;
}

/* Headers, when it is the first message, and the prefix of one. */
static void put_prefix_of(struct call *call, bool compressed, size_t size)
{
	uint8_t prefix[GRPC_PREFIX_BYTES];

	assert(size <= CALL_SEND_BYTES_MAX);
	if (call->server && !call->headers_sent)
		send_headers(call, NULL, 0, false);
	grpc_prefix(prefix, compressed, (uint32_t)size);
	put(call, span_make(prefix, sizeof(prefix)));
}

static size_t put_prefix(struct call *call, bool compressed, const struct span *parts, size_t count)
{
	size_t size = 0;

	for (size_t i = 0; i < count; i++)
		size += parts[i].size;
	put_prefix_of(call, compressed, size);
	return size;
}

static void put_message(struct call *call, bool compressed, const struct span *parts, size_t count)
{
	put_prefix(call, compressed, parts, count);
	for (size_t i = 0; i < count; i++)
		put(call, parts[i]);
	/* Half a message is on its way and its other half has no place: the stream cannot go on. */
	if (call->pending.failed)
		stream_reset(call->stream, CODE_CANCEL);
}

enum call_outcome call_send(struct call *call, struct span message, int level)
{
	enum call_outcome outcome = may_send(call);
	struct buffer deflated = { 0 };
	bool compressed = false;

	assert(message.size <= CALL_SEND_BYTES_MAX);
	if (outcome != CALL_SENT)
		return outcome;
	if (level && call->peer_zstd) {
		deflated = buffer_heap(2 * (size_t)CALL_SEND_BYTES_MAX);
		compressed = zstd_message_deflate(&deflated, message, level);
	}
	if (compressed)
		message = buffer_span(&deflated);
	put_message(call, compressed, &message, 1);
	buffer_fini(&deflated);
	return CALL_SENT;
}

enum call_outcome call_send_parts(struct call *call, const struct span *parts, size_t count)
{
	enum call_outcome outcome = may_send(call);

	if (outcome == CALL_SENT)
		put_message(call, false, parts, count);
	return outcome;
}

enum call_outcome call_send_begin(struct call *call, size_t size)
{
	enum call_outcome outcome = may_send(call);

	if (outcome != CALL_SENT)
		return outcome;
	put_prefix_of(call, false, size);
	call->unsent = size;
	return CALL_SENT;
}

void call_send_more(struct call *call, struct span part)
{
	if (!call->stream || call->finishing || call->deaf)
		return;
	assert(part.size <= call->unsent);
	call->unsent -= part.size;
	put(call, part);
	if (call->pending.failed)
		stream_reset(call->stream, CODE_CANCEL);
}

enum call_outcome call_lend(struct call *call, struct loan *loan)
{
	enum call_outcome outcome = may_send(call);
	size_t size;

	if (outcome != CALL_SENT)
		return outcome;
	size = put_prefix(call, false, loan->pieces, loan->count);
	call->bytes_sent += size;
	if (!has_pending(call) && stream_lend(call->stream, loan)) {
		call->lending = true;
		return CALL_SENT;
	}
	/* Behind what is left of the prefix. A stream that is gone never asks for it: then on_close gives it back. */
	call->lending = true;
	call->lent = loan;
	if (call->pending.failed)
		stream_reset(call->stream, CODE_CANCEL);
	return CALL_SENT;
}

enum call_outcome call_send_deflated(struct call *call, struct span deflated)
{
	enum call_outcome outcome = may_send(call);

	assert(call->peer_zstd);
	if (outcome == CALL_SENT)
		put_message(call, true, &deflated, 1);
	return outcome;
}

bool call_takes_zstd(const struct call *call)
{
	return call->peer_zstd;
}

void call_end(struct call *call)
{
	assert(!call->server);
	if (!call->stream || call->finishing)
		return;
	call->finishing = true;
	send_end(call);
}

void call_finish(struct call *call, enum grpc_status status, const char *text)
{
	assert(call->server);
	if (!call->stream || call->finishing)
		return;
	status_set(call, status, span_text(text ? text : ""));
	call->finishing = true;
	go_deaf(call);
	send_end(call);
}

void call_finish_details(struct call *call, enum grpc_status status, const char *text, struct span details)
{
	if (call->stream && !call->finishing && details.size <= CALL_DETAILS_BYTES_MAX) {
		call->details = buffer_heap(CALL_DETAILS_BYTES_MAX);
		buffer_put(&call->details, details.data, details.size);
	}
	call_finish(call, status, text);
}

void call_finishf(struct call *call, enum grpc_status status, const char *format, ...)
{
	char text[CALL_STATUS_TEXT_MAX + 1];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	call_finish(call, status, text);
}

/* ---- the client's view of headers and trailers ---- */

static struct span field_find(const struct header *headers, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (span_is(headers[i].name, name))
			return headers[i].value;
	return span_make(NULL, 0);
}

static void read_status(struct call *call, const struct header *headers, size_t count)
{
	struct span status = field_find(headers, count, "grpc-status");
	uint8_t text[CALL_STATUS_TEXT_MAX];
	struct buffer message = buffer_over(text, sizeof(text));

	if (status.size == 0)
		return;
	grpc_message_decode(&message, field_find(headers, count, "grpc-message"));
	status_set(call, grpc_status_parse(status), buffer_span(&message));
}

static void read_http_status(struct call *call, struct span status)
{
	char text[64];

	snprintf(text, sizeof(text), "the server answered HTTP %.*s",
	         (int)(status.size < 3 ? status.size : 3), (const char *)status.data);
	status_set(call, grpc_status_from_http(status), span_text(text));
}

static bool content_is_grpc(struct span type)
{
	struct span wanted = span_text("application/grpc");

	return type.size >= wanted.size && memcmp(type.data, wanted.data, wanted.size) == 0;
}

static void call_on_headers(struct stream *stream, const struct header *headers, size_t count)
{
	struct call *call = stream->owner;
	struct span status = field_find(headers, count, ":status");
	struct span encoding = field_find(headers, count, "grpc-encoding");

	read_status(call, headers, count);       /* "trailers only" */
	if (!call->status_known && !span_is(status, "200")) {
		read_http_status(call, status);
		call->deaf = true;               /* a body, if any, is a web page */
	} else if (!call->status_known && !content_is_grpc(field_find(headers, count, "content-type"))) {
		status_set(call, GRPC_UNKNOWN, span_text("the answer is not application/grpc"));
		call->deaf = true;
	}
	call->incoming_zstd = span_is(encoding, "zstd");
	if (encoding.size && !call->incoming_zstd && !span_is(encoding, "identity"))
		call_break(call, GRPC_UNIMPLEMENTED, "unknown grpc-encoding; accepted are " ACCEPTED_ENCODINGS);
}

static void call_on_trailers(struct stream *stream, const struct header *headers, size_t count)
{
	struct call *call = stream->owner;

	if (!call->server)
		read_status(call, headers, count);
}

/* ---- the end ---- */

static void deliver_closed(struct call *call)
{
	struct loan *loan = call->lent;

	call->lent = NULL;
	if (loan)
		loan->returned(loan);
	call->closing = false;
	call->stream = NULL;
	go_deaf(call);                           /* a release that comes late finds nothing to deliver */
	call->events->on_closed(call, call->status, span_make(call->status_message, call->status_size));
}

static void code_text(uint32_t code, char text[static 64])
{
	if (code == H2_CARRIER_CLOSED)
		snprintf(text, 64, "connection lost");
	else if (code == CODE_NO_ERROR)
		snprintf(text, 64, "stream ended without a status");
	else
		snprintf(text, 64, "stream reset with HTTP/2 code %u", code);
}

/* The owner knows what status it gave; what it learns here is if that went out. */
static void close_server(struct call *call, uint32_t code)
{
	char text[64] = "";
	bool said = call->finished && code == CODE_NO_ERROR;

	if (!said)
		code_text(code, text);
	call->status_known = false;
	status_set(call, said ? GRPC_OK : GRPC_CANCELLED, span_text(text));
	deliver_closed(call);
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
	status_set(call, grpc_status_from_h2(code), span_text(text));
	deliver_closed(call);
}

void call_hold(struct call *call)
{
	call->held = true;
}

void call_shut(struct call *call)
{
	call->shut = true;
}

void call_release(struct call *call)
{
	call->held = call->shut = false;
	give_withheld(call);
	if (call->delivering)
		return;
	call->delivering = true;
	deliver_backlog(call);
	call->delivering = false;
	if (!call->held && call->end_pending)
		deliver_end(call);
	if (call->closing && (!call->held || call->deaf))
		deliver_closed(call);
}

void call_cancel(struct call *call)
{
	go_deaf(call);
	if (call->stream)
		stream_reset(call->stream, CODE_CANCEL);
	else if (call->closing && !call->delivering)
		deliver_closed(call);
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
		call_finish(call, GRPC_UNIMPLEMENTED, "unknown grpc-encoding; accepted are " ACCEPTED_ENCODINGS);
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
	headers[0] = field("content-type", span_text("application/grpc"));
	headers[1] = field("te", span_text("trailers"));
	headers[2] = field("grpc-accept-encoding", span_text(ACCEPTED_ENCODINGS));
	if (timeout_ns) {
		size_t size = grpc_timeout_format(timeout_ns, timeout);

		headers[request.headers_count++] = field("grpc-timeout", span_make(timeout, size));
	}
	for (size_t i = 0; i < metadata_count; i++)
		headers[request.headers_count++] = metadata[i];
	call_init(call, false, message_bytes_max, events, owner);
	call->peer_zstd = span_is(field_find(metadata, metadata_count, "grpc-encoding"), "zstd");
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

struct buffer call_take_message(struct call *call)
{
	struct buffer message = call->inflated;

	assert(call->events->on_part && call->delivering);
	call->inflated = (struct buffer){ 0 };
	return message;
}

static bool holds(const struct buffer *buffer, struct span message)
{
	return message.size && buffer->data == message.data && buffer->size == message.size;
}

struct buffer call_keep_message(struct call *call, struct span message)
{
	struct buffer *made = holds(&call->reader.body, message) ? &call->reader.body :
	                      holds(&call->inflated, message) ? &call->inflated : NULL;
	struct buffer kept = buffer_heap(call->message_bytes_max);

	assert(!call->events->on_part);
	if (!made) {
		buffer_put(&kept, message.data, message.size);
		call->bytes_copied += message.size;
		return kept;
	}
	kept = *made;
	*made = buffer_heap(call->message_bytes_max);
	return kept;
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
