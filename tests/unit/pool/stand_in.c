/* An executor host and callers, by hand. */
#include "stand_in.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "gateway/context/upload.h"
#include "proto/pb.h"
#include "proto/reapi_cas.h"

void flush(struct client *client)
{
	client_wait(client, NULL, 0, NULL, 1000000);
}

/* ---- the host's side ---- */

static uint8_t met[32];                  /* the environment that was answered last */

struct wanted {
	uint32_t slot, slots;
};

static bool is_attached(struct gateway_parts *parts, void *context)
{
	const struct wanted *wanted = context;
	struct pool_status status;
	char why[256];

	pool_status(parts->pool, &status);
	return wanted->slot ? status.slots == wanted->slots : pool_ready(parts->pool, why, sizeof(why)) == GRPC_OK;
}

static void count_slots(struct gateway_parts *parts, void *context)
{
	struct pool_status status;

	pool_status(parts->pool, &status);
	*(uint32_t *)context = status.slots;
}

static void stand_in_queue(struct stand_in *stand_in, uint32_t number, const struct message_type *type, const void *message)
{
	struct buffer bytes = buffer_heap(4 << 20);

	message_nest(type, &bytes, number, message);
	assert_false(bytes.failed);
	assert_int_equal(client_send(stand_in->call, buffer_span(&bytes), 0), CLIENT_OK);
	buffer_fini(&bytes);
}

static void stand_in_send(struct stand_in *stand_in, uint32_t number, const struct message_type *type, const void *message)
{
	stand_in_queue(stand_in, number, type, message);
	flush(stand_in->client);
}

struct stand_in *stand_in_attach(struct gateway_thread *gateway, uint32_t slot)
{
	struct stand_in *stand_in = calloc(1, sizeof(*stand_in));
	struct executor_hello hello = { .slot = slot, .slots = 2, .runtime = span_text("a stand-in") };
	struct wanted wanted = { .slot = slot };

	gateway_thread_call(gateway, count_slots, &wanted.slots);
	wanted.slots++;
	*stand_in = (struct stand_in){ .gateway = gateway, .client = gateway_thread_client(gateway, NULL), .slot = slot };
	assert_int_equal(client_call_open(&stand_in->call, stand_in->client, SLUICE_ATTACH, NULL, 0), 0);
	stand_in_send(stand_in, 1, &executor_hello_type, &hello);
	gateway_thread_until(gateway, is_attached, &wanted);
	return stand_in;
}

void stand_in_lose(struct stand_in *stand_in)
{
	client_call_close(stand_in->call);
	client_close(stand_in->client);
	free(stand_in);
}

static struct attach_response stand_in_receive(struct stand_in *stand_in)
{
	struct attach_response response;
	struct span message;

	assert_int_equal(client_receive(stand_in->call, &message, UINT64_MAX), CLIENT_OK);
	assert_true(message_decode(&attach_response_type, message, &response));
	return response;
}

static uint64_t stand_in_take_resolve(struct stand_in *control)
{
	struct attach_response response = stand_in_receive(control);
	struct executor_resolve resolve;

	assert_non_null(response.resolve.data);
	assert_true(message_decode(&executor_resolve_type, response.resolve, &resolve));
	return resolve.id;
}

void stand_in_resolve_two(struct stand_in *control, uint8_t environment)
{
	const uint64_t ids[2] = { stand_in_take_resolve(control), stand_in_take_resolve(control) };

	memset(met, environment, sizeof(met));
	for (int i = 0; i < 2; i++)
		stand_in_queue(control, 2, &executor_resolved_type,
		               &(struct executor_resolved){ .id = ids[i], .environment = span_make(met, sizeof(met)) });
	flush(control->client);
}

void stand_in_resolve(struct stand_in *control, uint8_t environment, const char *fault)
{
	struct executor_resolved resolved = { .id = stand_in_take_resolve(control) };

	memset(met, environment, sizeof(met));
	if (fault)
		resolved.fault = span_text(fault);
	else
		resolved.environment = span_make(met, sizeof(met));
	stand_in_send(control, 2, &executor_resolved_type, &resolved);
}

struct assignment stand_in_take(struct stand_in *slot)
{
	struct attach_response response = stand_in_receive(slot);
	struct executor_assignment assignment;
	struct message_cursor cursor = { 0 };
	struct assignment taken = { 0 };
	struct span argument;

	assert_non_null(response.assignment.data);
	assert_true(message_decode(&executor_assignment_type, response.assignment, &assignment));
	taken.id = assignment.id;
	taken.arguments_count = assignment.arguments.count;
	assert_true(message_list_next(&assignment.arguments, &cursor, &argument));
	snprintf(taken.argument, sizeof(taken.argument), "%.*s", (int)argument.size, (const char *)argument.data);
	snprintf(taken.tenant, sizeof(taken.tenant), "%.*s", (int)assignment.tenant.size, (const char *)assignment.tenant.data);
	digest_list_next(&assignment.root, &taken.root);
	return taken;
}

uint64_t stand_in_take_cancel(struct stand_in *slot)
{
	struct attach_response response = stand_in_receive(slot);

	assert_true(response.cancel != 0);
	return response.cancel;
}

void stand_in_output_bytes(struct stand_in *slot, uint64_t id, uint32_t stream, struct span data)
{
	stand_in_send(slot, 3, &executor_output_type, &(struct executor_output){ .id = id, .stream = stream, .data = data });
}

void stand_in_output(struct stand_in *slot, uint64_t id, uint32_t stream, const char *text)
{
	stand_in_output_bytes(slot, id, stream, span_text(text));
}

void stand_in_finish(struct stand_in *slot, uint64_t id, int exit_code, const struct digest *changes)
{
	uint8_t storage[64];
	struct buffer list = buffer_over(storage, sizeof(storage));
	struct executor_finished finished = { .id = id, .exit_code = exit_code, .environment = span_make(met, sizeof(met)) };

	if (changes) {
		digest_list_put(&list, changes);
		finished.changes = buffer_span(&list);
	}
	stand_in_send(slot, 4, &executor_finished_type, &finished);
}

void stand_in_finish_in(struct stand_in *slot, uint64_t id, uint8_t environment)
{
	uint8_t bytes[32];

	memset(bytes, environment, sizeof(bytes));
	stand_in_send(slot, 4, &executor_finished_type,
	              &(struct executor_finished){ .id = id, .environment = span_make(bytes, environment ? sizeof(bytes) : 0) });
}

static void count_busy(struct gateway_parts *parts, void *context)
{
	struct pool_status status;

	pool_status(parts->pool, &status);
	*(uint32_t *)context = status.slots_busy;
}

void stand_in_finish_outputs(struct stand_in *slot, uint64_t id, int exit_code, struct span outputs)
{
	uint32_t busy;

	stand_in_send(slot, 4, &executor_finished_type,
	              &(struct executor_finished){ .id = id, .exit_code = exit_code, .outputs = outputs,
	                                           .environment = span_make(met, sizeof(met)) });
	for (busy = 1; busy; gateway_thread_call(slot->gateway, count_busy, &busy))
		flush(slot->client);
}

void stand_in_refuse(struct stand_in *slot, uint64_t id, enum grpc_status status, const char *why)
{
	stand_in_send(slot, 4, &executor_finished_type,
	              &(struct executor_finished){ .id = id, .status = status, .message = span_text(why) });
}

enum grpc_status stand_in_ended(struct stand_in *stand_in)
{
	struct span message;
	const char *text;

	assert_int_equal(client_receive(stand_in->call, &message, UINT64_MAX), CLIENT_END);
	return client_call_status(stand_in->call, &text);
}

/* ---- the callers' side ---- */

/* The rest of the message is the caller's. */
static struct digest action_upload_any(struct client *client, struct span command, const struct digest *root,
                                       struct reapi_action message)
{
	struct buffer action = buffer_heap(4096);
	struct digest digests[2];
	enum grpc_status status;
	struct span blobs[2];
	char why[512] = "";

	message.input_root_digest = root ? *root : digest_empty;
	message.command_digest = digest_of(command);
	message_encode(&reapi_action_type, &action, &message);
	blobs[0] = command;
	blobs[1] = buffer_span(&action);
	if (upload_blobs(client, blobs, digests, 2, &status, why, sizeof(why)) != UPLOAD_OK)
		fail_msg("upload: %s", why);
	buffer_fini(&action);
	return digests[1];
}

struct digest action_upload_command(struct client *client, struct span command, const struct digest *root)
{
	return action_upload_any(client, command, root, (struct reapi_action){ 0 });
}

struct digest action_upload_unshared(struct client *client, const char *argument)
{
	uint8_t storage[512];
	struct buffer command = buffer_over(storage, sizeof(storage));

	pb_put_bytes_always(&command, 1, span_text(argument));
	return action_upload_any(client, buffer_span(&command), NULL, (struct reapi_action){ .do_not_cache = true });
}

struct digest action_upload_timed(struct client *client, const char *argument, uint8_t seconds)
{
	const uint8_t timeout[] = { 0x08, seconds };
	uint8_t storage[512];
	struct buffer command = buffer_over(storage, sizeof(storage));

	pb_put_bytes_always(&command, 1, span_text(argument));
	return action_upload_any(client, buffer_span(&command), NULL,
	                         (struct reapi_action){ .timeout = span_make(timeout, sizeof(timeout)) });
}

struct digest action_upload(struct client *client, const char *argument, const struct digest *root)
{
	uint8_t storage[512];
	struct buffer command = buffer_over(storage, sizeof(storage));

	pb_put_bytes_always(&command, 1, span_text(argument));
	return action_upload_command(client, buffer_span(&command), root);
}

/* `timeout` NULL: none. */
static void caller_send(struct caller *caller, const char *path, struct span request, const char *timeout)
{
	const struct header metadata[] = {
		{ .name = span_text("sluice-output"), .value = span_text("stream") },
		{ .name = span_text("grpc-timeout"), .value = span_text(timeout ? timeout : "") },
	};

	assert_int_equal(client_call_open(&caller->call, caller->client, path, metadata, timeout ? 2 : 1), 0);
	assert_int_equal(client_send(caller->call, request, 0), CLIENT_OK);
	client_send_end(caller->call);
	flush(caller->client);
}

static void caller_call(struct caller *caller, const char *path, const struct message_type *type, const void *request)
{
	uint8_t storage[512];
	struct buffer bytes = buffer_over(storage, sizeof(storage));

	message_encode(type, &bytes, request);
	caller_send(caller, path, buffer_span(&bytes), NULL);
}

static struct caller caller_ask_either(struct client *client, const struct digest *action, bool anew)
{
	struct reapi_execute_request request = { .action_digest = *action, .skip_cache_lookup = anew };
	struct caller caller = { .client = client, .action = *action };

	caller_call(&caller, REAPI_EXECUTE, &reapi_execute_request_type, &request);
	return caller;
}

struct caller caller_ask(struct client *client, const struct digest *action)
{
	return caller_ask_either(client, action, false);
}

struct caller caller_ask_anew(struct client *client, const struct digest *action)
{
	return caller_ask_either(client, action, true);
}

static struct caller caller_ask_any(struct client *client, const struct digest *action, struct span fields, const char *timeout)
{
	struct reapi_execute_request request = { .action_digest = *action };
	struct caller caller = { .client = client, .action = *action };
	uint8_t storage[512];
	struct buffer bytes = buffer_over(storage, sizeof(storage));

	message_encode(&reapi_execute_request_type, &bytes, &request);
	if (fields.size)
		buffer_put(&bytes, fields.data, fields.size);
	caller_send(&caller, REAPI_EXECUTE, buffer_span(&bytes), timeout);
	return caller;
}

struct caller caller_ask_with(struct client *client, const struct digest *action, struct span fields)
{
	return caller_ask_any(client, action, fields, NULL);
}

struct caller caller_ask_timed(struct client *client, const struct digest *action, const char *timeout)
{
	return caller_ask_any(client, action, (struct span){ 0 }, timeout);
}

static struct caller caller_call_again(struct client *client, const struct caller *former, const char *path)
{
	struct reapi_operation_request request = { .name = span_text(former->name) };
	struct caller caller = { .client = client, .action = former->action, .joined = true };

	caller_call(&caller, path, &reapi_operation_request_type, &request);
	return caller;
}

struct caller caller_wait(struct client *client, const struct caller *former)
{
	return caller_call_again(client, former, REAPI_WAIT_EXECUTION);
}

struct caller caller_look(struct client *client, const struct caller *former)
{
	struct caller caller = caller_call_again(client, former, REAPI_GET_OPERATION);

	caller_finish(&caller);
	return caller;
}

enum grpc_status caller_cancel(struct client *client, const struct caller *former)
{
	struct reapi_operation_request request = { .name = span_text(former->name) };
	struct caller caller = { .client = client };
	enum grpc_status status;
	struct span message;
	const char *text;
	int r;

	caller_call(&caller, REAPI_CANCEL_OPERATION, &reapi_operation_request_type, &request);
	while ((r = client_receive(caller.call, &message, UINT64_MAX)) == CLIENT_OK)
		assert_int_equal(message.size, 0);
	status = client_call_status(caller.call, &text);
	client_call_close(caller.call);
	return status;
}

uint64_t sum_of(uint64_t sum, size_t place, struct span data)
{
	for (size_t i = 0; i < data.size; i++)
		sum += (place + i + 1) * data.data[i];
	return sum;
}

static void caller_on_output(struct caller *caller, const struct execute_output *output)
{
	uint32_t stream = output->stream - 1;
	size_t at;

	if (output->queue_position) {
		assert_true(caller->positions_count < 64);
		caller->positions[caller->positions_count++] = output->queue_position;
	}
	if (!output->data.size)
		return;
	assert_true(stream < 2);
	at = caller->output_size[stream];
	caller->output_sum[stream] = sum_of(caller->output_sum[stream], at, output->data);
	caller->output_size[stream] += output->data.size;
	if (at + output->data.size < sizeof(caller->output[stream]))
		memcpy(caller->output[stream] + at, output->data.data, output->data.size);
}

/* The first blob that is said to be missing, and how many there are. */
static void caller_on_details(struct caller *caller, struct span status)
{
	const struct message_list details = { .message = status, .number = 3, .count = 1 };
	struct message_cursor cursor = { 0 }, inner = { 0 };
	struct reapi_violation violation;
	struct message_list violations;
	struct span element;
	struct reapi_any any;

	if (!message_list_next(&details, &cursor, &element))
		return;
	assert_true(message_decode(&reapi_any_type, element, &any));
	assert_true(span_is(any.type_url, REAPI_TYPE_PRECONDITION));
	violations = (struct message_list){ .message = any.value, .number = 1, .count = 1 };
	while (message_list_next(&violations, &inner, &element)) {
		assert_true(message_decode(&reapi_violation_type, element, &violation));
		assert_true(span_is(violation.type, "MISSING"));
		if (!caller->missing_count++)
			snprintf(caller->missing, sizeof(caller->missing), "%.*s", (int)violation.subject.size,
			         (const char *)violation.subject.data);
	}
}

static void caller_on_response(struct caller *caller, struct span bytes)
{
	struct reapi_status status;
	struct reapi_execute_response response;
	struct reapi_output_directory directory;
	struct reapi_action_result result;
	struct message_cursor cursor = { 0 };
	struct span element;

	assert_true(message_decode(&reapi_execute_response_type, bytes, &response));
	assert_true(message_decode(&reapi_action_result_type, response.result, &result));
	assert_true(message_decode(&reapi_status_type, response.status, &status));
	caller->done = status.code == GRPC_OK;
	caller->status = status.code;
	snprintf(caller->why, sizeof(caller->why), "%.*s", (int)status.message.size, (const char *)status.message.data);
	caller_on_details(caller, response.status);
	caller->cached = response.cached_result;
	caller->exit_code = result.exit_code;
	caller->stdout_digest = result.stdout_digest;
	caller->stderr_digest = result.stderr_digest;
	snprintf(caller->stdout_raw, sizeof(caller->stdout_raw), "%.*s", (int)result.stdout_raw.size,
	         (const char *)result.stdout_raw.data);
	snprintf(caller->stderr_raw, sizeof(caller->stderr_raw), "%.*s", (int)result.stderr_raw.size,
	         (const char *)result.stderr_raw.data);
	snprintf(caller->message, sizeof(caller->message), "%.*s", (int)response.message.size, (const char *)response.message.data);
	if (message_list_next(&result.output_directories, &cursor, &element) &&
	    message_decode(&reapi_output_directory_type, element, &directory))
		caller->changes = directory.root_directory_digest;
}

static void caller_on_operation(struct caller *caller, struct span message)
{
	struct reapi_execute_metadata metadata;
	struct reapi_operation operation;
	struct execute_output output;
	struct reapi_any any;

	assert_true(message_decode(&reapi_operation_type, message, &operation));
	assert_true(message_decode(&reapi_any_type, operation.metadata, &any));
	assert_true(message_decode(&reapi_execute_metadata_type, any.value, &metadata));
	assert_true(digest_equal(&metadata.action_digest, &caller->action));
	if (*caller->name)
		assert_true(span_is(operation.name, caller->name));
	snprintf(caller->name, sizeof(caller->name), "%.*s", (int)operation.name.size, (const char *)operation.name.data);
	snprintf(caller->streams[0], sizeof(caller->streams[0]), "%.*s", (int)metadata.stdout_stream_name.size,
	         (const char *)metadata.stdout_stream_name.data);
	snprintf(caller->streams[1], sizeof(caller->streams[1]), "%.*s", (int)metadata.stderr_stream_name.size,
	         (const char *)metadata.stderr_stream_name.data);
	assert_true(metadata.stage >= caller->stage || caller->joined);
	caller->stage = metadata.stage;
	caller->started |= metadata.stage == REAPI_STAGE_EXECUTING;
	if (metadata.sluice_output.data && message_decode(&execute_output_type, metadata.sluice_output, &output))
		caller_on_output(caller, &output);
	if (!operation.done)
		return;
	assert_true(message_decode(&reapi_any_type, operation.response, &any));
	caller_on_response(caller, any.value);
}

/* One message. False: the call has ended. */
static bool caller_step(struct caller *caller)
{
	enum grpc_status status;
	struct span message;
	const char *text;
	int r = client_receive(caller->call, &message, UINT64_MAX);

	if (r == CLIENT_OK) {
		caller_on_operation(caller, message);
		return true;
	}
	assert_int_equal(r, CLIENT_END);
	status = client_call_status(caller->call, &text);
	if (caller->status == GRPC_OK && status != GRPC_OK) {
		caller->status = status;
		snprintf(caller->why, sizeof(caller->why), "%s", text);
	}
	return false;
}

void caller_finish(struct caller *caller)
{
	while (caller_step(caller))
		;
	client_call_close(caller->call);
	caller->call = NULL;
}

void caller_until_position(struct caller *caller, uint32_t position)
{
	while (!caller->positions_count || caller->positions[caller->positions_count - 1] != position)
		assert_true(caller_step(caller));
}

void caller_until_output(struct caller *caller, size_t bytes)
{
	while (caller->output_size[0] < bytes)
		assert_true(caller_step(caller));
}

void caller_until_stderr(struct caller *caller, size_t bytes)
{
	while (caller->output_size[1] < bytes)
		assert_true(caller_step(caller));
}

void caller_until_stage(struct caller *caller, uint32_t stage)
{
	while (caller->stage < stage)
		assert_true(caller_step(caller));
}

void caller_until_started(struct caller *caller)
{
	while (!caller->started)
		assert_true(caller_step(caller));
}

void caller_leave(struct caller *caller)
{
	client_call_close(caller->call);
	caller->call = NULL;
	flush(caller->client);
}
