/* Five unary calls; the build of the Ping is Solve, from before it until after its Return. */
#include "gateway/buildkitd/executor_ask.h"

#include <stdio.h>
#include "gateway/base/check.h"
#include "proto/pb.h"

static const char *const paths[ASK_PARTS] = {
	[ASK_WORKERS] = "/moby.buildkit.v1.Control/ListWorkers",
	[ASK_INFO] = "/moby.buildkit.v1.Control/Info",
	[ASK_SOLVE] = "/moby.buildkit.v1.Control/Solve",
	[ASK_PING] = "/moby.buildkit.v1.frontend.LLBBridge/Ping",
	[ASK_RETURN] = "/moby.buildkit.v1.frontend.LLBBridge/Return",
};

static const struct call_events part_events;

static void ask_note(struct ask *ask, enum ask_part_kind kind, const char *what, struct span text)
{
	if (!ask->why[0])
		snprintf(ask->why, sizeof(ask->why), "%s: %s%s%.*s", paths[kind] + 1, what, text.size ? ": " : "",
		         (int)text.size, text.size ? (const char *)text.data : "");
}

static void ask_join(struct ask *ask)
{
	if (ask->starting)
		return;
	for (size_t i = 0; i < ASK_PARTS; i++)
		if (ask->parts[i].open)
			return;
	if (!ask->busy)
		return;
	ask->busy = false;
	ask->on_done(ask, ask->parts[ASK_WORKERS].answered && ask->parts[ASK_PING].answered ? NULL : ask->why);
}

/* ---- one call ---- */

static void part_put_request(struct ask *ask, enum ask_part_kind kind, struct buffer *out)
{
	if (kind == ASK_SOLVE) {
		pb_put_text(out, 1, ask->ref);
		pb_put_bool(out, 11, true);              /* Internal */
	} else if (kind == ASK_RETURN) {
		pb_put_bytes_always(out, 1, (struct span){ 0 });         /* Result, empty: the daemon reads into it */
	}
}

static void part_open(struct ask *ask, enum ask_part_kind kind, uint64_t timeout_ns)
{
	struct ask_part *part = &ask->parts[kind];
	struct header build = { .name = span_text("buildkit-controlapi-buildid"), .value = span_text(ask->ref) };
	bool bridge = kind == ASK_PING || kind == ASK_RETURN;
	uint8_t storage[64];
	struct buffer request = buffer_over(storage, sizeof(storage));
	int r;

	r = call_start(&part->call, ask->h2, paths[kind], span_text("localhost"), timeout_ns, bridge ? &build : NULL, bridge,
	               ASK_ANSWER_BYTES_MAX, &part_events, part);
	if (r < 0) {
		ask_note(ask, kind, "the connection takes no call", (struct span){ 0 });
		return;
	}
	part->open = true;
	part_put_request(ask, kind, &request);
	CHECK(!request.failed);
	call_send(&part->call, buffer_span(&request), 0);
	call_end(&part->call);
}

static void part_on_message(struct call *call, struct span message)
{
	struct ask_part *part = call->owner;

	buffer_clear(&part->answer);
	buffer_put(&part->answer, message.data, message.size);
}

static void part_on_end(struct call *call)
{
	(void)call;
}

/* The build goes on until its Return; without a Pong there is nothing to wait for. */
static void ping_ended(struct ask *ask)
{
	if (ask->parts[ASK_PING].answered)
		part_open(ask, ASK_RETURN, 0);
	if (!ask->parts[ASK_RETURN].open && ask->parts[ASK_SOLVE].open)
		call_cancel(&ask->parts[ASK_SOLVE].call);
}

static void part_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct ask_part *part = call->owner;
	struct ask *ask = part->ask;
	enum ask_part_kind kind = (enum ask_part_kind)(part - ask->parts);

	part->open = false;
	part->answered = status == GRPC_OK && !part->answer.failed;
	if (!part->answered) {
		if (kind != ASK_INFO && kind != ASK_RETURN)
			ask_note(ask, kind, grpc_status_name(status), message);
		buffer_clear(&part->answer);
	}
	call_fini(&part->call);
	if (kind == ASK_PING)
		ping_ended(ask);
	ask_join(ask);
}

static const struct call_events part_events = {
	.on_message = part_on_message, .on_end = part_on_end, .on_closed = part_on_closed,
};

/* ---- all of them ---- */

static void ask_make_ref(struct ask *ask, struct ring *ring)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
	uint8_t bytes[ASK_REF_BYTES];

	ring_random(ring, bytes, sizeof(bytes));
	for (size_t i = 0; i < ASK_REF_BYTES; i++)
		ask->ref[i] = letters[bytes[i] % 32];
	ask->ref[ASK_REF_BYTES] = '\0';
}

void ask_start(struct ask *ask, struct ring *ring, struct h2 *h2, uint64_t timeout_ns)
{
	CHECK(!ask->busy);
	ask_fini(ask);
	ask->h2 = h2;
	ask->why[0] = '\0';
	ask->busy = ask->starting = true;
	ask_make_ref(ask, ring);
	for (size_t i = 0; i < ASK_PARTS; i++)
		ask->parts[i] = (struct ask_part){ .ask = ask, .answer = buffer_heap(ASK_ANSWER_BYTES_MAX) };
	for (unsigned kind = ASK_WORKERS; kind <= ASK_PING; kind++)
		part_open(ask, (enum ask_part_kind)kind, timeout_ns);
	ask->starting = false;
	if (!ask->parts[ASK_PING].open && ask->parts[ASK_SOLVE].open)
		call_cancel(&ask->parts[ASK_SOLVE].call);
	ask_join(ask);
}

struct span ask_answer(const struct ask *ask, enum ask_part_kind kind)
{
	return buffer_span(&ask->parts[kind].answer);
}

void ask_fini(struct ask *ask)
{
	for (size_t i = 0; i < ASK_PARTS; i++) {
		CHECK(!ask->parts[i].open);
		buffer_fini(&ask->parts[i].answer);
		ask->parts[i].answer = (struct buffer){ 0 };
	}
}
