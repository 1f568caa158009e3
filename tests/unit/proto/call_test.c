/*
 * Shows gRPC calls between two engines in memory: the four shapes, in every split; compression and its refusals; size
 * limits; truncation; hold and release; back-pressure of messages larger than any queue; status texts; who learns what
 * when an end goes away.
 */
#include "h2_pair.h"

#include "proto/call.h"
#include "proto/zstd_message.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MESSAGE_MAX ((size_t)1 << 20)

struct end;
typedef void (*end_event)(struct end *end, char event, struct span message);

/* One end of a call: what it heard. */
struct end {
	struct call call;
	char log[256];                           /* "M" message, "E" end, "W" writable, "C" closed */
	struct buffer messages;                  /* "<text>|" each, of the short ones */
	size_t count, bytes;
	enum grpc_status status;
	char status_text[600];
	bool closed;
	end_event on_event;
};

static struct h2_pair pair;
static bool keep_call;                           /* on_closed does not end it */
static struct end server_end;
static end_event server_behaviour;
static size_t server_message_max;
static struct grpc_request server_request;
static char server_path[64];

static void heard(struct end *end, char event, struct span message)
{
	size_t used = strlen(end->log);

	if (used + 1 < sizeof(end->log))
		end->log[used] = event;
	if (end->on_event)
		end->on_event(end, event, message);
}

static void end_on_message(struct call *call, struct span message)
{
	struct end *end = call->owner;
	/* A copy of just that size: a sanitizer sees a message that is not all there. */
	uint8_t *copy = malloc(message.size + 1);

	if (message.size)
		memcpy(copy, message.data, message.size);
	end->count++;
	end->bytes += message.size;
	if (message.size < 64) {
		buffer_put(&end->messages, copy, message.size);
		buffer_put_text(&end->messages, "|");
	}
	heard(end, 'M', span_make(copy, message.size));
	free(copy);
}

static void end_on_end(struct call *call)
{
	heard(call->owner, 'E', span_make(NULL, 0));
}

static void end_on_writable(struct call *call)
{
	heard(call->owner, 'W', span_make(NULL, 0));
}

static void end_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct end *end = call->owner;

	assert_false(end->closed);
	assert_null(call->stream);
	end->closed = true;
	end->status = status;
	snprintf(end->status_text, sizeof(end->status_text), "%.*s", (int)message.size, (const char *)message.data);
	heard(end, 'C', message);
	if (!keep_call)
		call_fini(call);
}

static const struct call_events end_events = {
	.on_message = end_on_message, .on_end = end_on_end, .on_writable = end_on_writable, .on_closed = end_on_closed,
};

static void end_init(struct end *end, end_event on_event)
{
	*end = (struct end){ .messages = buffer_heap(1 << 20), .on_event = on_event };
}

static int accept_call(void *owner, struct stream *stream, const struct h2_request *request)
{
	if (!grpc_request_parse(&server_request, request))
		return -EINVAL;
	snprintf(server_path, sizeof(server_path), "%.*s", (int)request->path.size, (const char *)request->path.data);
	end_init(&server_end, server_behaviour);
	assert_null(call_of(stream));
	call_accept(&server_end.call, stream, &server_request, server_message_max, &end_events, &server_end);
	assert_ptr_equal(call_of(stream), &server_end.call);
	return 0;
}

static const struct h2_events call_server_events = { .on_stream = accept_call };

static void start_with(struct end *end, end_event server, end_event client, const struct header *metadata, size_t count,
                       const struct h2_config *client_config, const struct h2_config *server_config)
{
	struct h2_config config = server_config ? *server_config : (struct h2_config){ 0 };

	config.events = &call_server_events;
	server_behaviour = server;
	if (!server_message_max)
		server_message_max = MESSAGE_MAX;
	h2_pair_init(&pair, client_config, &config);
	h2_pair_pump(&pair);
	end_init(end, client);
	assert_int_equal(call_start(&end->call, pair.client, "/test.Test/Do", span_text("host"), 0, metadata, count,
	                            MESSAGE_MAX, &end_events, end), 0);
}

static void start(struct end *end, end_event server, end_event client)
{
	start_with(end, server, client, NULL, 0, NULL, NULL);
}

static void finish(struct end *end)
{
	h2_pair_fini(&pair);
	assert_true(end->closed);
	buffer_fini(&end->messages);
	buffer_fini(&server_end.messages);
	end_init(&server_end, NULL);
	server_message_max = 0;
}

static void assert_messages(const struct end *end, const char *text)
{
	assert_int_equal(end->messages.size, strlen(text));
	assert_memory_equal(end->messages.data, text, strlen(text));
}

static void send_text(struct call *call, const char *text)
{
	assert_int_equal(call_send(call, span_text(text), 0), CALL_SENT);
}

/* Echoes each message, ends with OK at the end. */
static void server_echo(struct end *end, char event, struct span message)
{
	if (event == 'M')
		assert_int_equal(call_send(&end->call, message, 3), CALL_SENT);
	if (event == 'E')
		call_finish(&end->call, GRPC_OK, NULL);
}

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

static void hold_first(struct end *end, char event, struct span message)
{
	if (event == 'M' && end->count == 1)
		call_hold(&end->call);
}

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
	call_release(&server_end.call);
	h2_pair_pump(&pair);
	assert_string_equal(end.log, "W");
	assert_int_equal(server_end.count, 1 + sent);
	call_cancel(&end.call);
	assert_false(call_has_room(&end.call));
	assert_int_equal(call_send_parts(&end.call, two, 2), CALL_CLOSED);
	h2_pair_pump(&pair);
	finish(&end);
	free(large);
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

static void server_refuse(struct end *end, char event, struct span message)
{
	if (event == 'M') {
		call_finishf(&end->call, GRPC_NOT_FOUND, "no 100%% sure \"%s\"\n", "gr\xc3\xbc\xc3\x9f" "e");
		call_finish(&end->call, GRPC_OK, "once only");
	}
}

/* "Trailers only", and a text that must be percent-encoded. */
static void test_status_text(void **state)
{
	struct end end;

	start(&end, server_refuse, NULL);
	send_text(&end.call, "x");
	call_end(&end.call);
	h2_pair_pump(&pair);
	assert_int_equal(end.status, GRPC_NOT_FOUND);
	assert_string_equal(end.status_text, "no 100% sure \"gr\xc3\xbc\xc3\x9f" "e\"\n");
	finish(&end);
}

static void server_long_text(struct end *end, char event, struct span message)
{
	char text[2000];

	memset(text, '%', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	if (event == 'E') {
		send_text(&end->call, "x");
		call_finish(&end->call, GRPC_ABORTED, text);
	}
}

static void test_long_status_text_is_cut(void **state)
{
	struct end end;

	start(&end, server_long_text, NULL);
	call_end(&end.call);
	h2_pair_pump(&pair);
	assert_int_equal(end.status, GRPC_ABORTED);
	assert_int_equal(strlen(end.status_text), CALL_STATUS_TEXT_MAX);
	assert_messages(&end, "x|");
	finish(&end);
}

static const struct header zstd_metadata[] = { HEADER("grpc-encoding", "zstd") };

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

static void test_unknown_compressor(void **state)
{
	static const struct header gzip[] = { HEADER("grpc-encoding", "gzip") };
	struct end end;

	start_with(&end, server_echo, NULL, gzip, 1, NULL, NULL);
	send_text(&end.call, "x");
	call_end(&end.call);
	h2_pair_pump(&pair);
	assert_int_equal(end.status, GRPC_UNIMPLEMENTED);
	assert_non_null(strstr(end.status_text, "zstd"));
	assert_string_equal(server_end.log, "C");        /* no message reached the owner */
	finish(&end);
}

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

/* ---- hold ---- */

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

/* ---- answers of servers that are none of ours ---- */

static const struct header *foreign_headers, *foreign_trailers;
static size_t foreign_headers_count, foreign_trailers_count;
static const char *foreign_body;

static void foreign_answer(struct probe *probe, char event)
{
	if (event != 'E')
		return;
	stream_headers(probe->stream, foreign_headers, foreign_headers_count, !foreign_body && !foreign_trailers);
	if (foreign_body)
		stream_write(probe->stream, span_text(foreign_body));
	if (foreign_trailers)
		stream_trailers(probe->stream, foreign_trailers, foreign_trailers_count);
	else
		stream_end(probe->stream);
}

static void foreign_accept(struct probe *probe, const struct h2_request *request)
{
	probe->on_event = foreign_answer;
}

static void foreign_case(const struct header *headers, size_t headers_count, const char *body,
                         const struct header *trailers, size_t trailers_count, enum grpc_status status, const char *text)
{
	struct end end;

	foreign_headers = headers;
	foreign_headers_count = headers_count;
	foreign_body = body;
	foreign_trailers = trailers;
	foreign_trailers_count = trailers_count;
	h2_pair_init(&pair, NULL, NULL);
	pair.on_stream = foreign_accept;
	end_init(&end, NULL);
	assert_int_equal(call_start(&end.call, pair.client, "/x/y", span_text("h"), 0, NULL, 0, MESSAGE_MAX, &end_events,
	                            &end), 0);
	call_end(&end.call);
	h2_pair_pump(&pair);
	assert_true(end.closed);
	assert_int_equal(end.status, status);
	assert_string_equal(end.status_text, text);
	assert_int_equal(end.count, 0);
	finish(&end);
}

static void test_foreign_answers(void **state)
{
	static const struct header grpc[] = { HEADER(":status", "200"), HEADER("content-type", "application/grpc") };
	static const struct header html[] = { HEADER(":status", "200"), HEADER("content-type", "text/html") };
	static const struct header gone[] = { HEADER(":status", "503"), HEADER("content-type", "text/html") };
	static const struct header denied[] = { HEADER(":status", "403") };
	static const struct header only[] = { HEADER(":status", "200"), HEADER("content-type", "application/grpc"),
		                              HEADER("grpc-status", "5"), HEADER("grpc-message", "a%20b%zz%") };
	static const struct header gzip[] = { HEADER(":status", "200"), HEADER("content-type", "application/grpc"),
		                              HEADER("grpc-encoding", "gzip") };
	static const struct header strange[] = { HEADER("grpc-status", "99") };
	static const struct header wrong[] = { HEADER("grpc-status", "x") };
	static const struct header ok[] = { HEADER("grpc-status", "0") };

	foreign_case(gone, 2, "<p>", NULL, 0, GRPC_UNAVAILABLE, "the server answered HTTP 503");
	foreign_case(denied, 1, NULL, NULL, 0, GRPC_PERMISSION_DENIED, "the server answered HTTP 403");
	foreign_case(html, 2, "<p>", NULL, 0, GRPC_UNKNOWN, "the answer is not application/grpc");
	foreign_case(only, 4, NULL, NULL, 0, GRPC_NOT_FOUND, "a b%zz%");
	foreign_case(grpc, 2, NULL, strange, 1, GRPC_UNKNOWN, "");
	foreign_case(grpc, 2, NULL, wrong, 1, GRPC_UNKNOWN, "");
	foreign_case(grpc, 2, NULL, NULL, 0, GRPC_INTERNAL, "stream ended without a status");
	foreign_case(grpc, 2, NULL, ok, 1, GRPC_OK, "");
	foreign_case(grpc, 2, "\1", ok, 1, GRPC_INTERNAL, "stream ended inside a message (truncated)");
	foreign_case(gzip, 3, NULL, ok, 1, GRPC_UNIMPLEMENTED, "unknown grpc-encoding; accepted are identity,zstd");
}

static void premature_ok(struct probe *probe, char event)
{
	static const struct header headers[] = {
		HEADER(":status", "200"), HEADER("content-type", "application/grpc"), HEADER("grpc-status", "0"),
	};

	if (event == 'E')
		stream_headers(probe->stream, headers, 3, false);
}

static void premature_accept(struct probe *probe, const struct h2_request *request)
{
	probe->on_event = premature_ok;
}

/* OK is believed at the end of the stream only: a server that says so first and then breaks off has not done its work. */
static void test_ok_before_the_end_is_no_ok(void **state)
{
	struct end end;

	h2_pair_init(&pair, NULL, NULL);
	pair.on_stream = premature_accept;
	end_init(&end, NULL);
	assert_int_equal(call_start(&end.call, pair.client, "/x/y", span_text("h"), 0, NULL, 0, MESSAGE_MAX, &end_events,
	                            &end), 0);
	call_end(&end.call);
	h2_pair_pump(&pair);
	assert_false(end.closed);
	h2_carrier_closed(pair.client);
	assert_int_equal(end.status, GRPC_UNAVAILABLE);
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

/* The request as a server reads it. */
static void test_request_headers(void **state)
{
	static const struct header metadata[] = { HEADER("authorization", "Bearer x"), HEADER("x-thing", "1") };
	struct header many[STREAM_HEADERS_MAX];
	struct end end;

	h2_pair_init(&pair, NULL, &(struct h2_config){ .events = &call_server_events });
	server_behaviour = server_echo;
	server_message_max = MESSAGE_MAX;
	end_init(&end, NULL);
	for (size_t i = 0; i < STREAM_HEADERS_MAX; i++)
		many[i] = metadata[1];
	assert_int_equal(call_start(&end.call, pair.client, "/p/m", span_text("h"), 0, many, STREAM_HEADERS_MAX, MESSAGE_MAX,
	                            &end_events, &end), -EINVAL);
	assert_int_equal(call_start(&end.call, pair.client, "/p/m", span_text("h"), 1500000000, metadata, 2, MESSAGE_MAX,
	                            &end_events, &end), 0);
	call_end(&end.call);
	h2_pair_pump(&pair);
	assert_string_equal(server_path, "/p/m");
	assert_int_equal(server_request.timeout_ns, 1500000000);
	assert_true(server_request.accepts_zstd);
	assert_false(server_request.sends_zstd);
	finish(&end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes_in_every_split),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_shut),
		cmocka_unit_test(test_client_streaming),
		cmocka_unit_test(test_server_streaming),
		cmocka_unit_test(test_status_text),
		cmocka_unit_test(test_long_status_text_is_cut),
		cmocka_unit_test(test_zstd_messages),
		cmocka_unit_test(test_no_zstd_unasked),
		cmocka_unit_test(test_unknown_compressor),
		cmocka_unit_test(test_refused_messages),
		cmocka_unit_test(test_client_refuses_large_message),
		cmocka_unit_test(test_hold_server),
		cmocka_unit_test(test_hold_client),
		cmocka_unit_test(test_cancel_while_closing),
		cmocka_unit_test(test_hold_is_back_pressure),
		cmocka_unit_test(test_finished_server_swallows),
		cmocka_unit_test(test_backlog_does_not_pile_up),
		cmocka_unit_test(test_large_messages),
		cmocka_unit_test(test_end_behind_pending),
		cmocka_unit_test(test_message_by_and_by),
		cmocka_unit_test(test_cancel_by_client),
		cmocka_unit_test(test_late_release),
		cmocka_unit_test(test_reset_by_server),
		cmocka_unit_test(test_connection_lost),
		cmocka_unit_test(test_foreign_answers),
		cmocka_unit_test(test_ok_before_the_end_is_no_ok),
		cmocka_unit_test(test_server_ends_without_reset),
		cmocka_unit_test(test_messages_in_parts),
		cmocka_unit_test(test_parts_of_a_backlog),
		cmocka_unit_test(test_messages_are_kept),
		cmocka_unit_test(test_request_headers),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	h2_pair_pieces = true;
	return failed + cmocka_run_group_tests_name("pieces", tests, NULL, NULL);
}
