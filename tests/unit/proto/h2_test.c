/*
 * Shows what an h2 engine promises, with a client engine against a server engine in memory: exchanges in every split,
 * back-pressure in both directions, trailers, resets from either end, drain, limits. What a hostile peer may send
 * is in h2_hostile_test.c.
 */
#include "h2_pair.h"

#include <errno.h>
#include <stdlib.h>

static struct h2_pair pair;

static uint8_t *pattern(size_t size)
{
	uint8_t *data = malloc(size);
	uint32_t state = 1;

	for (size_t i = 0; i < size; i++) {
		state = state * 1664525 + 1013904223;
		data[i] = (uint8_t)(state >> 24);
	}
	return data;
}

static const struct header ok_headers[] = { HEADER(":status", "200"), HEADER("content-type", "application/grpc") };
static const struct header ok_trailers[] = { HEADER("grpc-status", "0") };

/* Answers at the end of the request: headers, the same body, trailers. */
static void echo(struct probe *probe, char event)
{
	if (event != 'E')
		return;
	assert_int_equal(stream_headers(probe->stream, ok_headers, 2, false), 0);
	assert_int_equal(stream_write(probe->stream, span_make(probe->data, probe->size)), probe->size);
	assert_int_equal(stream_trailers(probe->stream, ok_trailers, 1), 0);
}

static void accept_echo(struct probe *probe, const struct h2_request *request)
{
	probe->on_event = echo;
	assert_true(span_is(request->method, "POST"));
	assert_true(span_is(request->authority, "test"));
	assert_true(span_is(request->scheme, "http"));
}

static void test_exchange_in_every_split(void **state)
{
	for (size_t step = 0; step < 64; step++) {
		struct probe probe = { 0 };

		h2_pair_init(&pair, NULL, NULL);
		pair.step = step;
		pair.on_stream = accept_echo;
		assert_int_equal(probe_open(&pair, &probe, "/a/b", false), 0);
		probe_write(&probe, span_text("hello"), true);
		h2_pair_pump(&pair);
		assert_string_equal(probe.log, "HDTEC0");
		assert_string_equal(pair.accepted[0].log, "DEC0");
		assert_string_equal(pair.accepted[0].fields, "content-type=application/grpc\nte=trailers\n");
		assert_string_equal(probe.fields, ":status=200\ncontent-type=application/grpc\ngrpc-status=0\n");
		assert_int_equal(probe.size, 5);
		assert_memory_equal(probe.data, "hello", 5);
		assert_int_equal(h2_streams_count(pair.client), 0);
		assert_int_equal(h2_streams_count(pair.server), 0);
		assert_true(h2_alive(pair.client) && h2_alive(pair.server));
		assert_int_equal(h2_fault(pair.server)->scope, H2_FAULT_NONE);
		h2_pair_fini(&pair);
		probe_fini(&probe);
	}
}

static void answer_headers_only(struct probe *probe, char event)
{
	static const struct header refused[] = {
		HEADER(":status", "200"), HEADER("content-type", "application/grpc"), HEADER("grpc-status", "12"),
	};

	if (event == 'E')
		assert_int_equal(stream_headers(probe->stream, refused, 3, true), 0);
}

static void accept_headers_only(struct probe *probe, const struct h2_request *request)
{
	probe->on_event = answer_headers_only;
	assert_true(request->ended);
}

static void test_no_bodies(void **state)
{
	struct probe probe = { 0 };

	h2_pair_init(&pair, NULL, NULL);
	pair.on_stream = accept_headers_only;
	assert_int_equal(probe_open(&pair, &probe, "/a/b", true), 0);
	h2_pair_pump(&pair);
	assert_string_equal(probe.log, "HEC0");
	assert_string_equal(pair.accepted[0].log, "EC0");
	h2_pair_fini(&pair);
}

/* A body of many windows and many queues' length arrives whole when the consumer keeps consuming. */
static void test_large_body(void **state)
{
	const struct h2_config small = { .stream_window_bytes = 100000, .connection_window_bytes = 150000,
		                         .out_queue_bytes = 50000 };
	size_t size = 3000000;
	uint8_t *body = pattern(size);
	struct probe probe = { 0 };

	h2_pair_init(&pair, &small, &small);
	pair.step = 7001;
	assert_int_equal(probe_open(&pair, &probe, "/a/b", false), 0);
	probe_write(&probe, span_make(body, size), true);
	h2_pair_pump(&pair);
	assert_string_equal(pair.accepted[0].log, "DE");
	assert_int_equal(pair.accepted[0].size, size);
	assert_memory_equal(pair.accepted[0].data, body, size);
	assert_true(probe.writables > 10);
	h2_pair_fini(&pair);
	free(body);
}

/* A consumer that does not consume stops the sender at the window, then at the out-queue; consuming lets it go on. */
static void test_back_pressure(void **state)
{
	const struct h2_config small = { .stream_window_bytes = 70000, .out_queue_bytes = 30000 };
	size_t size = 200000;
	uint8_t *body = pattern(size);
	struct probe probe = { 0 };
	struct probe *peer = &pair.accepted[0];

	h2_pair_init(&pair, &small, &small);
	pair.hold = true;
	h2_pair_pump(&pair);                     /* settings first: before them the window is 65,535 */
	assert_int_equal(probe_open(&pair, &probe, "/a/b", false), 0);
	probe_write(&probe, span_make(body, size), true);
	assert_int_equal(probe.writing.size, size - 30000);
	h2_pair_pump(&pair);
	assert_int_equal(peer->size, 70000);
	assert_in_range(probe.writing.size, size - 100000, size - 85000);        /* the queue: half full at least */
	/* A little is not worth a WINDOW_UPDATE; half a window is. */
	probe_consume(peer, 1000);
	h2_pair_pump(&pair);
	assert_int_equal(peer->size, 70000);
	probe_consume(peer, 34000);
	h2_pair_pump(&pair);
	assert_int_equal(peer->size, 105000);
	peer->hold = false;
	probe_consume(peer, peer->unconsumed);
	h2_pair_pump(&pair);
	assert_int_equal(peer->size, size);
	assert_memory_equal(peer->data, body, size);
	assert_string_equal(peer->log, "DE");
	h2_pair_fini(&pair);
	free(body);
}

/* on_writable comes when half of the queue is free, not at each byte, and only to who was told to wait. */
static void test_writable(void **state)
{
	const struct h2_config config = { .out_queue_bytes = 65536 };
	uint8_t *body = pattern(65537);
	struct probe probe = { 0 };

	h2_pair_init(&pair, &config, NULL);
	h2_pair_pump(&pair);
	assert_int_equal(probe_open(&pair, &probe, "/a/b", false), 0);
	assert_int_equal(stream_write(probe.stream, span_make(body, 65536)), 65536);
	h2_pair_pump(&pair);
	assert_int_equal(probe.writables, 0);
	assert_int_equal(stream_write(probe.stream, span_make(body, 65537)), 65536);
	assert_int_equal(stream_write(probe.stream, span_make(body, 1)), 0);
	h2_pair_carry(&pair, true);              /* one frame of 16 KiB */
	h2_pair_carry(&pair, true);              /* two: half is left; told at the next look */
	assert_int_equal(probe.writables, 0);
	h2_pair_carry(&pair, true);
	assert_int_equal(probe.writables, 1);
	h2_pair_pump(&pair);
	assert_int_equal(probe.writables, 1);
	assert_int_equal(pair.accepted[0].size, 2 * 65536);
	h2_pair_fini(&pair);
	free(body);
}

/* Streams share the connection: one that is held does not keep another from finishing. */
static void test_held_stream_beside_a_live_one(void **state)
{
	const struct h2_config small = { .stream_window_bytes = 100000, .connection_window_bytes = 250000 };
	uint8_t *body = pattern(1000000);
	struct probe held = { 0 }, live = { 0 };

	h2_pair_init(&pair, NULL, &small);
	h2_pair_pump(&pair);
	pair.hold = true;
	assert_int_equal(probe_open(&pair, &held, "/held", false), 0);
	probe_write(&held, span_make(body, 200000), true);
	h2_pair_pump(&pair);
	pair.hold = false;
	assert_int_equal(probe_open(&pair, &live, "/live", false), 0);
	probe_write(&live, span_make(body, 1000000), true);
	h2_pair_pump(&pair);
	assert_int_equal(pair.accepted[0].size, 100000);
	assert_int_equal(pair.accepted[1].size, 1000000);
	h2_pair_fini(&pair);
	free(body);
}

/*
 * What a consumer never consumed goes back to the connection's window when its stream is reset, by either end: far
 * more streams than the connection's window holds can each leave a full window behind.
 */
static void test_unconsumed_bytes_are_given_back(void **state)
{
	const struct h2_config small = { .stream_window_bytes = 65535, .connection_window_bytes = 131072 };
	uint8_t *body = pattern(65535);

	for (int by_server = 0; by_server < 2; by_server++) {
		h2_pair_init(&pair, NULL, &small);
		pair.hold = true;
		for (size_t i = 0; i < 20; i++) {
			struct probe probe = { 0 };

			assert_int_equal(probe_open(&pair, &probe, "/a/b", false), 0);
			probe_write(&probe, span_make(body, 65535), false);
			h2_pair_pump(&pair);
			assert_int_equal(pair.accepted[i].size, 65535);
			stream_reset(by_server ? pair.accepted[i].stream : probe.stream, 8);
			h2_pair_pump(&pair);
			assert_true(probe.closed && pair.accepted[i].closed);
			assert_int_equal(probe.code, 8);
			assert_int_equal(pair.accepted[i].code, 8);
		}
		h2_pair_fini(&pair);
	}
	free(body);
}

/*
 * Nor is the window lost to what still arrives for a stream that its consumer has just reset: the rest of the frame
 * that is being read, and frames that were on their way.
 */
static void reset_at_data(struct probe *probe, char event)
{
	if (event == 'D')
		stream_reset(probe->stream, 8);
}

static void accept_reset_at_data(struct probe *probe, const struct h2_request *request)
{
	probe->on_event = reset_at_data;
}

static void test_late_bytes_are_given_back(void **state)
{
	const struct h2_config small = { .stream_window_bytes = 65535, .connection_window_bytes = 131072 };
	uint8_t *body = pattern(65535);

	h2_pair_init(&pair, NULL, &small);
	pair.step = 1000;
	pair.on_stream = accept_reset_at_data;
	for (size_t i = 0; i < 20; i++) {
		struct probe probe = { 0 };

		assert_int_equal(probe_open(&pair, &probe, "/a/b", false), 0);
		probe_write(&probe, span_make(body, 65535), true);
		h2_pair_pump(&pair);
		assert_string_equal(pair.accepted[i].log, "DC8");
		assert_in_range(pair.accepted[i].size, 1, 1000);
	}
	h2_pair_fini(&pair);
	free(body);
}

/* A server that has answered before the client has ended: the client is told to stop, all closes with 0. */
static void answer_at_once(struct probe *probe, char event)
{
	if (event != 'D')
		return;
	assert_int_equal(stream_headers(probe->stream, ok_headers, 2, false), 0);
	assert_int_equal(stream_trailers(probe->stream, ok_trailers, 1), 0);
}

static void accept_answer_at_once(struct probe *probe, const struct h2_request *request)
{
	probe->on_event = answer_at_once;
}

static void test_server_ends_first(void **state)
{
	const struct h2_config small = { .stream_window_bytes = 65535, .connection_window_bytes = 131072 };
	uint8_t *body = pattern(300000);

	h2_pair_init(&pair, NULL, &small);
	pair.hold = true;
	pair.on_stream = accept_answer_at_once;
	for (size_t i = 0; i < 20; i++) {
		struct probe probe = { 0 };

		assert_int_equal(probe_open(&pair, &probe, "/a/b", false), 0);
		probe_write(&probe, span_make(body, 300000), true);
		h2_pair_pump(&pair);
		assert_string_equal(probe.log, "HTEC0");
		assert_string_equal(pair.accepted[i].log, "DC0");
	}
	h2_pair_fini(&pair);
	free(body);
}

static void test_reset_before_anything_was_sent(void **state)
{
	struct probe probe = { 0 };

	h2_pair_init(&pair, NULL, NULL);
	assert_int_equal(probe_open(&pair, &probe, "/a/b", false), 0);
	probe_write(&probe, span_text("x"), false);
	stream_reset(probe.stream, 8);
	stream_reset(probe.stream, 2);           /* once is enough; the first reason stays */
	assert_int_equal(stream_write(probe.stream, span_text("y")), 0);
	assert_false(probe.closed);              /* never from inside the consumer's own call */
	h2_pair_pump(&pair);
	assert_string_equal(probe.log, "C8");
	assert_int_equal(h2_streams_count(pair.server), 0);
	h2_pair_fini(&pair);
}

static void test_refused_stream(void **state)
{
	struct probe probe = { 0 };

	h2_pair_init(&pair, NULL, NULL);
	pair.refuse = true;
	assert_int_equal(probe_open(&pair, &probe, "/a/b", false), 0);
	probe_write(&probe, span_text("x"), true);
	h2_pair_pump(&pair);
	assert_string_equal(probe.log, "C7");
	assert_int_equal(h2_streams_count(pair.server), 0);
	h2_pair_fini(&pair);
}

static void test_stream_limit(void **state)
{
	const struct h2_config few = { .streams_max = 3 };
	struct probe probes[4] = { 0 };

	h2_pair_init(&pair, NULL, &few);
	h2_pair_pump(&pair);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(probe_open(&pair, &probes[i], "/a/b", false), 0);
	assert_int_equal(probe_open(&pair, &probes[3], "/a/b", false), -EAGAIN);
	stream_reset(probes[1].stream, 8);
	h2_pair_pump(&pair);
	assert_int_equal(probe_open(&pair, &probes[3], "/a/b", false), 0);
	h2_pair_pump(&pair);
	assert_int_equal(h2_streams_count(pair.server), 3);
	h2_pair_fini(&pair);
}

/* GOAWAY from the server: streams that are there end in peace, new ones are refused, then both ends are done. */
static void test_drain(void **state)
{
	struct probe probe = { 0 }, late = { 0 };

	h2_pair_init(&pair, NULL, NULL);
	pair.on_stream = accept_echo;
	assert_int_equal(probe_open(&pair, &probe, "/a/b", false), 0);
	h2_pair_pump(&pair);
	h2_drain(pair.server);
	assert_true(pair.outputs > 0);
	h2_pair_pump(&pair);
	assert_int_equal(pair.goaways, 1);
	assert_int_equal(probe_open(&pair, &late, "/a/b", false), -EPIPE);
	assert_true(h2_alive(pair.client) && h2_alive(pair.server));
	probe_write(&probe, span_text("hello"), true);
	h2_pair_pump(&pair);
	assert_string_equal(probe.log, "HDTEC0");
	assert_false(h2_alive(pair.client));
	assert_false(h2_alive(pair.server));
	h2_pair_fini(&pair);
	probe_fini(&probe);
}

/* A request that crosses the GOAWAY on its way was not processed: REFUSED_STREAM, so it may be sent elsewhere. */
static void test_request_crosses_goaway(void **state)
{
	struct probe probe = { 0 };

	h2_pair_init(&pair, NULL, NULL);
	h2_pair_pump(&pair);
	assert_int_equal(probe_open(&pair, &probe, "/a/b", true), 0);
	h2_drain(pair.server);
	while (h2_pair_carry(&pair, true))
		continue;
	h2_pair_pump(&pair);
	assert_string_equal(probe.log, "C7");
	assert_int_equal(pair.accepted_count, 0);
	h2_pair_fini(&pair);
}

static void test_carrier_closed(void **state)
{
	struct probe probe = { 0 };

	h2_pair_init(&pair, NULL, NULL);
	assert_int_equal(probe_open(&pair, &probe, "/a/b", false), 0);
	h2_pair_pump(&pair);
	h2_carrier_closed(pair.client);
	assert_int_equal(probe.code, H2_CARRIER_CLOSED);
	assert_true(probe.closed);
	assert_false(h2_alive(pair.client));
	assert_int_equal(h2_output(pair.client).size, 0);
	assert_int_equal(h2_feed(pair.client, span_text("x")), -EPROTO);
	assert_int_equal(probe_open(&pair, &probe, "/a/b", false), -EPIPE);
	h2_destroy(pair.server);
	pair.server = NULL;
	assert_true(pair.accepted[0].closed);
	assert_int_equal(pair.accepted[0].code, 2);
	h2_pair_fini(&pair);
}

/* on_output: once for anything queued from outside, not again until output was fetched, never from inside. */
static void test_output_is_announced(void **state)
{
	struct probe probe = { 0 };

	h2_pair_init(&pair, NULL, NULL);
	h2_pair_pump(&pair);
	pair.on_stream = accept_echo;
	pair.outputs = 0;
	assert_int_equal(probe_open(&pair, &probe, "/a/b", false), 0);
	assert_int_equal(pair.outputs, 1);
	probe_write(&probe, span_text("hello"), true);
	assert_int_equal(pair.outputs, 1);
	h2_pair_pump(&pair);                     /* the echo answers from inside h2_feed: not announced */
	assert_int_equal(pair.outputs, 1);
	assert_string_equal(probe.log, "HDTEC0");
	h2_pair_fini(&pair);
	probe_fini(&probe);
}

static void loan_is_back(struct loan *loan)
{
	loan->count = 0;
}

static void assert_announced(void)
{
	assert_int_equal(pair.outputs, 1);
	h2_pair_pump(&pair);
	pair.outputs = 0;
}

/* Whatever a consumer does while nothing else goes on: the owner has nobody else to learn it from. */
static void test_each_operation_is_announced(void **state)
{
	const struct h2_config small = { .stream_window_bytes = 65535 };
	const struct span piece = span_text("lent");
	struct loan loan = { .pieces = &piece, .count = 1, .returned = loan_is_back };
	uint8_t *body = pattern(40000);
	struct probe probe = { 0 }, other = { 0 };
	struct probe *peer = &pair.accepted[0];

	h2_pair_init(&pair, NULL, &small);
	pair.hold = true;
	h2_pair_pump(&pair);
	pair.outputs = 0;
	assert_int_equal(probe_open(&pair, &probe, "/a/b", false), 0);
	assert_announced();
	assert_int_equal(stream_write(probe.stream, span_make(body, 40000)), 40000);
	assert_announced();
	assert_true(stream_lend(probe.stream, &loan));
	assert_announced();
	assert_int_equal(loan.count, 0);
	assert_int_equal(peer->size, 40004);
	probe_consume(peer, 40004);
	assert_announced();
	assert_int_equal(stream_headers(peer->stream, ok_headers, 2, false), 0);
	assert_announced();
	stream_end(probe.stream);
	assert_announced();
	assert_int_equal(stream_trailers(peer->stream, ok_trailers, 1), 0);
	assert_announced();
	assert_string_equal(probe.log, "HTEC0");
	assert_int_equal(probe_open(&pair, &other, "/a/b", true), 0);
	assert_announced();
	assert_int_equal(stream_write(other.stream, span_text("x")), 0);         /* our side has ended */
	stream_reset(other.stream, 8);
	assert_announced();
	h2_drain(pair.server);
	assert_announced();
	h2_pair_fini(&pair);
	probe_fini(&probe);
	free(body);
}

static void test_bad_arguments(void **state)
{
	const struct h2_config nothing = { 0 };
	const struct h2_config frame = { .events = &pair_client_events, .frame_bytes_max = 100 };
	const struct h2_config window = { .events = &pair_client_events, .stream_window_bytes = 1u << 31 };
	struct header many[STREAM_HEADERS_MAX + 1];
	struct h2_request request = { .method = span_text("POST"), .path = span_text("/"), .scheme = span_text("http") };
	struct stream *stream;
	struct probe probe = { 0 };
	struct h2 *h2;

	assert_int_equal(h2_create(&h2, &nothing), -EINVAL);
	assert_int_equal(h2_create(&h2, &frame), -EINVAL);
	assert_int_equal(h2_create(&h2, &window), -EINVAL);
	h2_destroy(NULL);
	h2_pair_init(&pair, NULL, NULL);
	for (size_t i = 0; i < STREAM_HEADERS_MAX + 1; i++)
		many[i] = (struct header)HEADER("x", "y");
	request.headers = many;
	request.headers_count = STREAM_HEADERS_MAX + 1;
	assert_int_equal(h2_open(pair.client, &stream, &request, true, &probe_events, NULL), -EINVAL);
	assert_int_equal(h2_open(pair.server, &stream, &request, true, &probe_events, NULL), -EINVAL);
	assert_int_equal(probe_open(&pair, &probe, "/a/b", false), 0);
	h2_pair_pump(&pair);
	assert_int_equal(stream_headers(probe.stream, ok_headers, 2, false), -EINVAL);
	assert_int_equal(stream_trailers(pair.accepted[0].stream, ok_trailers, 1), -EINVAL);
	h2_pair_fini(&pair);
	assert_true(probe.closed);
}

static size_t fields_heard;

static void count_fields(struct probe *probe, const struct h2_request *request)
{
	fields_heard = request->headers_count;
}

/* Blocks of thousands of fields, in many CONTINUATION frames, where both ends allow them; the next short one is as ever. */
static void test_long_blocks(void **state)
{
	enum { MANY = 5000 };
	const struct h2_config long_blocks = { .headers_max = MANY, .header_list_bytes_max = 1u << 20 };
	struct header *many = calloc(MANY + 1, sizeof(*many));
	struct h2_request request = { .method = span_text("POST"), .path = span_text("/"), .scheme = span_text("http"),
		                      .authority = span_text("x"), .headers = many, .headers_count = MANY + 1 };
	const struct h2_config beyond = { .events = &pair_client_events, .headers_max = H2_HEADERS_LIMIT + 1 };
	struct probe probe = { .pair = &pair }, other = { 0 };
	struct h2 *h2;

	assert_int_equal(h2_create(&h2, &beyond), -EINVAL);
	for (size_t i = 0; i < MANY + 1; i++)
		many[i] = (struct header)HEADER("exclude-patterns", "**/node_modules/.cache/some/thing");
	h2_pair_init(&pair, &long_blocks, &long_blocks);
	pair.on_stream = count_fields;
	assert_int_equal(h2_open(pair.client, &probe.stream, &request, true, &probe_events, &probe), -EINVAL);
	request.headers_count = MANY;
	assert_int_equal(h2_open(pair.client, &probe.stream, &request, true, &probe_events, &probe), 0);
	h2_pair_pump(&pair);
	assert_int_equal(fields_heard, MANY);
	assert_int_equal(probe_open(&pair, &other, "/a/b", false), 0);
	h2_pair_pump(&pair);
	assert_int_equal(pair.accepted_count, 2);
	assert_true(fields_heard < 10);
	h2_pair_fini(&pair);
	assert_true(probe.closed && other.closed);
	probe_fini(&probe);
	probe_fini(&other);
	free(many);
}

/* Frames are as large as both ends agreed, and never larger. */
static void test_frame_size(void **state)
{
	const struct h2_config large = { .frame_bytes_max = 65536 };
	uint8_t *body = pattern(200000);

	for (int peer_takes_large = 0; peer_takes_large < 2; peer_takes_large++) {
		struct probe probe = { 0 };
		size_t largest = 0;
		struct span out;

		h2_pair_init(&pair, &large, peer_takes_large ? &large : NULL);
		h2_pair_pump(&pair);
		assert_int_equal(probe_open(&pair, &probe, "/a/b", false), 0);
		probe_write(&probe, span_make(body, 200000), true);
		while ((out = h2_output(pair.client)).size) {
			if (out.size > largest)
				largest = out.size;
			assert_int_equal(h2_feed(pair.server, out), 0);
		}
		assert_int_equal(largest, 9 + (peer_takes_large ? 65536 : 16384));
		assert_int_equal(pair.accepted[0].size, 200000);
		h2_pair_fini(&pair);
	}
	free(body);
}

/* From inside any event a consumer may reset, write and open: here each on_close opens the next, each on_data resets. */
struct chain {
	struct probe probes[8];
	size_t opened;
};

static void chain_open(struct chain *chain);

static void chain_event(struct probe *probe, char event)
{
	if (event == 'H')
		stream_reset(probe->stream, 8);
	if (event == 'C')
		chain_open(probe->context);
}

static void chain_open(struct chain *chain)
{
	struct probe *probe;

	if (chain->opened == 8)
		return;
	probe = &chain->probes[chain->opened++];
	probe->on_event = chain_event;
	probe->context = chain;
	assert_int_equal(probe_open(&pair, probe, "/a/b", false), 0);
	probe_write(probe, span_text("hello"), true);
}

static void test_calls_from_inside_events(void **state)
{
	struct chain chain = { 0 };

	h2_pair_init(&pair, NULL, NULL);
	pair.on_stream = accept_echo;
	chain_open(&chain);
	h2_pair_pump(&pair);
	for (size_t i = 0; i < 8; i++)
		assert_string_equal(chain.probes[i].log, "HC8");
	assert_int_equal(pair.accepted_count, 8);
	h2_pair_fini(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exchange_in_every_split),
		cmocka_unit_test(test_no_bodies),
		cmocka_unit_test(test_large_body),
		cmocka_unit_test(test_back_pressure),
		cmocka_unit_test(test_held_stream_beside_a_live_one),
		cmocka_unit_test(test_unconsumed_bytes_are_given_back),
		cmocka_unit_test(test_late_bytes_are_given_back),
		cmocka_unit_test(test_server_ends_first),
		cmocka_unit_test(test_reset_before_anything_was_sent),
		cmocka_unit_test(test_refused_stream),
		cmocka_unit_test(test_stream_limit),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_request_crosses_goaway),
		cmocka_unit_test(test_carrier_closed),
		cmocka_unit_test(test_output_is_announced),
		cmocka_unit_test(test_each_operation_is_announced),
		cmocka_unit_test(test_bad_arguments),
		cmocka_unit_test(test_long_blocks),
		cmocka_unit_test(test_calls_from_inside_events),
	}, whole[] = {                   /* these count frames */
		cmocka_unit_test(test_writable),
		cmocka_unit_test(test_frame_size),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL) + cmocka_run_group_tests(whole, NULL, NULL);

	h2_pair_pieces = true;
	return failed + cmocka_run_group_tests_name("pieces", tests, NULL, NULL);
}
