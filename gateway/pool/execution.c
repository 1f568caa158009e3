/* An action's way through its states, and what those who wait for it are told. */
#include "gateway/pool/execution.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/log.h"
#include "gateway/pool/output_stream.h"
#include "proto/escape.h"
#include "proto/reapi_cas.h"

#define EXECUTE_MESSAGE_BYTES_MAX (3u << 20)     /* of an Operation: output, or a result, as long as the host may send them */
#define EXECUTE_CATCH_UP_BYTES (64u << 10)       /* of output that came before, a message */
#define EXECUTE_VIOLATIONS_MAX 1024      /* missing blobs that a caller is told */
#define STATUS_BYTES_MAX (CALL_STATUS_TEXT_MAX + 16)

/* ---- what waiters are told ---- */

static uint32_t stage_of(const struct execution *execution)
{
	if (execution->state < EXECUTION_INPUTS)
		return REAPI_STAGE_CACHE_CHECK;
	return execution->state > EXECUTION_POOL || execution->started_wall_ns ? REAPI_STAGE_EXECUTING : REAPI_STAGE_QUEUED;
}

/* False: no memory. */
static bool execution_make_progress(struct execution *execution, const struct execute_output *output)
{
	const struct operation_head head = {
		.name = execution->name, .action = execution->action, .stage = stage_of(execution), .output = output,
		.has_streams = execution_has_run(execution),
	};

	buffer_clear(&execution->progress);
	operation_put_progress(&execution->progress, &head);
	return !execution->progress.failed;
}

struct span execution_operation(struct execution *execution)
{
	if (execution->state == EXECUTION_ENDED)
		return buffer_span(&execution->operation);
	return execution_make_progress(execution, NULL) ? buffer_span(&execution->progress) : (struct span){ 0 };
}

/* False: the waiter cannot take it now. */
static bool waiter_tell(struct waiter *waiter, const struct execute_output *output)
{
	struct execution *execution = waiter->execution;

	if (!execution_make_progress(execution, output))
		return true;             /* no memory for it: he goes without. Waiting brings nothing, and the end has what is kept */
	return waiter->send(waiter, buffer_span(&execution->progress));
}

void execution_tell(struct execution *execution, const struct execute_output *output)
{
	list_for_each(link, &execution->waiters) {
		struct waiter *waiter = container_of(link, struct waiter, link);

		waiter_tell(waiter, waiter->stream_output ? output : NULL);
	}
}

/* What he lacks of one stream, of what is kept. False: not all of it is out. */
static bool waiter_catch_up(struct waiter *waiter, uint32_t stream)
{
	struct execution *execution = waiter->execution;
	const struct buffer *kept = &execution->output[stream];
	uint64_t *told = &waiter->told[stream];

	while (*told < kept->size) {
		size_t size = kept->size - *told < EXECUTE_CATCH_UP_BYTES ? kept->size - *told : EXECUTE_CATCH_UP_BYTES;
		struct execute_output output = { .stream = stream + 1, .data = span_make(kept->data + *told, size) };

		if (!waiter_tell(waiter, &output))
			return false;
		*told += size;
	}
	return true;
}

/* With the chunk at hand, which may be kept or not. */
bool waiter_take_output(struct waiter *waiter, uint32_t stream, struct span data)
{
	struct execution *execution = waiter->execution;
	struct execute_output output = { .stream = stream + 1, .data = data };

	if (!waiter->stream_output)
		return true;
	if (!waiter_catch_up(waiter, stream))
		return false;
	if (waiter->told[stream] >= execution->output_bytes[stream])
		return true;
	if (!waiter_tell(waiter, &output))
		return false;
	waiter->told[stream] = execution->output_bytes[stream];  /* what is beyond the kept and came before him is gone */
	return true;
}

static void waiter_detach(struct waiter *waiter)
{
	list_remove(&waiter->link);
	waiter->execution = NULL;
}

/* Nobody needs more of an ended one than its last Operation, and a little output. */
static void execution_shrink(struct execution *execution)
{
	struct buffer *const buffers[] = {
		&execution->action_bytes, &execution->command_bytes, &execution->outputs, &execution->result, &execution->assignment,
		&execution->progress,
	};

	for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
		buffer_fini(buffers[i]);
	store_hold_release(execution->hold);
	execution->hold = NULL;
	closure_fini(&execution->closure);
	free(execution->read.buffer);
	execution->read.buffer = NULL;
	result_check_fini(&execution->check);
	free(execution->inputs);
	free(execution->inputs_present);
	execution->inputs = NULL;
	execution->inputs_present = NULL;
}

static size_t output_size(const struct execution *execution)
{
	return execution->output[0].size + execution->output[1].size;
}

static void execution_drop_output(struct execution *execution)
{
	buffer_fini(&execution->output[0]);
	buffer_fini(&execution->output[1]);
	execution->output_gone = true;
}

void execution_settle(struct execution *execution)
{
	if (execution->state != EXECUTION_ENDED || !list_empty(&execution->waiters))
		return;
	execution_shrink(execution);
	execution->progress = buffer_heap(EXECUTE_MESSAGE_BYTES_MAX);    /* who waits again is told what is kept of the output */
	if (list_empty(&execution->readers) && output_size(execution) > EXECUTE_KEPT_OUTPUT_BYTES)
		execution_drop_output(execution);
}

void execution_wake_readers(struct execution *execution)
{
	list_for_each_safe(link, after, &execution->readers) {
		struct output_stream *stream = container_of(link, struct output_stream, link);

		stream->on_more(stream);
	}
}

/* An ended one's output and last Operation; then it is over for him. */
static void waiter_finish(struct waiter *waiter)
{
	struct execution *execution = waiter->execution;

	if (waiter->stream_output && (!waiter_catch_up(waiter, 0) || !waiter_catch_up(waiter, 1)))
		return;
	if (!waiter->send(waiter, buffer_span(&execution->operation)))
		return;
	waiter_detach(waiter);
	execution_settle(execution);
	waiter->over(waiter);
}

/* ---- the end ---- */

static bool execution_in_use(const struct execution *execution)
{
	return !list_empty(&execution->waiters) || !list_empty(&execution->readers) || op_in_flight(&execution->linger) ||
	       op_in_flight(&execution->late);
}

void execution_free(struct execution *execution)
{
	struct execute_service *service = execution->service;

	CHECK(execution->state == EXECUTION_ENDED && !execution_in_use(execution));
	list_remove(&execution->link);
	service->ended_count--;
	service->ended_bytes -= execution->remembered;
	execution_shrink(execution);
	execution_drop_output(execution);
	buffer_fini(&execution->progress);
	buffer_fini(&execution->operation);
	free(execution);
}

static void service_forget(struct execute_service *service, const struct execution *newest)
{
	uint64_t now = ring_now_ns(service->cas->ring);

	list_for_each_safe(link, after, &service->ended) {
		struct execution *execution = container_of(link, struct execution, link);

		if (execution == newest || (service->ended_count <= EXECUTE_ENDED_MAX && service->ended_bytes <= EXECUTE_ENDED_BYTES_MAX &&
		                            now - execution->ended_ns < EXECUTE_ENDED_NS))
			return;
		if (!execution_in_use(execution))
			execution_free(execution);
	}
}

/* Its last Operation is made. */
static void execution_end(struct execution *execution)
{
	struct execute_service *service = execution->service;

	CHECK(execution->state != EXECUTION_ENDED);
	execution->state = EXECUTION_ENDED;
	execution->shared = false;
	execution->ended_ns = ring_now_ns(service->cas->ring);
	log_event(LOG_DEBUG, "execution ended", LOG_TEXT("name", execution->name),
	          LOG_U64("total_ms", (execution->ended_ns - execution->began_ns) / 1000000u),
	          LOG_U64("queue_ms", execution->started_wall_ns > execution->queued_wall_ns ?
	                              (execution->started_wall_ns - execution->queued_wall_ns) / 1000000u : 0),
	          LOG_U64("slot_ms", execution->slot_ms));
	list_remove(&execution->link);
	list_append(&service->ended, &execution->link);
	service->ended_count++;
	execution->remembered = execution->operation.size +
	                        (output_size(execution) <= EXECUTE_KEPT_OUTPUT_BYTES ? output_size(execution) : 0);
	service->ended_bytes += execution->remembered;
	service->open--;
	ring_cancel(service->cas->ring, &execution->linger);
	ring_cancel(service->cas->ring, &execution->late);
	service_forget(service, execution);
	execution_wake_readers(execution);
	execution_settle(execution);
	list_for_each_safe(link, after, &execution->waiters)
		waiter_finish(container_of(link, struct waiter, link));
	pool_leave(service->pool);
}

static void execution_respond(struct execution *execution, const struct operation_response *response)
{
	struct operation_head head = {
		.name = execution->name, .action = execution->action, .stage = REAPI_STAGE_COMPLETED,
		.has_streams = execution_has_run(execution),
	};
	static const uint8_t exhausted[] = { 0x08, GRPC_RESOURCE_EXHAUSTED };
	const struct operation_response small = { .status = span_make(exhausted, sizeof(exhausted)) };

	buffer_clear(&execution->operation);
	operation_put_end(&execution->operation, &head, response);
	if (execution->operation.failed) {
		buffer_clear(&execution->operation);
		operation_put_end(&execution->operation, &head, &small);
	}
	execution_end(execution);
}

static void execution_fail_with(struct execution *execution, struct span status)
{
	execution->service->counters.failures++;
	execution_respond(execution, &(struct operation_response){ .status = status });
}

/* A Status in `storage`. */
static struct span status_of(uint8_t storage[static STATUS_BYTES_MAX], enum grpc_status code, const char *text)
{
	uint8_t message[CALL_STATUS_TEXT_MAX];
	struct buffer buffer = buffer_over(storage, STATUS_BYTES_MAX), cut = buffer_over(message, sizeof(message));
	struct reapi_status status = { .code = code };

	utf8_put(&cut, span_text(text));         /* an executor names files as they are */
	status.message = buffer_span(&cut);
	message_encode(&reapi_status_type, &buffer, &status);
	return buffer_span(&buffer);
}

void execution_fail(struct execution *execution, enum grpc_status status, const char *text)
{
	uint8_t storage[STATUS_BYTES_MAX];

	log_event(LOG_DEBUG, "execution failed", LOG_TEXT("name", execution->name), LOG_TEXT("status", grpc_status_name(status)),
	          LOG_TEXT("why", text));
	execution_fail_with(execution, status_of(storage, status, text));
}

void execution_fail_memory(struct execution *execution)
{
	execution_fail(execution, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory; try again");
}

void execution_fail_store(struct execution *execution, int result)
{
	if (result == STORE_FULL || result == -ENOSPC)
		execution_fail(execution, GRPC_RESOURCE_EXHAUSTED, "the store is full: the result could not be kept");
	else
		execution_fail(execution, GRPC_UNAVAILABLE, "the gateway's disk failed; see its log");
}

void execution_fail_missing(struct execution *execution, const char *text, struct span digests)
{
	struct buffer status = buffer_heap(EXECUTE_COMMAND_BYTES_MAX);
	struct reapi_missing missing;
	struct digest digest;

	log_event(LOG_DEBUG, "execution lacks blobs", LOG_TEXT("name", execution->name), LOG_TEXT("why", text));
	reapi_missing_begin(&missing, &status, text);
	for (unsigned i = 0; i < EXECUTE_VIOLATIONS_MAX && digest_list_next(&digests, &digest); i++)
		reapi_missing_add(&missing, &digest);
	reapi_missing_end(&missing);
	if (status.failed)
		execution_fail_memory(execution);
	else
		execution_fail_with(execution, buffer_span(&status));
	buffer_fini(&status);
}

void execution_fail_missing_one(struct execution *execution, const char *text, const struct digest *digest)
{
	uint8_t storage[48];
	struct buffer list = buffer_over(storage, sizeof(storage));

	digest_list_put(&list, digest);
	execution_fail_missing(execution, text, buffer_span(&list));
}

/* An operation has landed. True when nobody wants to know: it has ended. */
bool execution_gone(struct execution *execution)
{
	if (!execution->cancelled)
		return false;
	execution_fail(execution, GRPC_CANCELLED, "the action was cancelled");
	return true;
}

void execution_cancel(struct execution *execution)
{
	struct pool *pool = execution->service->pool;

	if (execution->state == EXECUTION_ENDED || execution->cancelled)
		return;
	execution->cancelled = true;
	execution->service->counters.cancelled++;
	if (execution->state == EXECUTION_RESOLVE)
		pool_resolve_cancel(pool, &execution->resolve);
	/* One that runs is heard of again, or has been already: then it has ended. */
	if (execution->state == EXECUTION_RESOLVE || (execution->state == EXECUTION_POOL && !pool_cancel(pool, &execution->job)))
		execution_gone(execution);
}

void execution_answer(struct execution *execution, bool cached)
{
	uint8_t storage[STATUS_BYTES_MAX];
	bool lost = execution->output_bytes[0] > execution->output[0].size || execution->output_bytes[1] > execution->output[1].size;

	execution->service->counters.failures += execution->status != 0;
	execution_respond(execution, &(struct operation_response){
		.result = buffer_span(&execution->result), .cached = cached,
		.status = execution->status ? status_of(storage, execution->status, execution->text) : (struct span){ 0 },
		.message = lost ? "output beyond 4 MiB was not kept, and so the result is not cached" : NULL,
	});
}

/* ---- those who wait ---- */

static void execution_linger(struct execution *execution);

static void execution_on_linger(struct op *op, int32_t res)
{
	struct execution *execution = container_of(op, struct execution, linger);

	execution->service->timers--;
	if (execution->state == EXECUTION_ENDED || !list_empty(&execution->waiters))
		return;
	if (res == 0 || execution->service->draining)
		execution_cancel(execution);
	else
		execution_linger(execution);     /* he had come back, and is gone again */
}

static void execution_linger(struct execution *execution)
{
	struct execute_service *service = execution->service;

	if (op_in_flight(&execution->linger))
		return;
	service->timers++;
	execution->linger.fn = execution_on_linger;
	ring_timer(service->cas->ring, &execution->linger, service->linger_ns);
}

void execution_join(struct execution *execution, struct waiter *waiter)
{
	waiter->execution = execution;
	list_append(&execution->waiters, &waiter->link);
	ring_cancel(execution->service->cas->ring, &execution->linger);
	if (execution->state == EXECUTION_ENDED) {
		waiter_finish(waiter);
		return;
	}
	if (execution->state > EXECUTION_RESOLVE && waiter_tell(waiter, NULL))
		execution_resume(waiter);
}

void execution_leave(struct waiter *waiter, bool lost)
{
	struct execution *execution = waiter->execution;
	struct execute_service *service = execution->service;

	waiter_detach(waiter);
	if (!list_empty(&execution->waiters)) {
		if (execution->state == EXECUTION_POOL)
			pool_job_resume(service->pool, &execution->job);         /* perhaps it was he who did not read */
		return;
	}
	if (execution->state == EXECUTION_ENDED) {
		execution_settle(execution);
	} else if (!lost || !service->linger_ns || service->draining) {
		execution_cancel(execution);
	} else {
		execution_linger(execution);
		if (execution->state == EXECUTION_POOL)
			pool_job_resume(service->pool, &execution->job);
	}
}

void execution_resume(struct waiter *waiter)
{
	struct execution *execution = waiter->execution;

	if (execution->state == EXECUTION_ENDED)
		waiter_finish(waiter);
	else if (waiter->stream_output && (!waiter_catch_up(waiter, 0) || !waiter_catch_up(waiter, 1)))
		return;
	else if (execution->state == EXECUTION_POOL)
		pool_job_resume(execution->service->pool, &execution->job);
}

/* ---- its life ---- */

static void execution_name(struct execution *execution, struct span instance)
{
	uint8_t random[16];
	size_t used;

	ring_random(execution->service->cas->ring, random, sizeof(random));
	used = (size_t)snprintf(execution->name, sizeof(execution->name), "%.*s%soperations/", (int)instance.size,
	                        (const char *)instance.data, instance.size ? "/" : "");
	CHECK(used + 2 * sizeof(random) < sizeof(execution->name));
	for (size_t i = 0; i < sizeof(random); i++)
		used += (size_t)snprintf(execution->name + used, sizeof(execution->name) - used, "%02x", random[i]);
}

static struct execution *execution_create(struct execute_service *service, const struct execution_wish *wish)
{
	struct execution *execution = calloc(1, sizeof(*execution));

	if (!execution)
		return NULL;
	execution->hold = store_hold_create(service->cas->store, &wish->scope);
	if (!execution->hold) {
		free(execution);
		return NULL;
	}
	execution->service = service;
	execution->began_ns = ring_now_ns(service->cas->ring);
	execution->scope = wish->scope;
	execution->directory = wish->directory;
	execution->action = wish->action;
	execution->skip_cache = wish->skip_cache;
	snprintf(execution->tenant, sizeof(execution->tenant), "%s", wish->identity->tenant);
	execution_name(execution, wish->instance);
	list_init(&execution->waiters);
	list_init(&execution->readers);
	execution->action_bytes = buffer_heap(EXECUTE_COMMAND_BYTES_MAX);
	execution->command_bytes = buffer_heap(EXECUTE_COMMAND_BYTES_MAX);
	execution->output[0] = buffer_heap(EXECUTE_OUTPUT_BYTES_MAX);
	execution->output[1] = buffer_heap(EXECUTE_OUTPUT_BYTES_MAX);
	execution->outputs = buffer_heap(EXECUTE_COMMAND_BYTES_MAX);
	execution->result = buffer_heap(EXECUTE_COMMAND_BYTES_MAX);
	execution->progress = buffer_heap(EXECUTE_MESSAGE_BYTES_MAX);
	execution->operation = buffer_heap(EXECUTE_MESSAGE_BYTES_MAX);
	execution->assignment = buffer_heap(POOL_ASSIGNMENT_BYTES_MAX);
	return execution;
}

bool execution_begin(struct execute_service *service, const struct execution_wish *wish, struct waiter *waiter)
{
	struct execution *execution = execution_create(service, wish);

	if (!execution)
		return false;
	service_forget(service, NULL);
	service->open++;
	service->counters.executions++;
	pool_enter(service->pool);
	list_append(&service->running, &execution->link);
	execution_join(execution, waiter);
	execution_look_at_action(execution);
	return true;
}

static struct execution *find_in(const struct list *list, const struct scope *scope, struct span name)
{
	list_for_each(link, list) {
		struct execution *execution = container_of(link, struct execution, link);

		if (scope_same(&execution->scope, scope) && span_is(name, execution->name))
			return execution;
	}
	return NULL;
}

struct execution *execution_find(struct execute_service *service, const struct scope *scope, struct span name)
{
	struct execution *execution = find_in(&service->running, scope, name);

	service_forget(service, NULL);
	return execution ? execution : find_in(&service->ended, scope, name);
}

/* ---- the service ---- */

void execute_init(struct execute_service *service)
{
	quota_init(&service->callers, EXECUTE_TENANT_CALLS_MAX);
	quota_init(&service->lookers, EXECUTE_TENANT_LOOKS_MAX);
	list_init(&service->running);
	list_init(&service->ended);
}

void execute_fini(struct execute_service *service)
{
	CHECK(execute_idle(service));
	list_for_each_safe(link, after, &service->ended)
		execution_free(container_of(link, struct execution, link));
}

bool execute_idle(const struct execute_service *service)
{
	return !service->calls && !service->looks && !service->open && !service->timers;
}

void execute_drain(struct execute_service *service)
{
	service->draining = true;
	list_for_each_safe(link, after, &service->running) {
		struct execution *execution = container_of(link, struct execution, link);

		if (list_empty(&execution->waiters))
			execution_cancel(execution);
	}
}
