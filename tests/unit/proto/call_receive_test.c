/*
 * Shows the messages that a call receives: which are refused (too large, truncated, badly flagged or compressed), and
 * with what status; messages in parts, and messages that are kept, in every split.
 */
#include "call_fixture.h"

#include "proto/zstd_message.h"

#include <stdlib.h>

/* A message written by hand, so that what no honest client sends is sent. */
static void send_raw(struct call *call, uint8_t flag, uint32_t announced, struct span body)
{
	uint8_t prefix[GRPC_PREFIX_BYTES];

	grpc_prefix(prefix, false, announced);
	prefix[0] = flag;
	assert_int_equal(stream_write(call->stream, span_make(prefix, sizeof(prefix))), sizeof(prefix));
	assert_int_equal(stream_write(call->stream, body), body.size);
}

static void raw_case(const struct header *metadata, size_t count, uint8_t flag, uint32_t announced, struct span body,
                     enum grpc_status status, const char *text)
{
	struct end end;

	server_message_max = 1000;
	start_with(&end, server_echo, NULL, metadata, count, NULL, NULL);
	send_raw(&end.call, flag, announced, body);
	call_end(&end.call);
	h2_pair_pump(&pair);
	assert_int_equal(end.status, status);
	if (!strstr(end.status_text, text))
		fail_msg("status text: %s", end.status_text);
	assert_string_equal(server_end.log, "C");
	finish(&end);
}

static void test_refused_messages(void **state)
{
	struct buffer bomb = buffer_heap(1 << 20), ok = buffer_heap(1 << 20);
	uint8_t *zeros = calloc(1, 500000);

	assert_true(zstd_message_deflate(&bomb, span_make(zeros, 500000), 3));
	assert_true(zstd_message_deflate(&ok, span_make(zeros, 1000), 3));
	raw_case(NULL, 0, 0, 1001, span_text("x"), GRPC_RESOURCE_EXHAUSTED, "1000 bytes");
	raw_case(NULL, 0, 0, UINT32_MAX, span_text("x"), GRPC_RESOURCE_EXHAUSTED, "1000 bytes");
	raw_case(NULL, 0, 2, 1, span_text("x"), GRPC_INTERNAL, "flag");
	raw_case(NULL, 0, 0, 2, span_text("x"), GRPC_INTERNAL, "truncated");
	raw_case(NULL, 0, 1, (uint32_t)ok.size, buffer_span(&ok), GRPC_INTERNAL, "without grpc-encoding");
	raw_case(zstd_metadata, 1, 1, (uint32_t)bomb.size, buffer_span(&bomb), GRPC_RESOURCE_EXHAUSTED, "1000 bytes");
	raw_case(zstd_metadata, 1, 1, 4, span_text("abcd"), GRPC_INTERNAL, "zstd");
	raw_case(zstd_metadata, 1, 1, 0, span_make(NULL, 0), GRPC_INTERNAL, "zstd");
	raw_case(zstd_metadata, 1, 1, (uint32_t)ok.size - 1, span_make(ok.data, ok.size - 1), GRPC_INTERNAL, "zstd");
	buffer_fini(&bomb);
	buffer_fini(&ok);
	free(zeros);
}

static void server_send_large(struct end *end, char event, struct span message)
{
	static uint8_t large[MESSAGE_MAX + 1];

	if (event == 'E') {
		assert_int_equal(call_send(&end->call, span_make(large, sizeof(large)), 0), CALL_SENT);
		call_finish(&end->call, GRPC_OK, NULL);
	}
}

/* The client has limits too: it hangs up and says why. */
static void test_client_refuses_large_message(void **state)
{
	struct end end;

	start(&end, server_send_large, NULL);
	call_end(&end.call);
	h2_pair_pump(&pair);
	assert_int_equal(end.status, GRPC_RESOURCE_EXHAUSTED);
	assert_string_equal(end.log, "C");
	assert_int_equal(server_end.status, GRPC_CANCELLED);
	finish(&end);
}

/* ---- messages in parts ---- */

static struct buffer parts;
static size_t parts_count, parts_left, parts_whole;
static bool parts_held;

static void parts_on_part(struct call *call, struct span part, size_t left)
{
	if (parts_count++)
		assert_int_equal(left, parts_left - part.size);
	assert_true(part.size <= GRPC_PART_BYTES_MAX);
	buffer_put(&parts, part.data, part.size);
	parts_left = left;
	if (left == 0) {
		buffer_put_text(&parts, "|");
		parts_count = 0;
		parts_whole++;
	}
	if (parts_held)
		call_hold(call);
}

/* What was compressed comes whole, and is the taker's. */
static void parts_on_message(struct call *call, struct span message)
{
	struct buffer taken = call_take_message(call);

	assert_ptr_equal(taken.data, message.data);
	assert_int_equal(taken.size, message.size);
	buffer_put(&parts, taken.data, taken.size);
	buffer_put_text(&parts, "!");
	buffer_fini(&taken);
}

static void parts_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	call_fini(call);
}

static int parts_accept(void *owner, struct stream *stream, const struct h2_request *request)
{
	static const struct call_events events = {
		.on_message = parts_on_message, .on_part = parts_on_part, .on_closed = parts_on_closed,
	};

	assert_true(grpc_request_parse(&server_request, request));
	call_accept(&server_end.call, stream, &server_request, MESSAGE_MAX, &events, NULL);
	return 0;
}

/* In every split, held after each part or not: each byte once, in order, with what is left; and what was compressed whole. */
static void test_messages_in_parts(void **state)
{
	static const struct h2_events server_events = { .on_stream = parts_accept };
	static const struct header zstd[] = { HEADER("grpc-encoding", "zstd") };
	const struct h2_config server = { .events = &server_events };
	uint8_t *body = calloc(1, 3000);

	for (size_t step = 0; step < 40; step++) {
		struct end end;

		parts = buffer_heap(1 << 20);
		parts_held = step % 2;
		parts_count = parts_whole = 0;
		end_init(&end, NULL);
		h2_pair_init(&pair, NULL, &server);
		h2_pair_pump(&pair);
		assert_int_equal(call_start(&end.call, pair.client, "/x/Y", span_text("h"), 0, zstd, 1, MESSAGE_MAX, &end_events,
		                            &end), 0);
		pair.step = step;
		send_text(&end.call, "one");
		send_text(&end.call, "");
		assert_int_equal(call_send(&end.call, span_make(body, 3000), 1), CALL_SENT);
		send_text(&end.call, "three");
		h2_pair_pump(&pair);
		for (int i = 0; i < 40 && parts_held; i++) {
			call_release(&server_end.call);
			h2_pair_pump(&pair);
		}
		assert_int_equal(parts_whole, 3);
		assert_int_equal(parts.size, 4 + 1 + 3001 + 6);
		assert_memory_equal(parts.data, "one||", 5);
		assert_memory_equal(parts.data + 5, body, 3000);
		assert_memory_equal(parts.data + 3005, "!three|", 7);
		h2_pair_fini(&pair);
		buffer_fini(&parts);
		buffer_fini(&end.messages);
	}
	free(body);
}

/* A long message that came while the call was held is not given out in one go: who holds again leaves the rest where it is. */
static void test_parts_of_a_backlog(void **state)
{
	static const struct h2_events server_events = { .on_stream = parts_accept };
	const struct h2_config server = { .events = &server_events };
	const size_t size = 3 * GRPC_PART_BYTES_MAX + 1;
	uint8_t *body = malloc(size);
	struct end end;

	for (size_t i = 0; i < size; i++)
		body[i] = (uint8_t)(i * 2654435761u >> 13);
	parts = buffer_heap(1 << 20);
	parts_held = true;
	parts_count = parts_whole = 0;
	end_init(&end, NULL);
	h2_pair_init(&pair, NULL, &server);
	h2_pair_pump(&pair);
	assert_int_equal(call_start(&end.call, pair.client, "/x/Y", span_text("h"), 0, NULL, 0, MESSAGE_MAX, &end_events, &end), 0);
	send_text(&end.call, "one");
	h2_pair_pump(&pair);             /* which holds the call */
	assert_int_equal(parts.size, 4);
	assert_int_equal(call_send(&end.call, span_make(body, size), 0), CALL_SENT);
	h2_pair_pump(&pair);
	for (size_t i = 1; i <= 3; i++) {
		call_release(&server_end.call);
		assert_int_equal(parts.size, 4 + i * GRPC_PART_BYTES_MAX);
	}
	call_release(&server_end.call);
	assert_int_equal(parts.size, 4 + size + 1);
	assert_int_equal(parts_whole, 2);
	assert_memory_equal(parts.data + 4, body, size);
	h2_pair_fini(&pair);
	buffer_fini(&parts);
	buffer_fini(&end.messages);
	free(body);
}

/* ---- messages that are kept ---- */

static struct buffer kept[8];
static size_t kept_count, kept_moved;

static void keep_on_message(struct call *call, struct span message)
{
	kept[kept_count] = call_keep_message(call, message);
	kept_moved += message.size && kept[kept_count].data == message.data;
	kept_count++;
}

static int keep_accept(void *owner, struct stream *stream, const struct h2_request *request)
{
	static const struct call_events events = { .on_message = keep_on_message, .on_closed = parts_on_closed };

	assert_true(grpc_request_parse(&server_request, request));
	call_accept(&server_end.call, stream, &server_request, MESSAGE_MAX, &events, NULL);
	return 0;
}

static void assert_kept(size_t place, const void *bytes, size_t size)
{
	assert_int_equal(kept[place].size, size);
	if (size)
		assert_memory_equal(kept[place].data, bytes, size);
	buffer_fini(&kept[place]);
}

/* In every split: what is kept stays as it was while later ones come, and is copied only when it came in one piece. */
static void test_messages_are_kept(void **state)
{
	static const struct h2_events server_events = { .on_stream = keep_accept };
	static const struct header zstd[] = { HEADER("grpc-encoding", "zstd") };
	const struct h2_config server = { .events = &server_events };
	uint8_t *body = calloc(1, 3000);
	size_t moved = 0;

	memset(body, 'b', 1500);
	for (size_t step = 0; step < 40; step++) {
		struct end end;

		kept_count = kept_moved = 0;
		end_init(&end, NULL);
		h2_pair_init(&pair, NULL, &server);
		h2_pair_pump(&pair);
		assert_int_equal(call_start(&end.call, pair.client, "/x/Y", span_text("h"), 0, zstd, 1, MESSAGE_MAX, &end_events,
		                            &end), 0);
		pair.step = step;
		send_text(&end.call, "one");
		send_text(&end.call, "");
		assert_int_equal(call_send(&end.call, span_make(body, 3000), 1), CALL_SENT);
		assert_int_equal(call_send(&end.call, span_make(body, 3000), 0), CALL_SENT);
		send_text(&end.call, "five");
		h2_pair_pump(&pair);
		assert_int_equal(kept_count, 5);
		assert_kept(0, "one", 3);
		assert_kept(1, "", 0);
		assert_kept(2, body, 3000);
		assert_kept(3, body, 3000);
		assert_kept(4, "five", 4);
		assert_true(kept_moved >= 1);    /* the compressed one */
		moved += kept_moved > 1;
		h2_pair_fini(&pair);
		buffer_fini(&end.messages);
	}
	assert_true(moved >= 30);
	free(body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused_messages),
		cmocka_unit_test(test_client_refuses_large_message),
		cmocka_unit_test(test_messages_in_parts),
		cmocka_unit_test(test_parts_of_a_backlog),
		cmocka_unit_test(test_messages_are_kept),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	h2_pair_pieces = true;
	return failed + cmocka_run_group_tests_name("pieces", tests, NULL, NULL);
}
