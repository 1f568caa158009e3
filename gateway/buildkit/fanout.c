/* One question to several executors. */
#include "gateway/buildkit/fanout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "gateway/base/check.h"
#include "gateway/buildkit/buildkit_private.h"
#include "proto/buildkit.h"
#include "proto/pb.h"

#define BRANCHES_MAX EXECUTORS_MAX

enum { HISTORY_EVENT_RECORD = 2, HISTORY_RECORD_REF = 1 };      /* control.proto */

/* The same call at one executor. */
struct branch {
	struct fanout *fanout;
	struct call call;
	struct list link;
	char executor[EXECUTOR_NAME_MAX];
	bool has_it;                     /* Content: it is this one's answer that the client gets */
};

struct fanout {
	struct buildkit_call *client;    /* NULL: gone */
	struct list branches;            /* that have not ended */
	enum call_kind kind;
	const char *path;
	bool named;                      /* the request names a Ref */
	bool follows;                    /* none of them ends, unless it fails */
	bool given_up;                   /* nothing that comes is of use any more */
	bool found;                      /* Content: one of them has it */
	bool narrow;                     /* Content: only one was asked so far */
	bool opening;                    /* more branches follow */
	bool answered;                   /* an executor said OK */
	enum grpc_status status;         /* the first that was neither that nor NOT_FOUND */
	char text[CALL_STATUS_TEXT_MAX + 1];
	char missing[CALL_STATUS_TEXT_MAX + 1];  /* of the first NOT_FOUND */
	struct buffer records;           /* DiskUsage */
	struct buffer request;           /* Content: for the others; */
	char first[EXECUTOR_NAME_MAX];   /* this one was asked */
};

static bool fanout_widen(struct fanout *fanout);

static void fanout_finish(struct fanout *fanout)
{
	struct forward *forward = &fanout->client->forward;

	if (fanout->kind == CALL_UPDATE_HISTORY && fanout->answered)
		forward_reply(forward, (struct span){ 0 });      /* one has it; how the others say that they have not differs */
	else if (fanout->status != GRPC_OK && !(fanout->kind == CALL_CONTENT && fanout->answered))
		forward_finish(forward, fanout->status, fanout->text);
	else if (!fanout->answered)
		forward_finish(forward, GRPC_NOT_FOUND, fanout->missing);
	else if (fanout->kind == CALL_DISK_USAGE)
		forward_reply(forward, buffer_span(&fanout->records));
	else
		forward_finish(forward, GRPC_OK, NULL);
}

static void fanout_join(struct fanout *fanout)
{
	if (!list_empty(&fanout->branches) || fanout->opening || fanout_widen(fanout))
		return;
	if (fanout->client) {
		fanout_finish(fanout);
		fanout->client->fanout = NULL;
	}
	buffer_fini(&fanout->records);
	buffer_fini(&fanout->request);
	free(fanout);
}

static void fanout_fail(struct fanout *fanout, enum grpc_status status, const char *executor, struct span text)
{
	if (fanout->status != GRPC_OK)
		return;
	fanout->status = status;
	snprintf(fanout->text, sizeof(fanout->text), "executor %s: %.*s", executor, (int)text.size, (const char *)text.data);
}

/* All but `kept`; NULL: all. */
static void cancel_branches(struct fanout *fanout, const struct branch *kept)
{
	bool opening = fanout->opening;

	fanout->opening = true;          /* a branch that ends is not the last one */
	list_for_each_safe(link, after, &fanout->branches)
		if (container_of(link, struct branch, link) != kept)
			call_cancel(&container_of(link, struct branch, link)->call);
	fanout->opening = opening;
}

static void fanout_give_up(struct fanout *fanout)
{
	fanout->given_up = true;
	cancel_branches(fanout, NULL);
}

/* Who follows all of them would not know what it misses of the one that has gone. */
static void fanout_judge(struct fanout *fanout)
{
	if (fanout->follows && fanout->status != GRPC_OK && !fanout->given_up)
		fanout_give_up(fanout);
}

/* ---- answers ---- */

static struct span bytes_field(struct span message, uint32_t number)
{
	struct pb_reader reader = pb_reader_make(message);
	struct span found = { 0 };
	struct pb_field field;

	while (pb_next(&reader, &field))
		if (field.number == number && field.wire == PB_BYTES)
			found = field.bytes;
	return found;
}

static void history_note(struct branch *branch, struct span event)
{
	struct binding *binding = branch->fanout->client->binding;
	struct span ref = bytes_field(bytes_field(event, HISTORY_EVENT_RECORD), HISTORY_RECORD_REF);
	char text[BUILD_ID_MAX];

	if (!ref.size || ref.size >= sizeof(text))
		return;
	snprintf(text, sizeof(text), "%.*s", (int)ref.size, (const char *)ref.data);
	refs_note(&binding->buildkit->refs, binding->tenant, text, branch->executor, ring_now_ns(binding->buildkit->ring));
	/* What it names of the content there is asked for next, and says nothing of the Ref. */
	if (branch->fanout->named)
		snprintf(binding->executor, sizeof(binding->executor), "%s", branch->executor);
}

static void hold_all(struct fanout *fanout)
{
	list_for_each(link, &fanout->branches)
		call_hold(&container_of(link, struct branch, link)->call);
}

/* The first one that has the content gives it. */
static bool branch_may_give(struct branch *branch)
{
	struct fanout *fanout = branch->fanout;

	if (fanout->kind == CALL_CONTENT && !fanout->found) {
		fanout->found = branch->has_it = true;
		cancel_branches(fanout, branch);
	}
	return fanout->kind != CALL_CONTENT || branch->has_it;
}

static void branch_on_message(struct call *call, struct span message)
{
	struct branch *branch = call->owner;
	struct fanout *fanout = branch->fanout;

	if (!fanout->client || fanout->kind == CALL_UPDATE_HISTORY || !branch_may_give(branch))
		return;
	if (fanout->kind == CALL_DISK_USAGE) {
		buffer_put(&fanout->records, message.data, message.size);
		if (fanout->records.failed)
			fanout_fail(fanout, GRPC_RESOURCE_EXHAUSTED, branch->executor, span_text("the records of all are too many"));
		return;
	}
	if (fanout->kind == CALL_HISTORY)
		history_note(branch, message);
	(void)forward_put(&fanout->client->forward, message);
	if (forward_waits(&fanout->client->forward))
		hold_all(fanout);
}

static void branch_on_writable(struct call *call)
{
	(void)call;
}

static void branch_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct branch *branch = call->owner;
	struct fanout *fanout = branch->fanout;
	bool late = fanout->found && !branch->has_it;    /* it was cancelled, or comes too late */

	if (status == GRPC_OK)
		fanout->answered = true;
	else if (status != GRPC_NOT_FOUND && !late)
		fanout_fail(fanout, status, branch->executor, message);
	else if (!late && !fanout->missing[0])
		snprintf(fanout->missing, sizeof(fanout->missing), "%.*s", (int)message.size, (const char *)message.data);
	list_remove(&branch->link);
	call_fini(&branch->call);
	free(branch);
	fanout_judge(fanout);
	fanout_join(fanout);
}

static const struct call_events branch_events = {
	.on_message = branch_on_message, .on_writable = branch_on_writable, .on_closed = branch_on_closed,
};

/* ---- asking ---- */

static const char *path_of(const struct buildkit_call *call)
{
	switch (call->kind) {
	case CALL_DISK_USAGE:
		return BUILDKIT_DISK_USAGE;
	case CALL_PRUNE:
		return BUILDKIT_PRUNE;
	case CALL_UPDATE_HISTORY:
		return BUILDKIT_UPDATE_BUILD_HISTORY;
	case CALL_CONTENT:
		return span_is(forward_header(&call->forward, ":path"), BUILDKIT_CONTENT_INFO) ? BUILDKIT_CONTENT_INFO :
		       BUILDKIT_CONTENT_READ;
	default:
		return BUILDKIT_LISTEN_BUILD_HISTORY;
	}
}

static int branch_start(struct branch *branch, struct uplink *uplink)
{
	return call_start(&branch->call, conn_h2(uplink->conn), branch->fanout->path, span_text("localhost"), 0, NULL,
	                  0, FORWARD_MESSAGE_BYTES_MAX, &branch_events, branch);
}

/* Why no call could be opened; `why` when it is known already. */
static struct span branch_why(int r, const char *why)
{
	if (*why)
		return span_text(why);
	return span_text(r == -EAGAIN ? "the connection to it has as many calls as it takes at a time; try again" :
	                 r == -EPIPE ? "it takes no calls on a new connection" : "the gateway is out of memory; try again");
}

static void branch_open(struct fanout *fanout, struct executor *executor, struct span request)
{
	struct binding *binding = fanout->client->binding;
	struct branch *branch = calloc(1, sizeof(*branch));
	struct uplink *uplink = NULL;
	char why[512] = "";
	int r = -ENOMEM;

	if (branch) {
		branch->fanout = fanout;
		snprintf(branch->executor, sizeof(branch->executor), "%s", executor_name(executor));
		r = uplink_for(&uplink, binding, executor, why, sizeof(why));
		if (r == 0)
			r = branch_start(branch, uplink);
		if (r == -EPIPE) {
			uplink->errand = false;          /* it said goodbye */
			r = uplink_open(&uplink, binding, executor, true, why, sizeof(why));
			if (r == 0)
				r = branch_start(branch, uplink);
		}
	}
	if (r < 0) {
		fanout_fail(fanout, r == -EAGAIN || r == -ENOMEM ? GRPC_RESOURCE_EXHAUSTED : GRPC_UNAVAILABLE, executor_name(executor),
		            branch_why(r, why));
		free(branch);
		return;
	}
	list_append(&fanout->branches, &branch->link);
	(void)call_send(&branch->call, request, 0);
	call_end(&branch->call);
}

struct ready {
	struct executor *executors[BRANCHES_MAX];
	size_t count;
};

static void collect_ready(void *context, struct executor *executor)
{
	struct ready *ready = context;

	if (executor_state(executor) == EXECUTOR_READY && ready->count < BRANCHES_MAX)
		ready->executors[ready->count++] = executor;
}

/* As a daemon does, and buildx needs it for the record of a build that is under way. */
static void tell_time(struct buildkit_call *call)
{
	uint64_t wall_ns = ring_wall_ns(call->binding->buildkit->ring);
	time_t seconds = (time_t)(wall_ns / 1000000000);
	char text[64], second[32];
	struct header field = { .name = span_text("buildkit-current-timestamp") };
	struct tm utc;

	gmtime_r(&seconds, &utc);
	strftime(second, sizeof(second), "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(text, sizeof(text), "%s.%09uZ", second, (unsigned)(wall_ns % 1000000000));
	field.value = span_text(text);
	forward_start(&call->forward, &field);
}

/* A history that is listened to beyond what there is. */
static bool call_follows(const struct buildkit_call *call, struct span request)
{
	struct buildkit_history_request history = { 0 };

	return call->kind == CALL_HISTORY && message_decode(&buildkit_history_request_type, request, &history) && !history.early_exit;
}

static void fanout_ask(struct fanout *fanout, const struct ready *ready, struct span request)
{
	bool opening = fanout->opening;

	fanout->opening = true;
	for (size_t i = 0; i < ready->count; i++)
		branch_open(fanout, ready->executors[i], request);
	fanout_judge(fanout);
	fanout->opening = opening;
}

static struct fanout *fanout_create(struct buildkit_call *call, struct span request)
{
	struct fanout *fanout = calloc(1, sizeof(*fanout));

	if (!fanout) {
		forward_finish(&call->forward, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory; try again");
		return NULL;
	}
	fanout->client = call;
	fanout->kind = call->kind;
	fanout->path = path_of(call);
	fanout->named = call->ref[0] != '\0';
	fanout->follows = call_follows(call, request);
	fanout->records = buffer_heap(FANOUT_ANSWER_BYTES_MAX);
	fanout->request = buffer_heap(FORWARD_MESSAGE_BYTES_MAX);
	list_init(&fanout->branches);
	call->fanout = fanout;
	return fanout;
}

static void fanout_all(struct buildkit_call *call, struct span request, const struct ready *ready)
{
	struct fanout *fanout = fanout_create(call, request);

	if (!fanout)
		return;
	if (call->kind == CALL_HISTORY)
		tell_time(call);
	fanout_ask(fanout, ready, request);
	fanout_join(fanout);
}

/* ---- content ---- */

/* Most of it is where the Ref that was named last was built, and its digest says nothing of that. */
static void fanout_first(struct buildkit_call *call, struct span request, struct executor *first)
{
	struct fanout *fanout = fanout_create(call, request);
	const struct ready one = { .executors = { first }, .count = 1 };

	if (!fanout)
		return;
	fanout->narrow = true;
	snprintf(fanout->first, sizeof(fanout->first), "%s", executor_name(first));
	buffer_put(&fanout->request, request.data, request.size);
	fanout_ask(fanout, &one, request);
	fanout_join(fanout);
}

/* The only one that was asked has it not. False: there is nobody else to ask. */
static bool fanout_widen(struct fanout *fanout)
{
	struct ready ready = { .count = 0 }, others = { .count = 0 };

	if (!fanout->client || !fanout->narrow || fanout->found || fanout->answered || fanout->request.failed)
		return false;
	fanout->narrow = false;
	executors_visit(fanout->client->binding->buildkit->executors, fanout->client->binding->tenant, collect_ready, &ready);
	for (size_t i = 0; i < ready.count; i++)
		if (strcmp(executor_name(ready.executors[i]), fanout->first) != 0)
			others.executors[others.count++] = ready.executors[i];
	fanout_ask(fanout, &others, buffer_span(&fanout->request));
	return !list_empty(&fanout->branches);
}

/*
 * After each build buildx asks for the history of a Ref that nobody has, to learn whether there is such a call. There is, as
 * with Info, since v0.11: connections to all executors, made for an answer without anything in it, are saved.
 */
static bool history_is_probe(const struct buildkit_call *call)
{
	const struct binding *binding = call->binding;
	struct executors_answers answers;

	executors_answers(binding->buildkit->executors, binding->tenant, &answers);
	return strcmp(call->ref, "buildx-test-history-api-feature") == 0 && answers.info.size > 0;
}

/* The Ref that it names, "" for none. */
static void take_ref(struct buildkit_call *call, struct span request)
{
	struct buildkit_history_request history = { 0 };
	struct buildkit_update_history_request update = { 0 };

	if (call->kind == CALL_HISTORY && message_decode(&buildkit_history_request_type, request, &history) &&
	    history.ref.size < sizeof(call->ref))
		call_copy(call->ref, sizeof(call->ref), history.ref);
	else if (call->kind == CALL_UPDATE_HISTORY && message_decode(&buildkit_update_history_request_type, request, &update) &&
	         update.ref.size < sizeof(call->ref))
		call_copy(call->ref, sizeof(call->ref), update.ref);
}

/* Where it was built, if that is there still; NULL: nobody knows who has what is left of it. */
static const char *holder_of(const struct binding *binding, const char *ref)
{
	const char *name = refs_find(&binding->buildkit->refs, binding->tenant, ref);

	return name && executors_find(binding->buildkit->executors, binding->tenant, name) ? name : NULL;
}

/* False: it is no more than one executor that is to be asked. */
static bool content_begin(struct buildkit_call *call, struct span request, const struct ready *ready)
{
	struct executor *first = errand_find(call->binding, call->binding->executor);
	bool alone = ready->count == 0 || (ready->count == 1 && (!first || ready->executors[0] == first));

	if (alone || !request.size)
		return false;
	if (first)
		fanout_first(call, request, first);
	else
		fanout_all(call, request, ready);
	return true;
}

void fanout_begin(struct buildkit_call *call, struct span request)
{
	struct binding *binding = call->binding;
	struct ready ready = { .count = 0 };
	const char *executor;

	take_ref(call, request);
	executor = holder_of(binding, call->ref);
	if (executor && call->kind == CALL_HISTORY)
		snprintf(binding->executor, sizeof(binding->executor), "%s", executor);
	if (executor) {
		errand_run(call, executor);
		return;
	}
	if (call->kind == CALL_HISTORY && history_is_probe(call)) {
		forward_finish(&call->forward, GRPC_OK, NULL);
		return;
	}
	executors_visit(binding->buildkit->executors, binding->tenant, collect_ready, &ready);
	if (call->kind == CALL_CONTENT && content_begin(call, request, &ready))
		return;
	if (call->kind == CALL_CONTENT || ready.count <= 1)
		errand_run(call, call->kind == CALL_CONTENT ? binding->executor : NULL);
	else
		fanout_all(call, request, &ready);
}

/* ---- the client's pace, and its end ---- */

void fanout_resume(struct fanout *fanout)
{
	bool opening = fanout->opening;

	fanout->opening = true;          /* a release can bring the end of its branch */
	list_for_each_safe(link, after, &fanout->branches) {
		if (fanout->client && forward_waits(&fanout->client->forward))
			break;
		call_release(&container_of(link, struct branch, link)->call);
		if (fanout->given_up)
			break;                   /* all were cancelled; those that had ended are gone */
	}
	fanout->opening = opening;
	fanout_join(fanout);
}

void fanout_leave(struct fanout *fanout)
{
	if (!fanout)
		return;
	fanout->client = NULL;
	fanout_give_up(fanout);
	fanout_join(fanout);
}
