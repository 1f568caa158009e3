/*
 * One Execute call.
 *
 *	WAITING -> ACTION -> COMMAND -> RESOLVE -> NOTE -> CACHED_RESULT -> CACHED_OUTPUT -> CACHED_TREE -> ANSWERED
 *	                                    |        (any miss)
 *	                                    +-> POOL -> STORING -> SYNCING -> NOTING -> ANSWERED
 *
 * A state names the operation in flight; its completion calls the next step. The caller may go in any state; the
 * execution is freed when what is in flight has landed, see execution_gone(). Any step may also end it with
 * execution_fail().
 */
#include "gateway/pool/execute.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/log.h"
#include "gateway/cas/closure.h"
#include "gateway/pool/task.h"
#include "proto/pb.h"
#include "proto/reapi.h"

#define EXECUTE_INLINE_BYTES 4096        /* output up to this rides in the result itself */
#define EXECUTE_MESSAGE_BYTES_MAX (2u << 20)     /* of an Operation: output as the host sends it, or a result */
#define EXECUTE_KEY_TAG      "sluice action cache 1"

enum execution_state {
	EXECUTION_WAITING,               /* for the request */
	EXECUTION_ACTION,
	EXECUTION_COMMAND,
	EXECUTION_RESOLVE,
	EXECUTION_NOTE,
	EXECUTION_CACHED_RESULT,
	EXECUTION_CACHED_OUTPUT,         /* are stdout and stderr still there? */
	EXECUTION_CACHED_TREE,           /* and the changes? */
	EXECUTION_POOL,                  /* queued or running */
	EXECUTION_STORING,
	EXECUTION_SYNCING,
	EXECUTION_NOTING,
	EXECUTION_ANSWERED,
};

struct execution {
	struct call call;
	struct execute_service *service;
	enum execution_state state;
	bool closed;                     /* the caller is gone */
	bool stream_output, skip_cache;
	struct scope scope;
	struct tenant_identity identity;
	uint64_t directory;              /* hash of tenant and directory */
	struct store_hold *hold;         /* of the input tree, and of what the result names */
	struct digest action;
	struct buffer action_bytes, command_bytes;
	struct task task;                /* borrows from these two */
	struct buffer output[2];
	bool output_lost[2];             /* there was more */
	struct buffer result;            /* ActionResult */
	struct digest result_digest;
	struct buffer operation;         /* the last one waits here when the call cannot take it */
	struct buffer assignment;

	struct store_read read;
	struct pool_resolve resolve;
	struct store_note note;
	struct store_lookup lookup;
	struct digest cached_output[2], cached_tree;
	uint32_t places[2];
	struct closure closure;
	struct pool_job job;
	struct store_item items[3];
	struct store_put put;
	struct store_sync sync;
};

static void execution_free(struct execution *execution)
{
	struct pool *pool = execution->service->pool;

	execution->service->open--;
	store_hold_release(execution->hold);
	call_fini(&execution->call);
	closure_fini(&execution->closure);
	free(execution->read.buffer);
	for (int i = 0; i < 2; i++)
		buffer_fini(&execution->output[i]);
	buffer_fini(&execution->action_bytes);
	buffer_fini(&execution->command_bytes);
	buffer_fini(&execution->result);
	buffer_fini(&execution->operation);
	buffer_fini(&execution->assignment);
	free(execution);
	pool_leave(pool);
}

/* An operation has landed. True when the caller went away meanwhile; the execution is freed then. */
static bool execution_gone(struct execution *execution)
{
	if (!execution->closed)
		return false;
	execution_free(execution);
	return true;
}

static void execution_fail(struct execution *execution, enum grpc_status status, const char *text)
{
	execution->state = EXECUTION_ANSWERED;
	execution->service->counters.failures++;
	call_finish(&execution->call, status, text);
}

static void execution_fail_memory(struct execution *execution)
{
	execution_fail(execution, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory; try again");
}

static void execution_fail_store(struct execution *execution, int result)
{
	if (result == STORE_FULL || result == -ENOSPC)
		execution_fail(execution, GRPC_RESOURCE_EXHAUSTED, "the store is full: the result could not be kept");
	else
		execution_fail(execution, GRPC_UNAVAILABLE, "the gateway's disk failed; see its log");
}

/* ---- operations to the caller ---- */

static void operation_begin(struct execution *execution, uint32_t stage, const struct execute_output *output)
{
	struct reapi_execute_metadata metadata = { .stage = stage, .action_digest = execution->action };
	size_t any, value, nested;

	/* Written field by field: output is nested three deep, and copied once. */
	buffer_clear(&execution->operation);
	pb_put_text(&execution->operation, 1, "operations/");
	any = pb_begin(&execution->operation, 2);
	pb_put_text(&execution->operation, 1, REAPI_TYPE_METADATA);
	value = pb_begin(&execution->operation, 2);
	message_encode(&reapi_execute_metadata_type, &execution->operation, &metadata);
	if (output) {
		nested = pb_begin(&execution->operation, 50000);
		message_encode(&execute_output_type, &execution->operation, output);
		pb_end(&execution->operation, nested);
	}
	pb_end(&execution->operation, value);
	pb_end(&execution->operation, any);
}

static bool operation_send(struct execution *execution, uint32_t stage, const struct execute_output *output)
{
	operation_begin(execution, stage, output);
	return call_send(&execution->call, buffer_span(&execution->operation), 0) != CALL_FULL;
}

static void execution_finish_sending(struct execution *execution)
{
	if (call_send(&execution->call, buffer_span(&execution->operation), 0) == CALL_FULL)
		return;                          /* again when it is writable */
	buffer_clear(&execution->operation);
	call_finish(&execution->call, GRPC_OK, NULL);
}

static void execution_answer(struct execution *execution, bool cached)
{
	static const struct reapi_status ok;
	size_t any, value;

	operation_begin(execution, REAPI_STAGE_COMPLETED, NULL);
	pb_put_bool(&execution->operation, 3, true);
	any = pb_begin(&execution->operation, 5);
	pb_put_text(&execution->operation, 1, REAPI_TYPE_RESPONSE);
	value = pb_begin(&execution->operation, 2);
	pb_put_bytes_always(&execution->operation, 1, buffer_span(&execution->result));
	pb_put_bool(&execution->operation, 2, cached);
	message_nest(&reapi_status_type, &execution->operation, 3, &ok);
	if (execution->output_lost[0] || execution->output_lost[1])
		pb_put_text(&execution->operation, 5, "output beyond 4 MiB was not kept, and so the result is not cached");
	pb_end(&execution->operation, value);
	pb_end(&execution->operation, any);
	if (execution->operation.failed) {
		execution_fail_memory(execution);
		return;
	}
	execution->state = EXECUTION_ANSWERED;
	execution_finish_sending(execution);
}

/* ---- keeping the result ---- */

static void execution_on_note_put(struct store_note *note)
{
	struct execution *execution = container_of(note, struct execution, note);

	/* A note that could not be kept costs a later cache hit; the result itself is safe. */
	if (!execution_gone(execution))
		execution_answer(execution, false);
}

static void execution_on_sync(struct store_sync *sync)
{
	struct execution *execution = container_of(sync, struct execution, sync);
	struct reapi_action_result result;
	struct buffer value;

	if (execution_gone(execution))
		return;
	if (sync->result) {
		execution_fail_store(execution, sync->result);
		return;
	}
	message_decode(&reapi_action_result_type, buffer_span(&execution->result), &result);
	if (result.exit_code != 0 || execution->task.do_not_cache || execution->output_lost[0] || execution->output_lost[1]) {
		execution_answer(execution, false);
		return;
	}
	value = buffer_over(execution->note.value, sizeof(execution->note.value));
	execution->note.fn = execution_on_note_put;
	digest_list_put(&value, &execution->result_digest);
	execution->note.value_size = value.size;
	execution->state = EXECUTION_NOTING;
	store_note_put(execution->service->cas->store, &execution->note);
}

static void execution_on_put(struct store_put *put)
{
	struct execution *execution = container_of(put, struct execution, put);

	if (execution_gone(execution))
		return;
	if (put->result) {
		execution_fail_store(execution, put->result);
		return;
	}
	execution->state = EXECUTION_SYNCING;
	execution->sync.fn = execution_on_sync;
	store_sync(execution->service->cas->store, &execution->sync);
}

static struct store_item item_of(struct span data)
{
	struct store_item item = { .data = data, .digest.size = data.size };

	sha256_once(data.data, data.size, item.digest.hash);
	return item;
}

/* The ActionResult and the outputs that are too long for it, into items. Returns how many; 0: out of memory. */
static size_t execution_make_items(struct execution *execution, struct reapi_action_result *result)
{
	size_t count = 0;

	for (int i = 0; i < 2; i++) {
		struct span bytes = buffer_span(&execution->output[i]);

		if (bytes.size <= EXECUTE_INLINE_BYTES) {
			*(i ? &result->stderr_raw : &result->stdout_raw) = bytes;
			continue;
		}
		execution->items[count] = item_of(bytes);
		*(i ? &result->stderr_digest : &result->stdout_digest) = execution->items[count++].digest;
	}
	buffer_clear(&execution->result);
	message_encode(&reapi_action_result_type, &execution->result, result);
	if (execution->result.failed)
		return 0;
	execution->items[count] = item_of(buffer_span(&execution->result));
	execution->result_digest = execution->items[count++].digest;
	return count;
}

static void execution_store(struct execution *execution, const struct executor_finished *finished)
{
	struct reapi_action_result result = { .exit_code = finished->exit_code };
	struct reapi_output_directory directory = { 0 };
	struct span changes = finished->changes;
	uint8_t storage[256];
	struct buffer encoded = buffer_over(storage, sizeof(storage));
	size_t count;

	if (digest_list_next(&changes, &directory.root_directory_digest)) {
		message_nest(&reapi_output_directory_type, &encoded, 3, &directory);
		result.output_directories.message = buffer_span(&encoded);
		if (store_hold_root(execution->hold, &directory.root_directory_digest) < 0) {
			execution_fail_memory(execution);
			return;
		}
	}
	count = execution_make_items(execution, &result);
	if (!count) {
		execution_fail_memory(execution);
		return;
	}
	execution->put = (struct store_put){
		.scope = execution->scope, .items = execution->items, .count = count, .fn = execution_on_put,
	};
	execution->state = EXECUTION_STORING;
	store_put(execution->service->cas->store, &execution->put);
}

/* ---- running ---- */

static void job_on_started(struct pool_job *job)
{
	struct execution *execution = container_of(job, struct execution, job);

	operation_send(execution, REAPI_STAGE_EXECUTING, NULL);
}

static void job_on_queued(struct pool_job *job, uint32_t position)
{
	struct execution *execution = container_of(job, struct execution, job);
	struct execute_output output = { .queue_position = position };

	operation_send(execution, REAPI_STAGE_QUEUED, execution->stream_output ? &output : NULL);
}

static bool job_on_output(struct pool_job *job, uint32_t stream, struct span data)
{
	struct execution *execution = container_of(job, struct execution, job);
	struct execute_output output = { .stream = stream, .data = data };
	struct buffer *kept;

	if (stream != 1 && stream != 2)
		return true;
	if (execution->stream_output && !operation_send(execution, REAPI_STAGE_EXECUTING, &output))
		return false;
	kept = &execution->output[stream - 1];
	buffer_put(kept, data.data, data.size);  /* once it has failed it takes no more, so what is kept has no gap */
	execution->output_lost[stream - 1] = kept->failed;
	return true;
}

static void job_on_finished(struct pool_job *job, const struct executor_finished *finished, const char *why)
{
	struct execution *execution = container_of(job, struct execution, job);
	char text[512];

	if (execution_gone(execution))
		return;
	if (!finished) {
		execution_fail(execution, GRPC_UNAVAILABLE, why);
		return;
	}
	if (finished->status != GRPC_OK) {
		snprintf(text, sizeof(text), "%.*s", (int)finished->message.size, (const char *)finished->message.data);
		execution_fail(execution, finished->status > GRPC_UNAUTHENTICATED ? GRPC_INTERNAL : (enum grpc_status)finished->status,
		               text);
		return;
	}
	execution_store(execution, finished);
}

static void execution_run(struct execution *execution)
{
	struct execute_service *service = execution->service;
	int r;

	service->counters.cache_misses++;
	buffer_clear(&execution->result);
	execution->job = (struct pool_job){
		.scope = execution->scope,
		.tenant = span_text(execution->identity.tenant),
		.affinity = execution->directory,
		.id = pool_job_id(service->pool),
		.on_started = job_on_started,
		.on_queued = job_on_queued,
		.on_output = job_on_output,
		.on_finished = job_on_finished,
	};
	task_encode(&execution->task, execution->job.id, execution->identity.tenant, &execution->assignment);
	if (execution->assignment.failed) {
		execution_fail_memory(execution);
		return;
	}
	execution->job.assignment = buffer_span(&execution->assignment);
	execution->state = EXECUTION_POOL;
	r = pool_submit(service->pool, &execution->job);
	if (r == -ENOSPC)
		execution_fail(execution, GRPC_RESOURCE_EXHAUSTED, "the queue of actions is full; try again later");
	else if (r < 0)
		execution_fail(execution, GRPC_UNAVAILABLE, "no executor is there any more; try again");
}

/* ---- from the cache ---- */

static void execution_hit(struct execution *execution)
{
	execution->service->counters.cache_hits++;
	execution_answer(execution, true);
}

static void execution_on_cached_tree(struct closure *closure)
{
	struct execution *execution = closure->owner;

	if (execution_gone(execution))
		return;
	if (closure->result == CLOSURE_WHOLE)
		execution_hit(execution);
	else
		execution_run(execution);        /* evicted meanwhile */
}

static void execution_check_tree(struct execution *execution)
{
	struct cas *cas = execution->service->cas;

	if (execution->cached_tree.size == 0) {
		execution_hit(execution);
		return;
	}
	execution->closure = (struct closure){
		.store = cas->store, .gate = &cas->closures, .scope = execution->scope, .root = execution->cached_tree,
		.fn = execution_on_cached_tree, .owner = execution,
	};
	execution->state = EXECUTION_CACHED_TREE;
	closure_verify(&execution->closure);
}

static void execution_on_cached_output(struct store_lookup *lookup)
{
	struct execution *execution = container_of(lookup, struct execution, lookup);
	bool whole = lookup->result == 0;

	if (execution_gone(execution))
		return;
	for (size_t i = 0; i < lookup->count; i++)
		whole = whole && lookup->places[i];
	if (whole)
		execution_check_tree(execution);
	else
		execution_run(execution);
}

/* What a result names has to be there still, or the hit is none. Held first, so that it is there for the caller to fetch. */
static bool execution_hold_cached(struct execution *execution, const struct reapi_action_result *result, size_t *count)
{
	struct reapi_output_directory directory;
	struct message_cursor cursor = { 0 };
	struct span element;

	*count = 0;
	if (result->stdout_digest.size)
		execution->cached_output[(*count)++] = result->stdout_digest;
	if (result->stderr_digest.size)
		execution->cached_output[(*count)++] = result->stderr_digest;
	execution->cached_tree = (struct digest){ 0 };
	if (message_list_next(&result->output_directories, &cursor, &element)) {
		if (!message_decode(&reapi_output_directory_type, element, &directory))
			return false;
		execution->cached_tree = directory.root_directory_digest;
	}
	if (store_hold_blobs(execution->hold, execution->cached_output, *count) < 0)
		return false;
	return execution->cached_tree.size == 0 || store_hold_root(execution->hold, &execution->cached_tree) == 0;
}

static void execution_on_cached_result(struct store_read *read)
{
	struct execution *execution = container_of(read, struct execution, read);
	struct reapi_action_result result;
	size_t count;

	if (execution_gone(execution))
		return;
	if (read->result == STORE_OK)
		buffer_put(&execution->result, read->blob.data, read->blob.size);
	if (read->result != STORE_OK || execution->result.failed ||
	    !message_decode(&reapi_action_result_type, buffer_span(&execution->result), &result) ||
	    !execution_hold_cached(execution, &result, &count)) {
		execution_run(execution);
		return;
	}
	if (count == 0) {
		execution_check_tree(execution);
		return;
	}
	execution->lookup = (struct store_lookup){
		.scope = execution->scope, .digests = execution->cached_output, .count = count, .places = execution->places,
		.fn = execution_on_cached_output,
	};
	execution->state = EXECUTION_CACHED_OUTPUT;
	store_lookup(execution->service->cas->store, &execution->lookup);
}

/* False: out of memory. `digest` is at most EXECUTE_COMMAND_BYTES_MAX long. */
static bool execution_read(struct execution *execution, const struct digest *digest, void (*fn)(struct store_read *read))
{
	free(execution->read.buffer);
	execution->read = (struct store_read){
		.scope = execution->scope, .digest = *digest, .buffer = malloc(digest->size + STORE_READ_EXTRA_BYTES), .fn = fn,
	};
	if (!execution->read.buffer)
		return false;
	store_read(execution->service->cas->store, &execution->read);
	return true;
}

static void execution_on_note(struct store_note *note)
{
	struct execution *execution = container_of(note, struct execution, note);
	struct span value = span_make(note->value, note->value_size);

	if (execution_gone(execution))
		return;
	if (note->result != STORE_OK || !digest_list_next(&value, &execution->result_digest) ||
	    execution->result_digest.size > EXECUTE_COMMAND_BYTES_MAX) {
		execution_run(execution);
		return;
	}
	execution->state = EXECUTION_CACHED_RESULT;
	if (!execution_read(execution, &execution->result_digest, execution_on_cached_result))
		execution_run(execution);
}

static void execution_on_resolved(struct pool_resolve *resolve)
{
	struct execution *execution = container_of(resolve, struct execution, resolve);
	struct sha256_stream stream;
	uint8_t key[SHA256_BYTES];

	if (execution_gone(execution))
		return;
	if (resolve->status != GRPC_OK) {
		execution_fail(execution, resolve->status, resolve->fault);
		return;
	}
	sha256_stream_init(&stream);
	sha256_stream_update(&stream, (const uint8_t *)EXECUTE_KEY_TAG, sizeof(EXECUTE_KEY_TAG));
	sha256_stream_update(&stream, execution->action.hash, sizeof(execution->action.hash));
	sha256_stream_update(&stream, resolve->environment, sizeof(resolve->environment));
	sha256_stream_final(&stream, key);
	execution->note = (struct store_note){ .scope = execution->scope, .key_size = sizeof(key) };
	memcpy(execution->note.key, key, sizeof(key));
	if (execution->skip_cache || execution->task.do_not_cache) {
		execution_run(execution);
		return;
	}
	execution->note.fn = execution_on_note;
	execution->state = EXECUTION_NOTE;
	store_note_get(execution->service->cas->store, &execution->note);
}

/* ---- the action ---- */

/* A blob that the request or the Action names. */
static void execution_read_part(struct execution *execution, const struct digest *digest, enum execution_state state,
                                void (*fn)(struct store_read *read))
{
	execution->state = state;
	if (digest->size > EXECUTE_COMMAND_BYTES_MAX)
		execution_fail(execution, GRPC_INVALID_ARGUMENT, "the Action or its Command is longer than 1 MiB");
	else if (!execution_read(execution, digest, fn))
		execution_fail_memory(execution);
}

/* What was read of it; false: the execution has failed. */
static bool execution_take_part(struct execution *execution, struct buffer *part, const char *missing)
{
	const struct store_read *read = &execution->read;

	if (read->result < 0) {
		execution_fail_store(execution, read->result);
		return false;
	}
	if (read->result != STORE_OK) {
		execution_fail(execution, GRPC_FAILED_PRECONDITION, missing);
		return false;
	}
	buffer_put(part, read->blob.data, read->blob.size);
	if (part->failed)
		execution_fail_memory(execution);
	return !part->failed;
}

static void execution_on_command(struct store_read *read)
{
	struct execution *execution = container_of(read, struct execution, read);
	struct execute_service *service = execution->service;
	const char *fault;

	if (execution_gone(execution) ||
	    !execution_take_part(execution, &execution->command_bytes, "the Action's Command is not in the store: upload it first"))
		return;
	fault = task_take_command(&execution->task, buffer_span(&execution->command_bytes));
	if (fault) {
		execution_fail(execution, GRPC_INVALID_ARGUMENT, fault);
		return;
	}
	if (execution->task.image.size == 0 && !service->allow_host_root) {
		execution_fail(execution, GRPC_PERMISSION_DENIED,
		               "this gateway does not let actions use its host's /usr: name an image, or start it with --allow-host-root");
		return;
	}
	if (execution->task.network && !service->allow_network) {
		execution_fail(execution, GRPC_PERMISSION_DENIED,
		               "this gateway gives actions no network: do without, or start it with --allow-network");
		return;
	}
	execution->resolve.image = execution->task.image;
	execution->resolve.fn = execution_on_resolved;
	execution->state = EXECUTION_RESOLVE;
	pool_resolve(service->pool, &execution->resolve);
}

static void execution_on_action(struct store_read *read)
{
	struct execution *execution = container_of(read, struct execution, read);
	const char *fault;

	if (execution_gone(execution) ||
	    !execution_take_part(execution, &execution->action_bytes, "the Action is not in the store: upload it first"))
		return;
	fault = task_take_action(&execution->task, buffer_span(&execution->action_bytes));
	if (fault) {
		execution_fail(execution, GRPC_INVALID_ARGUMENT, fault);
		return;
	}
	/* The tree must outlast the queue and the run, whatever else comes. */
	if (store_hold_root(execution->hold, &execution->task.root) < 0) {
		execution_fail_memory(execution);
		return;
	}
	execution_read_part(execution, &execution->task.command_digest, EXECUTION_COMMAND, execution_on_command);
}

static void execution_on_message(struct call *call, struct span message)
{
	struct execution *execution = container_of(call, struct execution, call);
	struct reapi_execute_request request;

	if (execution->state != EXECUTION_WAITING)
		return;
	if (!message_decode(&reapi_execute_request_type, message, &request)) {
		execution_fail(execution, GRPC_INVALID_ARGUMENT, "malformed ExecuteRequest");
		return;
	}
	execution->action = request.action_digest;
	execution->skip_cache = request.skip_cache_lookup;
	execution_read_part(execution, &execution->action, EXECUTION_ACTION, execution_on_action);
}

/* ---- the call ---- */

static void execution_on_end(struct call *call)
{
	struct execution *execution = container_of(call, struct execution, call);

	if (execution->state == EXECUTION_WAITING)
		execution_fail(execution, GRPC_INVALID_ARGUMENT, "an Execute without a request");
}

static void execution_on_writable(struct call *call)
{
	struct execution *execution = container_of(call, struct execution, call);

	if (execution->state == EXECUTION_ANSWERED && execution->operation.size)
		execution_finish_sending(execution);
	else if (execution->state == EXECUTION_POOL)
		pool_job_resume(execution->service->pool, &execution->job);
}

static void execution_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct execution *execution = container_of(call, struct execution, call);

	execution->closed = true;
	switch (execution->state) {
	case EXECUTION_WAITING:
	case EXECUTION_ANSWERED:
		execution_free(execution);
		return;
	case EXECUTION_RESOLVE:
		pool_resolve_cancel(execution->service->pool, &execution->resolve);
		execution_free(execution);
		return;
	case EXECUTION_POOL:
		execution->service->counters.cancelled++;
		if (!pool_cancel(execution->service->pool, &execution->job))
			execution_free(execution);
		return;
	default:
		return;                          /* execution_gone() when what is in flight has landed */
	}
}

static const struct call_events execution_events = {
	.on_message = execution_on_message,
	.on_end = execution_on_end,
	.on_writable = execution_on_writable,
	.on_closed = execution_on_closed,
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

static enum grpc_status execute_admit(struct execute_service *service, const struct server_request *request,
                                      struct execution *execution, char *why, size_t why_size)
{
	enum grpc_status status = access_scope(&service->cas->access, request, SCOPE_READ | SCOPE_WRITE | SCOPE_EXECUTE,
	                                       &execution->scope, &execution->identity, why, why_size);

	if (status == GRPC_OK)
		status = pool_ready(service->pool, why, why_size);
	if (status != GRPC_OK)
		return status;
	execution->hold = store_hold_create(service->cas->store, &execution->scope);
	if (execution->hold)
		return GRPC_OK;
	snprintf(why, why_size, "the gateway is out of memory; try again");
	return GRPC_RESOURCE_EXHAUSTED;
}

int execute_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	struct execute_service *service = context;
	struct execution *execution = service->open < EXECUTE_OPEN_MAX ? calloc(1, sizeof(*execution)) : NULL;
	enum grpc_status status;

	if (!execution) {
		snprintf(why, why_size, "the gateway has too many actions in progress; try again");
		return GRPC_RESOURCE_EXHAUSTED;
	}
	status = execute_admit(service, request, execution, why, why_size);
	if (status != GRPC_OK) {
		free(execution);
		return status;
	}
	execution->service = service;
	execution->stream_output = span_is(access_header(request->head, "sluice-output"), "stream");
	execution->directory = affinity_of(&execution->identity, access_header(request->head, "sluice-directory"));
	execution->action_bytes = buffer_heap(EXECUTE_COMMAND_BYTES_MAX);
	execution->command_bytes = buffer_heap(EXECUTE_COMMAND_BYTES_MAX);
	execution->output[0] = buffer_heap(EXECUTE_OUTPUT_BYTES_MAX);
	execution->output[1] = buffer_heap(EXECUTE_OUTPUT_BYTES_MAX);
	execution->result = buffer_heap(EXECUTE_COMMAND_BYTES_MAX);
	execution->operation = buffer_heap(EXECUTE_MESSAGE_BYTES_MAX);
	execution->assignment = buffer_heap(POOL_ASSIGNMENT_BYTES_MAX);
	service->open++;
	service->counters.executions++;
	pool_enter(service->pool);
	call_accept(&execution->call, request->stream, request->head, EXECUTE_COMMAND_BYTES_MAX, &execution_events, execution);
	return 0;
}
