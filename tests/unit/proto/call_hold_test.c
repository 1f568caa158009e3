/*
 * Shows calls that are held, or shut, and released: one message a release, the end behind the last, and back-pressure
 * that reaches the sender, while what waits stays bounded.
 */
#include "call_fixture.h"

#include <stdlib.h>

static void hold_each(struct end *end, char event, struct span message)
{
	if (event == 'M')
		call_hold(&end->call);
}

/* One message a release, the end behind the last, on the server's side; in every split. */
static void test_hold_server(void **state)
{
	for (size_t step = 0; step < 24; step++) {
		struct end end;

		start(&end, hold_each, NULL);
		pair.step = step;
		send_text(&end.call, "a");
		send_text(&end.call, "b");
		send_text(&end.call, "c");
		call_end(&end.call);
		h2_pair_pump(&pair);
		assert_string_equal(server_end.log, "M");
		call_release(&server_end.call);
		assert_string_equal(server_end.log, "MM");
		call_release(&server_end.call);
		assert_string_equal(server_end.log, "MMM");
		h2_pair_pump(&pair);
		call_release(&server_end.call);
		assert_string_equal(server_end.log, "MMME");
		assert_messages(&server_end, "a|b|c|");
		call_finish(&server_end.call, GRPC_OK, NULL);
		h2_pair_pump(&pair);
		assert_int_equal(end.status, GRPC_OK);
		finish(&end);
	}
}

/* The client's side: the stream has closed long ago when the last message is taken; the status comes after it. */
static void test_hold_client(void **state)
{
	struct end end;

	start(&end, server_echo, hold_each);
	send_text(&end.call, "a");
	send_text(&end.call, "b");
	call_end(&end.call);
	h2_pair_pump(&pair);
	assert_string_equal(end.log, "M");
	assert_int_equal(h2_streams_count(pair.client), 0);
	call_release(&end.call);
	assert_string_equal(end.log, "MM");
	call_release(&end.call);
	assert_string_equal(end.log, "MMEC");
	assert_int_equal(end.status, GRPC_OK);
	finish(&end);
}

static void test_cancel_while_closing(void **state)
{
	struct end end;

	start(&end, server_echo, hold_each);
	send_text(&end.call, "a");
	send_text(&end.call, "b");
	call_end(&end.call);
	h2_pair_pump(&pair);
	call_cancel(&end.call);
	assert_string_equal(end.log, "MC");
	finish(&end);
}

/* A held call shuts the peer's window: it stops after a window and what queues hold, and goes on when released. */
static void test_hold_is_back_pressure(void **state)
{
	const struct h2_config small = { .stream_window_bytes = 65535, .out_queue_bytes = 20000 };
	uint8_t *message = calloc(1, 10000);
	struct end end;
	size_t sent = 0;

	start_with(&end, hold_first, NULL, NULL, 0, &small, &small);
	for (size_t i = 0; i < 1000; i++) {
		if (call_send(&end.call, span_make(message, 10000), 0) == CALL_SENT)
			sent++;
		h2_pair_pump(&pair);
	}
	assert_in_range(sent, 7, 11);            /* 65,535 + 20,000 and what is pending */
	assert_int_equal(server_end.count, 1);
	assert_true(server_end.call.backlog.size <= 65535);
	call_release(&server_end.call);
	h2_pair_pump(&pair);
	assert_int_equal(server_end.count, sent);
	assert_string_equal(end.log, "W");
	assert_int_equal(call_send(&end.call, span_make(message, 10000), 0), CALL_SENT);
	call_cancel(&end.call);
	h2_pair_pump(&pair);
	assert_int_equal(end.status, GRPC_CANCELLED);
	assert_int_equal(server_end.status, GRPC_CANCELLED);
	finish(&end);
	free(message);
}

static void shut_first(struct end *end, char event, struct span message)
{
	if (event == 'M' && end->count == 1)
		call_shut(&end->call);
}

/* What is on its way is delivered, and no more comes until the release. */
static void test_shut(void **state)
{
	const struct h2_config small = { .stream_window_bytes = 65535, .out_queue_bytes = 20000 };
	uint8_t *large = calloc(1, 10000);
	const struct span one = span_make(large, 10000);
	struct end end;
	size_t sent = 0;

	start_with(&end, shut_first, NULL, NULL, 0, &small, &small);
	while (call_has_room(&end.call) && sent < 100) {
		assert_int_equal(call_send(&end.call, one, 0), CALL_SENT);
		sent++;
		h2_pair_pump(&pair);
	}
	assert_in_range(sent, 7, 11);
	assert_int_equal(server_end.count, 65535 / 10005);
	assert_int_equal(call_send(&end.call, one, 0), CALL_FULL);
	call_release(&server_end.call);
	h2_pair_pump(&pair);
	assert_string_equal(end.log, "W");
	assert_int_equal(server_end.count, sent);
	/* Neither is it shut any more. */
	for (size_t i = 0; i < 30; i++) {
		assert_int_equal(call_send(&end.call, one, 0), CALL_SENT);
		h2_pair_pump(&pair);
	}
	assert_int_equal(server_end.count, sent + 30);
	finish(&end);
	free(large);
}

/*
 * A server that has finished, but whose last message waits for a client that does not read: it swallows what the
 * client still sends, what it had held and what comes new, so that both windows stay open.
 */
static void test_finished_server_swallows(void **state)
{
	const struct h2_config small = { .stream_window_bytes = 65535, .connection_window_bytes = 131072,
		                         .out_queue_bytes = 20000 };
	uint8_t *message = calloc(1, 500000);
	struct end end;

	start_with(&end, hold_first, NULL, NULL, 0, &small, &small);
	call_hold(&end.call);
	while (call_send(&end.call, span_make(message, 20000), 0) == CALL_SENT)
		h2_pair_pump(&pair);
	assert_int_equal(server_end.count, 1);
	assert_int_equal(call_send(&server_end.call, span_make(message, 500000), 0), CALL_SENT);
	call_finish(&server_end.call, GRPC_OK, NULL);
	for (size_t i = 0; i < 20; i++) {
		h2_pair_pump(&pair);
		assert_int_equal(call_send(&end.call, span_make(message, 20000), 0), CALL_SENT);
	}
	call_end(&end.call);
	call_release(&end.call);
	h2_pair_pump(&pair);
	assert_int_equal(server_end.count, 1);
	assert_int_equal(end.bytes, 500000);
	assert_int_equal(end.status, GRPC_OK);
	finish(&end);
	free(message);
}

/* An owner that takes one message a release, for ever: what waits stays within the window, what was taken is let go. */
static void test_backlog_does_not_pile_up(void **state)
{
	const struct h2_config small = { .stream_window_bytes = 65535, .out_queue_bytes = 20000 };
	uint8_t message[1000] = { 0 };
	struct end end;

	start_with(&end, hold_each, NULL, NULL, 0, &small, &small);
	for (size_t i = 0; i < 2000; i++) {
		for (int burst = 0; burst < 2; burst++)
			call_send(&end.call, span_make(message, sizeof(message)), 0);
		h2_pair_pump(&pair);
		assert_int_equal(server_end.count, i + 1);
		assert_true(server_end.call.backlog.size <= 2 * 65535);
		call_release(&server_end.call);
	}
	call_cancel(&end.call);
	h2_pair_pump(&pair);
	finish(&end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hold_server),
		cmocka_unit_test(test_hold_client),
		cmocka_unit_test(test_cancel_while_closing),
		cmocka_unit_test(test_hold_is_back_pressure),
		cmocka_unit_test(test_shut),
		cmocka_unit_test(test_finished_server_swallows),
		cmocka_unit_test(test_backlog_does_not_pile_up),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	h2_pair_pieces = true;
	return failed + cmocka_run_group_tests_name("pieces", tests, NULL, NULL);
}
