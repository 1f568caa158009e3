/* Builds that are done again elsewhere. */
#include "gateway/buildkit/replay.h"

#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/log.h"
#include "gateway/buildkit/buildkit_private.h"
#include "gateway/session/session.h"

#define ANSWER_BYTES_MAX FORWARD_MESSAGE_BYTES_MAX

/* One call that went well. */
struct replay_step {
	struct list link;
	struct header *head;             /* as forward.head: path, authority, then the fields; one allocation */
	size_t head_count;
	struct buffer request;           /* framed, with the references that the client knows */
	struct buffer told;              /* the answer that the client has */
};

/* ---- what its Solve says ---- */

static bool is_true(const struct message_list *attributes, const char *key)
{
	struct span value;

	return message_map_find(attributes, key, &value) && span_is(value, "true");
}

static void look_at_exporters(struct replay *replay, const struct buildkit_solve_request *request)
{
	struct message_cursor cursor = { 0 };
	struct buildkit_exporter exporter;

	while (buildkit_exporter_next(request, &cursor, &exporter)) {
		if (span_is(exporter.type, "local"))
			continue;
		if (span_is(exporter.type, "image"))
			replay->delivers |= is_true(&exporter.attributes, "push");
		else if (span_is(exporter.type, "registry"))
			replay->delivers = true;
		else
			replay->gathers = true;
	}
}

static void look_at_cache(struct replay *replay, struct span options)
{
	struct buildkit_cache_options cache;
	struct message_cursor cursor = { 0 };
	struct buildkit_exporter export;
	struct span element;

	if (!options.size)
		return;
	if (!message_decode(&buildkit_cache_options_type, options, &cache)) {
		replay->delivers = true;
		return;
	}
	replay->delivers |= cache.export_ref.size > 0;
	while (message_list_next(&cache.exports, &cursor, &element))
		if (!message_decode(&buildkit_exporter_type, element, &export) ||
		    (!span_is(export.type, "local") && !span_is(export.type, "inline")))
			replay->delivers = true;
}

struct replay *replay_create(struct buildkit_call *solve, const struct buildkit_solve_request *request)
{
	struct replay *replay = calloc(1, sizeof(*replay));

	if (!replay)
		return NULL;
	replay->solve = solve;
	list_init(&replay->steps);
	replay->frontend = request->frontend.size || request->definition.size;
	look_at_exporters(replay, request);
	look_at_cache(replay, request->cache);
	return replay;
}

/* ---- what is kept ---- */

static void step_free(struct replay_step *step)
{
	free(step->head);
	buffer_fini(&step->request);
	buffer_fini(&step->told);
	free(step);
}

static void replay_free(struct replay *replay)
{
	CHECK(!replay->calling);
	list_for_each_safe(link, after, &replay->steps) {
		list_remove(link);
		step_free(container_of(link, struct replay_step, link));
	}
	buffer_fini(&replay->answer);
	free(replay);
}

void replay_leave(struct replay *replay)
{
	if (!replay)
		return;
	replay->solve = NULL;
	if (replay->calling)
		call_cancel(&replay->call);
	else
		replay_free(replay);
}

static struct span method_of(struct span path)
{
	static const size_t prefix = sizeof(BUILDKIT_LLB) - 1;

	return path.size > prefix ? span_make(path.data + prefix, path.size - prefix) : (struct span){ 0 };
}

/* What only reads has its answer, and needs no other. */
bool replay_repeats(struct span path)
{
	static const char *const reads[] = { "ResolveImageConfig", "ResolveSourceMeta", "ReadFile", "ReadDir", "StatFile", "Ping",
	                                     "Inputs", "Warn" };
	struct span method = method_of(path);

	for (size_t i = 0; i < sizeof(reads) / sizeof(reads[0]); i++)
		if (span_is(method, reads[i]))
			return false;
	return true;
}

/* A container's processes have talked to the client. */
static bool is_container(struct span path)
{
	struct span method = method_of(path);

	return span_is(method, "NewContainer") || span_is(method, "ReleaseContainer") || span_is(method, "ExecProcess");
}

static void forget(struct replay *replay, const char *why)
{
	replay->why_not = why;
	list_for_each_safe(link, after, &replay->steps) {
		list_remove(link);
		step_free(container_of(link, struct replay_step, link));
	}
	replay->steps_count = replay->bytes = 0;
}

/* Framed, and not compressed. */
static bool is_one_message(const struct buffer *request)
{
	const uint8_t *at = request->data;

	return request->size >= GRPC_PREFIX_BYTES && !at[0] && request->size - GRPC_PREFIX_BYTES ==
	       ((size_t)at[1] << 24 | (size_t)at[2] << 16 | (size_t)at[3] << 8 | at[4]);
}

void replay_note(struct replay *replay, struct buildkit_call *call)
{
	struct forward *forward = &call->forward;
	struct replay_step *step;
	size_t bytes = forward->kept.size + call->answer.size;

	if (replay->why_not)
		return;
	if (!forward->keeps || call->answer.failed || bytes > REPLAY_BYTES_MAX - replay->bytes ||
	    replay->steps_count == REPLAY_STEPS_MAX) {
		forget(replay, "what is to be repeated is too large");
		return;
	}
	if (is_container(forward->head[0].value) || !is_one_message(&forward->kept)) {
		forget(replay, "it made calls that cannot be repeated");
		return;
	}
	step = calloc(1, sizeof(*step));
	if (!step) {
		forget(replay, "out of memory");
		return;
	}
	*step = (struct replay_step){ .head = forward->head, .head_count = forward->head_count, .request = forward->kept,
	                              .told = call->answer };
	forward->head = NULL;
	forward->keeps = false;
	forward->kept = call->answer = (struct buffer){ 0 };
	list_append(&replay->steps, &step->link);
	replay->steps_count++;
	replay->bytes += bytes;
}

/* ---- whether ---- */

struct others {
	const char *lost;
	unsigned ready;
};

static void count_other(void *context, struct executor *executor)
{
	struct others *others = context;

	others->ready += executor_state(executor) == EXECUTOR_READY && strcmp(executor_name(executor), others->lost) != 0;
}

static bool another_is_there(const struct binding *binding, const char *lost)
{
	const struct buildkit *buildkit = binding->buildkit;
	struct others others = { .lost = lost };

	executors_visit(buildkit->executors, binding->tenant, count_other, &others);
	return others.ready > 0 || (buildkit->spawnable && buildkit->spawnable(buildkit->spawnable_context, binding->tenant, false));
}

static const char *solve_why_not(const struct buildkit_call *solve)
{
	const struct replay *replay = solve->replay;

	if (!replay)
		return "nothing of it was kept";
	if (replay->why_not)
		return replay->why_not;
	if (replay->count >= REPLAYS_MAX)
		return "it was done again before";
	if (!forward_may_reopen(&solve->forward) || !is_one_message(&solve->forward.kept))
		return "its request is too large";
	if (replay->delivers && (replay->frontend || replay->returned))
		return "a push or a cache export may have begun";
	return NULL;
}

static const char *bridge_why_not(const struct binding *binding, const struct buildkit_call *call)
{
	const struct buildkit_call *solve = binding_solve(binding, call->ref);

	if (!solve || !solve->replay || !forward_may_reopen(&call->forward) || call->forward.headers_sent ||
	    !is_one_message(&call->forward.kept) || is_container(call->forward.head[0].value))
		return "a call that cannot be repeated was under way";
	return NULL;
}

static const char *session_why_not(const struct buildkit_call *call, bool gathers)
{
	if (!session_can_repeat(call->carried))
		return "its context was a stream that comes once, and too long to be kept";
	if (gathers && session_has_sent(call->carried))
		return "the client has begun to receive its result";
	return NULL;
}

bool replay_possible(const struct binding *binding, const char *lost, const char **why)
{
	const char *why_not = NULL;
	bool gathers = false;
	unsigned builds = 0;

	list_for_each(link, &binding->calls) {
		const struct buildkit_call *call = container_of(link, struct buildkit_call, link);

		if (call->kind == CALL_SOLVE && call_carried(call) && call->forward.executor == lost && !why_not) {
			why_not = solve_why_not(call);
			gathers |= call->replay && call->replay->gathers;
			builds++;
		}
	}
	list_for_each(link, &binding->calls) {
		const struct buildkit_call *call = container_of(link, struct buildkit_call, link);

		if (why_not || !call_carried(call))
			continue;
		if ((call->kind == CALL_BRIDGE || call->kind == CALL_RETURN) && call->forward.executor == lost)
			why_not = bridge_why_not(binding, call);
		else if (call->kind == CALL_SESSION)
			why_not = session_why_not(call, gathers);
	}
	if (builds && !why_not && !another_is_there(binding, lost))
		why_not = "no other executor is ready";
	*why = builds ? why_not : NULL;
	return builds && !why_not;
}

void replay_begin(struct replay *replay, const char *lost)
{
	struct buildkit_call *solve = replay->solve;

	snprintf(replay->lost, sizeof(replay->lost), "%s", lost);
	replay->state = REPLAY_HELD;
	replay->count++;
	builds_leave_ref(solve);
	solve->build->replays++;
	solve->build->lost_wall_ns = ring_wall_ns(solve->binding->buildkit->ring);
	solve->binding->buildkit->replays_total++;
}

/* ---- repeating ---- */

static void replay_done(struct replay *replay)
{
	replay->state = REPLAY_IDLE;
	binding_step(replay->solve->binding);
}

/* Return would never come. What waits here for its turn has the same answer. */
static void replay_fail(struct replay *replay, enum grpc_status status, const char *text)
{
	struct buildkit_call *solve = replay->solve;
	struct binding *binding = solve->binding;

	log_event(LOG_WARNING, "replay failed", LOG_TEXT("ref", solve->ref), LOG_TEXT("lost", replay->lost),
	          LOG_TEXT("executor", binding->executor), LOG_TEXT("why", text));
	replay->state = REPLAY_IDLE;
	replay->why_not = "a repeated call failed";
	list_for_each_safe(link, after, &binding->calls) {
		struct buildkit_call *call = container_of(link, struct buildkit_call, link);

		if ((call->kind == CALL_BRIDGE || call->kind == CALL_RETURN) && call_held(call) && strcmp(call->ref, solve->ref) == 0)
			forward_finish(&call->forward, status, text);
	}
	builds_answered(solve, status, span_text(text));
	forward_finish(&solve->forward, status, text);
	binding_step(binding);
}

static void step_start(struct replay *replay, struct h2 *carrier);

static void step_on_message(struct call *call, struct span message)
{
	struct replay *replay = call->owner;

	buffer_put(&replay->answer, message.data, message.size);
}

/* The references of the answer, by what the client knows of them. */
static bool step_learn(struct replay *replay, const struct replay_step *step)
{
	if (!span_is(method_of(step->head[0].value), "Solve"))
		return true;
	return !replay->answer.failed &&
	       buildkit_refs_learn(&replay->map, buffer_span(&step->told), buffer_span(&replay->answer)) == BUILDKIT_REFS_LEARNED;
}

static void step_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct replay *replay = call->owner;
	struct h2 *carrier = (struct h2 *)replay->carrier;
	bool lost = !h2_alive(carrier);
	char text[CALL_STATUS_TEXT_MAX + 1];

	snprintf(text, sizeof(text), "%.*s", (int)message.size, (const char *)message.data);
	call_fini(call);
	replay->calling = false;
	if (!replay->solve) {
		replay_free(replay);
		return;
	}
	/* Answered, or lost once more: the Solve's own stream decides. */
	if (!forward_answerable(&replay->solve->forward) || replay->state != REPLAY_REPEATING || (status != GRPC_OK && lost))
		return;
	if (status != GRPC_OK) {
		replay_fail(replay, status, text);
		return;
	}
	if (!step_learn(replay, container_of(replay->next, struct replay_step, link))) {
		replay_fail(replay, GRPC_UNAVAILABLE, "the build took another course when it was repeated: start it again");
		return;
	}
	replay->next = replay->next->next;
	step_start(replay, carrier);
}

static const struct call_events step_events = { .on_message = step_on_message, .on_closed = step_on_closed };

/* What gRPC puts on each call comes from the call itself. */
static bool field_travels(struct span name)
{
	static const char *const stays[] = { "content-type", "te", "user-agent", "grpc-accept-encoding", "grpc-encoding",
	                                     "grpc-timeout" };

	for (size_t i = 0; i < sizeof(stays) / sizeof(stays[0]); i++)
		if (span_is(name, stays[i]))
			return false;
	return true;
}

static int step_open(struct replay *replay, struct replay_step *step, struct h2 *carrier)
{
	struct header fields[STREAM_HEADERS_MAX];
	char path[256];
	size_t count = 0;

	for (size_t i = 2; i < step->head_count && count < STREAM_HEADERS_MAX; i++)
		if (field_travels(step->head[i].name))
			fields[count++] = step->head[i];
	call_copy(path, sizeof(path), step->head[0].value);
	return call_start(&replay->call, carrier, path, step->head[1].value.size ? step->head[1].value : span_text("localhost"), 0,
	                  fields, count, ANSWER_BYTES_MAX, &step_events, replay);
}

static void step_start(struct replay *replay, struct h2 *carrier)
{
	struct replay_step *step;
	struct buffer request = buffer_heap(REPLAY_BYTES_MAX);

	if (replay->next == &replay->steps) {
		replay_done(replay);
		return;
	}
	step = container_of(replay->next, struct replay_step, link);
	buffer_put(&request, step->request.data + GRPC_PREFIX_BYTES, step->request.size - GRPC_PREFIX_BYTES);
	buffer_fini(&replay->answer);
	replay->answer = buffer_heap(ANSWER_BYTES_MAX);
	if (request.failed || step_open(replay, step, carrier) < 0) {
		buffer_fini(&request);
		replay_fail(replay, GRPC_UNAVAILABLE, "its calls could not be repeated: start the build again");
		return;
	}
	buildkit_refs_rewrite(&replay->map, request.data, request.size);
	replay->calling = true;
	replay->carrier = carrier;
	replay->state = REPLAY_REPEATING;
	call_send(&replay->call, buffer_span(&request), 0);
	call_end(&replay->call);
	buffer_fini(&request);
}

void replay_go_on(struct replay *replay, struct uplink *uplink)
{
	if (replay->state != REPLAY_SENT || replay->calling)
		return;
	replay->next = replay->steps.next;
	step_start(replay, conn_h2(uplink->conn));
}
