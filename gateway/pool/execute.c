/* The calls: who asks, for which action or name, and how he is told. */
#include "gateway/pool/execute.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/cas/open_call.h"
#include "gateway/cas/unary.h"
#include "gateway/pool/execution.h"
#include "proto/reapi_cas.h"

#define EXECUTE_REQUEST_BYTES_MAX  (64u << 10)
#define EXECUTE_TEXT_SILENT        "the request did not come for too long"
#define EXECUTE_RIGHTS (SCOPE_READ | SCOPE_WRITE | SCOPE_EXECUTE)

/* Execute or WaitExecution. The execution frees nothing of it. */
struct execute_call {
	struct call call;
	struct execute_service *service;
	struct quota_place place;
	struct open_call open;           /* watched until it has asked */
	struct waiter waiter;
	struct access_caller caller;
	uint64_t directory;              /* hash of tenant and directory */
	bool again;                      /* WaitExecution */
	bool timed;                      /* it came with a grpc-timeout */
	bool asked;
};

static bool execute_send(struct waiter *waiter, struct span operation)
{
	return call_send(&container_of(waiter, struct execute_call, waiter)->call, operation, 0) != CALL_FULL;
}

static void execute_over(struct waiter *waiter)
{
	call_finish(&container_of(waiter, struct execute_call, waiter)->call, GRPC_OK, NULL);
}

/* What comes before "operations/" in a name, without the slash between. */
static struct span name_instance(struct span name)
{
	static const char word[] = "operations/";
	const size_t size = sizeof(word) - 1;

	for (size_t i = name.size; i-- > 0;)
		if (name.size - i >= size && memcmp(name.data + i, word, size) == 0)
			return span_make(name.data, i ? i - 1 : 0);
	return (struct span){ 0 };
}

static void execute_ask(struct execute_call *call, struct span message)
{
	struct reapi_execute_request request;
	struct execution_wish wish = { .identity = &call->caller.identity, .directory = call->directory };
	enum grpc_status status;
	char why[256];

	if (!message_decode(&reapi_execute_request_type, message, &request)) {
		call_finish(&call->call, GRPC_INVALID_ARGUMENT, "malformed ExecuteRequest");
		return;
	}
	if (request.digest_function != REAPI_DIGEST_UNKNOWN && request.digest_function != REAPI_SHA256) {
		call_finish(&call->call, GRPC_INVALID_ARGUMENT, "digests here are SHA-256");
		return;
	}
	/* Where nobody has written there is no Action that could run, and write. */
	status = access_find(&call->service->cas->access, &call->caller, request.instance_name, &wish.scope, why, sizeof(why));
	if (status != GRPC_OK) {
		call_finish(&call->call, status, why);
		return;
	}
	wish.instance = request.instance_name;
	wish.action = request.action_digest;
	wish.skip_cache = request.skip_cache_lookup;
	if (call->service->open >= EXECUTE_OPEN_MAX || !execution_begin(call->service, &wish, &call->waiter))
		call_finish(&call->call, GRPC_RESOURCE_EXHAUSTED, "the gateway has too many actions in progress; try again");
}

static void execute_ask_again(struct execute_call *call, struct span message)
{
	struct reapi_operation_request request;
	struct execution *execution;
	enum grpc_status status;
	struct scope scope;
	char why[256];

	if (!message_decode(&reapi_operation_request_type, message, &request)) {
		call_finish(&call->call, GRPC_INVALID_ARGUMENT, "malformed WaitExecutionRequest");
		return;
	}
	status = access_find(&call->service->cas->access, &call->caller, name_instance(request.name), &scope, why, sizeof(why));
	if (status != GRPC_OK) {
		call_finish(&call->call, status, why);
		return;
	}
	execution = execution_find(call->service, &scope, request.name);
	if (!execution) {
		call_finish(&call->call, GRPC_NOT_FOUND, "no operation of that name is known (any more): ask for the action again");
		return;
	}
	call->service->counters.waited++;
	execution_join(execution, &call->waiter);
}

static void execute_on_message(struct call *event, struct span message)
{
	struct execute_call *call = container_of(event, struct execute_call, call);

	if (call->asked)
		return;
	call->asked = true;
	open_call_unwatch(&call->open);
	if (call->again)
		execute_ask_again(call, message);
	else
		execute_ask(call, message);
}

static void execute_on_end(struct call *event)
{
	struct execute_call *call = container_of(event, struct execute_call, call);

	if (!call->asked)
		call_finish(&call->call, GRPC_INVALID_ARGUMENT, "a call without a request");
}

static void execute_on_writable(struct call *event)
{
	struct execute_call *call = container_of(event, struct execute_call, call);

	if (call->waiter.execution)
		execution_resume(&call->waiter);
}

static void execute_on_closed(struct call *event, enum grpc_status status, struct span message)
{
	struct execute_call *call = container_of(event, struct execute_call, call);

	if (call->waiter.execution)
		execution_leave(&call->waiter, call->call.carrier_lost || call->timed);
	if (!call->asked)
		open_call_unwatch(&call->open);
	call->service->calls--;
	quota_leave(&call->place);
	call_fini(&call->call);
	free(call);
}

static const struct call_events execute_events = {
	.on_message = execute_on_message,
	.on_end = execute_on_end,
	.on_writable = execute_on_writable,
	.on_closed = execute_on_closed,
};

static uint64_t execute_patience_ns(const struct open_call *open)
{
	return EXECUTE_ASK_NS;
}

static void execute_on_expired(struct open_call *open)
{
	struct execute_call *call = container_of(open, struct execute_call, open);

	if (call->call.finishing)
		call_cancel(&call->call);        /* it was told, and does not go */
	else
		call_finish(&call->call, GRPC_DEADLINE_EXCEEDED, EXECUTE_TEXT_SILENT);
}

static const struct open_call_events execute_open_events = {
	.patience_ns = execute_patience_ns, .on_expired = execute_on_expired,
};

static uint64_t affinity_of(const struct tenant_identity *identity, struct span directory)
{
	uint64_t hash = 14695981039346656037u;   /* FNV-1a: a table key, nothing more */

	for (const char *c = identity->tenant; *c; c++)
		hash = (hash ^ (uint8_t)*c) * 1099511628211u;
	for (size_t i = 0; i < directory.size; i++)
		hash = (hash ^ directory.data[i]) * 1099511628211u;
	return hash ? hash : 1;
}

static int execute_start_either(struct execute_service *service, const struct server_request *request, bool again, char *why,
                             size_t why_size)
{
	struct execute_call *call = service->calls < EXECUTE_OPEN_MAX ? calloc(1, sizeof(*call)) : NULL;
	enum grpc_status status;
	uint64_t tenant;

	if (!call) {
		snprintf(why, why_size, "the gateway has too many actions in progress; try again");
		return GRPC_RESOURCE_EXHAUSTED;
	}
	status = access_caller(&service->cas->access, request, EXECUTE_RIGHTS, &call->caller, why, why_size);
	tenant = status == GRPC_OK ? quota_key(call->caller.identity.tenant) : 0;
	if (!quota_has_room(&service->callers, tenant)) {
		snprintf(why, why_size, "this tenant waits for too many actions already; try again");
		status = GRPC_RESOURCE_EXHAUSTED;
	}
	if (status == GRPC_OK && !again)
		status = pool_ready(service->pool, why, why_size);
	if (status != GRPC_OK) {
		free(call);
		return status;
	}
	call->service = service;
	call->again = again;
	call->timed = request->head->timeout_ns != 0;
	call->waiter = (struct waiter){
		.stream_output = span_is(access_header(request->head, "sluice-output"), "stream"), .send = execute_send,
		.over = execute_over,
	};
	call->directory = affinity_of(&call->caller.identity, access_header(request->head, "sluice-directory"));
	service->calls++;
	quota_enter(&service->callers, tenant, &call->place);
	call_accept(&call->call, request->stream, request->head, EXECUTE_REQUEST_BYTES_MAX, &execute_events, call);
	open_call_watch(&call->open, service->cas, &call->call, conn_peer(request->conn), &execute_open_events);
	return 0;
}

int execute_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return execute_start_either(context, request, false, why, why_size);
}

int execute_wait_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return execute_start_either(context, request, true, why, why_size);
}

/* ---- GetOperation, CancelOperation ---- */

struct operation_call {
	struct unary unary;
	struct execute_service *service;
	struct quota_place place;
	struct open_call open;
	struct access_caller caller;
	void (*act)(struct unary *unary, struct execution *execution);   /* and answers */
};

static void operation_on_request(struct unary *unary, struct span bytes)
{
	struct operation_call *call = container_of(unary, struct operation_call, unary);
	struct reapi_operation_request request;
	struct execution *execution;
	enum grpc_status status;
	struct scope scope;
	char why[256];

	if (!message_decode(&reapi_operation_request_type, bytes, &request)) {
		unary_fail(unary, GRPC_INVALID_ARGUMENT, "malformed request for an operation");
		return;
	}
	status = access_find(&call->service->cas->access, &call->caller, name_instance(request.name), &scope, why, sizeof(why));
	if (status != GRPC_OK) {
		unary_fail(unary, status, why);
		return;
	}
	execution = execution_find(call->service, &scope, request.name);
	if (execution)
		call->act(unary, execution);
	else
		unary_fail(unary, GRPC_NOT_FOUND, "no operation of that name is known (any more)");
}

static void operation_on_done(struct unary *unary)
{
	struct operation_call *call = container_of(unary, struct operation_call, unary);

	open_call_unwatch(&call->open);
	call->service->looks--;
	quota_leave(&call->place);
	free(call);
}

static uint64_t operation_patience_ns(const struct open_call *open)
{
	return container_of(open, struct operation_call, open)->unary.answered ? EXECUTE_TAKE_NS : EXECUTE_ASK_NS;
}

/* No status gets past an answer that is not taken. */
static void operation_on_expired(struct open_call *open)
{
	struct operation_call *call = container_of(open, struct operation_call, open);

	if (call->unary.answered)
		call_cancel(&call->unary.call);
	else
		unary_fail(&call->unary, GRPC_DEADLINE_EXCEEDED, EXECUTE_TEXT_SILENT);
}

static const struct open_call_events operation_open_events = {
	.patience_ns = operation_patience_ns, .on_expired = operation_on_expired,
};

static int operation_start(struct execute_service *service, const struct server_request *request,
                           void (*act)(struct unary *unary, struct execution *execution), char *why, size_t why_size)
{
	struct operation_call *call = service->looks < EXECUTE_LOOKS_MAX ? calloc(1, sizeof(*call)) : NULL;
	enum grpc_status status = GRPC_RESOURCE_EXHAUSTED;
	uint64_t tenant;

	if (call)
		status = access_caller(&service->cas->access, request, SCOPE_EXECUTE, &call->caller, why, why_size);
	else
		snprintf(why, why_size, "too many ask about operations; try again");
	tenant = status == GRPC_OK ? quota_key(call->caller.identity.tenant) : 0;
	if (!quota_has_room(&service->lookers, tenant)) {
		snprintf(why, why_size, "this tenant asks about too many operations at a time; try again");
		status = GRPC_RESOURCE_EXHAUSTED;
	}
	if (status != GRPC_OK) {
		free(call);
		return status;
	}
	call->service = service;
	call->act = act;
	call->unary.on_request = operation_on_request;
	call->unary.on_done = operation_on_done;
	service->looks++;
	quota_enter(&service->lookers, tenant, &call->place);
	unary_accept(&call->unary, request, EXECUTE_REQUEST_BYTES_MAX);
	open_call_watch(&call->open, service->cas, &call->unary.call, conn_peer(request->conn), &operation_open_events);
	return 0;
}

static void operation_get(struct unary *unary, struct execution *execution)
{
	struct span operation = execution_operation(execution);

	if (operation.size)
		unary_reply(unary, operation);
	else
		unary_fail(unary, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory; try again");
}

static void operation_cancel(struct unary *unary, struct execution *execution)
{
	execution_cancel(execution);
	unary_reply(unary, (struct span){ 0 });
}

int execute_get_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return operation_start(context, request, operation_get, why, why_size);
}

int execute_cancel_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return operation_start(context, request, operation_cancel, why, why_size);
}
