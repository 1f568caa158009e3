/* A client's calls by kind: what each waits for, and what becomes of it. */
#include "gateway/buildkit/buildkit_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/buildkit/fanout.h"
#include "proto/buildkit_status.h"

void call_copy(char *to, size_t to_size, struct span text)
{
	size_t size = text.size < to_size ? text.size : to_size - 1;

	if (size)
		memcpy(to, text.data, size);
	to[size] = '\0';
}

static enum call_kind kind_of(struct span path)
{
	static const struct {
		const char *path;
		enum call_kind kind;
	} kinds[] = {
		{ BUILDKIT_SESSION, CALL_SESSION }, { BUILDKIT_SOLVE, CALL_SOLVE }, { BUILDKIT_STATUS, CALL_STATUS },
		{ BUILDKIT_LIST_WORKERS, CALL_LIST_WORKERS }, { BUILDKIT_INFO, CALL_INFO },
		{ BUILDKIT_DISK_USAGE, CALL_DISK_USAGE }, { BUILDKIT_PRUNE, CALL_PRUNE },
		{ BUILDKIT_LISTEN_BUILD_HISTORY, CALL_HISTORY }, { BUILDKIT_UPDATE_BUILD_HISTORY, CALL_UPDATE_HISTORY },
		{ BUILDKIT_CONTENT_INFO, CALL_CONTENT }, { BUILDKIT_CONTENT_READ, CALL_CONTENT },
		{ BUILDKIT_LLB_PING, CALL_PING }, { BUILDKIT_LLB_RETURN, CALL_RETURN },
		{ "/opentelemetry.proto.collector.trace.v1.TraceService/Export", CALL_TRACE },
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (span_is(path, kinds[i].path))
			return kinds[i].kind;
	if (path.size > sizeof(BUILDKIT_LLB) - 1 && memcmp(path.data, BUILDKIT_LLB, sizeof(BUILDKIT_LLB) - 1) == 0)
		return CALL_BRIDGE;
	if (path.size > sizeof(BUILDKIT_CONTENT) - 1 && memcmp(path.data, BUILDKIT_CONTENT, sizeof(BUILDKIT_CONTENT) - 1) == 0)
		return CALL_STORE;
	return CALL_OTHER;
}

/* ---- the first message ---- */

static void solve_take(struct buildkit_call *call, struct span message)
{
	struct buildkit_solve_request solve;

	if (!buildkit_solve_request_decode(message, &solve))
		solve = (struct buildkit_solve_request){ 0 };    /* the executor says what is wrong with it */
	call_copy(call->ref, sizeof(call->ref), solve.ref);
	call_copy(call->session, sizeof(call->session), solve.session);
	call->probe = buildkit_solve_is_probe(message);
	list_for_each(link, &call->binding->calls) {
		const struct buildkit_call *other = container_of(link, struct buildkit_call, link);
		bool works = other->kind == CALL_BRIDGE || (other->kind == CALL_RETURN && other->known && !other->empty);

		if (works && call->ref[0] && strcmp(other->ref, call->ref) == 0)
			call->probe = false;
	}
	if (!call->probe)
		builds_begin(call, &solve);
	probe_look(call->binding, call->ref);
}

/*
 * A Status of another connection's build, of one that is over, or of one whose Solve is still to come: a second build of a
 * Ref, too, which is not to be shown the first one's progress.
 */
static void status_take(struct buildkit_call *call, struct span message)
{
	struct binding *binding = call->binding;
	struct buildkit *buildkit = binding->buildkit;
	struct buildkit_status_request request;
	const char *executor;

	if (message_decode(&buildkit_status_request_type, message, &request))
		call_copy(call->ref, sizeof(call->ref), request.ref);
	if (probe_was_answered(binding, call->ref)) {
		forward_finish(&call->forward, GRPC_OK, NULL);
		return;
	}
	if (binding_solve(binding, call->ref))
		return;
	executor = refs_find(&buildkit->refs, binding->tenant, call->ref);
	if (!executor)
		call->deadline_ns = call->since_ns + BINDING_STRAY_WAIT_NS;
	else if (refs_taken(&buildkit->refs, binding->tenant, call->ref, executor, ring_now_ns(buildkit->ring)))
		call->deadline_ns = call->since_ns + BINDING_TWIN_WAIT_NS;
	else
		errand_run(call, executor);
}

static void return_take(struct buildkit_call *call, struct span message)
{
	call->empty = probe_return_is_empty(message);
	call->deadline_ns = call->since_ns + BINDING_STRAY_WAIT_NS;
	if (!call->empty)
		probe_is_build(call->binding, call->ref);
	probe_look(call->binding, call->ref);
}

/* A daemon keeps the traces of the builds that it ran; those of before are of no use to any. */
static void trace_take(struct buildkit_call *call)
{
	struct binding *binding = call->binding;
	const struct executor *last = executors_find(binding->buildkit->executors, binding->tenant, binding->executor);

	if (binding->state == BINDING_BOUND && uplink_usable(binding->uplink) && call_open(call))
		return;
	if (binding->state == BINDING_UNBOUND && last && executor_state(last) == EXECUTOR_READY)
		errand_run(call, binding->executor);
	else
		forward_reply(&call->forward, (struct span){ 0 });
}

static void call_on_first(struct forward *forward, struct span message)
{
	struct buildkit_call *call = container_of(forward, struct buildkit_call, forward);
	struct binding *binding = call->binding;

	call->known = true;
	switch (call->kind) {
	case CALL_SOLVE:
		solve_take(call, message);
		break;
	case CALL_STATUS:
		status_take(call, message);
		break;
	case CALL_RETURN:
		return_take(call, message);
		break;
	case CALL_LIST_WORKERS:
		if (message.size)        /* a filter: one executor's answer is as good as another's */
			errand_run(call, NULL);
		else
			answers_give(call);
		break;
	case CALL_INFO:
	case CALL_PING:
		answers_give(call);
		break;
	case CALL_TRACE:
		trace_take(call);
		break;
	case CALL_DISK_USAGE:
	case CALL_PRUNE:
	case CALL_HISTORY:
	case CALL_UPDATE_HISTORY:
	case CALL_CONTENT:
		fanout_begin(call, message);
		break;
	case CALL_SESSION:
	case CALL_BRIDGE:
	case CALL_STORE:
	case CALL_OTHER:
		break;
	}
	binding_step(binding);
}

/* ---- what the executor says ---- */

static void call_on_message(struct forward *forward, struct span message)
{
	struct buildkit_call *call = container_of(forward, struct buildkit_call, forward);
	struct build *build = call->kind == CALL_STATUS ? builds_of_status(call) : NULL;

	if (build)
		build_take_status(build, message);
	if (call->repeats)
		buffer_put(&call->answer, message.data, message.size);
}

static void call_on_status(struct forward *forward, enum grpc_status status, struct span text)
{
	struct buildkit_call *call = container_of(forward, struct buildkit_call, forward);
	struct buildkit *buildkit = call->binding->buildkit;

	if (call->repeats && status == GRPC_OK) {
		struct buildkit_call *solve = binding_solve(call->binding, call->ref);

		if (solve && solve->replay)
			replay_note(solve->replay, call);
	}
	if (call->kind == CALL_SOLVE && call->build) {
		builds_answered(call, status, text);
	} else if (call->kind == CALL_STATUS) {
		struct build *build = builds_of_status(call);

		builds_collect_all(call->binding);
		if (build && buildkit->events.on_summary)
			buildkit->events.on_summary(buildkit->events.context, build);
	}
}

/* ---- the end ---- */

void call_gone(struct buildkit_call *call)
{
	struct binding *binding = call->binding;
	const struct forward *forward = &call->forward;

	if (call->leasing)
		lease_release(&call->lease);
	replay_leave(call->replay);
	buffer_fini(&call->answer);
	if (call->build)
		builds_collect_all(binding);
	list_remove(&call->link);
	if (call->kind == CALL_SOLVE && call->known && forward->left && forward->state == FORWARD_HELD)
		builds_solve_left(call);
	builds_leave_ref(call);
	if (call->kind == CALL_SOLVE)
		binding_end_solve(binding, call->ref);
	if (call->build && call->kind == CALL_SOLVE)
		builds_solve_gone(call);
	else if (call->build)
		builds_end(binding->buildkit, call->build);
	if (forward->lost)
		binding->buildkit->calls_lost++;
	CHECK(binding->buildkit->calls > 0);
	binding->buildkit->calls--;
	fanout_leave(call->fanout);
	free(call);
	binding_step(binding);
	binding_join(binding);
}

static void call_on_gone(struct forward *forward)
{
	call_gone(container_of(forward, struct buildkit_call, forward));
}

static void call_on_drained(struct forward *forward)
{
	struct buildkit_call *call = container_of(forward, struct buildkit_call, forward);

	if (call->fanout)
		fanout_resume(call->fanout);
}

static bool call_on_lost(struct forward *forward)
{
	return binding_on_call_lost(container_of(forward, struct buildkit_call, forward));
}

/* ---- beginning ---- */

static const struct forward_events call_events = {
	.on_first = call_on_first, .on_message = call_on_message, .on_status = call_on_status, .on_lost = call_on_lost,
	.on_drained = call_on_drained, .on_gone = call_on_gone,
};
/* Nothing in its body decides. */
static const struct forward_events call_events_plain = {
	.on_message = call_on_message, .on_status = call_on_status, .on_lost = call_on_lost, .on_gone = call_on_gone,
};

/* A build's call that may have to be sent again. One that is rewritten first has to be there whole. */
static void call_keep(struct buildkit_call *call)
{
	const struct buildkit_call *solve = binding_solve(call->binding, call->ref);

	if (call->binding->buildkit->replay == REPLAY_OFF)
		return;
	forward_keep(&call->forward, REPLAY_BYTES_MAX);
	if (call->kind != CALL_BRIDGE && call->kind != CALL_RETURN)
		return;
	call->repeats = replay_repeats(call->forward.head[0].value);
	if (call->repeats) {
		call->forward.by_messages = true;
		call->answer = buffer_heap(REPLAY_BYTES_MAX);
	}
	if (solve && solve->replay && solve->replay->count && call->kind == CALL_BRIDGE) {
		call->forward.events = &call_events;
		call->known = false;
	}
}

/* What is known from the header fields alone. */
static void call_take_head(struct buildkit_call *call)
{
	struct binding *binding = call->binding;

	switch (call->kind) {
	case CALL_SESSION:
		call_session_begin(call);
		break;
	case CALL_BRIDGE:
	case CALL_RETURN:
	case CALL_PING:
		call_copy(call->ref, sizeof(call->ref), forward_header(&call->forward, "buildkit-controlapi-buildid"));
		if (call->kind != CALL_PING && binding_solve_is_over(binding, call->ref)) {
			call_has_no_job(call);
			break;
		}
		if (call->kind == CALL_BRIDGE) {
			call->known = true;
			probe_is_build(binding, call->ref);
		}
		if (call->kind != CALL_PING)
			call_keep(call);
		break;
	case CALL_STATUS:
		forward_start(&call->forward, NULL);
		call->forward.by_messages = true;
		call_keep(call);
		break;
	case CALL_SOLVE:
		call_keep(call);
		break;
	case CALL_STORE:
		errand_run(call, binding->executor);
		break;
	case CALL_OTHER:
		errand_run(call, NULL);
		break;
	default:
		break;
	}
}

int call_begin(struct binding *binding, const struct server_request *request)
{
	struct buildkit *buildkit = binding->buildkit;
	struct buildkit_call *call = calloc(1, sizeof(*call));
	const struct forward_events *events;
	int r;

	if (!call)
		return ERR_RAISE(-ENOMEM);
	call->binding = binding;
	call->kind = kind_of(request->head->path);
	call->since_ns = ring_now_ns(buildkit->ring);
	events = call->kind == CALL_BRIDGE || call->kind == CALL_STORE || call->kind == CALL_OTHER ? &call_events_plain :
	         &call_events;
	if (call->kind == CALL_SESSION)
		r = call_session_accept(call, request);
	else
		r = forward_init(&call->forward, events, &binding->account, request->stream, request->head);
	if (r < 0) {
		free(call);
		return ERR_RAISE(r);
	}
	list_append(&binding->calls, &call->link);
	buildkit->calls++;
	buildkit->calls_total++;
	call_take_head(call);
	binding_step(binding);
	return 0;
}

/* ---- held calls ---- */

/* What the client names as it was told goes out as this executor knows it. */
static void call_rewrite(struct buildkit_call *call)
{
	struct buildkit_call *solve = call->ref[0] ? binding_solve(call->binding, call->ref) : NULL;
	struct buffer *request = &call->forward.upstream.waiting;

	if (!solve || !solve->replay)
		return;
	solve->replay->returned |= call->kind == CALL_RETURN;
	if (request->size > GRPC_PREFIX_BYTES)
		buildkit_refs_rewrite(&solve->replay->map, request->data + GRPC_PREFIX_BYTES, request->size - GRPC_PREFIX_BYTES);
}

bool call_open(struct buildkit_call *call)
{
	struct uplink *uplink = call->binding->uplink;
	int r;

	if (call->kind == CALL_BRIDGE || call->kind == CALL_RETURN)
		call_rewrite(call);
	r = call->kind == CALL_SESSION ? call_session_open(call, uplink) :
	    forward_open(&call->forward, conn_h2(uplink->conn), uplink->executor);
	if (r == -EAGAIN || r == -EPIPE)
		return false;
	if (r < 0) {
		call_refuse(call, GRPC_RESOURCE_EXHAUSTED, r == -EINVAL ? "too many header fields to carry on" : "out of memory");
		return true;
	}
	if (call->build && call->kind == CALL_SOLVE)
		builds_run(call);
	return true;
}

void call_refuse(struct buildkit_call *call, enum grpc_status status, const char *why)
{
	const struct buildkit_call *solve = call->kind == CALL_SOLVE ? call : binding_solve(call->binding, call->ref);
	char text[1024];

	if (solve && replay_under_way(solve->replay)) {
		snprintf(text, sizeof(text), "executor %s was lost, and no other took the build: %s", solve->replay->lost, why);
		why = text;
	}
	if (call->build && call->kind == CALL_SOLVE)
		builds_refuse(call, status, why);
	forward_finish(&call->forward, status, why);
}

void call_has_no_job(struct buildkit_call *call)
{
	char why[BUILD_ID_MAX + 32];

	snprintf(why, sizeof(why), "no such job %s", call->ref);
	forward_finish(&call->forward, GRPC_NOT_FOUND, why);
}

void call_expire(struct buildkit_call *call)
{
	const struct binding *binding = call->binding;
	const char *executor = refs_find(&binding->buildkit->refs, binding->tenant, call->ref);

	call->deadline_ns = 0;
	if (call->kind == CALL_LIST_WORKERS || call->kind == CALL_INFO || call->kind == CALL_PING || call->leasing) {
		answers_expire(call);
	} else if (call->kind == CALL_STATUS && executor && !binding_solve(binding, call->ref)) {
		errand_run(call, executor);
	} else if ((call->kind == CALL_STATUS || call->kind == CALL_RETURN) && !binding_solve(binding, call->ref)) {
		call_has_no_job(call);
	}
}
