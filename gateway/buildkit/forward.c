/* A call that passes through: what comes on one of two streams goes out on the other. */
#include "gateway/buildkit/forward.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"

#define CODE_NONE         0u             /* RFC 9113 section 7 */
#define CODE_INTERNAL     2u
#define CODE_CANCEL       8u
/* Twice what one peer may send before the other takes it (a stream's receive window), and room to spare. */
#define WAITING_BYTES_MAX (16u << 20)

/* One of the two streams, and what waits to go out on it. */
struct side {
	struct forward *forward;
	struct side *other;
	struct stream *stream;           /* NULL: closed */
	struct buffer waiting;           /* came on the other stream, and this one's queue was full */
	size_t waiting_sent;
	bool ending;                     /* nothing comes after `waiting` */
	bool ended;                      /* and that was said */
};

struct forward {
	struct forward_owner *owner;
	struct list link;
	struct side client, executor;
	bool headers_sent;               /* to the client */
	struct header *trailers;         /* for the client, behind `waiting`; one allocation with their bytes */
	size_t trailers_count;
};

static void forward_join(struct forward *forward)
{
	if (forward->client.stream || forward->executor.stream)
		return;
	list_remove(&forward->link);
	buffer_fini(&forward->client.waiting);
	buffer_fini(&forward->executor.waiting);
	free(forward->trailers);
	free(forward);
}

static void side_reset(struct side *side, uint32_t code)
{
	if (side->stream)
		stream_reset(side->stream, code);
}

/* Without memory the call cannot be kept whole. */
static void forward_break(struct forward *forward)
{
	side_reset(&forward->client, CODE_INTERNAL);
	side_reset(&forward->executor, CODE_INTERNAL);
}

/* ---- bytes and ends ---- */

static void side_finish(struct side *side)
{
	struct forward *forward = side->forward;

	side->ended = true;
	if (side == &forward->client && forward->trailers) {
		if (stream_trailers(side->stream, forward->trailers, forward->trailers_count) < 0)
			side_reset(side, CODE_INTERNAL);
	} else {
		stream_end(side->stream);
	}
}

/* Hands on what it can; returns how much. The peer that sent it may send as much again. */
static size_t side_write(struct side *side, struct span data)
{
	size_t taken = side->stream ? stream_write(side->stream, data) : 0;

	if (taken && side->other->stream)
		stream_consumed(side->other->stream, taken);
	return taken;
}

static void side_flush(struct side *side)
{
	if (!side->stream)
		return;
	if (side->waiting.size > side->waiting_sent) {
		struct span rest = span_make(side->waiting.data + side->waiting_sent, side->waiting.size - side->waiting_sent);
		size_t taken = side_write(side, rest);

		side->waiting_sent += taken;
		if (taken < rest.size)
			return;
		buffer_fini(&side->waiting);
		side->waiting = buffer_heap(WAITING_BYTES_MAX);
		side->waiting_sent = 0;
	}
	if (side->ending && !side->ended)
		side_finish(side);
}

/* What was sent already makes room once it is the larger part, so each byte is moved less than once. */
static void side_compact(struct side *side)
{
	size_t rest = side->waiting.size - side->waiting_sent;

	if (side->waiting_sent < rest)
		return;
	memmove(side->waiting.data, side->waiting.data + side->waiting_sent, rest);
	side->waiting.size = rest;
	side->waiting_sent = 0;
}

/* Takes what came for this side. */
static void side_take(struct side *side, struct span data)
{
	size_t taken = 0;

	if (!side->stream) {
		stream_consumed(side->other->stream, data.size);         /* nobody is there any more */
		return;
	}
	if (side->waiting.size == 0)
		taken = side_write(side, data);
	if (taken == data.size)
		return;
	if (side->waiting_sent)
		side_compact(side);
	buffer_put(&side->waiting, data.data + taken, data.size - taken);
	if (side->waiting.failed)
		forward_break(side->forward);
}

static void side_end(struct side *side)
{
	side->ending = true;
	side_flush(side);
}

/* ---- the client's stream ---- */

static struct forward *of_client(struct stream *stream)
{
	return stream->owner;
}

static void client_on_data(struct stream *stream, struct span data)
{
	side_take(&of_client(stream)->executor, data);
}

static void client_on_end(struct stream *stream)
{
	side_end(&of_client(stream)->executor);
}

static void client_on_writable(struct stream *stream)
{
	side_flush(&of_client(stream)->client);
}

/* The executor stops working for who is gone. When it had answered all, the reset only says that no more comes. */
static void client_on_close(struct stream *stream, uint32_t code)
{
	struct forward *forward = of_client(stream);

	forward->client.stream = NULL;
	side_reset(&forward->executor, forward->client.ended ? CODE_NONE : CODE_CANCEL);
	forward_join(forward);
}

static const struct stream_events client_events = {
	.on_data = client_on_data, .on_end = client_on_end, .on_writable = client_on_writable, .on_close = client_on_close,
};

/* ---- the executor's stream ---- */

static bool names_status(const struct header *headers, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (span_is(headers[i].name, "grpc-status"))
			return true;
	return false;
}

/* A status in the first block is the whole answer ("Trailers-Only"): nothing but the stream's end follows. */
static void executor_on_headers(struct stream *stream, const struct header *headers, size_t count)
{
	struct forward *forward = stream->owner;
	bool whole = names_status(headers, count);

	if (!forward->client.stream || forward->headers_sent)
		return;
	forward->headers_sent = true;
	forward->client.ending = forward->client.ended = whole;
	if (stream_headers(forward->client.stream, headers, count, whole) < 0)
		forward_break(forward);
}

static void executor_on_data(struct stream *stream, struct span data)
{
	side_take(&((struct forward *)stream->owner)->client, data);
}

static struct header *copy_headers(const struct header *headers, size_t count)
{
	size_t bytes = 0;
	struct header *copies;
	uint8_t *place;

	for (size_t i = 0; i < count; i++)
		bytes += headers[i].name.size + headers[i].value.size;
	copies = malloc(count * sizeof(*copies) + bytes + 1);
	if (!copies)
		return NULL;
	place = (uint8_t *)(copies + count);
	for (size_t i = 0; i < count; i++) {
		struct span from[2] = { headers[i].name, headers[i].value }, to[2];

		for (size_t k = 0; k < 2; k++) {
			if (from[k].size)
				memcpy(place, from[k].data, from[k].size);
			to[k] = span_make(place, from[k].size);
			place += from[k].size;
		}
		copies[i] = (struct header){ .name = to[0], .value = to[1], .sensitive = headers[i].sensitive };
	}
	return copies;
}

static void executor_on_trailers(struct stream *stream, const struct header *headers, size_t count)
{
	struct forward *forward = stream->owner;

	if (forward->trailers || count == 0)
		return;
	forward->trailers = copy_headers(headers, count);
	forward->trailers_count = count;
	if (!forward->trailers)
		forward_break(forward);
}

static void executor_on_end(struct stream *stream)
{
	side_end(&((struct forward *)stream->owner)->client);
}

static void executor_on_writable(struct stream *stream)
{
	side_flush(&((struct forward *)stream->owner)->executor);
}

/* The client reads whose fault it was, behind all that had come before. */
static void tell_lost(struct forward *forward)
{
	uint8_t storage[3 * 512];
	struct buffer encoded = buffer_over(storage, sizeof(storage));
	struct header fields[4];
	size_t count = 0;
	char text[512];

	snprintf(text, sizeof(text), "the connection to executor %s was lost: start the build again",
	         forward->owner->executor);
	grpc_message_encode(&encoded, span_text(text));
	if (!forward->headers_sent) {
		fields[count++] = (struct header){ .name = span_text(":status"), .value = span_text("200") };
		fields[count++] = (struct header){ .name = span_text("content-type"), .value = span_text("application/grpc") };
	}
	fields[count++] = (struct header){ .name = span_text("grpc-status"), .value = span_text("14") };
	fields[count++] = (struct header){ .name = span_text("grpc-message"), .value = buffer_span(&encoded) };
	if (!forward->headers_sent) {
		forward->headers_sent = forward->client.ending = forward->client.ended = true;
		if (stream_headers(forward->client.stream, fields, count, true) < 0)
			side_reset(&forward->client, CODE_INTERNAL);
		return;
	}
	free(forward->trailers);
	forward->trailers = copy_headers(fields, count);
	forward->trailers_count = count;
	if (forward->trailers)
		side_end(&forward->client);
	else
		side_reset(&forward->client, CODE_INTERNAL);
}

static void executor_on_close(struct stream *stream, uint32_t code)
{
	struct forward *forward = stream->owner;

	forward->executor.stream = NULL;
	if (code == H2_CARRIER_CLOSED)
		forward->owner->lost++;
	if (forward->client.stream && !forward->client.ending) {
		if (code == H2_CARRIER_CLOSED)
			tell_lost(forward);
		else
			side_reset(&forward->client, code == CODE_NONE ? CODE_CANCEL : code);
	}
	forward_join(forward);
}

static const struct stream_events executor_events = {
	.on_headers = executor_on_headers, .on_data = executor_on_data, .on_trailers = executor_on_trailers,
	.on_end = executor_on_end, .on_writable = executor_on_writable, .on_close = executor_on_close,
};

/* ---- opening ---- */

void forward_owner_init(struct forward_owner *owner, const char *executor)
{
	*owner = (struct forward_owner){ .executor = executor };
	list_init(&owner->forwards);
}

int forward_open(struct forward_owner *owner, struct h2 *to, struct stream *from, const struct grpc_request *request)
{
	struct forward *forward = calloc(1, sizeof(*forward));
	struct h2_request head = {
		.method = span_text("POST"), .scheme = span_text("http"), .path = request->path,
		.authority = request->authority.size ? request->authority : span_text("localhost"),
		.headers = request->headers, .headers_count = request->headers_count,
	};
	int r;

	if (!forward)
		return ERR_RAISE(-ENOMEM);
	forward->owner = owner;
	forward->client = (struct side){ .forward = forward, .other = &forward->executor, .stream = from };
	forward->executor = (struct side){ .forward = forward, .other = &forward->client };
	forward->client.waiting = buffer_heap(WAITING_BYTES_MAX);
	forward->executor.waiting = buffer_heap(WAITING_BYTES_MAX);
	r = h2_open(to, &forward->executor.stream, &head, false, &executor_events, forward);
	if (r < 0) {
		free(forward);
		return ERR_RAISE(r);
	}
	from->events = &client_events;
	from->owner = forward;
	list_append(&owner->forwards, &forward->link);
	owner->opened++;
	return 0;
}
