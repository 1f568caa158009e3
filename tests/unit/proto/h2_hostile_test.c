/*
 * Shows what an engine does with a peer that breaks or bends the rules: frames are written by hand, and for each the
 * test names how far the refusal reaches (the stream, the connection) and its code. A refused connection says so with
 * GOAWAY, and is dead after that; a refused stream leaves its neighbours alone.
 */
#include "h2_pair.h"

#include "proto/buffer.h"

#include <errno.h>
#include <stdlib.h>

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

enum frame_type { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };
enum frame_flag { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };
enum code { NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED,
	    FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM };

static struct h2_pair pair;                      /* only its recording consumers and one of the engines are used */
static struct h2 *h2;
static struct buffer in;                         /* what the hostile peer sends next */
static struct buffer out;                        /* all that the engine has sent */

static void put32(struct buffer *buffer, uint32_t value)
{
	const uint8_t bytes[] = { (uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value };

	buffer_put(buffer, bytes, 4);
}

static void frame(enum frame_type type, uint8_t flags, uint32_t stream, const void *payload, size_t size)
{
	const uint8_t head[] = { (uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size, (uint8_t)type, flags };

	buffer_put(&in, head, sizeof(head));
	put32(&in, stream);
	buffer_put(&in, payload, size);
}

static void frame32(enum frame_type type, uint32_t stream, uint32_t value)
{
	struct buffer payload = buffer_over((uint8_t[4]){ 0 }, 4);

	put32(&payload, value);
	frame(type, 0, stream, payload.data, 4);
}

/* :method POST, :scheme http, :path /, :authority h, from HPACK's static table. */
#define REQUEST "\x83\x86\x84\x01\1h"
#define BYTES(literal) (literal), sizeof(literal) - 1

static void request(uint32_t stream, uint8_t flags)
{
	frame(HEADERS, END_HEADERS | flags, stream, BYTES(REQUEST));
}

static void fetch(void)
{
	struct span piece;

	while ((piece = h2_output(h2)).size)
		buffer_put(&out, piece.data, piece.size);
}

static int feed(void)
{
	int r = h2_feed(h2, buffer_span(&in));

	buffer_clear(&in);
	return r;
}

/* The last frame of a type that the engine sent; its code or value, or -1. */
static int64_t sent(enum frame_type type, uint32_t stream)
{
	const uint8_t *p = out.data, *end = p + out.size;
	int64_t value = -1;

	while (end - p >= 9) {
		size_t size = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
		uint32_t id = (uint32_t)p[5] << 24 | (uint32_t)p[6] << 16 | (uint32_t)p[7] << 8 | p[8];

		if (p[3] == type && id == stream) {
			const uint8_t *at = p + 9 + (type == GOAWAY ? 4 : 0);

			value = size ? (int64_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3] : 0;
		}
		p += 9 + size;
	}
	return value;
}

/* A server whose SETTINGS the peer has not acknowledged. */
static void begin_unacknowledged(const struct h2_config *tweak)
{
	struct h2_config config = tweak ? *tweak : (struct h2_config){ 0 };

	memset(&pair, 0, sizeof(pair));
	config.server = true;
	config.events = &pair_server_events;
	config.owner = &pair;
	assert_int_equal(h2_create(&h2, &config), 0);
	in = buffer_heap(64 << 20);
	out = buffer_heap(64 << 20);
	buffer_put_text(&in, PREFACE);
	frame(SETTINGS, 0, 0, NULL, 0);
	assert_int_equal(feed(), 0);
	fetch();
}

static void begin_server(const struct h2_config *tweak)
{
	begin_unacknowledged(tweak);
	frame(SETTINGS, ACK, 0, NULL, 0);
	assert_int_equal(feed(), 0);
}

static void end_server(void)
{
	h2_destroy(h2);
	for (size_t i = 0; i < pair.accepted_count; i++) {
		assert_true(pair.accepted[i].closed);
		probe_fini(&pair.accepted[i]);
	}
	buffer_fini(&in);
	buffer_fini(&out);
}

static void expect_dead(enum code code)
{
	feed();
	fetch();
	assert_int_equal(sent(GOAWAY, 0), code);
	assert_int_equal(h2_fault(h2)->scope, H2_FAULT_CONNECTION);
	assert_int_equal(h2_fault(h2)->code, code);
	assert_non_null(h2_fault(h2)->reason);
	assert_false(h2_alive(h2));
	assert_int_equal(h2_feed(h2, span_text("x")), -EPROTO);
	end_server();
}

/* The stream is reset; the connection serves the next one. */
static void expect_stream_reset(uint32_t stream, enum code code)
{
	size_t before;

	assert_int_equal(feed(), 0);
	fetch();
	before = pair.accepted_count;
	assert_int_equal(sent(RST_STREAM, stream), code);
	assert_int_equal(sent(GOAWAY, 0), -1);
	request(stream + 100, 0);
	assert_int_equal(feed(), 0);
	fetch();
	assert_int_equal(pair.accepted_count, before + 1);
	assert_true(h2_alive(h2));
	end_server();
}

static void test_bad_preface(void **state)
{
	h2 = NULL;
	memset(&pair, 0, sizeof(pair));
	assert_int_equal(h2_create(&h2, &(struct h2_config){ .server = true, .events = &pair_server_events, .owner = &pair }),
	                 0);
	in = buffer_heap(1 << 20);
	out = buffer_heap(1 << 20);
	buffer_put_text(&in, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_int_equal(feed(), -EPROTO);
	buffer_put_text(&in, "GET / HTTP/1.1\r\n");
	expect_dead(PROTOCOL_ERROR);
}

/* One frame each, and what it brings on the whole connection. */
static void test_connection_errors(void **state)
{
	static const uint8_t zeros[70000];
	uint8_t setting[6] = { 0, 4, 0xff, 0xff, 0xff, 0xff };                /* INITIAL_WINDOW_SIZE beyond 2^31 - 1 */

	begin_server(NULL);
	frame(DATA, 0, 0, BYTES("x"));
	expect_dead(PROTOCOL_ERROR);

	begin_server(NULL);
	frame(DATA, 0, 1, BYTES("x"));               /* idle stream */
	expect_dead(PROTOCOL_ERROR);

	begin_server(NULL);
	request(2, 0);                           /* an even id is not a client's */
	expect_dead(PROTOCOL_ERROR);

	begin_server(NULL);
	frame(CONTINUATION, END_HEADERS, 1, BYTES(REQUEST));
	expect_dead(PROTOCOL_ERROR);

	begin_server(NULL);
	frame(HEADERS, 0, 1, BYTES(REQUEST));
	frame(PING, 0, 0, zeros, 8);             /* in the middle of a header block */
	expect_dead(PROTOCOL_ERROR);

	begin_server(NULL);
	frame(DATA, 0, 1, zeros, 16385);
	expect_dead(FRAME_SIZE_ERROR);

	begin_server(NULL);
	frame(SETTINGS, 0, 0, setting, 6);
	expect_dead(FLOW_CONTROL_ERROR);

	begin_server(NULL);
	frame(SETTINGS, 0, 0, setting, 5);
	expect_dead(FRAME_SIZE_ERROR);

	begin_server(NULL);
	frame32(RST_STREAM, 1, CANCEL);          /* idle stream */
	expect_dead(PROTOCOL_ERROR);

	begin_server(NULL);
	frame(PUSH_PROMISE, END_HEADERS, 1, BYTES("\0\0\0\2" REQUEST));
	expect_dead(PROTOCOL_ERROR);

	begin_server(NULL);
	frame32(WINDOW_UPDATE, 0, 0);
	expect_dead(PROTOCOL_ERROR);

	begin_server(NULL);
	request(1, 0);
	frame32(WINDOW_UPDATE, 1, 0);            /* RFC 9113 would spare the connection; nghttp2 does not */
	expect_dead(PROTOCOL_ERROR);

	begin_server(NULL);
	frame32(WINDOW_UPDATE, 0, 0x7fffffff);   /* 65,535 + that is more than a window can be */
	expect_dead(FLOW_CONTROL_ERROR);

	begin_server(NULL);
	frame(HEADERS, END_HEADERS, 1, BYTES("\xff\xff\xff\xff\xff\xff"));
	expect_dead(COMPRESSION_ERROR);

	begin_server(NULL);
	frame(PING, 0, 0, zeros, 7);
	expect_dead(FRAME_SIZE_ERROR);
}

static void test_stream_errors(void **state)
{
	begin_server(NULL);
	frame(HEADERS, END_HEADERS, 1, BYTES("\x83\x86\x01\1h"));                       /* no :path */
	expect_stream_reset(1, PROTOCOL_ERROR);

	begin_server(NULL);
	frame(HEADERS, END_HEADERS, 1, BYTES(REQUEST "\0\1X\1y"));                /* upper case in a name */
	expect_stream_reset(1, PROTOCOL_ERROR);

	begin_server(NULL);
	frame(HEADERS, END_HEADERS, 1, BYTES(REQUEST "\0\xa" "connection\1y"));  /* of HTTP/1 */
	expect_stream_reset(1, PROTOCOL_ERROR);

	begin_server(NULL);
	request(1, 0);
	frame32(WINDOW_UPDATE, 1, 0x7fffffff);
	expect_stream_reset(1, FLOW_CONTROL_ERROR);

	begin_server(NULL);
	frame(HEADERS, END_HEADERS, 1, BYTES(REQUEST "\x0f\x0d\1" "5"));          /* content-length 5, four bytes come */
	frame(DATA, END_STREAM, 1, BYTES("1234"));
	expect_stream_reset(1, PROTOCOL_ERROR);
}

/* What is strange but allowed is let pass. */
static void test_tolerated(void **state)
{
	begin_server(NULL);
	frame(0x77, 0xff, 0, BYTES("unknown frame"));
	frame(0x77, 0xff, 1, BYTES("unknown frame"));
	request(1, 0);
	frame(HEADERS, END_STREAM | END_HEADERS, 1, BYTES("\0\1x\1y"));           /* trailers of a client */
	frame(PRIORITY, 0, 7, BYTES("\0\0\0\0\1"));
	assert_int_equal(feed(), 0);
	fetch();
	assert_int_equal(sent(GOAWAY, 0), -1);
	assert_string_equal(pair.accepted[0].log, "TE");
	assert_string_equal(pair.accepted[0].fields, "x=y\n");
	end_server();
}

/* grpc-go's client leaves so: last stream 2^31-1, NO_ERROR, a text. Any other code is a fault of the connection. */
static void test_goodbye_of_a_client(void **state)
{
	begin_server(NULL);
	request(1, END_STREAM);
	frame(GOAWAY, 0, 0, BYTES("\x7f\xff\xff\xff\0\0\0\0client transport shutdown"));
	feed();
	fetch();
	assert_int_equal(pair.goaways, 1);
	assert_int_equal(h2_fault(h2)->scope, H2_FAULT_NONE);
	assert_false(h2_alive(h2));
	end_server();

	begin_server(NULL);
	frame(GOAWAY, 0, 0, BYTES("\x7f\xff\xff\xff\0\0\0\1"));
	feed();
	fetch();
	assert_int_equal(h2_fault(h2)->scope, H2_FAULT_CONNECTION);
	end_server();
}

/* A peer that ignores our window: on the stream, and on the connection. */
static void test_flow_control_abuse(void **state)
{
	static const uint8_t zeros[16384];
	const struct h2_config config = { .stream_window_bytes = 65535, .connection_window_bytes = 131072 };

	begin_server(&config);
	pair.hold = true;
	request(1, 0);
	for (int i = 0; i < 5; i++)
		frame(DATA, 0, 1, zeros, sizeof(zeros));
	feed();
	fetch();
	assert_int_equal(sent(RST_STREAM, 1), FLOW_CONTROL_ERROR);
	assert_true(pair.accepted[0].size <= 65535 + 16384);                 /* the frame that broke it, no more */
	end_server();

	begin_server(&config);
	pair.hold = true;
	for (uint32_t stream = 1; stream < 9; stream += 2) {
		request(stream, 0);
		for (int i = 0; i < 3; i++)
			frame(DATA, 0, stream, zeros, sizeof(zeros));
	}
	expect_dead(FLOW_CONTROL_ERROR);
}

static void flood(enum frame_type type, uint8_t flags, uint32_t stream, const void *payload, size_t size, size_t count)
{
	begin_server(NULL);
	request(1, 0);
	for (size_t i = 0; i < count; i++)
		frame(type, flags, stream, payload, size);
}

/* Many frames that carry nothing, and nobody fetches our answers. */
static void test_control_floods(void **state)
{
	flood(PING, 0, 0, "12345678", 8, 2000);
	expect_dead(ENHANCE_YOUR_CALM);
	flood(SETTINGS, 0, 0, NULL, 0, 2000);
	expect_dead(ENHANCE_YOUR_CALM);
	flood(PRIORITY, 0, 1, "\0\0\0\3\1", 5, 2000);
	expect_dead(ENHANCE_YOUR_CALM);
	flood(DATA, 0, 1, NULL, 0, 2000);
	expect_dead(ENHANCE_YOUR_CALM);
	flood(WINDOW_UPDATE, 0, 1, "\0\0\0\1", 4, 2000);
	expect_dead(ENHANCE_YOUR_CALM);
}

/* The same frames, as many, from a peer that lets our answers leave: keep-alive of a long connection. */
static void test_pings_over_time(void **state)
{
	begin_server(NULL);
	for (size_t i = 0; i < 5000; i++) {
		frame(PING, 0, 0, BYTES("12345678"));
		assert_int_equal(feed(), 0);
		fetch();
	}
	assert_true(h2_alive(h2));
	assert_int_equal(sent(GOAWAY, 0), -1);
	end_server();
}

/* One that lets some of them leave, and never all, has what one has that lets none. */
static void test_pings_while_output_waits(void **state)
{
	begin_server(NULL);
	for (size_t i = 0; i < 600; i++) {
		struct span piece;

		frame(PING, 0, 0, BYTES("12345678"));
		frame(PING, 0, 0, BYTES("12345678"));
		feed();
		piece = h2_output(h2);
		buffer_put(&out, piece.data, piece.size);
	}
	expect_dead(ENHANCE_YOUR_CALM);
}

static void test_rapid_reset(void **state)
{
	struct h2_config config = { .streams_max = 50 };

	begin_server(&config);
	for (uint32_t i = 0; i < 102; i++) {
		request(2 * i + 1, 0);
		frame32(RST_STREAM, 2 * i + 1, CANCEL);
	}
	assert_int_equal(feed(), -EPROTO);
	assert_int_equal(pair.accepted_count, 101);
	expect_dead(ENHANCE_YOUR_CALM);

	/* Made to reset them ourselves, which is no cheaper (a window that overflows). */
	begin_server(&config);
	for (uint32_t i = 0; i < 102; i++) {
		request(2 * i + 1, 0);
		frame32(WINDOW_UPDATE, 2 * i + 1, 0x7fffffff);
		feed();
		fetch();
	}
	expect_dead(ENHANCE_YOUR_CALM);
}

static void answer(struct probe *probe, const struct h2_request *head)
{
	static const struct header ok[] = { HEADER(":status", "200") };

	if (head->ended)
		assert_int_equal(stream_headers(probe->stream, ok, 1, true), 0);
}

/* Whoever gives up all calls that he may have at a time, twice, keeps his connection. */
static void test_all_given_up(void **state)
{
	uint32_t id = 1;

	begin_server(NULL);
	for (uint32_t round = 0; round < 2; round++) {
		uint32_t first = id;

		for (uint32_t i = 0; i < 256; i++, id += 2)
			request(id, 0);
		for (; first < id; first += 2)
			frame32(RST_STREAM, first, CANCEL);
		assert_int_equal(feed(), 0);
		fetch();
	}
	assert_true(h2_alive(h2));
	assert_int_equal(h2_streams_count(h2), 0);
	end_server();
}

/* Resets that are balanced by finished work are an honest client's. */
static void test_resets_beside_work(void **state)
{
	begin_server(NULL);
	pair.on_stream = answer;
	for (uint32_t i = 0; i < 300; i++) {
		request(4 * i + 1, END_STREAM);
		request(4 * i + 3, 0);
		frame32(RST_STREAM, 4 * i + 3, CANCEL);
		assert_int_equal(feed(), 0);
		fetch();
	}
	assert_true(h2_alive(h2));
	assert_int_equal(h2_streams_count(h2), 0);
	end_server();
}

static void test_header_limits(void **state)
{
	struct buffer block = buffer_heap(1 << 20);
	char value[1000];
	uint8_t literal[] = { 0x00, 1, 'x', 1, 'y' };

	memset(value, 'v', sizeof(value));

	/* One field too many: that stream. */
	begin_server(NULL);
	buffer_put_text(&block, REQUEST);
	for (int i = 0; i < STREAM_HEADERS_MAX + 1; i++)
		buffer_put(&block, literal, sizeof(literal));
	frame(HEADERS, END_HEADERS, 1, block.data, block.size);
	expect_stream_reset(1, ENHANCE_YOUR_CALM);

	/* As many as allowed. */
	begin_server(NULL);
	frame(HEADERS, END_HEADERS, 1, block.data, block.size - sizeof(literal));
	assert_int_equal(feed(), 0);
	assert_int_equal(pair.accepted_count, 1);
	end_server();

	/* Too many bytes: the connection. One field in HPACK's table, named again and again: a byte each on the wire. */
	begin_server(NULL);
	buffer_clear(&block);
	buffer_put_text(&block, REQUEST);
	buffer_put(&block, BYTES("\x40\1x\x7f\xe9\x06"));                        /* indexed literal, value of 1,000 bytes */
	buffer_put(&block, value, sizeof(value));
	for (int i = 0; i < 70; i++)
		buffer_put(&block, BYTES("\xbe"));
	frame(HEADERS, END_HEADERS, 1, block.data, block.size);
	expect_dead(ENHANCE_YOUR_CALM);

	/* Header blocks that never end. */
	begin_server(NULL);
	frame(HEADERS, 0, 1, BYTES(REQUEST));
	for (int i = 0; i < 50; i++)
		frame(CONTINUATION, 0, 1, NULL, 0);
	expect_dead(ENHANCE_YOUR_CALM);
	buffer_fini(&block);
}

/*
 * More streams than allowed: refused one by one while the peer may not have read our SETTINGS, and then at a price; a
 * breach of the protocol once it has acknowledged them.
 */
static void test_too_many_streams(void **state)
{
	const struct h2_config config = { .streams_max = 10 };

	begin_server(&config);
	for (uint32_t i = 0; i < 11; i++)
		request(2 * i + 1, 0);
	expect_dead(PROTOCOL_ERROR);

	begin_unacknowledged(&config);
	for (uint32_t i = 0; i < 12; i++)
		request(2 * i + 1, 0);
	assert_int_equal(feed(), 0);
	fetch();
	assert_int_equal(sent(RST_STREAM, 19), -1);
	assert_int_equal(sent(RST_STREAM, 21), REFUSED_STREAM);
	assert_int_equal(sent(RST_STREAM, 23), REFUSED_STREAM);
	assert_int_equal(pair.accepted_count, 10);
	for (uint32_t i = 12; i < 2000; i++)
		request(2 * i + 1, 0);
	expect_dead(ENHANCE_YOUR_CALM);
}

/* ---- a hostile server ---- */

static void begin_client(struct probe *probe)
{
	memset(&pair, 0, sizeof(pair));
	memset(probe, 0, sizeof(*probe));
	assert_int_equal(h2_create(&h2, &(struct h2_config){ .events = &pair_client_events, .owner = &pair }), 0);
	pair.client = h2;
	in = buffer_heap(1 << 20);
	out = buffer_heap(1 << 20);
	assert_int_equal(probe_open(&pair, probe, "/a/b", true), 0);
	fetch();
	buffer_fini(&out);                       /* the preface is no frame */
	out = buffer_heap(1 << 20);
	frame(SETTINGS, 0, 0, NULL, 0);
	assert_int_equal(feed(), 0);
	fetch();
}

static void test_hostile_server(void **state)
{
	struct probe probe;

	begin_client(&probe);
	frame(HEADERS, END_HEADERS, 2, BYTES("\x88"));                           /* a stream of its own making */
	expect_dead(PROTOCOL_ERROR);
	assert_true(probe.closed);

	begin_client(&probe);
	frame(PUSH_PROMISE, END_HEADERS, 1, BYTES("\0\0\0\2" REQUEST));
	expect_dead(PROTOCOL_ERROR);

	begin_client(&probe);
	frame(DATA, 0, 1, BYTES("x"));               /* before the headers */
	expect_dead(PROTOCOL_ERROR);
	assert_true(probe.closed);
	assert_int_equal(probe.size, 0);

	/* Interim answers are no answers. */
	begin_client(&probe);
	frame(HEADERS, END_HEADERS, 1, BYTES("\x08\3" "103"));
	frame(HEADERS, END_HEADERS | END_STREAM, 1, BYTES("\x88"));
	assert_int_equal(feed(), 0);
	assert_string_equal(probe.log, "HEC0");
	assert_string_equal(probe.fields, ":status=200\n");
	end_server();

	/* GOAWAY: what it does not count was not processed. */
	begin_client(&probe);
	frame(GOAWAY, 0, 0, BYTES("\0\0\0\0\0\0\0\0"));
	assert_int_equal(feed(), 0);
	assert_string_equal(probe.log, "C7");
	assert_int_equal(pair.goaways, 1);
	assert_false(h2_alive(h2));
	end_server();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_preface),
		cmocka_unit_test(test_connection_errors),
		cmocka_unit_test(test_stream_errors),
		cmocka_unit_test(test_tolerated),
		cmocka_unit_test(test_goodbye_of_a_client),
		cmocka_unit_test(test_flow_control_abuse),
		cmocka_unit_test(test_control_floods),
		cmocka_unit_test(test_pings_over_time),
		cmocka_unit_test(test_pings_while_output_waits),
		cmocka_unit_test(test_rapid_reset),
		cmocka_unit_test(test_all_given_up),
		cmocka_unit_test(test_resets_beside_work),
		cmocka_unit_test(test_header_limits),
		cmocka_unit_test(test_too_many_streams),
		cmocka_unit_test(test_hostile_server),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
