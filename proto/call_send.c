/* What a call sends: messages, copied or lent, what waits of them for room in the stream, and the end behind them. */
#include "proto/call_private.h"

#include "proto/zstd_message.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

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

/* After the last message: a client ends its side, a server says the status. */
static void send_end(struct call *call)
{
	if (!call->finishing || call->finished || has_pending(call) || call->lent)
		return;
	call->finished = true;
	if (call->unsent)
		stream_reset(call->stream, CALL_CODE_CANCEL); /* no status can follow half a message */
	else if (call->server)
		call_send_status(call);
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

void call_on_writable(struct stream *stream)
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

/* ---- messages ---- */

static enum call_outcome may_send(struct call *call)
{
	if (!call->stream || call->finishing || call->deaf || call->pending.failed)
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

size_t call_untaken(const struct call *call)
{
	size_t size = call->pending.size - call->pending_sent;

	if (!call->stream)
		return 0;
	for (size_t i = 0; call->lent && i < call->lent->count; i++)
		size += call->lent->pieces[i].size;
	return size + stream_untaken(call->stream);
}

/* Headers, when it is the first message, and the prefix of one. */
static void put_prefix_of(struct call *call, bool compressed, size_t size)
{
	uint8_t prefix[GRPC_PREFIX_BYTES];

	assert(size <= CALL_SEND_BYTES_MAX);
	if (call->server && !call->headers_sent)
		call_send_headers(call, NULL, 0, false);
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
		stream_reset(call->stream, CALL_CODE_CANCEL);
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
	if (!call->stream || call->finishing || call->deaf || call->pending.failed)
		return;
	assert(part.size <= call->unsent);
	call->unsent -= part.size;
	put(call, part);
	if (call->pending.failed)
		stream_reset(call->stream, CALL_CODE_CANCEL);
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
		stream_reset(call->stream, CALL_CODE_CANCEL);
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

/* ---- the end ---- */

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
	call_status_set(call, status, span_text(text ? text : ""));
	call->finishing = true;
	call_go_deaf(call);
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
	char text[CALL_STATUS_TEXT_ROOM + 1];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	call_finish(call, status, text);
}
