/*
 * Shows what becomes of an action, over real sockets, with a stand-in for the executor host that does what the test says:
 * output comes as it is made and the result at the end; the executor acts for whom its job is. And how it goes wrong: the
 * executor refuses, the slot dies, the host dies, something is not there, too long or too much.
 */
#include "chunker/sha256.h"
#include "gateway/cas/closure.h"
#include "gateway/context/upload.h"
#include "gateway/context/whole_blob.h"
#include "gateway/executor/outputs.h"
#include "gateway/reapi/budget.h"
#include "proto/pb.h"
#include "proto/reapi_cas.h"
#include "tests/unit/pool/execute_rig.h"
#include "tests/unit/store/blobs.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

static void output_comes_and_then_the_result(void **state)
{
	struct small_tree tree;
	struct assignment job;
	struct digest root, action;
	struct caller caller;

	small_tree_make(&tree, "input a", "input b");
	commit_whole(client, &tree);
	root = tree.digests[3];
	small_tree_free(&tree);
	action = action_upload(client, "cc", &root);
	caller = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	assert_string_equal(job.argument, "cc");
	assert_string_equal(job.tenant, "default");
	assert_true(digest_equal(&job.root, &root));
	caller_until_started(&caller);
	stand_in_output(slot, job.id, 1, "hello, ");
	caller_until_output(&caller, 7);         /* it is here before the job ends */
	stand_in_output(slot, job.id, 2, "warning\n");
	stand_in_output(slot, job.id, 1, "world\n");
	stand_in_finish(slot, job.id, 7, NULL);
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_OK);
	assert_string_equal(caller.output[0], "hello, world\n");
	assert_string_equal(caller.output[1], "warning\n");
	assert_string_equal(caller.stdout_raw, "hello, world\n");
	assert_int_equal(caller.exit_code, 7);
	assert_int_equal(caller.positions_count, 0);
	rig_until((struct gauges){ .slots = 1 });
}

/* As much as an executor says of outputs, and as much as goes into the result of what it put out. */
static void long_outputs_leave_room_for_the_rest(void **state)
{
	struct buffer outputs = buffer_heap(OUTPUTS_FIELDS_BYTES_MAX);
	struct digest action = action_upload(client, "cc", NULL);
	char path[200], text[4096];
	struct reapi_output_file file = { .path = span_make(path, sizeof(path)), .digest.size = 1 };
	struct assignment job;
	struct caller caller;

	memset(path, 'p', sizeof(path));
	memset(text, 't', sizeof(text));
	while (outputs.size + sizeof(path) + 64 < OUTPUTS_FIELDS_BYTES_MAX)
		message_nest(&reapi_output_file_type, &outputs, 2, &file);
	assert_false(outputs.failed);
	caller = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	stand_in_output_bytes(slot, job.id, 1, span_make(text, sizeof(text)));
	stand_in_output_bytes(slot, job.id, 2, span_make(text, sizeof(text)));
	stand_in_finish_outputs(slot, job.id, 3, buffer_span(&outputs));
	caller_finish(&caller);
	if (caller.status)
		fail_msg("%s", caller.why);
	assert_int_equal(caller.exit_code, 3);
	buffer_fini(&outputs);
}

static void the_executor_may_refuse(void **state)
{
	struct digest action = action_upload(client, "refuse", NULL);
	struct caller caller = caller_ask(client, &action);
	struct assignment job;

	stand_in_resolve(control, 1, "no image \"x\" here");
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_FAILED_PRECONDITION);
	assert_string_equal(caller.why, "no image \"x\" here");
	caller = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	stand_in_refuse(slot, job.id, GRPC_DEADLINE_EXCEEDED, "ran longer");
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_DEADLINE_EXCEEDED);
	assert_string_equal(caller.why, "ran longer");
	/* A file that the action made is called as it is; a string of a message has to be UTF-8. */
	caller = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	stand_in_refuse(slot, job.id, GRPC_FAILED_PRECONDITION, "caf\xe9 is too long");
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_FAILED_PRECONDITION);
	assert_string_equal(caller.why, "caf? is too long");
	rig_until((struct gauges){ .slots = 1 });
}

static void a_slot_may_die_at_any_moment(void **state)
{
	struct digest action = action_upload(client, "die", NULL);

	for (int when = 0; when < 2; when++) {
		struct caller caller = caller_ask(client, &action);

		stand_in_resolve(control, 1, NULL);
		if (when == 1)
			stand_in_output(slot, stand_in_take(slot).id, 1, "so far\n");
		else
			caller_until_started(&caller);   /* given out; the slot has said nothing yet */
		stand_in_lose(slot);
		slot = NULL;
		caller_finish(&caller);
		assert_int_equal(caller.status, GRPC_UNAVAILABLE);
		assert_non_null(strstr(caller.why, "died under the action"));
		rig_until((struct gauges){ .lost = 1 + (uint64_t)when });
		slot = stand_in_attach(gateway, 1);
	}
	rig_run(client, &action, 1, "at last\n", 0);
}

static void who_waits_is_told_when_the_host_dies(void **state)
{
	struct digest actions[2] = { action_upload(client, "waits", NULL), action_upload(client, "resolves", NULL) };
	struct caller waiting, resolving;

	stand_in_lose(slot);
	slot = NULL;
	rig_until((struct gauges){ 0 });
	waiting = caller_ask(client, &actions[0]);
	stand_in_resolve(control, 1, NULL);
	caller_until_position(&waiting, 1);
	resolving = caller_ask(client, &actions[1]);
	rig_until((struct gauges){ .queued = 1, .open = 2 });
	stand_in_lose(control);
	control = NULL;
	caller_finish(&waiting);
	assert_int_equal(waiting.status, GRPC_UNAVAILABLE);
	assert_non_null(strstr(waiting.why, "host was lost"));
	caller_finish(&resolving);
	assert_int_equal(resolving.status, GRPC_UNAVAILABLE);
	resolving = caller_ask(client, &actions[1]);
	caller_finish(&resolving);
	assert_int_equal(resolving.status, GRPC_UNAVAILABLE);
	assert_non_null(strstr(resolving.why, "not connected"));
	rig_until((struct gauges){ .lost = 1 });
	control = stand_in_attach(gateway, 0);
	slot = stand_in_attach(gateway, 1);
	rig_run(client, &actions[0], 1, "again\n", 0);
}

/* A policy for the results, if only an empty one, is beside what is asked; a foreign digest function is not. */
static void a_request_as_others_encode_it(void **state)
{
	static const uint8_t policy[] = { 0x42, 0 }, function[] = { 0x48, 9 };
	struct digest nowhere = { .size = 10, .hash = { 1 } };
	struct caller caller = caller_ask_with(client, &nowhere, span_make(policy, sizeof(policy)));

	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_FAILED_PRECONDITION);
	caller = caller_ask_with(client, &nowhere, span_make(function, sizeof(function)));
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_INVALID_ARGUMENT);
	assert_string_equal(caller.why, "digests here are SHA-256");
}

/* As long as may be: it must arrive, and the next one too. */
static void a_long_command_breaks_nothing(void **state)
{
	struct buffer command = buffer_heap(EXECUTE_COMMAND_BYTES_MAX);
	struct digest action = action_upload(client, "after", NULL), longest;
	struct assignment job;
	struct caller caller;
	char argument[1000];

	memset(argument, 'l', sizeof(argument));
	while (command.size + sizeof(argument) + 16 < EXECUTE_COMMAND_BYTES_MAX)
		pb_put_bytes(&command, 1, span_make(argument, sizeof(argument)));
	while (command.size + 3 <= EXECUTE_COMMAND_BYTES_MAX)
		pb_put_bytes(&command, 1, span_text("l"));
	longest = action_upload_command(client, buffer_span(&command), NULL);
	caller = caller_ask(client, &longest);
	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	assert_true(job.arguments_count > 1000);
	stand_in_finish(slot, job.id, 0, NULL);
	caller_finish(&caller);
	assert_true(caller.done);
	rig_run(client, &action, 1, "fine\n", 0);
	rig_until((struct gauges){ .slots = 1 });
	/* A byte more is refused. */
	pb_put_bytes(&command, 1, span_text("l"));
	buffer_fini(&command);
	command = buffer_heap(2 * EXECUTE_COMMAND_BYTES_MAX);
	while (command.size <= EXECUTE_COMMAND_BYTES_MAX)
		pb_put_bytes(&command, 1, span_make(argument, sizeof(argument)));
	longest = action_upload_command(client, buffer_span(&command), NULL);
	caller = caller_ask(client, &longest);
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_INVALID_ARGUMENT);
	assert_non_null(strstr(caller.why, "longer than 1 MiB"));
	buffer_fini(&command);
}

static void find_name(struct gateway_parts *parts, void *context)
{
	struct scope scope;

	*(int *)context = store_scope_find(parts->store, span_text("default"), span_text("run/only"), SCOPE_ALL, &scope);
}

/* There is nothing to run under a name that nobody has written to, and asking for it makes none. */
static void a_wish_makes_no_instance(void **state)
{
	struct client *other = gateway_thread_client_of(gateway, NULL, "run/only");
	struct digest action = action_upload(client, "elsewhere", NULL);
	struct caller caller = caller_ask(other, &action);
	int found;

	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_FAILED_PRECONDITION);
	assert_non_null(strstr(caller.why, "Action is not in the store"));
	gateway_thread_call(gateway, find_name, &found);
	assert_int_equal(found, -ENOENT);
	client_close(other);
}

static void what_is_not_there_is_said(void **state)
{
	struct digest nowhere = { .size = 10, .hash = { 1 } };
	struct span blob = span_text("\x0a\x7f");
	struct caller caller = caller_ask(client, &nowhere);
	struct buffer action = buffer_heap(4096);
	enum grpc_status status;
	struct digest digest;
	char why[512];

	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_FAILED_PRECONDITION);
	assert_non_null(strstr(caller.why, "Action is not in the store"));
	assert_int_equal(caller.missing_count, 1);
	assert_string_equal(caller.missing, "blobs/0100000000000000000000000000000000000000000000000000000000000000/10");
	assert_int_equal(upload_blobs(client, &blob, &digest, 1, &status, why, sizeof(why)), UPLOAD_OK);
	caller = caller_ask(client, &digest);
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_INVALID_ARGUMENT);
	message_put_digest(&action, 1, &nowhere);
	blob = buffer_span(&action);
	assert_int_equal(upload_blobs(client, &blob, &digest, 1, &status, why, sizeof(why)), UPLOAD_OK);
	caller = caller_ask(client, &digest);
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_FAILED_PRECONDITION);
	assert_non_null(strstr(caller.why, "Command is not in the store"));
	assert_int_equal(caller.missing_count, 1);
	buffer_fini(&action);
	digest = action_upload(client, "inputs", &nowhere);
	caller = caller_ask(client, &digest);
	stand_in_resolve(control, 1, NULL);
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_FAILED_PRECONDITION);
	assert_non_null(strstr(caller.why, "inputs are not all in the store"));
	assert_int_equal(caller.missing_count, 1);
	assert_string_equal(caller.missing, "blobs/0100000000000000000000000000000000000000000000000000000000000000/10");
}

/* An Action whose tree names one file so many times. */
static struct digest action_with_files(const char *argument, const struct digest *file, unsigned count)
{
	struct buffer directory = buffer_heap(4u << 20);
	enum grpc_status status;
	struct digest root;
	struct span blob;
	char name[16], why[512];

	for (unsigned i = 0; i < count; i++) {
		size_t mark = pb_begin(&directory, 1);

		snprintf(name, sizeof(name), "%06u", i);
		pb_put_text(&directory, 1, name);
		message_put_digest(&directory, 2, file);
		pb_end(&directory, mark);
	}
	blob = buffer_span(&directory);
	assert_int_equal(upload_blobs(client, &blob, &root, 1, &status, why, sizeof(why)), UPLOAD_OK);
	buffer_fini(&directory);
	return action_upload(client, argument, &root);
}

/* Brings a blob of more than a record. */
static struct digest long_upload(struct span blob)
{
	struct digest digest = { .size = blob.size };
	int fd = memfd_create("long", 0);
	enum grpc_status status;
	char why[512];

	sha256_once(blob.data, blob.size, digest.hash);
	assert_int_equal(write(fd, blob.data, blob.size), blob.size);
	assert_int_equal(whole_blob_write(client, &digest, fd, &status, why, sizeof(why)), 0);
	close(fd);
	return digest;
}

/* Inputs of more than a record are looked for as pairs, so many of them; with more it is said what is too much. */
static void long_inputs_have_a_bound(void **state)
{
	enum { BYTES = 5 << 20 };
	struct digest file = { .size = BYTES }, action;
	uint8_t *data = calloc(1, BYTES);
	struct caller caller;

	sha256_once(data, BYTES, file.hash);
	action = action_with_files("long and missing", &file, 2);
	caller = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_FAILED_PRECONDITION);
	assert_true(caller.missing_count > 0);
	long_upload(span_make(data, BYTES));
	rig_run(client, &action, 1, "long\n", 0);
	action = action_with_files("too many long ones", &file, CLOSURE_MISSING_MAX + 1);
	caller = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_INVALID_ARGUMENT);
	assert_non_null(strstr(caller.why, "more than 16384 inputs"));
	free(data);
}

static int setup_small(void **state)
{
	gateway = gateway_thread_start(&(struct gateway_thread_options){ .executors = true, .ceiling_bytes = 64u << 20 });
	client = gateway_thread_client(gateway, NULL);
	control = stand_in_attach(gateway, 0);
	slot = stand_in_attach(gateway, 1);
	return 0;
}

static int take_none(void *context, uint64_t offset, struct span bytes)
{
	return 0;
}

/* An action waits for its slot while others bring more than the store takes: its inputs stay, also those longer than a record. */
static void long_inputs_outlast_the_queue(void **state)
{
	struct blob input = blob_make(7, 8u << 20);
	struct digest action, file = long_upload(span_make(input.data, input.digest.size)), digest;
	struct assignment job;
	struct caller caller;
	enum grpc_status status;
	char why[512];

	action = action_with_files("waits with a long one", &file, 1);
	caller = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	caller_until_started(&caller);           /* given out; the slot has not looked yet */
	for (uint64_t i = 0; i < 128; i++) {
		struct blob blob = blob_make(100 + i, 1u << 20);
		struct span bytes = span_make(blob.data, blob.digest.size);

		assert_int_equal(upload_blobs(client, &bytes, &digest, 1, &status, why, sizeof(why)), UPLOAD_OK);
		blob_free(&blob);
	}
	job = stand_in_take(slot);
	assert_int_equal(whole_blob_read(slot->client, &file, take_none, NULL, why, sizeof(why)), 0);
	stand_in_finish(slot, job.id, 0, NULL);
	caller_finish(&caller);
	assert_true(caller.done);
	blob_free(&input);
}

/* A directory of more than a record is there like any long blob, but no slot could read it: as the root, and below it. */
static void a_long_directory_takes_no_slot(void **state)
{
	struct buffer directory = buffer_heap(5u << 20), above = buffer_heap(4096);
	enum grpc_status status;
	struct digest root;
	struct span blob;
	char name[16], why[512];
	size_t mark;

	for (unsigned i = 0; directory.size <= 4u << 20; i++) {
		mark = pb_begin(&directory, 1);
		snprintf(name, sizeof(name), "%06u", i);
		pb_put_text(&directory, 1, name);
		message_put_digest(&directory, 2, &digest_empty);
		pb_end(&directory, mark);
	}
	root = long_upload(buffer_span(&directory));
	mark = pb_begin(&above, 2);
	pb_put_text(&above, 1, "below");
	message_put_digest(&above, 2, &root);
	pb_end(&above, mark);
	for (int i = 0; i < 2; i++) {
		struct digest action = action_upload(client, i ? "long below" : "long root", &root);
		struct caller caller = caller_ask(client, &action);

		stand_in_resolve(control, 1, NULL);
		caller_finish(&caller);
		assert_int_equal(caller.status, GRPC_INVALID_ARGUMENT);
		assert_non_null(strstr(caller.why, "a directory of the inputs"));
		blob = buffer_span(&above);
		assert_int_equal(upload_blobs(client, &blob, &root, 1, &status, why, sizeof(why)), UPLOAD_OK);
	}
	rig_until((struct gauges){ .slots = 1 });
	buffer_fini(&directory);
	buffer_fini(&above);
}

static void an_executor_has_the_scope_of_its_job(void **state)
{
	struct client *other = gateway_thread_client(gateway, "token-a");
	struct digest action = action_upload(other, "scope", NULL);
	struct small_tree tree;
	struct assignment job;
	struct caller caller;
	struct push_response response;
	struct client_call *call;
	struct buffer request;

	small_tree_make(&tree, "scope a", "scope b");
	commit_whole(other, &tree);
	expect_status(slot->client, request_list(2, tree.digests, 4, false), GRPC_PERMISSION_DENIED, "no assignment");
	caller = caller_ask(other, &action);
	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	call = push_open(slot->client);
	request = request_list(2, tree.digests, 4, false);
	assert_true(ask(call, &request, &response));
	for (size_t i = 0; i < 4; i++)
		assert_true(answered_bit(&response, i));
	client_call_close(call);
	expect_status(control->client, request_list(2, tree.digests, 4, false), GRPC_PERMISSION_DENIED, "no assignment");
	stand_in_finish(slot, job.id, 0, NULL);
	caller_finish(&caller);
	expect_status(slot->client, request_list(2, tree.digests, 4, false), GRPC_PERMISSION_DENIED, "no assignment");
	client_close(other);
	small_tree_free(&tree);
}

static struct budget_share others;

static void others_on_memory(struct budget_share *share)
{
}

static void others_take_all(struct gateway_parts *parts, void *context)
{
	others = (struct budget_share){ .fn = others_on_memory };
	budget_enter(&parts->reapi.uploads, &others, REAPI_UPLOAD_BYTES);
	parts->reapi.waiting_bytes += REAPI_WAITING_BYTES;
}

static void others_leave(struct gateway_parts *parts, void *context)
{
	parts->reapi.waiting_bytes -= REAPI_WAITING_BYTES;
	budget_leave(&parts->reapi.uploads, &others);
}

static bool one_is_in_line(struct gateway_parts *parts, void *context)
{
	return !list_empty(&parts->reapi.uploads.waiting);
}

static void send_piece(struct client_call *call, const char *name, struct span blob, size_t at, size_t size)
{
	struct buffer message = buffer_heap(size + 512);

	pb_put_text(&message, 1, name);
	pb_put_int64(&message, 2, (int64_t)at);
	pb_put_bool(&message, 3, at + size == blob.size);
	pb_put_bytes(&message, 10, span_make(blob.data + at, size));
	assert_int_equal(client_send(call, buffer_span(&message), 0), CLIENT_OK);
	buffer_fini(&message);
	flush(slot->client);
}

/* Clients' uploads have all the memory there is for them, and for what waits: what an action made is not thrown away for that. */
static void an_executor_waits_in_line(void **state)
{
	enum { BYTES = 5 << 20, FIRST = 256 << 10 };
	struct digest action = action_upload(client, "long output", NULL), output = { .size = BYTES };
	char hex[DIGEST_HEX_BYTES], name[256];
	struct client_call *call;
	struct assignment job;
	struct caller caller;
	struct span blob, answer;

	blob = span_make(calloc(1, BYTES), BYTES);
	sha256_once(blob.data, blob.size, output.hash);
	digest_hex(&output, hex);
	snprintf(name, sizeof(name), "uploads/out/blobs/%.*s/%d", DIGEST_HEX_BYTES, hex, BYTES);
	caller = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	gateway_thread_call(gateway, others_take_all, NULL);
	assert_int_equal(client_call_open(&call, slot->client, BYTESTREAM_WRITE, NULL, 0), 0);
	send_piece(call, name, blob, 0, FIRST);
	gateway_thread_until(gateway, one_is_in_line, NULL);
	gateway_thread_call(gateway, others_leave, NULL);
	send_piece(call, "", blob, FIRST, BYTES / 2);
	send_piece(call, "", blob, FIRST + BYTES / 2, BYTES / 2 - FIRST);
	assert_int_equal(client_receive(call, &answer, UINT64_MAX), CLIENT_OK);
	client_call_close(call);
	stand_in_finish(slot, job.id, 0, NULL);
	caller_finish(&caller);
	assert_true(caller.done);
	free((void *)(uintptr_t)blob.data);
}

static void an_odd_hello_is_refused(void **state)
{
	struct client *stranger = gateway_thread_client(gateway, NULL);
	struct digest action = action_upload(client, "odd", NULL);
	static const struct executor_hello hellos[] = { { .slot = 0, .slots = 1 }, { .slot = POOL_SLOTS_MAX + 1 } };

	for (size_t i = 0; i < 2; i++) {
		struct buffer bytes = buffer_heap(256);
		struct client_call *call;
		struct span message;
		const char *text;

		message_nest(&executor_hello_type, &bytes, 1, &hellos[i]);
		assert_int_equal(client_call_open(&call, stranger, SLUICE_ATTACH, NULL, 0), 0);
		assert_int_equal(client_send(call, buffer_span(&bytes), 0), CLIENT_OK);
		assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_END);
		assert_int_equal(client_call_status(call, &text), GRPC_INVALID_ARGUMENT);
		client_call_close(call);
		buffer_fini(&bytes);
	}
	client_close(stranger);
	rig_run(client, &action, 1, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(output_comes_and_then_the_result, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(long_outputs_leave_room_for_the_rest, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(the_executor_may_refuse, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_slot_may_die_at_any_moment, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(who_waits_is_told_when_the_host_dies, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_request_as_others_encode_it, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_long_command_breaks_nothing, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_wish_makes_no_instance, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(what_is_not_there_is_said, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(long_inputs_have_a_bound, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(long_inputs_outlast_the_queue, setup_small, rig_teardown),
		cmocka_unit_test_setup_teardown(a_long_directory_takes_no_slot, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(an_executor_has_the_scope_of_its_job, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(an_executor_waits_in_line, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(an_odd_hello_is_refused, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
