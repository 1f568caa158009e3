/* Inner frames in, inner frames out, each wrapped in a BytesMessage. */
#include "gateway/session/nest.h"

#include <errno.h>
#include <stdio.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"

#define OPENED_MAX 1024                  /* inner, by us: the other end says itself how many it takes */

static void nest_on_turn(struct op *op, int32_t res);

/* ---- output ---- */

static void nest_wake(struct nest *nest)
{
	if (!nest->quiet && !op_in_flight(&nest->turn))
		ring_timer(nest->ring, &nest->turn, 0);
}

static void nest_speak(struct nest *nest)
{
	if (!nest->quiet)
		return;
	nest->quiet = false;
	ring_cancel(nest->ring, &nest->turn);    /* its completion is the turn */
}

static void inner_on_output(void *owner)
{
	nest_speak(owner);
	nest_wake(owner);
}

static int inner_on_stream(void *owner, struct stream *stream, const struct h2_request *request)
{
	struct nest *nest = owner;

	return nest->events->on_stream(nest, stream, request);
}

static const struct h2_events inner_events = { .on_stream = inner_on_stream, .on_output = inner_on_output };

/* A message a frame: the first piece has the frame's head, which says how much follows. */
static void nest_send_frame(struct nest *nest, struct span piece)
{
	uint8_t head[BYTES_MESSAGE_HEAD_MAX];
	size_t left = h2_output_left(nest->h2), size = piece.size + left, head_bytes = bytes_message_head(head, size);

	call_send_begin(&nest->call, head_bytes + size);
	call_send_more(&nest->call, span_make(head, head_bytes));
	call_send_more(&nest->call, piece);
	while (left) {
		piece = h2_output(nest->h2);
		if (piece.size == 0)
			return;                  /* no memory to keep it: a fault of the connection, told in the turn */
		CHECK(piece.size <= left);
		left -= piece.size;
		call_send_more(&nest->call, piece);
	}
}

static void nest_flush(struct nest *nest)
{
	while (nest->h2 && call_has_room(&nest->call)) {
		struct span piece = h2_output(nest->h2);

		if (piece.size == 0)
			return;
		nest_send_frame(nest, piece);
	}
}

/* ---- the end ---- */

/* Whoever broke the inner protocol, the outer call has no meaning any more. */
static void nest_give_up(struct nest *nest, const char *reason)
{
	if (nest->call.server)
		call_finishf(&nest->call, GRPC_INTERNAL, "the session broke the rules of HTTP/2: %s", reason);
	else
		call_cancel(&nest->call);
}

void nest_shut(struct nest *nest)
{
	if (nest->h2)
		h2_carrier_closed(nest->h2);
}

static void nest_join(struct nest *nest)
{
	char message[CALL_STATUS_TEXT_MAX + 1];

	if (!nest->closed || op_in_flight(&nest->turn))
		return;
	nest->bytes_copied = h2_copied_bytes(nest->h2) + nest->call.bytes_sent + call_bytes_copied(&nest->call);
	h2_destroy(nest->h2);
	call_fini(&nest->call);
	bytes_message_reader_fini(&nest->incoming);
	nest->h2 = NULL;
	nest->closed = false;
	snprintf(message, sizeof(message), "%s", nest->message);
	nest->events->on_closed(nest, nest->status, span_text(message));
}

static void nest_on_turn(struct op *op, int32_t res)
{
	struct nest *nest = container_of(op, struct nest, turn);
	const struct h2_fault *fault;

	nest->quiet = false;
	if (nest->closed) {
		nest_join(nest);
		return;
	}
	nest_flush(nest);
	fault = h2_fault(nest->h2);
	if (fault->scope == H2_FAULT_CONNECTION)
		nest_give_up(nest, fault->reason);
}

/* ---- the outer call ---- */

static void call_on_part(struct call *call, struct span part, size_t left)
{
	struct nest *nest = container_of(call, struct nest, call);
	struct span data;

	if (!bytes_message_part(&nest->incoming, part, left, &data)) {
		nest_shut(nest);
		nest_give_up(nest, "malformed BytesMessage");
		return;
	}
	/* A fault is told in the turn, behind the GOAWAY that it leaves; what comes after a shut has no reader. */
	if (h2_feed(nest->h2, data) < 0)
		nest_speak(nest);
	nest_wake(nest);
}

static void call_on_message(struct call *call, struct span message)
{
	call_on_part(call, message, 0);
}

static void call_on_end(struct call *call)
{
	struct nest *nest = container_of(call, struct nest, call);

	if (nest->events->on_end)
		nest->events->on_end(nest);
}

static void call_on_writable(struct call *call)
{
	nest_wake(container_of(call, struct nest, call));
}

static void call_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct nest *nest = container_of(call, struct nest, call);

	nest->status = status;
	snprintf(nest->message, sizeof(nest->message), "%.*s", (int)message.size, (const char *)message.data);
	nest_shut(nest);
	nest->closed = true;
	nest_speak(nest);
	nest_wake(nest);
}

static const struct call_events nest_call_events = {
	.on_message = call_on_message, .on_part = call_on_part, .on_end = call_on_end, .on_writable = call_on_writable, .on_closed = call_on_closed,
};

/* ---- the beginning ---- */

static int nest_make(struct nest *nest, const struct nest_config *config, bool server)
{
	struct h2_config inner = {
		.headers_max = NEST_HEADERS_MAX, .header_list_bytes_max = NEST_HEADER_BYTES_MAX,
		.server = server, .events = &inner_events, .owner = nest, .pieces = true,
		.streams_max = server ? NEST_STREAMS_MAX : OPENED_MAX,
		.stream_window_bytes = NEST_STREAM_WINDOW_BYTES, .connection_window_bytes = NEST_CONNECTION_WINDOW_BYTES,
	};
	int r;

	CHECK(!nest_in_use(nest));
	*nest = (struct nest){ .ring = config->ring, .events = config->events, .owner = config->owner };
	nest->turn.fn = nest_on_turn;
	r = h2_create(&nest->h2, &inner);
	return r < 0 ? ERR_RAISE(r) : 0;
}

int nest_accept(struct nest *nest, const struct nest_config *config, struct stream *stream, const struct grpc_request *head)
{
	int r = nest_make(nest, config, false);

	if (r < 0)
		return r;
	call_accept(&nest->call, stream, head, NEST_MESSAGE_BYTES_MAX, &nest_call_events, nest);
	nest->quiet = true;
	ring_timer(nest->ring, &nest->turn, NEST_QUIET_NS);
	return 0;
}

int nest_start(struct nest *nest, const struct nest_config *config, struct h2 *outer, const char *path, struct span authority,
               const struct header *metadata, size_t metadata_count)
{
	int r = nest_make(nest, config, true);

	if (r < 0)
		return r;
	r = call_start(&nest->call, outer, path, authority, 0, metadata, metadata_count, NEST_MESSAGE_BYTES_MAX, &nest_call_events,
	               nest);
	if (r < 0) {
		h2_destroy(nest->h2);
		nest->h2 = NULL;
		return ERR_RAISE(r);
	}
	nest_wake(nest);
	return 0;
}

bool nest_is_open(const struct nest *nest)
{
	return nest->h2 && !nest->closed && h2_alive(nest->h2);
}

bool nest_in_use(const struct nest *nest)
{
	return nest->h2 != NULL;
}
