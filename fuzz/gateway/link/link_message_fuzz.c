/*
 * link_message: any messages of a peer against a link's core that has frames under way on two paths: what is refused is refused,
 * what is delivered comes in order, the bounds hold, and what was decoded encodes to the same frame again.
 * Input: pieces of a length (two bytes, big-endian; the highest bit: the path; the next: the path is lost and comes back with
 * these bytes as `ahead`) and a LinkMessage.
 */
#include "gateway/link/link_core.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)
#define FRAMES 64

static uint64_t delivered;

static int on_deliver(struct link_core *core, const struct link_message *frame)
{
	REQUIRE(frame->sequence == delivered + 1 && core->expected == frame->sequence + 1);
	REQUIRE((frame->kind == LINK_DATA) == (frame->data.size > 0));
	REQUIRE(frame->channel && frame->kind <= LINK_CREDIT && frame->data.size <= LINK_FRAME_BYTES);
	delivered++;
	return 0;
}

/* What goes out says what came in. */
static void round_trip(const struct link_message *message)
{
	static uint8_t storage[LINK_HEAD_BYTES_MAX + LINK_FRAME_BYTES];
	struct link_message without = *message, again;
	size_t head;

	without.hello = without.welcome = (struct span){ 0 };
	head = link_message_head(storage, &without, message->data.size);
	if (message->data.size)
		memcpy(storage + head, message->data.data, message->data.size);
	REQUIRE(link_message_decode(&again, span_make(storage, head + message->data.size)));
	REQUIRE(again.received == message->received && again.taken == message->taken && again.probe == message->probe);
	REQUIRE(again.over == message->over && again.sequence == message->sequence && again.channel == message->channel);
	REQUIRE(again.kind == message->kind && again.credit == message->credit && span_equal(again.data, message->data));
}

static void push_some(struct link_core *core)
{
	for (unsigned i = 0; i < FRAMES; i++) {
		struct link_frame *frame = link_frame_create(LINK_END, 1, 0);

		REQUIRE(frame);
		link_core_push(core, frame);
	}
}

static void give(struct link_core *core)
{
	for (unsigned path = 0; link_core_pending(core) && link_core_path_open(core, path); path = !path)
		link_core_next(core, path, 1);
}

/* As when the path of a resumed link comes up. */
static int resume(struct link_core *core, unsigned path, struct span bytes)
{
	uint8_t storage[LINK_RUNS_MAX * 20];
	struct buffer ahead = buffer_over(storage, sizeof(storage));
	uint64_t received = 0;

	if (bytes.size) {
		received = bytes.data[0];
		bytes = span_make(bytes.data + 1, bytes.size - 1);
	}
	link_core_path_down(core, path);
	link_core_put_ahead(core, &ahead);
	REQUIRE(!ahead.failed);
	if (link_core_resume(core, received, bytes) < 0)
		return -1;
	link_core_path_up(core, path, 1);
	give(core);
	return 0;
}

static int take(struct link_core *core, unsigned path, struct span bytes)
{
	struct link_message message;

	if (!link_message_decode(&message, bytes))
		return -1;
	round_trip(&message);
	if (link_core_acknowledge(core, path, message.received, message.taken, 1) < 0)
		return -1;
	return message.sequence ? link_core_receive(core, path, &message) : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct link_core core;
	struct span rest = span_make(data, size);
	int r = 0;

	delivered = 0;
	link_core_init(&core, on_deliver);
	link_core_path_up(&core, 0, 1);
	link_core_path_up(&core, 1, 1);
	push_some(&core);
	give(&core);
	while (r == 0 && rest.size >= 2) {
		size_t length = (size_t)(rest.data[0] & 0x3f) << 8 | rest.data[1];
		unsigned path = rest.data[0] >> 7, again = rest.data[0] >> 6 & 1;
		struct span piece;

		rest = span_make(rest.data + 2, rest.size - 2);
		piece = span_make(rest.data, length < rest.size ? length : rest.size);
		rest = span_make(rest.data + piece.size, rest.size - piece.size);
		r = again ? resume(&core, path, piece) : take(&core, path, piece);
		REQUIRE(core.ahead_bytes <= LINK_AHEAD_BYTES_MAX && core.ahead_frames <= LINK_AHEAD_FRAMES_MAX);
		REQUIRE(core.kept_frames <= FRAMES && core.expected == delivered + 1);
	}
	link_core_fini(&core);
	return 0;
}
