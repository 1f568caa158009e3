/* A call that is held, or passes through: what comes on one of two streams goes out on the other. */
#include "gateway/session/forward.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/session/headers.h"

#define CODE_NONE         0u             /* RFC 9113 section 7 */
#define CODE_INTERNAL     2u
#define CODE_CANCEL       8u
/* A whole message, twice what one peer may send before the other takes it (a stream's receive window), room to spare. */
#define WAITING_BYTES_MAX (FORWARD_MESSAGE_BYTES_MAX + (4u << 20))
#define STATUS_TEXT_MAX   1024

static void forward_fini(struct forward *forward)
{
	CHECK(forward->account->bytes >= forward->upstream.credited);
	forward->account->bytes -= forward->upstream.credited;
	forward->upstream.credited = 0;
	buffer_fini(&forward->client.waiting);
	buffer_fini(&forward->upstream.waiting);
	buffer_fini(&forward->kept);
	grpc_reader_fini(&forward->reader);
	free(forward->head);
	free(forward->trailers);
	forward->head = forward->trailers = NULL;
}

static void forward_join(struct forward *forward)
{
	if (forward->client.stream || forward->upstream.stream)
		return;
	forward_fini(forward);
	forward->events->on_gone(forward);
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
	side_reset(&forward->upstream, CODE_INTERNAL);
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

/* By messages the executor may send more when nothing of it waits here. */
static void forward_settle(struct forward *forward)
{
	if (forward->owed && forward->client.waiting.size == 0 && forward->upstream.stream) {
		stream_consumed(forward->upstream.stream, forward->owed);
		forward->owed = 0;
	}
}

/* `taken` bytes for this side are out of our hands: their sender may send as much again. */
static void side_credit(struct side *side, size_t taken)
{
	size_t known = taken < side->credited ? taken : side->credited;

	side->credited -= known;
	side->forward->account->bytes -= known;
	if (side == &side->forward->client && side->forward->by_messages)
		return;
	if (taken > known && side->other->stream)
		stream_consumed(side->other->stream, taken - known);
}

static size_t side_write(struct side *side, struct span data)
{
	size_t taken = side->stream ? stream_write(side->stream, data) : 0;

	if (taken)
		side_credit(side, taken);
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
	if (side == &side->forward->client && side->forward->by_messages)
		forward_settle(side->forward);
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

	/* Nobody is there any more. */
	if (side->ended || side->forward->state == FORWARD_ANSWERED ||
	    (!side->stream && side->forward->state != FORWARD_HELD)) {
		stream_consumed(side->other->stream, data.size);
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

/* ---- the first message of a call that is held ---- */

static void first_tell(struct forward *forward, struct span message)
{
	forward->first_told = true;
	forward->events->on_first(forward, message);
}

/* The window opens for the rest of the message, as far as the account allows. */
static void first_make_room(struct forward *forward)
{
	struct side *side = &forward->upstream;
	size_t more = side->waiting.size - side->credited;

	/* What is reopened is charged without asking, so that it may be over. */
	if (forward->account->bytes > forward->account->bytes_max ||
	    more > forward->account->bytes_max - forward->account->bytes) {
		forward_finish(forward, GRPC_RESOURCE_EXHAUSTED, "this connection has too many large requests waiting");
		return;
	}
	side->credited += more;
	forward->account->bytes += more;
	stream_consumed(forward->client.stream, more);
}

static void first_look(struct forward *forward)
{
	const struct buffer *waiting = &forward->upstream.waiting;
	size_t size;

	if (forward->state != FORWARD_HELD || !forward->events->on_first || forward->first_told)
		return;
	if (waiting->size >= GRPC_PREFIX_BYTES) {
		size = (size_t)waiting->data[1] << 24 | (size_t)waiting->data[2] << 16 | (size_t)waiting->data[3] << 8 |
		       waiting->data[4];
		if (size > FORWARD_MESSAGE_BYTES_MAX) {
			forward_finish(forward, GRPC_RESOURCE_EXHAUSTED, "a request of more than 16 MiB");
			return;
		}
		if (waiting->size - GRPC_PREFIX_BYTES >= size) {
			first_tell(forward, waiting->data[0] ? (struct span){ 0 } :
			           span_make(waiting->data + GRPC_PREFIX_BYTES, size));
			return;
		}
	}
	if (forward->upstream.ending)
		first_tell(forward, (struct span){ 0 });
	else
		first_make_room(forward);
}

/* ---- the client's stream ---- */

static struct forward *of_client(struct stream *stream)
{
	return stream->owner;
}

static void keep_data(struct forward *forward, struct span data)
{
	if (!forward->keeps)
		return;
	buffer_put(&forward->kept, data.data, data.size);
	if (forward->kept.failed) {
		forward->keeps = false;
		buffer_fini(&forward->kept);
		forward->kept = (struct buffer){ 0 };
	}
}

static void client_on_data(struct stream *stream, struct span data)
{
	keep_data(of_client(stream), data);
	side_take(&of_client(stream)->upstream, data);
	first_look(of_client(stream));
}

static void client_on_end(struct stream *stream)
{
	struct forward *forward = of_client(stream);

	side_end(&forward->upstream);
	first_look(forward);
	if (forward->state == FORWARD_HELD && forward->events->on_end)
		forward->events->on_end(forward);
}

static void client_on_writable(struct stream *stream)
{
	struct forward *forward = of_client(stream);
	bool waited = forward_waits(forward);

	side_flush(&forward->client);
	if (waited && !forward_waits(forward) && forward->events->on_drained)
		forward->events->on_drained(forward);
}

/* The executor stops working for who is gone. When it had answered all, the reset only says that no more comes. */
static void client_on_close(struct stream *stream, uint32_t code)
{
	struct forward *forward = of_client(stream);

	forward->client.stream = NULL;
	forward->left = !forward->client.ending;
	side_reset(&forward->upstream, forward->client.ended ? CODE_NONE : CODE_CANCEL);
	forward_join(forward);
}

static const struct stream_events client_events = {
	.on_data = client_on_data, .on_end = client_on_end, .on_writable = client_on_writable, .on_close = client_on_close,
};

/* ---- the executor's stream ---- */

static struct forward *of_upstream(struct stream *stream)
{
	return stream->owner;
}

static void upstream_take_trailers(struct forward *forward, const struct header *headers, size_t count)
{
	if (forward->trailers || count == 0 || forward->client.ending)
		return;
	if (forward->events->on_status)
		forward->events->on_status(forward, grpc_status_parse(headers_find(headers, count, "grpc-status")),
		                           headers_find(headers, count, "grpc-message"));
	if (forward->state == FORWARD_ANSWERED)
		return;
	forward->trailers = headers_copy(headers, count, NULL, 0);
	forward->trailers_count = count;
	if (!forward->trailers)
		forward_break(forward);
}

/* A status in the first block is the whole answer ("Trailers-Only"): nothing but the stream's end follows. */
static void upstream_on_headers(struct stream *stream, const struct header *headers, size_t count)
{
	struct forward *forward = of_upstream(stream);
	bool whole = headers_find(headers, count, "grpc-status").size > 0;
	struct header kept[STREAM_HEADERS_MAX];
	size_t kept_count = 0;

	if (!forward->client.stream || forward->client.ending)
		return;
	if (!forward->headers_sent && !(whole && forward->by_messages)) {
		forward->headers_sent = true;
		if (whole && forward->events->on_status)
			forward->events->on_status(forward, grpc_status_parse(headers_find(headers, count, "grpc-status")),
			                           headers_find(headers, count, "grpc-message"));
		forward->client.ending = forward->client.ended = whole;
		if (stream_headers(forward->client.stream, headers, count, whole) < 0)
			forward_break(forward);
		return;
	}
	if (!whole)
		return;
	/* Ours went out before: its status comes behind them. */
	for (size_t i = 0; i < count && kept_count < STREAM_HEADERS_MAX; i++)
		if (headers[i].name.size && headers[i].name.data[0] != ':' && !span_is(headers[i].name, "content-type"))
			kept[kept_count++] = headers[i];
	forward_start(forward, NULL);
	upstream_take_trailers(forward, kept, kept_count);
}

/* Queues bytes that are no peer's, or are accounted for as `owed`. */
static void put_bytes(struct forward *forward, struct span data)
{
	struct side *side = &forward->client;
	size_t taken = 0;

	if (!data.size || !side->stream)
		return;
	if (side->waiting.size == 0)
		taken = stream_write(side->stream, data);
	else if (side->waiting_sent)
		side_compact(side);
	if (taken < data.size)
		buffer_put(&side->waiting, data.data + taken, data.size - taken);
	if (side->waiting.failed)
		forward_break(forward);
}

static void put_message(struct forward *forward, struct span message, bool compressed)
{
	uint8_t prefix[GRPC_PREFIX_BYTES];

	grpc_prefix(prefix, compressed, (uint32_t)message.size);
	put_bytes(forward, span_make(prefix, sizeof(prefix)));
	put_bytes(forward, message);
}

static void upstream_on_message(struct forward *forward, struct span message, bool compressed)
{
	if (forward->events->on_message && !compressed)
		forward->events->on_message(forward, message);
	if (forward->client.stream && !forward->client.ending)
		put_message(forward, message, compressed);
}

static void upstream_on_data(struct stream *stream, struct span data)
{
	struct forward *forward = of_upstream(stream);
	struct span rest = data, message;
	bool compressed;

	if (!forward->by_messages || forward->client.ending || !forward->client.stream) {
		side_take(&forward->client, data);
		return;
	}
	forward->owed += data.size;
	while (rest.size && !forward->client.ending) {
		enum grpc_read read = grpc_reader_feed(&forward->reader, &rest, &message, &compressed);

		if (read == GRPC_READ_MESSAGE) {
			upstream_on_message(forward, message, compressed);
		} else if (read != GRPC_READ_MORE) {
			forward_break(forward);
			return;
		}
	}
	forward_settle(forward);
}

static void upstream_on_trailers(struct stream *stream, const struct header *headers, size_t count)
{
	upstream_take_trailers(of_upstream(stream), headers, count);
}

static void upstream_on_end(struct stream *stream)
{
	struct forward *forward = of_upstream(stream);

	if (!forward->client.ending)
		side_end(&forward->client);
}

static void upstream_on_writable(struct stream *stream)
{
	side_flush(&of_upstream(stream)->upstream);
}

/* The client reads whose fault it was, behind all that had come before. */
static void tell_lost(struct forward *forward)
{
	char text[512];

	if (forward->events->lost_text)
		snprintf(text, sizeof(text), "%s", forward->events->lost_text(forward));
	else
		snprintf(text, sizeof(text), "the connection to executor %s was lost: start the build again", forward->executor);
	forward_finish(forward, GRPC_UNAVAILABLE, text);
}

/* What the client has in the window of is acknowledged before its copy takes the place of what waited. */
static bool forward_reopen(struct forward *forward)
{
	struct side *side = &forward->upstream;
	struct buffer again = buffer_heap(WAITING_BYTES_MAX);
	size_t rest = side->waiting.size - side->waiting_sent;

	buffer_put(&again, forward->kept.data, forward->kept.size);
	if (again.failed) {
		buffer_fini(&again);
		return false;
	}
	forward->state = FORWARD_HELD;
	if (rest)
		side_credit(side, rest);
	buffer_fini(&side->waiting);
	side->waiting = again;
	side->waiting_sent = 0;
	side->credited = again.size;
	forward->account->bytes += again.size;
	side->ended = false;
	grpc_reader_fini(&forward->reader);
	grpc_reader_init(&forward->reader, FORWARD_MESSAGE_BYTES_MAX);
	forward->owed = 0;
	return true;
}

bool forward_may_reopen(const struct forward *forward)
{
	return forward->keeps && forward->state == FORWARD_OPEN && forward_answerable(forward) && !forward->trailers &&
	       (forward->by_messages || !forward->headers_sent);
}

static void upstream_on_close(struct stream *stream, uint32_t code)
{
	struct forward *forward = of_upstream(stream);

	forward->upstream.stream = NULL;
	if (code == H2_CARRIER_CLOSED && forward->events->on_lost && forward_may_reopen(forward) &&
	    forward->events->on_lost(forward) && forward_reopen(forward))
		return;
	if (forward->client.stream && !forward->client.ending) {
		forward->lost = code == H2_CARRIER_CLOSED;
		forward->broke = !forward->lost;
		if (forward->lost)
			tell_lost(forward);
		else
			side_reset(&forward->client, code == CODE_NONE ? CODE_CANCEL : code);
	}
	forward_join(forward);
}

static const struct stream_events upstream_events = {
	.on_headers = upstream_on_headers, .on_data = upstream_on_data, .on_trailers = upstream_on_trailers,
	.on_end = upstream_on_end, .on_writable = upstream_on_writable, .on_close = upstream_on_close,
};

/* ---- beginning and opening ---- */

int forward_init(struct forward *forward, const struct forward_events *events, struct forward_account *account,
                 struct stream *from, const struct grpc_request *request)
{
	struct header first[2] = { { .name = span_text(":path"), .value = request->path },
	                           { .name = span_text(":authority"), .value = request->authority } };

	*forward = (struct forward){ .events = events, .account = account };
	forward->head = headers_copy(request->headers, request->headers_count, first, 2);
	if (!forward->head)
		return ERR_RAISE(-ENOMEM);
	forward->head_count = request->headers_count + 2;
	forward->client = (struct side){ .forward = forward, .other = &forward->upstream, .stream = from };
	forward->upstream = (struct side){ .forward = forward, .other = &forward->client };
	forward->client.waiting = buffer_heap(WAITING_BYTES_MAX);
	forward->upstream.waiting = buffer_heap(WAITING_BYTES_MAX);
	grpc_reader_init(&forward->reader, FORWARD_MESSAGE_BYTES_MAX);
	forward->before_events = from->events;
	forward->before_owner = from->owner;
	from->events = &client_events;
	from->owner = forward;
	return 0;
}

void forward_abandon(struct forward *forward)
{
	struct stream *from = forward->client.stream;

	CHECK(forward->state == FORWARD_HELD && !forward->upstream.waiting.size);
	from->events = forward->before_events;
	from->owner = forward->before_owner;
	forward_fini(forward);
}

void forward_keep(struct forward *forward, size_t bytes_max)
{
	CHECK(forward->state == FORWARD_HELD && !forward->upstream.waiting.size);
	forward->keeps = true;
	forward->kept = buffer_heap(bytes_max);
}

struct span forward_header(const struct forward *forward, const char *name)
{
	CHECK(forward->head);
	return headers_find(forward->head, forward->head_count, name);
}

int forward_open(struct forward *forward, struct h2 *to, const char *executor)
{
	struct h2_request head = {
		.method = span_text("POST"), .scheme = span_text("http"), .path = forward->head[0].value,
		.authority = forward->head[1].value.size ? forward->head[1].value : span_text("localhost"),
		.headers = forward->head + 2, .headers_count = forward->head_count - 2,
	};
	int r;

	CHECK(forward->state == FORWARD_HELD);
	r = h2_open(to, &forward->upstream.stream, &head, false, &upstream_events, forward);
	if (r < 0)
		return ERR_RAISE(r);
	forward->state = FORWARD_OPEN;
	forward->executor = executor;
	if (!forward->keeps) {
		free(forward->head);
		forward->head = NULL;
	}
	side_flush(&forward->upstream);
	return 0;
}

/* ---- answers of our own ---- */

bool forward_answerable(const struct forward *forward)
{
	return forward->client.stream && !forward->client.ending;
}

void forward_start(struct forward *forward, const struct header *more)
{
	struct header fields[3] = {
		{ .name = span_text(":status"), .value = span_text("200") },
		{ .name = span_text("content-type"), .value = span_text("application/grpc") },
	};

	if (forward->headers_sent || !forward_answerable(forward))
		return;
	if (more)
		fields[2] = *more;
	forward->headers_sent = true;
	if (stream_headers(forward->client.stream, fields, more ? 3 : 2, false) < 0)
		forward_break(forward);
}

bool forward_put(struct forward *forward, struct span message)
{
	CHECK(forward->state == FORWARD_HELD || forward->by_messages);
	if (!forward_answerable(forward) || forward->trailers ||
	    forward->client.waiting.size > FORWARD_OWN_BYTES_MAX)
		return false;
	forward_start(forward, NULL);
	put_message(forward, message, false);
	return true;
}

/* What is left of the request goes nowhere: its bytes are acknowledged, its stream at the executor ends. */
static void upstream_leave(struct forward *forward)
{
	struct side *side = &forward->upstream;
	size_t rest = side->waiting.size - side->waiting_sent;

	forward->state = FORWARD_ANSWERED;
	side_reset(side, CODE_CANCEL);
	if (rest)
		side_credit(side, rest);
	buffer_fini(&side->waiting);
	side->waiting = buffer_heap(WAITING_BYTES_MAX);
	side->waiting_sent = 0;
}

void forward_finish(struct forward *forward, enum grpc_status status, const char *text)
{
	uint8_t storage[3 * STATUS_TEXT_MAX];
	struct buffer encoded = buffer_over(storage, sizeof(storage));
	struct header fields[4];
	size_t count = 0;
	char number[12];

	if (!forward_answerable(forward))
		return;
	snprintf(number, sizeof(number), "%d", (int)status);
	grpc_message_encode(&encoded, span_make(text, text ? strnlen(text, STATUS_TEXT_MAX) : 0));
	if (!forward->headers_sent) {
		fields[count++] = (struct header){ .name = span_text(":status"), .value = span_text("200") };
		fields[count++] = (struct header){ .name = span_text("content-type"), .value = span_text("application/grpc") };
	}
	fields[count++] = (struct header){ .name = span_text("grpc-status"), .value = span_text(number) };
	if (encoded.size)
		fields[count++] = (struct header){ .name = span_text("grpc-message"), .value = buffer_span(&encoded) };
	upstream_leave(forward);
	if (!forward->headers_sent) {
		forward->headers_sent = forward->client.ending = forward->client.ended = true;
		if (stream_headers(forward->client.stream, fields, count, true) < 0)
			side_reset(&forward->client, CODE_INTERNAL);
		return;
	}
	free(forward->trailers);
	forward->trailers = headers_copy(fields, count, NULL, 0);
	forward->trailers_count = count;
	if (forward->trailers)
		side_end(&forward->client);
	else
		side_reset(&forward->client, CODE_INTERNAL);
}

void forward_reply(struct forward *forward, struct span message)
{
	if (forward_put(forward, message))
		forward_finish(forward, GRPC_OK, NULL);
	else
		forward_finish(forward, GRPC_RESOURCE_EXHAUSTED, "the answer could not be queued");
}
