/* From a request to a list of the ledger, and back. */
#include "gateway/daemon/builds.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/sluice_v1.h"

#define BUILDS_REQUEST_BYTES_MAX  64
#define BUILDS_RESPONSE_BYTES_MAX (4u << 20)     /* SLUICE_BUILDS_MAX lines with the longest texts, and more */
#define BUILDS_FIELD              2              /* BuildsResponse.builds */

_Static_assert(SLUICE_BUILDS_MAX <= LEDGER_LIST_MAX, "the ledger gives as many as may be asked for");

struct builds_call {
	struct question question;
	struct builds_service *service;
	struct ledger_list list;
};

static void builds_put(struct buffer *out, const struct ledger_build *build)
{
	struct build_line line = {
		.subject = span_text(build->subject),
		.ref = span_text(build->ref),
		.directory = span_text(build->directory),
		.executor = span_text(build->executor),
		.queued_unix_ns = build->queued_wall_ns,
		.started_unix_ns = build->started_wall_ns,
		.ended_unix_ns = build->ended_wall_ns,
		.queue_ns = build->queue_ns,
		.files = build->files,
		.files_changed = build->files_changed,
		.bytes_from_client = build->bytes_from_client,
		.bytes_from_store = build->bytes_from_store,
		.bytes_to_executor = build->bytes_to_executor,
		.steps_cached = build->steps_cached,
		.steps_executed = build->steps_executed,
		.replays = build->replays,
		.result = build->result,
		.fault = build->fault,
		.status = build->status,
		.error = span_text(build->error),
	};

	message_nest(&build_line_type, out, BUILDS_FIELD, &line);
}

/* Answering may be the end of the call. The lines do not stay until a slow caller has read the answer. */
static void builds_reply(struct builds_call *call)
{
	struct ledger_build *lines = call->list.builds;
	struct buffer builds = buffer_heap(BUILDS_RESPONSE_BYTES_MAX), out = buffer_heap(BUILDS_RESPONSE_BYTES_MAX);
	struct builds_response response = { .now_unix_ns = ring_wall_ns(call->service->questions->cas->ring) };

	call->list.builds = NULL;
	for (size_t i = 0; i < call->list.count; i++)
		builds_put(&builds, &lines[i]);
	free(lines);
	response.builds.message = buffer_span(&builds);
	message_encode(&builds_response_type, &out, &response);
	if (builds.failed || out.failed)
		unary_fail(&call->question.unary, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory; try again");
	else
		unary_reply(&call->question.unary, buffer_span(&out));
	buffer_fini(&builds);
	buffer_fini(&out);
}

static void builds_on_list(struct ledger_list *list)
{
	struct builds_call *call = container_of(list, struct builds_call, list);

	if (list->result == LEDGER_OK)
		builds_reply(call);
	else if (list->result == LEDGER_BUSY)
		unary_fail(&call->question.unary, GRPC_RESOURCE_EXHAUSTED, "too many lists of builds at a time; try again");
	else
		unary_fail(&call->question.unary, GRPC_UNAVAILABLE, "the gateway's ledger failed; see its log");
}

static void builds_on_request(struct unary *unary, struct span bytes)
{
	struct builds_call *call = container_of(unary, struct builds_call, question.unary);
	struct ledger_list *list = &call->list;
	uint64_t now = ring_wall_ns(call->service->questions->cas->ring);
	struct builds_request request;
	char text[128];

	if (!message_decode(&builds_request_type, bytes, &request)) {
		unary_fail(unary, GRPC_INVALID_ARGUMENT, "malformed BuildsRequest");
		return;
	}
	if (request.limit > SLUICE_BUILDS_MAX) {
		snprintf(text, sizeof(text), "at most %d builds can be listed, not %u", SLUICE_BUILDS_MAX, request.limit);
		unary_fail(unary, GRPC_INVALID_ARGUMENT, text);
		return;
	}
	list->limit = request.limit ? request.limit : SLUICE_BUILDS_DEFAULT;
	list->since_wall_ns = request.within_ns && request.within_ns < now ? now - request.within_ns : 0;
	list->only_failed = request.failed_only;
	list->fn = builds_on_list;
	list->builds = calloc(list->limit, sizeof(*list->builds));
	if (list->builds)
		ledger_list(call->service->ledger, list);
	else
		unary_fail(unary, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory; try again");
}

static void builds_on_done(struct unary *unary)
{
	struct builds_call *call = container_of(unary, struct builds_call, question.unary);

	question_end(&call->question);
	free(call->list.builds);
	free(call);
}

/* Whose lines may be listed: the tenant is in the credential. An executor has none of its own. */
static enum grpc_status builds_begin(struct builds_call *call, struct builds_service *service,
                                     const struct server_request *request, char *why, size_t why_size)
{
	const struct access_caller *caller = &call->question.caller;
	enum grpc_status status = question_begin(&call->question, service->questions, request, why, why_size);

	if (status != GRPC_OK)
		return status;
	if (caller->executor) {
		question_end(&call->question);
		snprintf(why, why_size, "executors do not list builds");
		return GRPC_PERMISSION_DENIED;
	}
	ledger_text(call->list.tenant, sizeof(call->list.tenant), span_text(caller->identity.tenant));
	return GRPC_OK;
}

int builds_start(struct builds_service *service, const struct server_request *request, char *why, size_t why_size)
{
	struct builds_call *call = calloc(1, sizeof(*call));
	enum grpc_status status = GRPC_RESOURCE_EXHAUSTED;

	if (call)
		status = builds_begin(call, service, request, why, why_size);
	else
		snprintf(why, why_size, "the gateway is out of memory; try again");
	if (status != GRPC_OK) {
		free(call);
		return status;
	}
	call->service = service;
	call->question.unary.on_request = builds_on_request;
	call->question.unary.on_done = builds_on_done;
	question_accept(&call->question, request, BUILDS_REQUEST_BYTES_MAX);
	return 0;
}
