/*
 * Shows gRPC calls between two engines in memory: the four shapes, in every split; who learns what when an end goes
 * away.
 */
#include "call_fixture.h"

static void test_shapes_in_every_split(void **state)
{
	for (size_t step = 0; step < 48; step++) {
		struct end end;

		start(&end, server_echo, NULL);
		pair.step = step;
		send_text(&end.call, "one");
		send_text(&end.call, "");
		send_text(&end.call, "three");
		h2_pair_pump(&pair);
		assert_messages(&end, "one||three|");            /* bidi: answers before the end */
		call_end(&end.call);
		call_end(&end.call);
		assert_int_equal(call_send(&end.call, span_text("late"), 0), CALL_CLOSED);
		h2_pair_pump(&pair);
		assert_string_equal(end.log, "MMMEC");
		assert_string_equal(server_end.log, "MMMEC");
		assert_int_equal(end.status, GRPC_OK);
		assert_int_equal(server_end.status, GRPC_OK);
		assert_string_equal(server_path, "/test.Test/Do");
		finish(&end);
	}
}

static void server_count(struct end *end, char event, struct span message)
{
	char text[16];

	if (event != 'E')
		return;
	snprintf(text, sizeof(text), "%zu", end->count);
	send_text(&end->call, text);
	call_finish(&end->call, GRPC_OK, "");
	assert_int_equal(call_send(&end->call, span_text("late"), 0), CALL_CLOSED);
}

static void test_client_streaming(void **state)
{
	struct end end;

	start(&end, server_count, NULL);
	for (int i = 0; i < 100; i++)
		send_text(&end.call, "x");
	call_end(&end.call);
	h2_pair_pump(&pair);
	assert_messages(&end, "100|");
	assert_int_equal(end.status, GRPC_OK);
	finish(&end);
}

static void server_stream(struct end *end, char event, struct span message)
{
	if (event != 'M')
		return;
	for (int i = 0; i < 50; i++)
		send_text(&end->call, "y");
	call_finish(&end->call, GRPC_OK, NULL);
}

/* The server answers everything before the client has ended: the client is not left to send for ever. */
static void test_server_streaming(void **state)
{
	struct end end;

	start(&end, server_stream, NULL);
	send_text(&end.call, "go");
	h2_pair_pump(&pair);
	assert_int_equal(end.count, 50);
	assert_int_equal(end.status, GRPC_OK);
	assert_true(end.closed && server_end.closed);
	assert_int_equal(server_end.status, GRPC_OK);
	finish(&end);
}

/* ---- ends that go away ---- */

static void test_cancel_by_client(void **state)
{
	struct end end;

	start(&end, server_echo, NULL);
	send_text(&end.call, "a");
	h2_pair_pump(&pair);
	call_cancel(&end.call);
	assert_false(end.closed);
	assert_int_equal(call_send(&end.call, span_text("x"), 0), CALL_CLOSED);
	h2_pair_pump(&pair);
	assert_int_equal(end.status, GRPC_CANCELLED);
	assert_string_equal(server_end.log, "MC");
	assert_int_equal(server_end.status, GRPC_CANCELLED);
	finish(&end);
}

static void server_reset(struct end *end, char event, struct span message)
{
	if (event == 'M')
		stream_reset(end->call.stream, 11);
}

static void hold_without_fini(struct end *end, char event, struct span message)
{
	if (event == 'M')
		call_hold(&end->call);
}

/* An owner whose work lands after the call has gone: its release, answer and status come to nothing. */
static void test_late_release(void **state)
{
	struct end end;

	keep_call = true;
	start(&end, hold_without_fini, NULL);
	send_text(&end.call, "a");
	send_text(&end.call, "b");
	h2_pair_pump(&pair);
	call_cancel(&end.call);
	h2_pair_pump(&pair);
	assert_string_equal(server_end.log, "MC");
	call_release(&server_end.call);
	assert_int_equal(call_send(&server_end.call, span_text("x"), 0), CALL_CLOSED);
	call_finish(&server_end.call, GRPC_OK, NULL);
	call_cancel(&server_end.call);
	assert_string_equal(server_end.log, "MC");
	keep_call = false;
	call_fini(&server_end.call);
	call_fini(&end.call);
	finish(&end);
}

static void test_reset_by_server(void **state)
{
	struct end end;

	start(&end, server_reset, NULL);
	send_text(&end.call, "a");
	h2_pair_pump(&pair);
	assert_int_equal(end.status, GRPC_RESOURCE_EXHAUSTED);
	finish(&end);
}

static void test_connection_lost(void **state)
{
	struct end end;

	start(&end, NULL, NULL);
	send_text(&end.call, "a");
	h2_pair_pump(&pair);
	h2_carrier_closed(pair.client);
	h2_carrier_closed(pair.server);
	assert_int_equal(end.status, GRPC_UNAVAILABLE);
	assert_string_equal(end.status_text, "connection lost");
	assert_int_equal(server_end.status, GRPC_CANCELLED);
	finish(&end);
}

static void put_frame(struct buffer *buffer, uint8_t type, uint8_t flags, uint8_t stream, const char *body, size_t size)
{
	const uint8_t head[9] = { 0, 0, (uint8_t)size, type, flags, 0, 0, 0, stream };

	buffer_put(buffer, head, sizeof(head));
	buffer_put(buffer, body, size);
}

/*
 * A server may end the call, send no RST_STREAM, and wait for a client that still has much to say: the client hangs
 * up itself, without blame (NO_ERROR), and keeps the server's status.
 */
static void test_server_ends_without_reset(void **state)
{
	static const char headers[] = "\x88\0\x0c" "content-type\x10" "application/grpc";
	static const char trailers[] = "\0\x0b" "grpc-status\x01" "9";
	static const char reset[] = "\0\0\4\3\0\0\0\0\1\0\0\0\0";
	struct buffer in = buffer_heap(1000), out = buffer_heap(1 << 20);
	const struct h2_events none = { 0 };
	struct span piece;
	struct end end;

	memset(&pair, 0, sizeof(pair));
	assert_int_equal(h2_create(&pair.client, &(struct h2_config){ .events = &none }), 0);
	end_init(&end, NULL);
	assert_int_equal(call_start(&end.call, pair.client, "/x/y", span_text("h"), 0, NULL, 0, MESSAGE_MAX, &end_events,
	                            &end), 0);
	while (h2_output(pair.client).size)
		continue;
	put_frame(&in, 4, 0, 0, "", 0);
	put_frame(&in, 1, 4, 1, headers, sizeof(headers) - 1);
	put_frame(&in, 1, 5, 1, trailers, sizeof(trailers) - 1);
	assert_int_equal(h2_feed(pair.client, buffer_span(&in)), 0);
	while ((piece = h2_output(pair.client)).size)
		buffer_put(&out, piece.data, piece.size);
	assert_non_null(memmem(out.data, out.size, reset, sizeof(reset) - 1));
	assert_string_equal(end.log, "EC");
	assert_int_equal(end.status, GRPC_FAILED_PRECONDITION);
	buffer_fini(&in);
	buffer_fini(&out);
	finish(&end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes_in_every_split),
		cmocka_unit_test(test_client_streaming),
		cmocka_unit_test(test_server_streaming),
		cmocka_unit_test(test_cancel_by_client),
		cmocka_unit_test(test_late_release),
		cmocka_unit_test(test_reset_by_server),
		cmocka_unit_test(test_connection_lost),
		cmocka_unit_test(test_server_ends_without_reset),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	h2_pair_pieces = true;
	return failed + cmocka_run_group_tests_name("pieces", tests, NULL, NULL);
}
