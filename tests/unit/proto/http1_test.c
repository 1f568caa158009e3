/*
 * Shows what a HTTP/1.1 engine takes and what it refuses, with which status; that the split of what arrives changes nothing; and
 * how it stops a peer, sends more than it has room for, keeps a connection and ends it. Also which paths name something of the cache.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>

#include "proto/buffer.h"
#include "proto/cache_path.h"
#include "proto/http1.h"

#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define HOST "Host: x\r\n"

/* A consumer that answers at a request's end with "METHOD PATH BODY". */
struct peer {
	struct http1 *http1;
	struct buffer out;               /* what the engine said */
	struct buffer answer;
	size_t opened, closed, outputs;
	bool keeps;                      /* does not consume */
	bool resets;                     /* gives up at the first data */
	size_t kept;
	uint32_t code;
	struct stream *stream;
};

static void on_data(struct stream *stream, struct span data)
{
	struct peer *peer = stream->owner;

	assert_false(peer->resets && peer->kept);
	buffer_put(&peer->answer, data.data, data.size);
	if (peer->resets)
		stream_reset(stream, 8);
	if (peer->keeps || peer->resets)
		peer->kept += data.size;
	else
		stream_consumed(stream, data.size);
}

static void on_end(struct stream *stream)
{
	struct peer *peer = stream->owner;
	char length[16];
	struct header headers[] = { { .name = span_text(":status"), .value = span_text("200") },
	                            { .name = span_text("content-length") } };

	assert_false(peer->resets);
	snprintf(length, sizeof(length), "%zu", peer->answer.size);
	headers[1].value = span_text(length);
	assert_int_equal(stream_headers(stream, headers, 2, false), 0);
	assert_int_equal(stream_write(stream, buffer_span(&peer->answer)), peer->answer.size);
	stream_end(stream);
}

static void on_close(struct stream *stream, uint32_t code)
{
	struct peer *peer = stream->owner;

	peer->closed++;
	peer->code = code;
	peer->stream = NULL;
	buffer_fini(&peer->answer);
}

static const struct stream_events stream_events = { .on_data = on_data, .on_end = on_end, .on_close = on_close };

static int on_stream(void *owner, struct stream *stream, const struct h2_request *head)
{
	struct peer *peer = owner;

	peer->opened++;
	peer->stream = stream;
	peer->answer = buffer_heap(4u << 20);
	buffer_put(&peer->answer, head->method.data, head->method.size);
	buffer_put(&peer->answer, head->path.data, head->path.size);
	stream->events = &stream_events;
	stream->owner = peer;
	return 0;
}

static void on_output(void *owner)
{
	((struct peer *)owner)->outputs++;
}

static const struct h2_events events = { .on_stream = on_stream, .on_output = on_output };

static void peer_begin(struct peer *peer)
{
	*peer = (struct peer){ .out = buffer_heap(8u << 20) };
	peer->http1 = http1_create(&events, peer);
	assert_non_null(peer->http1);
}

static void fetch(struct peer *peer)
{
	struct span span;

	while ((span = http1_output(peer->http1)).size)
		buffer_put(&peer->out, span.data, span.size);
}

static int say(struct peer *peer, const char *text)
{
	int r = http1_feed(peer->http1, span_text(text));

	fetch(peer);
	return r;
}

static bool heard(const struct peer *peer, const char *text)
{
	return peer->out.size && memmem(peer->out.data, peer->out.size, text, strlen(text));
}

static void peer_end(struct peer *peer)
{
	http1_destroy(peer->http1);
	assert_int_equal(peer->opened, peer->closed);
	buffer_fini(&peer->out);
}

static void good_heads_are_taken(void **state)
{
	static const char *const rows[][2] = {
		{ "GET /a HTTP/1.1\r\n" HOST "\r\n", "\r\n\r\nGET/a" },
		{ "GET http://x/a HTTP/1.1\r\n" HOST "\r\n", "\r\n\r\nGET/a" },
		{ "GET /a HTTP/1.0\r\n\r\n", "connection: close\r\n\r\nGET/a" },
		{ "PUT /a HTTP/1.1\r\nHOST:x\r\nContent-length: \t2 \r\n\r\nbc", "\r\n\r\nPUT/abc" },
		{ "PUT /a HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\n2;x\r\nbc\r\n01\r\nd\r\n0\r\n\r\n", "\r\n\r\nPUT/abcd" },
		{ "PUT /a HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n0123456789", "\r\n\r\nPUT/a0123456789" },
		{ "PUT /a HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\nB ;x\r\n0123456789A\r\n1F\r\n"
		  "0123456789ABCDEF0123456789ABCDE\r\n0\r\n\r\n",
		  "\r\n\r\nPUT/a01234567890123456789A0123456789ABCDEF0123456789ABCDE" },
		{ "0123456789ABCDEF /a HTTP/1.1\r\n" HOST "\r\n", "\r\n\r\n0123456789ABCDEF/a" },
		{ "GET /a HTTP/1.1\r\n" HOST "Connection: keep-alive, Close\r\n\r\n", "connection: close\r\n\r\nGET/a" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct peer peer;

		peer_begin(&peer);
		assert_int_equal(say(&peer, rows[i][0]), 0);
		assert_true(heard(&peer, "HTTP/1.1 200 OK\r\n"));
		assert_true(heard(&peer, rows[i][1]));
		assert_int_equal(http1_alive(peer.http1), !heard(&peer, "close"));
		peer_end(&peer);
	}
}

static void bad_ones_are_refused_with_their_status(void **state)
{
	static const struct {
		const char *request;
		const char *status;
	} rows[] = {
		{ "GET /\r\n\r\n", "400 Bad Request\r\n" }, { "GET / HTTP/1.1\r\n\r\n", "400" }, { "GET / HTTP/1.1\n\n\r\n\r\n", "400" },
		{ "0123456789ABCDEFG / HTTP/1.1\r\n" HOST "\r\n", "400" },
		{ "G\x01T / HTTP/1.1\r\n" HOST "\r\n", "400" }, { "GET a HTTP/1.1\r\n" HOST "\r\n", "400" },
		{ "GET / HTTP/1.2\r\n" HOST "\r\n", "505" }, { "GET / http/1.1\r\n" HOST "\r\n", "400" },
		{ "GET /\x80 HTTP/1.1\r\n" HOST "\r\n", "400" }, { "GET / HTTP/1.1 \r\n" HOST "\r\n", "400" },
		{ "GET / HTTP/1.1\r\n" HOST HOST "\r\n", "400" }, { "GET / HTTP/1.1\r\n" HOST " a: b\r\n\r\n", "400" },
		{ "GET / HTTP/1.1\r\n" HOST "a : b\r\n\r\n", "400" }, { "GET / HTTP/1.1\r\n" HOST ": b\r\n\r\n", "400" },
		{ "GET / HTTP/1.1\r\n" HOST "a: b\rc\r\n\r\n", "400" }, { "GET / HTTP/1.1\r\n" HOST "a: \x7f\r\n\r\n", "400" },
		{ "PUT / HTTP/1.1\r\n" HOST "Content-Length: +1\r\n\r\n", "400" },
		{ "PUT / HTTP/1.1\r\n" HOST "Content-Length: 1, 1\r\n\r\n", "400" },
		{ "PUT / HTTP/1.1\r\n" HOST "Content-Length: 1\r\ncontent-length: 1\r\n\r\n", "400" },
		{ "PUT / HTTP/1.1\r\n" HOST "Content-Length: 1000000000000000000\r\n\r\n", "400" },
		{ "PUT / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400" },
		{ "PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "400" },
		{ "PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", "501" },
		{ "PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunk\r\n\r\n0\r\n\r\n", "501 Not Implemented\r\n" },
		{ "PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunkedd\r\n\r\n0\r\n\r\n", "501" },
		{ "PUT / HTTP/1.1\r\n" HOST "Expect: more\r\n\r\n", "417 Expectation Failed\r\n" },
		{ "PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nx\r\n", "400" },
		{ "PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n\r\n", "400" },
		{ "PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n;x\r\n", "400" },
		{ "PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1x\r\n", "400" },
		{ "PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1 2\r\n\rx", "400" },
		{ "PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\nx", "400" },
		{ "PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1;\n\r\nx\r\n0\r\n\r\n", "400" },
		{ "PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1;\rx\r\ny\r\n0\r\n\r\n", "400" },
		{ "PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1000000000000000\r\n", "400" },
		{ "PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\nxy", "400" },
		{ "PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\na\n", "400" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char wanted[48];
		struct peer peer;

		peer_begin(&peer);
		snprintf(wanted, sizeof(wanted), "HTTP/1.1 %s", rows[i].status);
		if (say(&peer, rows[i].request) != -71 || !heard(&peer, wanted))
			fail_msg("%s wanted for %s: %.*s", rows[i].status, rows[i].request, (int)peer.out.size, (char *)peer.out.data);
		assert_false(http1_alive(peer.http1));
		assert_non_null(http1_fault(peer.http1)->reason);
		assert_int_equal(peer.closed, peer.opened);
		peer_end(&peer);
	}
}

static void bounds_hold(void **state)
{
	static char text[HTTP1_AHEAD_BYTES + 1000];
	struct peer peer;

	peer_begin(&peer);
	say(&peer, "GET / HTTP/1.1\r\nx: ");
	memset(text, 'y', HTTP1_HEAD_BYTES_MAX);
	text[HTTP1_HEAD_BYTES_MAX] = 0;
	assert_true(say(&peer, text) < 0 && heard(&peer, " 431 "));
	peer_end(&peer);
	peer_begin(&peer);
	say(&peer, "GET / HTTP/1.1\r\n" HOST);
	for (unsigned i = 0; i < STREAM_HEADERS_MAX - 1; i++)
		say(&peer, "a: b\r\n");
	assert_true(say(&peer, "a: b\r\n\r\n") < 0 && heard(&peer, " 431 "));
	peer_end(&peer);
	/* More than may wait behind an answer that has not gone. */
	peer_begin(&peer);
	http1_feed(peer.http1, span_text("GET /1 HTTP/1.1\r\n" HOST "\r\n"));
	memset(text, 'y', sizeof(text));
	assert_true(http1_feed(peer.http1, span_make(text, 1000)) == 0 && !http1_wants(peer.http1));
	assert_true(http1_feed(peer.http1, span_make(text, sizeof(text) - 1000)) < 0);
	peer_end(&peer);
}

/* On a kept connection as on a new one: the answer before does not stand in the way of a refusal. */
static void a_second_head_is_bounded_too(void **state)
{
	static char text[HTTP1_HEAD_BYTES_MAX + 1];
	struct peer peer;

	memset(text, 'y', HTTP1_HEAD_BYTES_MAX);
	peer_begin(&peer);
	say(&peer, "GET /1 HTTP/1.1\r\n" HOST "\r\nGET /2 HTTP/1.1\r\nx: ");
	assert_true(heard(&peer, "GET/1") && say(&peer, text) < 0 && heard(&peer, " 431 "));
	peer_end(&peer);
}

/* As many as may be ahead, and more that come while these are being answered: each is, in its order. */
static void many_requests_ahead_are_answered_in_order(void **state)
{
	struct buffer ahead = buffer_heap(HTTP1_AHEAD_BYTES), more = buffer_heap(4096), wanted = buffer_heap(1u << 20);
	unsigned count = 0, first;
	char text[100];
	struct peer peer;
	struct span span;

	while (ahead.size + 100 < HTTP1_AHEAD_BYTES / 2) {
		snprintf(text, sizeof(text), "GET /%u HTTP/1.1\r\n" HOST "\r\n", count++);
		buffer_put_text(&ahead, text);
	}
	first = count;
	peer_begin(&peer);
	assert_int_equal(http1_feed(peer.http1, buffer_span(&ahead)), 0);
	for (unsigned turn = 0; (span = http1_output(peer.http1)).size; turn++) {
		buffer_put(&peer.out, span.data, span.size);
		if (turn >= 200)
			continue;
		/* In two pieces, the first of which ends within a head's last four bytes. */
		snprintf(text, sizeof(text), "GET /%u HTTP/1.1\r\n" HOST "\r\n", count++);
		buffer_clear(&more);
		buffer_put_text(&more, text);
		assert_int_equal(http1_feed(peer.http1, span_make(more.data, more.size - 1 - turn % 4)), 0);
		assert_int_equal(http1_feed(peer.http1, span_make(more.data + more.size - 1 - turn % 4, 1 + turn % 4)), 0);
	}
	assert_true(count == first + 200 && peer.closed == count && http1_wants(peer.http1));
	for (unsigned i = 0; i < count; i++) {
		int size = snprintf(text, sizeof(text), "GET/%u", i);

		snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\nGET/%u", size, i);
		buffer_put_text(&wanted, text);
	}
	assert_true(span_equal(buffer_span(&peer.out), buffer_span(&wanted)));
	peer_end(&peer);
	buffer_fini(&ahead);
	buffer_fini(&more);
	buffer_fini(&wanted);
}

/* What is no good answer leaves nothing behind: a good one may follow. */
static void an_answer_without_a_length_is_none(void **state)
{
	struct header headers[] = { { .name = span_text(":status"), .value = span_text("200") },
	                            { .name = span_text("content-length"), .value = span_text("1x") } };
	struct peer peer;

	peer_begin(&peer);
	say(&peer, "PUT / HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n");
	assert_true(stream_headers(peer.stream, headers, 1, false) < 0 && stream_headers(peer.stream, headers, 2, false) < 0);
	fetch(&peer);
	assert_int_equal(peer.out.size, 0);
	say(&peer, "x");
	assert_true(heard(&peer, "PUT/x") && http1_alive(peer.http1));
	peer_end(&peer);
}

static void any_split_is_the_same(void **state)
{
	static const char all[] =
		"PUT /1 HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\n" HOST "\r\n"
		"PUT /3 HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nde\r\n1\r\nf\r\n0\r\nt: u\r\n\r\n"
		"GET /4 HTTP/1.1\r\n" HOST "Connection: close\r\n\r\nnever looked at";
	size_t size = sizeof(all) - 1;
	struct buffer first = { 0 };

	for (size_t split = 0; split <= size; split++) {
		size_t step = split == 0 ? size : split;
		struct peer peer;

		peer_begin(&peer);
		for (size_t at = 0; at < size; at += step) {
			assert_int_equal(http1_feed(peer.http1, span_make(all + at, step < size - at ? step : size - at)), 0);
			fetch(&peer);
		}
		assert_int_equal(peer.closed, 4);
		assert_true(heard(&peer, "PUT/1abc") && heard(&peer, "GET/2") && heard(&peer, "PUT/3def") && heard(&peer, "GET/4"));
		assert_false(http1_alive(peer.http1));
		if (split == 0) {
			first = peer.out;
			peer.out = (struct buffer){ 0 };
		} else {
			assert_true(span_equal(buffer_span(&peer.out), buffer_span(&first)));
		}
		peer_end(&peer);
	}
	buffer_fini(&first);
}

/* ---- an answer that is longer than the out-queue ---- */

struct writer {
	struct stream *stream;
	uint64_t left;
	unsigned turns;
	size_t bytes_max;                /* offered at once */
};

static uint8_t written[3 * HTTP1_OUT_BYTES + 1];

static void writer_step(struct stream *stream)
{
	struct writer *writer = stream->owner;
	size_t offered, taken;

	writer->turns++;
	do {
		offered = writer->left < writer->bytes_max ? writer->left : writer->bytes_max;
		taken = stream_write(stream, span_make(written + sizeof(written) - writer->left, offered));
		assert_true(taken <= offered && stream_untaken(stream) <= HTTP1_OUT_BYTES);
		writer->left -= taken;
	} while (writer->left && taken == offered);
	if (writer->left == 0)
		stream_end(stream);
}

static void writer_on_end(struct stream *stream)
{
	char length[16];
	struct header headers[] = { { .name = span_text(":status"), .value = span_text("200") },
	                            { .name = span_text("content-length"), .value = { (uint8_t *)length, 0 } } };

	headers[1].value.size = (size_t)snprintf(length, sizeof(length), "%zu", sizeof(written));
	assert_int_equal(stream_headers(stream, headers, 2, false), 0);
	assert_int_equal(stream_write(stream, span_make(written, 0)), 0);
	writer_step(stream);
}

static void writer_on_close(struct stream *stream, uint32_t code)
{
	struct writer *writer = stream->owner;

	assert_int_equal(code, 0);
	writer->stream = NULL;
}

static int writer_on_stream(void *owner, struct stream *stream, const struct h2_request *head)
{
	static const struct stream_events writer_events = {
		.on_end = writer_on_end, .on_writable = writer_step, .on_close = writer_on_close,
	};
	struct writer *writer = owner;

	(void)head;
	writer->stream = stream;
	writer->left = sizeof(written);
	stream->events = &writer_events;
	stream->owner = writer;
	return 0;
}

/* It waits for the owner to fetch, is told, and goes on; all arrives, and the next request is answered as well. */
static void a_long_answer_waits_for_room(void **state)
{
	static const struct h2_events writer_h2_events = { .on_stream = writer_on_stream };
	static const size_t offers[] = { sizeof(written), HTTP1_OUT_BYTES, 1000 };

	for (size_t i = 0; i < sizeof(written); i++)
		written[i] = (uint8_t)(i * 2654435761u >> 13);
	for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++) {
		struct writer writer = { .bytes_max = offers[i] };
		struct http1 *http1 = http1_create(&writer_h2_events, &writer);

		for (int request = 0; request < 2; request++) {
			struct buffer out = buffer_heap(2 * sizeof(written));
			struct span span;

			writer.turns = 0;
			assert_int_equal(http1_feed(http1, span_text("GET / HTTP/1.1\r\n" HOST "\r\n")), 0);
			while ((span = http1_output(http1)).size)
				buffer_put(&out, span.data, span.size);
			assert_true(writer.turns >= 3 && !writer.stream && http1_alive(http1));
			assert_true(out.size > sizeof(written));
			assert_memory_equal(out.data + out.size - sizeof(written), written, sizeof(written));
			buffer_fini(&out);
		}
		assert_true(http1_copied_bytes(http1) == 2 * sizeof(written));
		http1_destroy(http1);
	}
}

static void a_body_that_nobody_takes_stops_the_peer(void **state)
{
	static uint8_t body[HTTP1_WINDOW_BYTES];
	char head[100];
	struct peer peer;
	size_t before;

	peer_begin(&peer);
	peer.keeps = true;
	snprintf(head, sizeof(head), "PUT / HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n", sizeof(body) + 1);
	say(&peer, head);
	http1_feed(peer.http1, span_make(body, sizeof(body) - 1));
	assert_true(http1_wants(peer.http1));
	http1_feed(peer.http1, span_make(body, 1));
	assert_false(http1_wants(peer.http1));
	fetch(&peer);
	before = peer.outputs;
	stream_consumed(peer.stream, 1);
	assert_true(http1_wants(peer.http1) && peer.outputs == before + 1);
	/* What its consumer keeps when it ends stops no other request. */
	buffer_clear(&peer.answer);
	http1_feed(peer.http1, span_make(body, 1));
	assert_false(http1_wants(peer.http1));
	fetch(&peer);
	assert_true(peer.closed == 1 && http1_wants(peer.http1));
	peer.keeps = false;
	assert_int_equal(say(&peer, "GET /2 HTTP/1.1\r\n" HOST "\r\n"), 0);
	assert_true(heard(&peer, "GET/2"));
	peer_end(&peer);
}

static void who_waits_is_told_to_go_on(void **state)
{
	struct peer peer;

	peer_begin(&peer);
	say(&peer, "PUT / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\n");
	assert_int_equal(peer.out.size, 0);
	stream_consumed(peer.stream, 0);
	stream_consumed(peer.stream, 0);
	fetch(&peer);
	assert_true(span_is(buffer_span(&peer.out), "HTTP/1.1 100 Continue\r\n\r\n"));
	say(&peer, "x");
	assert_true(heard(&peer, "PUT/x") && http1_alive(peer.http1));
	/* So is the next one. */
	peer.out.size = 0;
	say(&peer, "PUT / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\n");
	stream_consumed(peer.stream, 0);
	fetch(&peer);
	assert_true(span_is(buffer_span(&peer.out), "HTTP/1.1 100 Continue\r\n\r\n"));
	peer_end(&peer);
	/* Who is answered first is told that nothing is read any more. */
	peer_begin(&peer);
	say(&peer, "PUT / HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n");
	on_end(peer.stream);
	fetch(&peer);
	assert_true(heard(&peer, "connection: close\r\n") && !http1_alive(peer.http1) && peer.closed == 1);
	peer_end(&peer);
}

/* One without a body says so; and nothing follows one that has begun, not even what is wrong with the rest of the request. */
static void an_answer_is_one_answer(void **state)
{
	const struct header gone[] = { { .name = span_text(":status"), .value = span_text("404") } };
	struct peer peer;

	peer_begin(&peer);
	say(&peer, "PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
	assert_int_equal(stream_headers(peer.stream, gone, 1, true), 0);
	assert_true(stream_headers(peer.stream, gone, 1, true) < 0);
	assert_int_equal(stream_write(peer.stream, span_text("x")), 0);
	assert_true(http1_feed(peer.http1, span_text("no size\r\n")) < 0);
	fetch(&peer);
	assert_true(span_is(buffer_span(&peer.out), "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
	assert_false(http1_alive(peer.http1));
	peer_end(&peer);
}

static bool announced(struct peer *peer)
{
	size_t outputs = peer->outputs;

	fetch(peer);
	peer->outputs = 0;
	return outputs == 1;
}

/* Whatever a consumer does while nothing else goes on: the owner has nobody else to learn it from. */
static void each_operation_is_announced(void **state)
{
	struct header headers[] = { { .name = span_text(":status"), .value = span_text("200") },
	                            { .name = span_text("content-length"), .value = span_text("1") } };
	struct peer peer;

	peer_begin(&peer);
	say(&peer, "PUT / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\n");
	stream_consumed(peer.stream, 0);
	assert_true(announced(&peer));
	assert_int_equal(stream_headers(peer.stream, headers, 2, false), 0);
	assert_true(announced(&peer));
	assert_int_equal(stream_write(peer.stream, span_text("x")), 1);
	assert_true(announced(&peer));
	stream_end(peer.stream);
	assert_true(announced(&peer) && peer.closed == 1);
	peer_end(&peer);
	peer_begin(&peer);
	say(&peer, "PUT / HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n");
	stream_reset(peer.stream, 8);
	assert_true(announced(&peer) && peer.closed == 1);
	peer_end(&peer);
	peer_begin(&peer);
	http1_drain(peer.http1);
	assert_true(announced(&peer) && !http1_alive(peer.http1));
	peer_end(&peer);
}

static void it_ends_when_it_should(void **state)
{
	struct peer peer;

	peer_begin(&peer);
	say(&peer, "GET /1 HTTP/1.1\r\n" HOST "\r\nGET");
	assert_true(http1_alive(peer.http1) && http1_unfinished(peer.http1) && http1_streams_count(peer.http1) == 0);
	http1_drain(peer.http1);
	assert_false(http1_alive(peer.http1));
	peer_end(&peer);
	/* One that is under way is answered first. */
	peer_begin(&peer);
	say(&peer, "PUT /1 HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n");
	http1_drain(peer.http1);
	assert_true(http1_alive(peer.http1));
	say(&peer, "x");
	assert_true(heard(&peer, "connection: close\r\n") && heard(&peer, "PUT/1x") && !http1_alive(peer.http1));
	peer_end(&peer);
	/* Given up by its consumer, or by the carrier. */
	peer_begin(&peer);
	say(&peer, "PUT /1 HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n");
	stream_reset(peer.stream, 8);
	assert_int_equal(peer.closed, 0);
	fetch(&peer);
	assert_true(peer.closed == 1 && peer.code == 8 && !http1_alive(peer.http1) && peer.out.size == 0);
	peer_end(&peer);
	/* Then it hears of nothing else, whatever came with what made it give up. */
	peer_begin(&peer);
	peer.resets = true;
	say(&peer, "PUT /1 HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n1\r\ny\r\n0\r\n\r\n");
	assert_true(peer.kept == 1 && peer.closed == 1 && peer.code == 8 && !http1_alive(peer.http1));
	peer_end(&peer);
	peer_begin(&peer);
	say(&peer, "PUT /1 HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n");
	http1_carrier_closed(peer.http1);
	assert_true(peer.closed == 1 && peer.code == H2_CARRIER_CLOSED);
	peer_end(&peer);
}

static void paths_of_the_cache(void **state)
{
	static const struct {
		const char *path, *instance;
		bool good, result;
	} rows[] = {
		{ "/cas/" HASH, "", true, false }, { "/ac/" HASH, "", true, true }, { "/a/b/cas/" HASH, "a/b", true, false },
		{ "/cas/ac/" HASH, "cas", true, true }, { "/cas/" HASH "0", "", false, false }, { "/cas" HASH, "", false, false },
		{ "cas/" HASH, "", false, false }, { "//cas/" HASH, "", false, false }, { "x/cas/" HASH, "", false, false },
		{ "/xcas/" HASH, "", false, false }, { "/" HASH, "", false, false }, { HASH, "", false, false }, { "/", "", false, false },
		{ "/ac/ABCDEF6789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "", false, false },
		/* As sccache has them. */
		{ "/ac//0/1/2/" HASH, "", true, true }, { "/ac/0/1/2/" HASH, "", true, true }, { "/a/b/ac//0/1/2/" HASH, "a/b", true, true },
		{ "/ac//" HASH, "", true, true }, { "/ac///0/1/2/" HASH, "", false, false }, { "/ac//0/1/2/3/" HASH, "", false, false },
		{ "/ac//0/1/x/" HASH, "", false, false }, { "/ac//0/12/" HASH, "", false, false }, { "/cas//0/1/2/" HASH, "", false, false },
		{ "/cas//" HASH, "", false, false }, { "//0/1/2/" HASH, "", false, false }, { "0/" HASH, "", false, false },
	};
	static const struct {
		const char *path, *instance;
		bool good, folder;
	} others[] = {
		{ "/ac/", "", true, true }, { "/ac//", "", true, true }, { "/ac//8/2/", "", true, true }, { "/x/ac//8/", "x", true, true },
		{ "/ac//.sccache_check", "", true, false }, { "/ac/.sccache_check", "", true, false }, { "/x/ac//.sccache_check", "x", true, false },
		{ "/cas/", "", false, false }, { "/cas/.sccache_check", "", false, false }, { ".sccache_check", "", false, false },
		{ "//", "", false, false }, { "", "", false, false }, { "ac/", "", false, false }, { "/ac//8/2/7/1/", "", false, false },
	};
	struct cache_path path;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (cache_path_parse(&path, span_text(rows[i].path)) != rows[i].good)
			fail_msg("%s", rows[i].path);
		if (rows[i].good)
			assert_true(span_is(path.instance, rows[i].instance) && path.result == rows[i].result &&
			            path.digest.hash[1] == 0x23 && !path.folder);
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		if (cache_path_parse(&path, span_text(others[i].path)) != others[i].good)
			fail_msg("%s", others[i].path);
		if (others[i].good)
			assert_true(span_is(path.instance, others[i].instance) && path.result && path.folder == others[i].folder);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_heads_are_taken),
		cmocka_unit_test(bad_ones_are_refused_with_their_status),
		cmocka_unit_test(bounds_hold),
		cmocka_unit_test(a_second_head_is_bounded_too),
		cmocka_unit_test(many_requests_ahead_are_answered_in_order),
		cmocka_unit_test(an_answer_without_a_length_is_none),
		cmocka_unit_test(any_split_is_the_same),
		cmocka_unit_test(a_long_answer_waits_for_room),
		cmocka_unit_test(a_body_that_nobody_takes_stops_the_peer),
		cmocka_unit_test(who_waits_is_told_to_go_on),
		cmocka_unit_test(an_answer_is_one_answer),
		cmocka_unit_test(each_operation_is_announced),
		cmocka_unit_test(it_ends_when_it_should),
		cmocka_unit_test(paths_of_the_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
