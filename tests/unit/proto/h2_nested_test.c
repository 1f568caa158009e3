/*
 * Shows an HTTP/2 engine inside a stream of an HTTP/2 engine, as BuildKit's Session nests one: the outer stream's bytes
 * are the inner connection's, in both directions; the inner server is at the outer client's end, so that the roles
 * cross. Back-pressure holds in both layers: a held inner stream stops at the inner window while its neighbour goes
 * on; when the outer carrier stalls, nothing piles up but bounded queues; the end of the carrier ends what it carries.
 */
#include "h2_pair.h"

#include "proto/buffer.h"

#include <errno.h>
#include <stdlib.h>

#define OUTER_WINDOW 65535u
#define INNER_WINDOW 65535u
#define OUT_QUEUE    30000u

/* An inner engine on an outer stream. */
struct nest {
	struct h2 *inner;
	struct stream *carrier;
	struct buffer rest;                      /* of the inner's last output, what the carrier did not take */
	size_t rest_sent;
	bool stalled;                            /* does not read: outer bytes are kept back and not consumed */
	uint8_t *kept;
	size_t kept_size;
	size_t kept_max;                         /* the most that was ever kept */
};

static struct h2_pair outer;                     /* the engines below; its probes serve the inner streams */
static struct nest front, back;                  /* at the outer client, at the outer server */
static bool nested_output;

/* At most one frame is taken from the inner engine before the carrier has room for it. */
static void nest_flush(struct nest *nest)
{
	while (nest->carrier) {
		struct span out;
		size_t taken;

		if (nest->rest.size > nest->rest_sent) {
			out = span_make(nest->rest.data + nest->rest_sent, nest->rest.size - nest->rest_sent);
			nest->rest_sent += stream_write(nest->carrier, out);
			if (nest->rest_sent < nest->rest.size)
				return;          /* on_writable goes on */
			continue;
		}
		buffer_clear(&nest->rest);
		nest->rest_sent = 0;
		out = h2_output(nest->inner);
		if (out.size == 0)
			return;
		taken = stream_write(nest->carrier, out);
		buffer_put(&nest->rest, out.data + taken, out.size - taken);
	}
}

static void nest_on_data(struct stream *stream, struct span data)
{
	struct nest *nest = stream->owner;

	if (nest->stalled) {
		nest->kept = realloc(nest->kept, nest->kept_size + data.size);
		memcpy(nest->kept + nest->kept_size, data.data, data.size);
		nest->kept_size += data.size;
		if (nest->kept_size > nest->kept_max)
			nest->kept_max = nest->kept_size;
		return;
	}
	assert_int_equal(h2_feed(nest->inner, data), 0);
	stream_consumed(stream, data.size);
	nest_flush(nest);
}

static void nest_on_writable(struct stream *stream)
{
	nest_flush(stream->owner);
}

static void nest_on_close(struct stream *stream, uint32_t code)
{
	struct nest *nest = stream->owner;

	nest->carrier = NULL;
	h2_carrier_closed(nest->inner);
}

static const struct stream_events nest_events = {
	.on_data = nest_on_data,
	.on_writable = nest_on_writable,
	.on_close = nest_on_close,
};

static void nest_resume(struct nest *nest)
{
	size_t size = nest->kept_size;

	nest->stalled = false;
	nest->kept_size = 0;
	assert_int_equal(h2_feed(nest->inner, span_make(nest->kept, size)), 0);
	stream_consumed(nest->carrier, size);
	nest_flush(nest);
}

static void nest_on_output(void *owner)
{
	nested_output = true;
}

static int outer_on_stream(void *owner, struct stream *stream, const struct h2_request *request)
{
	static const struct header ok[] = { HEADER(":status", "200") };

	back.carrier = stream;
	stream->events = &nest_events;
	stream->owner = &back;
	return stream_headers(stream, ok, 1, false);
}

static const struct h2_events outer_server_events = { .on_stream = outer_on_stream };

static void pump(void)
{
	do {
		nested_output = false;
		nest_flush(&front);
		nest_flush(&back);
		h2_pair_pump(&outer);
	} while (nested_output);
}

/* The inner pair's bookkeeping; its client is at the outer server's end. */
static struct h2_pair inner;
static struct h2_events inner_client_events, inner_server_events;

static void begin(size_t step)
{
	const struct h2_config client = { .stream_window_bytes = OUTER_WINDOW, .out_queue_bytes = OUT_QUEUE };
	struct h2_config server = { .events = &outer_server_events, .stream_window_bytes = OUTER_WINDOW,
		                    .out_queue_bytes = OUT_QUEUE };
	const struct h2_request request = { .method = span_text("POST"), .path = span_text("/Session"),
		                            .scheme = span_text("http"), .authority = span_text("x") };
	struct h2_config config = { .stream_window_bytes = INNER_WINDOW, .out_queue_bytes = OUT_QUEUE, .owner = &inner };

	memset(&front, 0, sizeof(front));
	memset(&back, 0, sizeof(back));
	memset(&inner, 0, sizeof(inner));
	front.rest = back.rest = buffer_heap(OUT_QUEUE);
	inner_client_events = pair_client_events;
	inner_client_events.on_output = nest_on_output;
	inner_server_events = pair_server_events;
	inner_server_events.on_output = nest_on_output;
	config.events = &inner_client_events;
	assert_int_equal(h2_create(&back.inner, &config), 0);
	config.server = true;
	config.events = &inner_server_events;
	assert_int_equal(h2_create(&front.inner, &config), 0);
	inner.client = back.inner;
	inner.server = front.inner;

	h2_pair_init(&outer, &client, &server);
	outer.step = step;
	assert_int_equal(h2_open(outer.client, &front.carrier, &request, false, &nest_events, &front), 0);
	pump();
	assert_non_null(back.carrier);
}

static void end(void)
{
	h2_pair_fini(&outer);
	h2_destroy(front.inner);
	h2_destroy(back.inner);
	for (size_t i = 0; i < inner.accepted_count; i++) {
		assert_true(inner.accepted[i].closed);
		probe_fini(&inner.accepted[i]);
	}
	buffer_fini(&front.rest);
	buffer_fini(&back.rest);
	free(front.kept);
	free(back.kept);
}

static const struct header ok_headers[] = { HEADER(":status", "200") };
static const struct header ok_trailers[] = { HEADER("grpc-status", "0") };

static void echo(struct probe *probe, char event)
{
	if (event != 'E')
		return;
	assert_int_equal(stream_headers(probe->stream, ok_headers, 1, false), 0);
	assert_int_equal(stream_write(probe->stream, span_make(probe->data, probe->size)), probe->size);
	assert_int_equal(stream_trailers(probe->stream, ok_trailers, 1), 0);
}

static void accept_echo(struct probe *probe, const struct h2_request *request)
{
	probe->on_event = echo;
}

static void test_exchange_in_every_split(void **state)
{
	for (size_t step = 0; step < 40; step++) {
		struct probe probe = { 0 };

		begin(step);
		inner.on_stream = accept_echo;
		assert_int_equal(probe_open(&inner, &probe, "/inner", false), 0);
		probe_write(&probe, span_text("through two layers"), true);
		pump();
		assert_string_equal(probe.log, "HDTEC0");
		assert_int_equal(probe.size, 18);
		assert_memory_equal(probe.data, "through two layers", 18);
		end();
		probe_fini(&probe);
	}
}

/* Far more than any window or queue of either layer, each of which must reopen for it. */
static void test_large_body_through_both(void **state)
{
	size_t size = 2000000;
	uint8_t *body = malloc(size);
	struct probe probe = { 0 };

	for (size_t i = 0; i < size; i++)
		body[i] = (uint8_t)(i * 2654435761u >> 13);
	begin(0);
	assert_int_equal(probe_open(&inner, &probe, "/inner", false), 0);
	probe_write(&probe, span_make(body, size), true);
	pump();
	assert_int_equal(inner.accepted[0].size, size);
	assert_memory_equal(inner.accepted[0].data, body, size);
	assert_string_equal(inner.accepted[0].log, "DE");
	assert_true(probe.writables > 10);
	end();
	free(body);
}

/* Inner back-pressure: the held stream stops at the inner window; the layer below and the neighbour do not notice. */
static void test_inner_hold(void **state)
{
	size_t size = 500000;
	uint8_t *body = calloc(1, size);
	struct probe held = { 0 }, live = { 0 };

	begin(0);
	inner.hold = true;
	assert_int_equal(probe_open(&inner, &held, "/held", false), 0);
	probe_write(&held, span_make(body, size), true);
	pump();
	assert_int_equal(inner.accepted[0].size, INNER_WINDOW);
	inner.hold = false;
	assert_int_equal(probe_open(&inner, &live, "/live", false), 0);
	probe_write(&live, span_make(body, size), true);
	pump();
	assert_int_equal(inner.accepted[1].size, size);
	assert_int_equal(inner.accepted[0].size, INNER_WINDOW);
	inner.accepted[0].hold = false;
	probe_consume(&inner.accepted[0], INNER_WINDOW);
	pump();
	assert_int_equal(inner.accepted[0].size, size);
	end();
	free(body);
}

/* Outer back-pressure: an end that does not read stalls all inner streams, at the outer window and bounded queues. */
static void test_outer_stall(void **state)
{
	size_t size = 500000;
	uint8_t *body = calloc(1, size);
	struct probe probes[5] = { 0 };
	size_t waiting = 0;

	begin(0);
	front.stalled = true;
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(probe_open(&inner, &probes[i], "/inner", false), 0);
		probe_write(&probes[i], span_make(body, size), true);
	}
	pump();
	assert_int_equal(inner.accepted_count, 0);
	/* The window, less the few bytes of the inner preface for which no WINDOW_UPDATE is due yet. */
	assert_in_range(front.kept_max, OUTER_WINDOW - 200, OUTER_WINDOW);
	for (size_t i = 0; i < 5; i++)
		waiting += probes[i].writing.size;
	/* On its way: the outer window, the outer queue, a frame in hand, and the inner streams' own queues. */
	assert_true(5 * size - waiting <= OUTER_WINDOW + OUT_QUEUE + 16384 + 9 + 5 * OUT_QUEUE);
	nest_resume(&front);
	pump();
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(inner.accepted[i].size, size);
	end();
	free(body);
}

/* The outer stream goes: each inner stream hears that its carrier is lost, on both ends, once. */
static void test_carrier_ends(void **state)
{
	struct probe probe = { 0 };

	begin(0);
	assert_int_equal(probe_open(&inner, &probe, "/inner", false), 0);
	pump();
	assert_int_equal(inner.accepted_count, 1);
	stream_reset(back.carrier, 8);
	pump();
	assert_true(probe.closed && inner.accepted[0].closed);
	assert_int_equal(probe.code, H2_CARRIER_CLOSED);
	assert_int_equal(inner.accepted[0].code, H2_CARRIER_CLOSED);
	assert_true(h2_alive(outer.client) && h2_alive(outer.server));
	assert_false(h2_alive(front.inner) || h2_alive(back.inner));
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exchange_in_every_split),
		cmocka_unit_test(test_large_body_through_both),
		cmocka_unit_test(test_inner_hold),
		cmocka_unit_test(test_outer_stall),
		cmocka_unit_test(test_carrier_ends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
