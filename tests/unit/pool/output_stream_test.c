/*
 * Shows that an action's output can be read by its stream's name while it runs: from any offset and up to a limit, by several and by
 * one who does not take it, which holds up nothing; that it ends with the action; that what is not kept is said to be lost; that a
 * little of it is there afterwards, and of a cached result none; and that another tenant's is not there.
 */
#include "proto/pb.h"
#include "proto/reapi_cas.h"
#include "tests/unit/pool/execute_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct reader {
	struct client_call *call;
	struct buffer text;
	bool ended;
	enum grpc_status status;
};

static struct reader read_begin(struct client *from, const char *name, int64_t offset, int64_t limit)
{
	struct reader reader = { .text = buffer_heap(16u << 20) };
	struct buffer request = buffer_heap(4096);

	pb_put_text(&request, 1, name);
	pb_put_int64(&request, 2, offset);
	pb_put_int64(&request, 3, limit);
	assert_int_equal(client_call_open(&reader.call, from, BYTESTREAM_READ, NULL, 0), 0);
	assert_int_equal(client_send(reader.call, buffer_span(&request), 0), CLIENT_OK);
	client_send_end(reader.call);
	buffer_fini(&request);
	return reader;
}

/* One message, or the end. */
static void read_step(struct reader *reader)
{
	struct pb_reader message;
	struct pb_field field;
	struct span bytes;
	const char *text;

	if (client_receive(reader->call, &bytes, UINT64_MAX) != CLIENT_OK) {
		reader->ended = true;
		reader->status = client_call_status(reader->call, &text);
		return;
	}
	message = pb_reader_make(bytes);
	while (pb_next(&message, &field))
		if (field.number == 10)
			buffer_put(&reader->text, field.bytes.data, field.bytes.size);
}

static void read_until(struct reader *reader, const char *text)
{
	while (!reader->ended && reader->text.size < strlen(text))
		read_step(reader);
	assert_true(span_is(buffer_span(&reader->text), text));
}

/* To its end, which has this status. */
static void read_end(struct reader *reader, const char *text, enum grpc_status status)
{
	while (!reader->ended)
		read_step(reader);
	assert_int_equal(reader->status, status);
	if (text)
		assert_true(span_is(buffer_span(&reader->text), text));
	client_call_close(reader->call);
	buffer_fini(&reader->text);
}

static void read_whole(struct client *from, const char *name, int64_t offset, int64_t limit, const char *text,
                       enum grpc_status status)
{
	struct reader reader = read_begin(from, name, offset, limit);

	read_end(&reader, text, status);
}

static struct assignment begin(struct caller *caller, const char *argument)
{
	struct digest action = action_upload(client, argument, NULL);
	struct assignment job;

	*caller = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	caller_until_started(caller);
	assert_true(caller->streams[0][0] && caller->streams[1][0]);
	return job;
}

static void output_is_read_while_it_is_written(void **state)
{
	struct client *second = gateway_thread_client(gateway, NULL);
	struct reader all, late, errors, some;
	struct caller caller;
	struct assignment job = begin(&caller, "live");

	all = read_begin(second, caller.streams[0], 0, 0);
	errors = read_begin(second, caller.streams[1], 0, 0);
	some = read_begin(second, caller.streams[0], 2, 3);
	stand_in_output(slot, job.id, 1, "hello, ");
	read_until(&all, "hello, ");             /* the action has not ended */
	read_end(&some, "llo", GRPC_OK);
	stand_in_output(slot, job.id, 2, "warning\n");
	read_until(&errors, "warning\n");
	late = read_begin(second, caller.streams[0], 7, 0);
	stand_in_output(slot, job.id, 1, "world\n");
	read_until(&late, "world\n");
	stand_in_finish(slot, job.id, 0, NULL);
	read_end(&all, "hello, world\n", GRPC_OK);
	read_end(&late, "world\n", GRPC_OK);
	read_end(&errors, "warning\n", GRPC_OK);
	caller_finish(&caller);
	assert_string_equal(caller.stdout_raw, "hello, world\n");
	/* It has ended: a little output is still there. */
	read_whole(second, caller.streams[0], 7, 0, "world\n", GRPC_OK);
	read_whole(second, caller.streams[0], 13, 0, "", GRPC_OK);
	read_whole(second, caller.streams[0], 14, 0, "", GRPC_OUT_OF_RANGE);
	client_close(second);
}

/* Nor is there any of what never was. */
static void what_is_not_ones_own_is_not_there(void **state)
{
	struct client *other = gateway_thread_client(gateway, "token-a");
	char name[EXECUTE_NAME_BYTES + 8];
	struct caller caller;
	struct assignment job = begin(&caller, "secret");

	read_whole(other, caller.streams[0], 0, 0, "", GRPC_NOT_FOUND);
	snprintf(name, sizeof(name), "%s", caller.streams[0]);
	name[strlen("operations/")] = name[strlen("operations/")] == '0' ? '1' : '0';
	read_whole(client, name, 0, 0, "", GRPC_NOT_FOUND);
	read_whole(client, caller.streams[0], -1, 0, "", GRPC_OUT_OF_RANGE);
	read_whole(client, caller.streams[0], 0, -1, "", GRPC_INVALID_ARGUMENT);
	stand_in_finish(slot, job.id, 0, NULL);
	caller_finish(&caller);
	client_close(other);
}

static void a_cached_result_has_no_streams(void **state)
{
	struct digest action = action_upload(client, "cached", NULL);
	struct caller caller = rig_run(client, &action, 1, "made\n", 0);
	char name[EXECUTE_NAME_BYTES + 8];

	assert_true(caller.streams[0][0]);
	caller = rig_hit(client, &action, 1);
	assert_true(caller.cached);
	assert_string_equal(caller.streams[0], "");
	snprintf(name, sizeof(name), "%s/stdout", caller.name);
	read_whole(client, name, 0, 0, "", GRPC_NOT_FOUND);
}

/* 5 MiB: what is kept comes, and that it is not all; who does not read holds up nobody; afterwards it is not kept here. */
static void long_output_is_told_to_be_cut(void **state)
{
	struct client *second = gateway_thread_client(gateway, NULL), *lazy = gateway_thread_client(gateway, NULL);
	struct reader reader, sleeper;
	struct caller caller;
	struct assignment job = begin(&caller, "long");
	struct buffer data = buffer_heap(1 << 20);

	memset(buffer_reserve(&data, 65536), 'x', 65536);
	data.size = 65536;
	reader = read_begin(second, caller.streams[0], 0, 0);
	sleeper = read_begin(lazy, caller.streams[0], 0, 0);
	flush(lazy);
	for (int i = 0; i < 80; i++) {
		stand_in_output_bytes(slot, job.id, 1, buffer_span(&data));
		caller_until_output(&caller, (size_t)(i + 1) * 65536);
	}
	stand_in_finish(slot, job.id, 0, NULL);
	caller_finish(&caller);
	while (!reader.ended)
		read_step(&reader);
	assert_int_equal(reader.text.size, EXECUTE_OUTPUT_BYTES_MAX);
	read_end(&reader, NULL, GRPC_DATA_LOSS);
	read_end(&sleeper, NULL, GRPC_DATA_LOSS);
	read_whole(second, caller.streams[0], 0, 0, "", GRPC_NOT_FOUND);
	client_close(second);
	client_close(lazy);
	buffer_fini(&data);
}

/* The action is cancelled, and the reader goes in the middle. */
static void either_may_go(void **state)
{
	struct client *second = gateway_thread_client(gateway, NULL);
	struct reader reader;
	struct caller caller;
	struct assignment job = begin(&caller, "go");

	reader = read_begin(second, caller.streams[0], 0, 0);
	stand_in_output(slot, job.id, 1, "a");
	read_until(&reader, "a");
	client_call_close(reader.call);
	buffer_fini(&reader.text);
	stand_in_output(slot, job.id, 1, "b");
	reader = read_begin(second, caller.streams[0], 0, 0);
	read_until(&reader, "ab");
	caller_leave(&caller);
	assert_int_equal(stand_in_take_cancel(slot), job.id);
	stand_in_finish(slot, job.id, 137, NULL);
	read_end(&reader, "ab", GRPC_OK);
	rig_until((struct gauges){ .slots = 1 });
	client_close(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(output_is_read_while_it_is_written, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(what_is_not_ones_own_is_not_there, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_cached_result_has_no_streams, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(long_output_is_told_to_be_cut, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(either_may_go, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
