/* What a call receives: a stream's bytes made into messages, what waits of them while it is held, and their end. */
#include "proto/call_private.h"

#include "proto/zstd_message.h"

#include <assert.h>
#include <stdio.h>

/* ---- the peer's window ---- */

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

/* ---- the memory of messages ---- */

/* What counts of it: 0, or more than CALL_UNMETERED_BYTES. */
static size_t kept_bytes(const struct call *call)
{
	size_t bytes = call->reader.body.capacity + call->inflated.capacity;

	return bytes > CALL_UNMETERED_BYTES ? bytes : 0;
}

static void drop_kept(struct call *call)
{
	buffer_fini(&call->reader.body);
	call->reader.body = buffer_heap(call->message_bytes_max);
	buffer_fini(&call->inflated);
}

void call_measure(struct call *call)
{
	size_t bytes;

	if (!call->meter || call->delivering)
		return;
	if (call->deaf && kept_bytes(call))
		drop_kept(call);
	bytes = kept_bytes(call);
	if (!bytes && !call->metered)
		return;
	if (!call->meter->kept(call->meter, call, bytes))
		call_break(call, GRPC_RESOURCE_EXHAUSTED, "too many long messages are on their way at a time; try again");
}

void call_trim(struct call *call)
{
	if (call->delivering || !grpc_reader_idle(&call->reader) || !kept_bytes(call))
		return;
	drop_kept(call);
	call_measure(call);
}

void call_go_deaf(struct call *call)
{
	call->deaf = true;
	call->shut = false;
	consumed(call, call->backlog.size - call->backlog_taken);
	give_withheld(call);
	buffer_fini(&call->backlog);
	call->backlog_taken = 0;
	call->end_pending = false;
	call_measure(call);
}

/* ---- messages ---- */

static void call_break_too_large(struct call *call)
{
	char text[80];

	snprintf(text, sizeof(text), "message is larger than the limit of %zu bytes", call->message_bytes_max);
	call_break(call, GRPC_RESOURCE_EXHAUSTED, text);
}

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

void call_on_data(struct stream *stream, struct span data)
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
	call_measure(call);
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

/* ---- the backlog ---- */

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

/* ---- the end ---- */

/* The client's half of a call that the server has ended: nobody reads what it would still send. */
static void stop_sending(struct call *call)
{
	if (call->stream && !call->server && !call->finished)
		stream_reset(call->stream, CALL_CODE_NO_ERROR);
}

static void deliver_end(struct call *call)
{
	call->end_pending = false;
	if (!grpc_reader_idle(&call->reader)) {
		call_break(call, GRPC_INTERNAL, "stream ended inside a message (truncated)");
		return;
	}
	if (!call->server && !call->status_known)
		call_status_set(call, GRPC_INTERNAL, span_text("stream ended without a status"));
	call->ended = true;
	call->delivering = true;
	if (call->events->on_end)
		call->events->on_end(call);
	call->delivering = false;
	stop_sending(call);
}

void call_on_end(struct stream *stream)
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

/* ---- hold and release ---- */

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
	call_measure(call);
	if (!call->held && call->end_pending)
		deliver_end(call);
	if (call->closing && (!call->held || call->deaf))
		call_deliver_closed(call);
}
