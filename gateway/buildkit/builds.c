/* Builds as their calls come and go, and what their clients see of sluice. */
#include "gateway/buildkit/buildkit_private.h"

#include <stdio.h>
#include "gateway/base/log.h"
#include "gateway/session/session.h"

void builds_begin(struct buildkit_call *call, const struct buildkit_solve_request *solve)
{
	struct binding *binding = call->binding;
	struct buildkit *buildkit = binding->buildkit;

	if (call->build || !call_held(call))
		return;
	call->build = build_create(solve, binding->tenant, binding->subject, ring_wall_ns(buildkit->ring));
	if (!call->build) {
		forward_finish(&call->forward, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory; try again");
		return;
	}
	call->build->binding = binding;
	if (buildkit->replay == REPLAY_SAFE)
		call->replay = replay_create(call, solve);
	buildkit->builds++;
	buildkit->builds_total++;
}

static void builds_take_session(struct buildkit_call *solve)
{
	list_for_each(link, &solve->binding->calls) {
		const struct buildkit_call *session = container_of(link, struct buildkit_call, link);

		if (session->kind == CALL_SESSION && solve->build && strcmp(session->session, solve->session) == 0)
			build_set_shared_key(solve->build, span_text(session->shared_key));
	}
}

/* The build that names this session; one that bake's targets share is named by none, and the first has it. */
static struct build *build_of_session(const struct buildkit_call *session)
{
	struct build *first = NULL;

	list_for_each(link, &session->binding->calls) {
		const struct buildkit_call *call = container_of(link, struct buildkit_call, link);

		if (!call->build)
			continue;
		if (strcmp(call->build->session, session->session) == 0)
			return call->build;
		if (!first)
			first = call->build;
	}
	return first;
}

void builds_collect(struct buildkit_call *session)
{
	struct build *build = session->carried ? build_of_session(session) : NULL;
	struct diffcopy_totals totals;

	if (!build)
		return;
	totals = session_take_totals(session->carried);
	build->context.entries += totals.entries;
	build->context.files += totals.files;
	build->context.files_changed += totals.files_changed;
	build->context.bytes_from_client += totals.bytes_from_client;
	build->context.bytes_from_store += totals.bytes_from_store;
	build->context.bytes_to_executor += totals.bytes_to_executor;
}

void builds_collect_all(struct binding *binding)
{
	list_for_each(link, &binding->calls) {
		struct buildkit_call *call = container_of(link, struct buildkit_call, link);

		if (call->kind == CALL_SESSION)
			builds_collect(call);
	}
}

void builds_end(struct buildkit *buildkit, struct build *build)
{
	uint64_t until = build->begun_wall_ns ? build->begun_wall_ns : build->ended_wall_ns;

	log_event(LOG_INFO, "build ended", LOG_TEXT("tenant", build->tenant), LOG_TEXT("ref", build->ref),
	          LOG_TEXT("directory", build->directory), LOG_TEXT("executor", build->executor),
	          LOG_TEXT("result", build_result_name(build->result)),
	          /* The clock may have been set back meanwhile. */
	          LOG_U64("waited_ms", until > build->asked_wall_ns ? (until - build->asked_wall_ns) / 1000000u : 0),
	          LOG_U64("steps", build->steps), LOG_U64("cached", build->steps_cached));
	if (buildkit->events.on_ended)
		buildkit->events.on_ended(buildkit->events.context, build);
	buildkit->builds--;
	build_destroy(build);
}

struct build *builds_of_status(const struct buildkit_call *status)
{
	const struct buildkit_call *solve = binding_solve(status->binding, status->ref);

	return status->build ? status->build : solve ? solve->build : NULL;
}

void builds_solve_gone(struct buildkit_call *solve)
{
	struct buildkit *buildkit = solve->binding->buildkit;
	struct build *build = solve->build;

	solve->build = NULL;
	build->ended_wall_ns = ring_wall_ns(buildkit->ring);
	if (build->result == BUILD_RUNNING)
		build->result = solve->forward.lost ? BUILD_LOST : solve->forward.broke ? BUILD_FAILED : BUILD_CANCELLED;
	list_for_each(link, &solve->binding->calls) {
		struct buildkit_call *call = container_of(link, struct buildkit_call, link);

		if (call->kind == CALL_STATUS && call->known && !call->build && forward_answerable(&call->forward) &&
		    call->forward.state == FORWARD_OPEN && strcmp(call->ref, solve->ref) == 0) {
			call->build = build;
			return;
		}
	}
	builds_end(buildkit, build);
}

void builds_leave_ref(struct buildkit_call *solve)
{
	struct buildkit *buildkit = solve->binding->buildkit;

	if (solve->has_ref)
		refs_leave(&buildkit->refs, solve->binding->tenant, solve->ref, solve->build->executor,
		           ring_now_ns(buildkit->ring) + REFS_KEPT_NS);
	solve->has_ref = false;
}

/* Its client sees that it goes on at another executor. */
static void say_replayed(struct buildkit_call *solve)
{
	const struct replay *replay = solve->replay;
	char purpose[32], line[2 * EXECUTOR_NAME_MAX + 64];

	snprintf(purpose, sizeof(purpose), "replay %u", replay->count);
	snprintf(line, sizeof(line), "[sluice] executor %s lost, replaying on %s", replay->lost, solve->binding->executor);
	log_event(LOG_WARNING, "build replayed", LOG_TEXT("tenant", solve->build->tenant), LOG_TEXT("ref", solve->ref),
	          LOG_TEXT("lost", replay->lost), LOG_TEXT("executor", solve->binding->executor));
	buildkit_say(solve->binding->buildkit, solve->build, purpose, line);
}

void builds_run(struct buildkit_call *solve)
{
	struct binding *binding = solve->binding;
	struct build *build = solve->build;
	uint64_t now = ring_wall_ns(binding->buildkit->ring);

	builds_take_session(solve);
	if (!build->begun_wall_ns)
		build->begun_wall_ns = now;
	if (build->lost_wall_ns && now > build->lost_wall_ns)
		build->rewaited_ns += now - build->lost_wall_ns;
	build->lost_wall_ns = 0;
	builds_leave_ref(solve);
	snprintf(build->executor, sizeof(build->executor), "%s", binding->uplink->executor);
	refs_remember(&binding->buildkit->refs, binding->tenant, solve->ref, build->executor, ring_now_ns(binding->buildkit->ring));
	solve->has_ref = refs_take(&binding->buildkit->refs, binding->tenant, solve->ref, build->executor,
	                           binding->uplink->process);
	if (replay_under_way(solve->replay)) {
		solve->replay->state = REPLAY_SENT;
		say_replayed(solve);
	}
}

void builds_answered(struct buildkit_call *solve, enum grpc_status status, struct span text)
{
	struct build *build = solve->build;
	size_t room = sizeof(build->text) - 1;
	struct buffer decoded = buffer_over(build->text, room);

	build->status = status;
	build->result = status == GRPC_OK ? BUILD_DONE : BUILD_FAILED;
	grpc_message_decode(&decoded, span_make(text.data, text.size < room ? text.size : room));
	build->text[decoded.size] = '\0';
}

/* Its client waits for the end of Status, and our own lines keep it waiting. */
static void end_waiting_statuses(const struct buildkit_call *solve, const char *error)
{
	if (!solve->ref[0])
		return;
	list_for_each(link, &solve->binding->calls) {
		struct buildkit_call *call = container_of(link, struct buildkit_call, link);

		if (call->kind != CALL_STATUS || !call_held(call) || !call->known || strcmp(call->ref, solve->ref) != 0)
			continue;
		call_end_waiting(call, error);
		forward_finish(&call->forward, GRPC_OK, NULL);
	}
}

void builds_solve_left(struct buildkit_call *solve)
{
	end_waiting_statuses(solve, "cancelled");
}

void builds_refuse(struct buildkit_call *solve, enum grpc_status status, const char *why)
{
	struct build *build = solve->build;

	if (build->result != BUILD_RUNNING)
		return;
	builds_take_session(solve);
	build->result = BUILD_REFUSED;
	build->status = status;
	snprintf(build->text, sizeof(build->text), "%s", why);
	end_waiting_statuses(solve, why);
}

/* ---- the queue, as the client sees it ---- */

static void status_put(struct buildkit_call *call, const struct buffer *message)
{
	if (!message->failed)
		(void)forward_put(&call->forward, buffer_span(message));
}

void call_show_position(struct buildkit_call *call, uint32_t position, uint32_t waiting)
{
	const struct buildkit_call *solve = binding_solve(call->binding, call->ref);
	uint64_t now = ring_wall_ns(call->binding->buildkit->ring);
	uint8_t storage[VERTEX_MESSAGE_BYTES_MAX];
	struct buffer out = buffer_over(storage, sizeof(storage));
	char ordinal[16], text[128];

	if (!solve || solve->probe || !position || call->told == position)
		return;
	call->told = position;
	vertex_ordinal(position, ordinal);
	if (!call->waiting.shown) {
		snprintf(text, sizeof(text), "[sluice] waiting for an executor, %s in queue", ordinal);
		vertex_init(&call->waiting, "waiting", call->ref, text, now);
		call->waiting.shown = true;
		vertex_started(&call->waiting, &out);
	} else {
		snprintf(text, sizeof(text), "%s in queue, of %u", ordinal, waiting);
		vertex_log(&call->waiting, text, now, &out);
	}
	status_put(call, &out);
}

void call_end_waiting(struct buildkit_call *call, const char *error)
{
	uint8_t storage[VERTEX_MESSAGE_BYTES_MAX];
	struct buffer out = buffer_over(storage, sizeof(storage));

	if (!call->waiting.shown)
		return;
	vertex_completed(&call->waiting, error, ring_wall_ns(call->binding->buildkit->ring), &out);
	call->waiting.shown = false;
	status_put(call, &out);
}

/* ---- the account's own lines ---- */

void buildkit_say(struct buildkit *buildkit, const struct build *build, const char *purpose, const char *line)
{
	uint8_t storage[VERTEX_MESSAGE_BYTES_MAX];

	list_for_each(link, &build->binding->calls) {
		struct buildkit_call *call = container_of(link, struct buildkit_call, link);
		struct buffer out = buffer_over(storage, sizeof(storage));
		uint64_t now = ring_wall_ns(buildkit->ring);
		struct vertex vertex;

		if (call->kind != CALL_STATUS || !call->known || builds_of_status(call) != build)
			continue;
		vertex_init(&vertex, purpose, build->ref, line, now);
		vertex_completed(&vertex, NULL, now, &out);
		status_put(call, &out);
	}
}
