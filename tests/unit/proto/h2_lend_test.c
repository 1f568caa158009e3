/*
 * Shows bytes that are lent to a stream instead of copied: they arrive whole behind what was queued, in every split, with
 * frames copied and with frames in pieces; what comes out in pieces is the lender's own memory; the loan is returned once,
 * before on_writable or on_close; a stream that ends in the middle of a frame leaves the connection in order.
 */
#include "h2_pair.h"

#include "proto/call.h"

#include <stdlib.h>

#define PIECES     5
#define LOAN_BYTES 150000

struct lender {
	struct loan loan;
	struct span pieces[PIECES];
	uint8_t *memory;
	unsigned returned;
	struct probe *probe;
	bool closed_before, writable_before;
};

static struct h2_pair pair;
static uint8_t everything[8 + LOAN_BYTES];

static void on_returned(struct loan *loan)
{
	struct lender *lender = (struct lender *)((char *)loan - offsetof(struct lender, loan));

	lender->returned++;
	lender->closed_before = lender->probe && lender->probe->closed;
	lender->writable_before = lender->probe && lender->probe->writables > 0;
	free(lender->memory);            /* whoever looks at it later is found out */
	lender->memory = NULL;
}

/* Pieces of all sizes, one of them empty. */
static void lender_init(struct lender *lender, struct probe *probe)
{
	static const size_t sizes[PIECES] = { 1, 70000, 0, 30000, LOAN_BYTES - 100001 };
	size_t at = 0;

	*lender = (struct lender){ .probe = probe, .memory = malloc(LOAN_BYTES) };
	assert_non_null(lender->memory);
	memcpy(lender->memory, everything + 8, LOAN_BYTES);
	for (size_t i = 0; i < PIECES; i++) {
		lender->pieces[i] = span_make(lender->memory + at, sizes[i]);
		at += sizes[i];
	}
	lender->loan = (struct loan){ .pieces = lender->pieces, .count = PIECES, .returned = on_returned };
}

static struct h2_config config_of(bool pieces)
{
	return (struct h2_config){ .pieces = pieces, .frame_bytes_max = 65536 };
}

/* A stream on which 8 bytes are queued and a loan is behind them. */
static void begin(struct probe *probe, struct lender *lender, bool pieces)
{
	const struct h2_config config = config_of(pieces);

	*probe = (struct probe){ 0 };
	h2_pair_init(&pair, &config, &config);
	h2_pair_pump(&pair);
	assert_int_equal(probe_open(&pair, probe, "/a/b", false), 0);
	assert_int_equal(stream_write(probe->stream, span_make(everything, 8)), 8);
	lender_init(lender, probe);
	assert_true(stream_lend(probe->stream, &lender->loan));
}

static void finish(struct probe *probe, const struct lender *lender)
{
	h2_pair_fini(&pair);
	assert_int_equal(lender->returned, 1);
	probe_fini(probe);
}

static void test_arrives_in_every_split(void **state)
{
	static const size_t steps[] = { 0, 1, 7, 16384, 20000 };

	for (unsigned i = 0; i < 2 * sizeof(steps) / sizeof(steps[0]); i++) {
		struct lender lender;
		struct probe probe;

		begin(&probe, &lender, i % 2);
		pair.step = steps[i / 2];
		assert_int_equal(stream_write(probe.stream, span_text("too early")), 0);
		h2_pair_pump(&pair);
		assert_int_equal(lender.returned, 1);
		assert_false(lender.writable_before);
		assert_int_equal(probe.writables, 1);
		probe_write(&probe, span_text("behind"), true);
		h2_pair_pump(&pair);
		assert_int_equal(pair.accepted[0].size, sizeof(everything) + 6);
		assert_memory_equal(pair.accepted[0].data, everything, sizeof(everything));
		assert_memory_equal(pair.accepted[0].data + sizeof(everything), "behind", 6);
		finish(&probe, &lender);
	}
}

/* The end may be said at once: it goes behind the loan. */
static void test_end_behind_a_loan(void **state)
{
	for (int pieces = 0; pieces < 2; pieces++) {
		struct lender lender;
		struct probe probe;

		begin(&probe, &lender, pieces);
		stream_end(probe.stream);
		h2_pair_pump(&pair);
		assert_int_equal(pair.accepted[0].size, sizeof(everything));
		assert_memory_equal(pair.accepted[0].data, everything, sizeof(everything));
		assert_string_equal(pair.accepted[0].log, "DE");
		finish(&probe, &lender);
	}
}

/* All but the few bytes beside what was queued, and none without `pieces`. */
static void test_pieces_are_not_copied(void **state)
{
	for (int pieces = 0; pieces < 2; pieces++) {
		struct lender lender;
		struct probe probe;
		size_t own = 0;
		struct span out;

		begin(&probe, &lender, pieces);
		while ((out = h2_output(pair.client)).size) {
			own += lender.memory && out.data >= lender.memory && out.data < lender.memory + LOAN_BYTES ? out.size : 0;
			assert_int_equal(h2_feed(pair.server, out), 0);
		}
		assert_int_equal(own, pieces ? LOAN_BYTES : 0);
		finish(&probe, &lender);
	}
}

/* The head of the frame and so many bytes of it are out: then nothing else may follow but the rest of it. */
static void carry_spans(unsigned count)
{
	while (count--)
		assert_true(h2_pair_carry(&pair, true));
}

/* Whoever resets, however far the frame is out: the peer finds the next stream's frames where they should be. */
static void test_reset_inside_a_frame(void **state)
{
	for (unsigned spans = 0; spans < 8; spans++) {
		for (int by_peer = 0; by_peer < 2; by_peer++) {
			struct probe probe, other = { 0 };
			struct lender lender;

			begin(&probe, &lender, true);
			carry_spans(1 + spans);
			if (by_peer && pair.accepted[0].stream) {
				stream_reset(pair.accepted[0].stream, 8);
				h2_pair_carry(&pair, false);
			} else {
				stream_reset(probe.stream, 8);
			}
			assert_int_equal(probe_open(&pair, &other, "/c/d", false), 0);
			probe_write(&other, span_make(everything, 30000), true);
			h2_pair_pump(&pair);
			assert_int_equal(pair.feed_error[0], 0);
			assert_true(probe.closed);
			assert_false(lender.closed_before);
			assert_int_equal(lender.returned, 1);
			assert_int_equal(pair.accepted[pair.accepted_count - 1].size, 30000);
			assert_memory_equal(pair.accepted[pair.accepted_count - 1].data, everything, 30000);
			finish(&probe, &lender);
			probe_fini(&other);
		}
	}
}

/* The same for bytes that were queued, which come out in pieces, too, over the seam of the queue's ring. */
static void test_queue_in_pieces(void **state)
{
	const struct h2_config config = config_of(true), small = { .out_queue_bytes = 20000 };
	struct probe probe = { 0 };
	struct h2_config client = config;
	uint8_t *body = malloc(500000);

	for (size_t i = 0; i < 500000; i++)
		body[i] = (uint8_t)(i * 31 + i / 251);
	client.out_queue_bytes = small.out_queue_bytes;
	h2_pair_init(&pair, &client, &config);
	h2_pair_pump(&pair);
	assert_int_equal(probe_open(&pair, &probe, "/a/b", false), 0);
	probe_write(&probe, span_make(body, 500000), true);
	h2_pair_pump(&pair);
	assert_int_equal(pair.accepted[0].size, 500000);
	assert_memory_equal(pair.accepted[0].data, body, 500000);
	h2_pair_fini(&pair);
	probe_fini(&probe);
	free(body);
}

static void test_carrier_ends(void **state)
{
	for (unsigned spans = 0; spans < 5; spans++) {
		struct lender lender;
		struct probe probe;

		begin(&probe, &lender, true);
		carry_spans(spans);
		h2_carrier_closed(pair.client);
		assert_true(probe.closed);
		assert_int_equal(lender.returned, 1);
		assert_false(lender.closed_before);
		assert_int_equal(h2_output(pair.client).size, 0);
		finish(&probe, &lender);
	}
}

static void test_refused_loans(void **state)
{
	static const struct span nothing[1];
	struct loan empty = { .pieces = nothing, .count = 1, .returned = on_returned }, none = { .returned = on_returned };
	struct lender lender, second;
	struct probe probe;

	begin(&probe, &lender, true);
	lender_init(&second, NULL);
	assert_false(stream_lend(probe.stream, &second.loan));
	h2_pair_pump(&pair);
	assert_false(stream_lend(probe.stream, &empty));
	assert_false(stream_lend(probe.stream, &none));
	stream_end(probe.stream);
	assert_false(stream_lend(probe.stream, &second.loan));
	assert_int_equal(second.returned, 0);
	free(second.memory);
	h2_pair_pump(&pair);
	finish(&probe, &lender);
}

/* ---- calls ---- */

static struct call server_call;
static struct lender call_lender;
static size_t message_sizes[4];
static unsigned messages, writables, queue_full;
static uint64_t bytes_sent;

static void answer(struct call *call, struct span message)
{
	/* The out-queue to its last byte: the prefix of what is lent has to wait. */
	static uint8_t filler[(256 << 10) - GRPC_PREFIX_BYTES];

	if (queue_full)
		assert_int_equal(call_send(call, span_make(filler, sizeof(filler)), 0), CALL_SENT);
	assert_int_equal(call_lend(call, &call_lender.loan), CALL_SENT);
	assert_int_equal(call_send(call, span_text("late"), 0), CALL_FULL);
	assert_int_equal(call_untaken(call), call->bytes_sent);  /* with the stream or waiting for its prefix */
}

static void on_call_writable(struct call *call)
{
	writables++;
	assert_int_equal(call_lender.returned, 1);
	assert_int_equal(call_send(call, span_text("last"), 0), CALL_SENT);
	call_finish(call, GRPC_OK, NULL);
}

static void on_server_closed(struct call *call, enum grpc_status status, struct span message)
{
	assert_int_equal(call_lender.returned, 1);
	bytes_sent = call->bytes_sent;
	call_fini(call);
}

static void take_message(struct call *call, struct span message)
{
	if (message.size == LOAN_BYTES)
		assert_memory_equal(message.data, everything + 8, LOAN_BYTES);
	message_sizes[messages++] = message.size;
}

static void on_client_closed(struct call *call, enum grpc_status status, struct span message)
{
	call_fini(call);
}

static int accept_call(void *owner, struct stream *stream, const struct h2_request *request)
{
	static const struct call_events events = {
		.on_message = answer, .on_writable = on_call_writable, .on_closed = on_server_closed,
	};
	struct grpc_request head;

	assert_true(grpc_request_parse(&head, request));
	call_accept(&server_call, stream, &head, 1000, &events, NULL);
	return 0;
}

static void begin_call(struct call *call, bool pieces)
{
	static const struct h2_events server_events = { .on_stream = accept_call };
	static const struct call_events events = { .on_message = take_message, .on_closed = on_client_closed };
	struct h2_config server = config_of(pieces);

	messages = writables = 0;
	lender_init(&call_lender, NULL);
	server.events = &server_events;
	h2_pair_init(&pair, NULL, &server);
	h2_pair_pump(&pair);
	assert_int_equal(call_start(call, pair.client, "/x/Y", span_text("h"), 0, NULL, 0, 1 << 20, &events, NULL), 0);
	assert_int_equal(call_send(call, span_text("?"), 0), CALL_SENT);
}

static void test_call_lends(void **state)
{
	for (unsigned i = 0; i < 4; i++) {
		struct call call;

		queue_full = i / 2;
		begin_call(&call, i % 2);
		h2_pair_pump(&pair);
		assert_int_equal(messages, 2 + queue_full);
		assert_int_equal(message_sizes[queue_full], LOAN_BYTES);
		assert_int_equal(writables, 1);
		assert_int_equal(call_lender.returned, 1);
		assert_int_equal(bytes_sent, (queue_full ? 256u << 10 : 0) + 2 * GRPC_PREFIX_BYTES + LOAN_BYTES + strlen("last"));
		h2_pair_fini(&pair);
	}
}

/* A client that goes while a loan is with the stream, or still waits for its prefix: it is returned before the end. */
static void test_call_ends_with_a_loan(void **state)
{
	for (queue_full = 0; queue_full < 2; queue_full++) {
		struct call call;

		begin_call(&call, true);
		while (h2_pair_carry(&pair, true))
			continue;
		assert_int_equal(call_lender.returned, 0);
		call_cancel(&call);
		h2_pair_pump(&pair);
		assert_int_equal(call_lender.returned, 1);
		h2_pair_fini(&pair);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arrives_in_every_split),
		cmocka_unit_test(test_end_behind_a_loan),
		cmocka_unit_test(test_pieces_are_not_copied),
		cmocka_unit_test(test_reset_inside_a_frame),
		cmocka_unit_test(test_queue_in_pieces),
		cmocka_unit_test(test_carrier_ends),
		cmocka_unit_test(test_refused_loans),
		cmocka_unit_test(test_call_lends),
		cmocka_unit_test(test_call_ends_with_a_loan),
	};

	for (size_t i = 0; i < sizeof(everything); i++)
		everything[i] = (uint8_t)(i * 7 + i / 253);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
