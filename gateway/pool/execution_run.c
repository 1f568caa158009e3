/* From a miss to a kept result: the inputs, the pool, the result's blobs and the note that makes it known. */
#include "gateway/pool/execution.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/cas/results.h"
#include "proto/pb.h"

#define EXECUTE_INLINE_BYTES 4096        /* output up to this rides in the result as well */

/* ---- when what was done ---- */

#define METADATA_BYTES_MAX 512

/* A Timestamp in `storage`. */
static struct span timestamp(uint8_t storage[static 24], uint64_t wall_ns)
{
	struct reapi_duration time = { .seconds = wall_ns / 1000000000u, .nanos = (uint32_t)(wall_ns % 1000000000u) };
	struct buffer buffer = buffer_over(storage, 24);

	message_encode(&reapi_duration_type, &buffer, &time);
	return buffer_span(&buffer);
}

/* The executor says how long each part took; they follow each other. */
static void put_metadata(const struct execution *execution, const struct executor_finished *finished, struct buffer *out)
{
	uint64_t started = execution->started_wall_ns;
	uint64_t fetched = started + finished->materialise_ms * 1000000u, ran = fetched + finished->run_ms * 1000000u;
	uint64_t now = ring_wall_ns(execution->service->cas->ring);
	uint8_t times[6][24];
	struct span begin = timestamp(times[0], started), fetch_end = timestamp(times[1], fetched), run_end = timestamp(times[2], ran);
	struct span collect_end = timestamp(times[3], ran + finished->collect_ms * 1000000u);
	struct reapi_executed_metadata metadata = {
		.worker = span_text("sluice"), .queued = timestamp(times[4], execution->queued_wall_ns),
		.worker_start = begin, .worker_completed = timestamp(times[5], now), .fetch_start = begin, .fetch_completed = fetch_end,
		.execution_start = fetch_end, .execution_completed = run_end, .upload_start = run_end, .upload_completed = collect_end,
	};

	message_encode(&reapi_executed_metadata_type, out, &metadata);
}

/* ---- keeping the result ---- */

static bool execution_worth_keeping(const struct execution *execution)
{
	struct reapi_action_result result;

	return !execution->task.do_not_cache && !execution->status && execution->as_resolved &&
	       execution->output_bytes[0] == execution->output[0].size && execution->output_bytes[1] == execution->output[1].size &&
	       message_decode(&reapi_action_result_type, buffer_span(&execution->result), &result) && result.exit_code == 0;
}

static void execution_on_sync(struct store_sync *sync)
{
	struct execution *execution = container_of(sync, struct execution, sync);

	if (execution_gone(execution))
		return;
	if (sync->result)
		execution_fail_store(execution, sync->result);
	else
		execution_answer(execution, false);
}

static void execution_sync(struct execution *execution)
{
	execution->state = EXECUTION_SYNCING;
	execution->sync.fn = execution_on_sync;
	store_sync(execution->service->cas->store, &execution->sync);
}

static void execution_on_replaced(struct store_note *note)
{
	struct execution *execution = container_of(note, struct execution, note);

	if (!execution_gone(execution))
		execution_answer(execution, false);
}

static void execution_on_brought(struct store_note *note)
{
	struct execution *execution = container_of(note, struct execution, note);

	if (note->result != STORE_OK || note->value_size == 0) {
		execution_on_replaced(note);
		return;
	}
	note->value_size = 0;
	note->fn = execution_on_replaced;
	store_note_put(execution->service->cas->store, note);
}

/*
 * A result that a client brought goes before those of runs, so who doubts it and asks for a run would find it again. This run's is
 * not put in its place, but found where it is noted: that one holds in this environment alone.
 */
static void execution_replace_brought(struct execution *execution)
{
	execution->state = EXECUTION_REPLACING;
	results_key(&execution->note, &execution->scope, &execution->action);
	execution->note.fn = execution_on_brought;
	store_note_get(execution->service->cas->store, &execution->note);
}

/* It is durable together with all that it names. When it could not be kept that costs a later hit, and the sync. */
static void execution_on_note_put(struct store_note *note)
{
	struct execution *execution = container_of(note, struct execution, note);

	if (execution_gone(execution))
		return;
	if (note->result != STORE_OK)
		execution_sync(execution);
	else if (execution->skip_cache)
		execution_replace_brought(execution);
	else
		execution_answer(execution, false);
}

static void execution_on_put(struct store_put *put)
{
	struct execution *execution = container_of(put, struct execution, put);
	struct buffer value = buffer_over(execution->note.value, sizeof(execution->note.value));

	if (execution_gone(execution))
		return;
	if (put->result) {
		execution_fail_store(execution, put->result);
		return;
	}
	if (!execution_worth_keeping(execution)) {
		execution_sync(execution);
		return;
	}
	execution->note.fn = execution_on_note_put;
	digest_list_put(&value, &execution->result_digest);
	execution->note.value_size = value.size;
	execution->state = EXECUTION_NOTING;
	store_note_put(execution->service->cas->store, &execution->note);
}

static struct store_item item_of(struct span data)
{
	struct store_item item = { .data = data, .digest.size = data.size };

	sha256_once(data.data, data.size, item.digest.hash);
	return item;
}

/* The ActionResult and the outputs, into items: some clients look at digests alone. Returns how many; 0: out of memory. */
static size_t execution_make_items(struct execution *execution, struct reapi_action_result *result)
{
	size_t count = 0;

	for (int i = 0; i < 2; i++) {
		struct span bytes = buffer_span(&execution->output[i]);

		if (!bytes.size)
			continue;
		if (bytes.size <= EXECUTE_INLINE_BYTES)
			*(i ? &result->stderr_raw : &result->stdout_raw) = bytes;
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

/* What the executor says of outputs, which is taken over as it is; and held, for the caller to fetch. */
static bool execution_take_outputs(struct execution *execution, const struct executor_finished *finished, struct buffer *directories,
                                   struct reapi_action_result *result)
{
	struct reapi_output_directory directory = { 0 };
	struct span changes = finished->changes;

	if (digest_list_next(&changes, &directory.root_directory_digest)) {
		message_nest(&reapi_output_directory_type, directories, 3, &directory);
		if (store_hold_root(execution->hold, &directory.root_directory_digest) < 0)
			return false;
	}
	buffer_put(directories, finished->outputs.data, finished->outputs.size);
	result->output_directories.message = buffer_span(directories);
	return !directories->failed;
}

/*
 * It may have waited for hours: by now another image may stand behind the name. That is a right answer for who waits, but would be a
 * wrong one under this key, once the former image is back.
 */
static bool met_as_resolved(const struct execution *execution, const struct executor_finished *finished)
{
	const struct pool_resolve *resolve = &execution->resolve;

	return finished->environment.size == sizeof(resolve->environment) &&
	       memcmp(finished->environment.data, resolve->environment, sizeof(resolve->environment)) == 0;
}

static void execution_store(struct execution *execution, const struct executor_finished *finished)
{
	struct reapi_action_result result = { .exit_code = finished->exit_code };
	uint8_t storage[METADATA_BYTES_MAX];
	struct buffer metadata = buffer_over(storage, sizeof(storage));
	size_t count = 0;

	put_metadata(execution, finished, &metadata);
	execution->slot_ms = finished->run_ms;
	execution->as_resolved = met_as_resolved(execution, finished);
	result.execution_metadata = buffer_span(&metadata);
	if (execution_take_outputs(execution, finished, &execution->outputs, &result))
		count = execution_make_items(execution, &result);
	if (!count) {
		execution_fail_memory(execution);
		return;
	}
	execution->put = (struct store_put){
		.scope = execution->scope, .items = execution->items, .count = count, .fn = execution_on_put,
	};
	execution->state = EXECUTION_STORING;
	execution_wake_readers(execution);       /* no more comes */
	store_put(execution->service->cas->store, &execution->put);
}

/* ---- running ---- */

static void job_on_started(struct pool_job *job)
{
	struct execution *execution = container_of(job, struct execution, job);

	execution->started_wall_ns = ring_wall_ns(execution->service->cas->ring);
	execution_tell(execution, NULL);
}

static void job_on_queued(struct pool_job *job, uint32_t position)
{
	struct execute_output output = { .queue_position = position };

	execution_tell(container_of(job, struct execution, job), &output);
}

static void execution_on_late(struct op *op, int32_t res)
{
	struct execution *execution = container_of(op, struct execution, late);

	execution->service->timers--;
	if (execution->state == EXECUTION_POOL)
		pool_job_resume(execution->service->pool, &execution->job);
}

/*
 * Whoever does not read holds the slot, which does not see its time while what it sends is not taken: so he holds it no longer
 * than the action may run. What he lacks then he gets of what is kept.
 */
static bool execution_waits(struct execution *execution)
{
	struct ring *ring = execution->service->cas->ring;
	uint64_t until_ns = execution->output_ns + execution->task.timeout_ms * 1000000u, now = ring_now_ns(ring);

	if (now >= until_ns)
		return false;
	if (!op_in_flight(&execution->late)) {
		execution->service->timers++;
		execution->late.fn = execution_on_late;
		ring_timer(ring, &execution->late, until_ns - now);
	}
	return true;
}

static bool job_on_output(struct pool_job *job, uint32_t stream, struct span data)
{
	struct execution *execution = container_of(job, struct execution, job);
	bool taken = true;

	if (stream != 1 && stream != 2)
		return true;
	if (!execution->output_ns)
		execution->output_ns = ring_now_ns(execution->service->cas->ring);
	if (!execution->output_offered) {
		/* Once it has failed it takes no more, so what is kept has no gap. */
		buffer_put(&execution->output[stream - 1], data.data, data.size);
		execution->output_bytes[stream - 1] += data.size;
		execution_wake_readers(execution);
	}
	list_for_each(link, &execution->waiters)
		taken &= waiter_take_output(container_of(link, struct waiter, link), stream - 1, data);
	taken = taken || !execution_waits(execution);
	execution->output_offered = !taken;
	return taken;
}

static void job_on_finished(struct pool_job *job, const struct executor_finished *finished, const char *why)
{
	struct execution *execution = container_of(job, struct execution, job);
	char text[sizeof(execution->text)];

	if (execution_gone(execution))
		return;
	if (!finished) {
		execution_fail(execution, GRPC_UNAVAILABLE, why);
		return;
	}
	snprintf(text, sizeof(text), "%.*s", (int)finished->message.size, (const char *)finished->message.data);
	if (finished->status != GRPC_OK && finished->status != GRPC_DEADLINE_EXCEEDED) {
		execution_fail(execution, finished->status > GRPC_UNAUTHENTICATED ? GRPC_INTERNAL : (enum grpc_status)finished->status,
		               text);
		return;
	}
	/* What one that ran too long has written until then is worth reading. */
	execution->status = finished->status;
	memcpy(execution->text, text, sizeof(text));
	execution_store(execution, finished);
}

static void execution_submit(struct execution *execution)
{
	struct execute_service *service = execution->service;
	int r;

	execution->job = (struct pool_job){
		.scope = execution->scope,
		.tenant = span_text(execution->tenant),
		.affinity = execution->directory,
		.id = pool_job_id(service->pool),
		.on_started = job_on_started,
		.on_queued = job_on_queued,
		.on_output = job_on_output,
		.on_finished = job_on_finished,
	};
	task_encode(&execution->task, execution->job.id, execution->tenant, execution->scope.instance, &execution->assignment);
	if (execution->assignment.failed) {
		execution_fail_memory(execution);
		return;
	}
	execution->job.assignment = buffer_span(&execution->assignment);
	execution->state = EXECUTION_POOL;
	execution->queued_wall_ns = ring_wall_ns(service->cas->ring);
	r = pool_submit(service->pool, &execution->job);
	if (r == -ENOSPC)
		execution_fail(execution, GRPC_RESOURCE_EXHAUSTED, "the queue of actions is full; try again later");
	else if (r == -EMSGSIZE)
		execution_fail(execution, GRPC_INVALID_ARGUMENT, "the action's command is too long");
	else if (r < 0)
		execution_fail(execution, GRPC_UNAVAILABLE, "no executor is there any more; try again");
}

/* ---- inputs ---- */

static const char inputs_missing[] = "the action's inputs are not all in the store: upload them first";
static const char inputs_directory[] = "a directory of the inputs is longer than 4194304 bytes";
static const char inputs_too_many[] = "the action has more than 16384 inputs that are longer than 4194304 bytes";

static void execution_on_long_inputs(struct presence *presence)
{
	struct execution *execution = container_of(presence, struct execution, presence);
	struct buffer missing;

	if (execution_gone(execution))
		return;
	if (presence->result < 0) {
		execution_fail_store(execution, presence->result);
		return;
	}
	missing = buffer_heap(CLOSURE_MISSING_MAX * 42);
	for (size_t i = 0; i < presence->count; i++)
		if (!execution->inputs_present[i])
			digest_list_put(&missing, &execution->inputs[i]);
	if (missing.failed)
		execution_fail_memory(execution);
	else if (missing.size)
		execution_fail_missing(execution, inputs_missing, buffer_span(&missing));
	else if (presence->count < execution->closure.missing_count)
		execution_fail(execution, GRPC_INVALID_ARGUMENT, inputs_too_many);       /* of the others nobody knows */
	else
		execution_submit(execution);
	buffer_fini(&missing);
}

/* The closure knows blobs of one record only, and so does the hold of the tree; other clients' files may be longer. */
static void execution_look_for_long(struct execution *execution)
{
	struct span rest = buffer_span(&execution->closure.missing);
	size_t count = 0;
	bool any = false;

	execution->inputs = malloc(CLOSURE_MISSING_MAX * sizeof(*execution->inputs));
	execution->inputs_present = calloc(CLOSURE_MISSING_MAX, sizeof(bool));
	if (!execution->inputs || !execution->inputs_present) {
		execution_fail_memory(execution);
		return;
	}
	while (count < CLOSURE_MISSING_MAX && digest_list_next(&rest, &execution->inputs[count]))
		any |= pair_wanted(&execution->inputs[count++]);
	if (!any) {
		execution_fail_missing(execution, inputs_missing, buffer_span(&execution->closure.missing));
		return;
	}
	execution->presence = (struct presence){
		.cas = execution->service->cas, .scope = execution->scope, .digests = execution->inputs, .count = count,
		.present = execution->inputs_present, .hold = execution->hold, .fn = execution_on_long_inputs,
	};
	execution->state = EXECUTION_LONG_INPUTS;
	presence_look(&execution->presence);
}

static void execution_on_inputs(struct closure *closure)
{
	struct execution *execution = closure->owner;

	if (execution_gone(execution))
		return;
	if (closure->result == CLOSURE_WHOLE)
		execution_submit(execution);
	else if (closure->result == CLOSURE_HOLES && closure->nodes_too_long)
		execution_fail(execution, GRPC_INVALID_ARGUMENT, inputs_directory);      /* there or not: nobody reads it */
	else if (closure->result == CLOSURE_HOLES)
		execution_look_for_long(execution);
	else if (closure->result == CLOSURE_MALFORMED || closure->result == CLOSURE_TOO_LARGE)
		execution_fail(execution, GRPC_INVALID_ARGUMENT, closure->why);
	else if (closure->result == -ENOMEM)
		execution_fail_memory(execution);
	else
		execution_fail_store(execution, closure->result);
}

void execution_run(struct execution *execution)
{
	struct cas *cas = execution->service->cas;

	execution->service->counters.cache_misses++;
	buffer_clear(&execution->result);
	execution->closure = (struct closure){
		.store = cas->store, .gate = &cas->closures, .scope = execution->scope, .root = execution->task.root,
		.fn = execution_on_inputs, .owner = execution,
	};
	execution->state = EXECUTION_INPUTS;
	closure_verify(&execution->closure);
}
