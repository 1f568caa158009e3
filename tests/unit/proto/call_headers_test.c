/*
 * Shows the headers and trailers of calls: what a server reads in a request, how status texts arrive, and what a client
 * makes of the answers of servers that are none of ours.
 */
#include "call_fixture.h"

#include <errno.h>

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

/* ---- status texts ---- */

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

/* 510 bytes, and a character that would be cut. */
static const char *text_at_the_edge(void)
{
	static char text[CALL_STATUS_TEXT_MAX + 10];

	memset(text, 'a', CALL_STATUS_TEXT_MAX - 1);
	memcpy(text + CALL_STATUS_TEXT_MAX - 1, "\xf0\x9f\x98\x80z", 6);
	return text;
}

static void server_text_at_the_edge(struct end *end, char event, struct span message)
{
	if (event == 'E')
		call_finish(&end->call, GRPC_ABORTED, text_at_the_edge());
}

static void server_format_at_the_edge(struct end *end, char event, struct span message)
{
	if (event == 'E')
		call_finishf(&end->call, GRPC_ABORTED, "%s", text_at_the_edge());
}

static void server_no_text(struct end *end, char event, struct span message)
{
	if (event == 'E')
		call_finishf(&end->call, GRPC_ABORTED, "a file called %s", "gr\xc3\xbc\xdf" "e");
}

/* A status may end up in a string of a message, which strict readers refuse when it is no UTF-8: it always is. */
static void test_status_text_is_text(void **state)
{
	static const end_event servers[] = { server_text_at_the_edge, server_format_at_the_edge, server_no_text };

	for (size_t i = 0; i < sizeof(servers) / sizeof(servers[0]); i++) {
		struct end end;

		start(&end, servers[i], NULL);
		call_end(&end.call);
		h2_pair_pump(&pair);
		assert_int_equal(end.status, GRPC_ABORTED);
		if (i == 2)
			assert_string_equal(end.status_text, "a file called gr\xc3\xbc?e");
		else
			assert_int_equal(strlen(end.status_text), CALL_STATUS_TEXT_MAX - 1);
		finish(&end);
	}
}

static void server_refuse_at_length(struct end *end, char event, struct span message)
{
	char text[CALL_STATUS_TEXT_MAX + 1];

	memset(text, '%', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	if (event == 'E')
		call_finish(&end->call, GRPC_ABORTED, text);
}

/* A status, encoded three times as long, that may not be sent, with no headers before it: the peer does not wait for ever. */
static void test_status_that_does_not_fit(void **state)
{
	const struct h2_config narrow = { .server = true, .header_list_bytes_max = 1024 };
	struct end end;

	start_with(&end, server_refuse_at_length, NULL, NULL, 0, NULL, &narrow);
	call_end(&end.call);
	h2_pair_pump(&pair);
	assert_true(end.closed);
	assert_int_equal(end.status, GRPC_CANCELLED);
	assert_true(server_end.closed);
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
	static const struct header bytes[] = { HEADER("grpc-status", "9"), HEADER("grpc-message", "%FFx%C3%BC") };
	const struct header edge[] = { HEADER("grpc-status", "9"), { span_text("grpc-message"), span_text(text_at_the_edge()) } };
	char cut[CALL_STATUS_TEXT_MAX] = "";
	static const struct header strange[] = { HEADER("grpc-status", "99") };
	static const struct header wrong[] = { HEADER("grpc-status", "x") };
	static const struct header ok[] = { HEADER("grpc-status", "0") };

	foreign_case(gone, 2, "<p>", NULL, 0, GRPC_UNAVAILABLE, "the server answered HTTP 503");
	foreign_case(denied, 1, NULL, NULL, 0, GRPC_PERMISSION_DENIED, "the server answered HTTP 403");
	foreign_case(html, 2, "<p>", NULL, 0, GRPC_UNKNOWN, "the answer is not application/grpc");
	foreign_case(only, 4, NULL, NULL, 0, GRPC_NOT_FOUND, "a b%zz%");
	foreign_case(grpc, 2, NULL, bytes, 2, GRPC_FAILED_PRECONDITION, "?x\xc3\xbc");
	memcpy(cut, text_at_the_edge(), CALL_STATUS_TEXT_MAX - 1);
	foreign_case(grpc, 2, NULL, edge, 2, GRPC_FAILED_PRECONDITION, cut);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request_headers),
		cmocka_unit_test(test_unknown_compressor),
		cmocka_unit_test(test_status_text),
		cmocka_unit_test(test_long_status_text_is_cut),
		cmocka_unit_test(test_status_text_is_text),
		cmocka_unit_test(test_status_that_does_not_fit),
		cmocka_unit_test(test_foreign_answers),
		cmocka_unit_test(test_ok_before_the_end_is_no_ok),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	h2_pair_pieces = true;
	return failed + cmocka_run_group_tests_name("pieces", tests, NULL, NULL);
}
