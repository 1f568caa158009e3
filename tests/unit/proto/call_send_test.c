/*
 * Shows the messages that a call sends: in pieces, compressed or not, larger than any queue, or by and by; and the end
 * that waits behind them.
 */
#include "call_fixture.h"

#include <stdlib.h>

/* Pieces make one message, empty ones among them; room is what call_send() would find. */
static void test_pieces(void **state)
{
	const struct h2_config small = { .stream_window_bytes = 65535, .out_queue_bytes = 20000 };
	const struct span pieces[3] = { span_text("on"), span_text(""), span_text("e") };
	uint8_t *large = calloc(1, 10000);
	const struct span two[2] = { span_text("x"), span_make(large, 10000) };
	struct end end;
	size_t sent = 0;

	start_with(&end, hold_first, NULL, NULL, 0, &small, &small);
	assert_int_equal(call_send_parts(&end.call, pieces, 3), CALL_SENT);
	h2_pair_pump(&pair);
	assert_messages(&server_end, "one|");
	while (call_has_room(&end.call) && sent < 100) {
		assert_int_equal(call_send_parts(&end.call, two, 2), CALL_SENT);
		sent++;
		h2_pair_pump(&pair);
	}
	assert_in_range(sent, 7, 11);
	assert_int_equal(call_send_parts(&end.call, two, 2), CALL_FULL);
	assert_int_equal(end.call.bytes_sent - call_untaken(&end.call), 65535);  /* the window */
	assert_true(end.call.pending.size > 0);             /* what waits is in both places */
	call_release(&server_end.call);
	h2_pair_pump(&pair);
	assert_string_equal(end.log, "W");
	assert_int_equal(call_untaken(&end.call), 0);
	assert_int_equal(server_end.count, 1 + sent);
	call_cancel(&end.call);
	assert_false(call_has_room(&end.call));
	assert_int_equal(call_send_parts(&end.call, two, 2), CALL_CLOSED);
	h2_pair_pump(&pair);
	finish(&end);
	free(large);
}

/* Messages that compress do; what does not stays as it is; both arrive the same. */
static void test_zstd_messages(void **state)
{
	size_t size = 300000;
	uint8_t *easy = calloc(1, size), *hard = malloc(size);
	uint32_t seed = 7;
	struct end end;

	for (size_t i = 0; i < size; i++) {
		seed = seed * 1664525 + 1013904223;
		hard[i] = (uint8_t)(seed >> 24);
	}
	start_with(&end, server_echo, NULL, zstd_metadata, 1, NULL, NULL);
	assert_int_equal(call_send(&end.call, span_make(easy, size), 3), CALL_SENT);
	assert_true(end.call.bytes_sent < 1000);
	h2_pair_pump(&pair);
	assert_int_equal(server_end.bytes, size);
	assert_int_equal(end.bytes, size);
	assert_true(end.call.bytes_received < 1000);     /* the server, too, was told that we take zstd */
	assert_int_equal(call_send(&end.call, span_make(hard, size), 3), CALL_SENT);
	h2_pair_pump(&pair);
	assert_int_equal(server_end.bytes, 2 * size);
	assert_int_equal(end.bytes, 2 * size);
	assert_true(end.call.bytes_sent > size);
	call_end(&end.call);
	h2_pair_pump(&pair);
	assert_int_equal(end.status, GRPC_OK);
	finish(&end);
	free(easy);
	free(hard);
}

/* Nothing is compressed towards a server that is not known to take it. */
static void test_no_zstd_unasked(void **state)
{
	uint8_t easy[4096] = { 0 };
	struct end end;

	start(&end, server_echo, NULL);
	assert_int_equal(call_send(&end.call, span_make(easy, sizeof(easy)), 3), CALL_SENT);
	assert_int_equal(end.call.bytes_sent, GRPC_PREFIX_BYTES + sizeof(easy));
	call_end(&end.call);
	h2_pair_pump(&pair);
	assert_int_equal(end.status, GRPC_OK);
	finish(&end);
}

/* Messages of many queues' length, both ways at once, each end sending the next when it may. */
static void test_large_messages(void **state)
{
	const struct h2_config small = { .stream_window_bytes = 65535, .out_queue_bytes = 20000 };
	uint8_t *message = malloc(MESSAGE_MAX);
	struct end end;
	unsigned sent = 0;

	memset(message, 'm', MESSAGE_MAX);
	start_with(&end, server_echo, NULL, NULL, 0, &small, &small);
	pair.step = 9973;
	while (sent < 5) {
		enum call_outcome outcome = call_send(&end.call, span_make(message, MESSAGE_MAX), 0);

		assert_int_not_equal(outcome, CALL_CLOSED);
		sent += outcome == CALL_SENT;
		h2_pair_pump(&pair);
	}
	call_end(&end.call);
	h2_pair_pump(&pair);
	assert_int_equal(server_end.bytes, 5 * MESSAGE_MAX);
	assert_int_equal(end.bytes, 5 * MESSAGE_MAX);
	assert_int_equal(end.status, GRPC_OK);
	finish(&end);
	free(message);
}

/* call_end and call_finish go out behind a message that still waits. */
static void test_end_behind_pending(void **state)
{
	const struct h2_config small = { .stream_window_bytes = 65535, .out_queue_bytes = 20000 };
	uint8_t *message = calloc(1, 500000);
	struct end end;

	start_with(&end, server_echo, NULL, NULL, 0, &small, &small);
	assert_int_equal(call_send(&end.call, span_make(message, 500000), 0), CALL_SENT);
	assert_int_equal(call_send(&end.call, span_make(message, 1), 0), CALL_FULL);
	call_end(&end.call);
	h2_pair_pump(&pair);
	assert_string_equal(server_end.log, "MEC");
	assert_string_equal(end.log, "MEC");
	assert_int_equal(end.bytes, 500000);
	assert_int_equal(end.status, GRPC_OK);
	finish(&end);
	free(message);
}

/* A message whose bytes follow: it comes whole, nothing fits in between, and a call that ends in the middle of it is no success. */
static void test_message_by_and_by(void **state)
{
	for (int round = 0; round < 3; round++) {
		static uint8_t part[70000];
		struct end client;
		size_t parts = round == 1 ? 12 : 3;

		start(&client, NULL, NULL);
		assert_int_equal(call_send_begin(&client.call, parts * sizeof(part)), CALL_SENT);
		for (size_t i = 0; i + 1 < parts; i++) {
			call_send_more(&client.call, span_make(part, sizeof(part)));
			assert_false(call_has_room(&client.call));
			assert_int_equal(call_send(&client.call, span_text("no"), 0), CALL_FULL);
			if (round != 1)
				h2_pair_pump(&pair);
			assert_int_equal(server_end.count, 0);
		}
		if (round == 2)
			call_end(&client.call);
		call_send_more(&client.call, span_make(part, sizeof(part)));
		h2_pair_pump(&pair);
		if (round == 2) {
			assert_int_equal(server_end.status, GRPC_CANCELLED);
			finish(&client);
			continue;
		}
		assert_int_equal(server_end.count, 1);
		assert_int_equal(server_end.bytes, parts * sizeof(part));
		assert_true(call_has_room(&client.call));
		call_end(&client.call);
		call_finish(&server_end.call, GRPC_OK, NULL);
		h2_pair_pump(&pair);
		assert_int_equal(client.status, GRPC_OK);
		finish(&client);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_zstd_messages),
		cmocka_unit_test(test_no_zstd_unasked),
		cmocka_unit_test(test_large_messages),
		cmocka_unit_test(test_end_behind_pending),
		cmocka_unit_test(test_message_by_and_by),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	h2_pair_pieces = true;
	return failed + cmocka_run_group_tests_name("pieces", tests, NULL, NULL);
}
