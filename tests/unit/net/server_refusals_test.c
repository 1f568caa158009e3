/*
 * Shows what a server does with what is no call of its own: no gRPC, no such method, no HTTP/2, frames that are wrong; on real
 * sockets, over both ring engines.
 */
#include "tests/unit/net/server_rig.h"

#include <string.h>
#include <unistd.h>

static const struct header grpc_headers[] = {
	{ .name = { (const uint8_t *)"content-type", 12 }, .value = { (const uint8_t *)"application/grpc", 16 } },
};

static void refusals_are_answers(void **state)
{
	struct header compressed[] = { grpc_headers[0], { .name = span_text("grpc-encoding"), .value = span_text("gzip") } };
	struct wire_answer answer;
	struct echo echo;
	int fd;

	rig_start(&echo, state, (struct echo_config){ 0 });
	fd = wire_connect(echo.bound);
	wire_request(fd, "GET", "/", NULL, 0, &answer);
	assert_string_equal(answer.status, "415");
	close(fd);
	fd = wire_connect(echo.bound);
	wire_request(fd, "POST", "/test.Echo/Nothing", grpc_headers, 1, &answer);
	assert_string_equal(answer.status, "200");
	assert_string_equal(answer.grpc_status, "12");
	assert_string_equal(answer.grpc_message, "unknown method /test.Echo/Nothing");
	close(fd);
	fd = wire_connect(echo.bound);
	wire_request(fd, "POST", "/test.Echo/Unary", compressed, 2, &answer);
	assert_string_equal(answer.grpc_status, "12");
	assert_string_equal(answer.accept_encoding, "identity,zstd");
	assert_non_null(strstr(answer.grpc_message, "identity,zstd"));
	close(fd);
	fd = wire_connect(echo.bound);
	wire_request(fd, "POST", "/test.Echo/Refuse", grpc_headers, 1, &answer);
	assert_string_equal(answer.grpc_status, "7");
	assert_string_equal(answer.grpc_message, "not you, 100 %25 sure");
	close(fd);
	echo_stop(&echo);
}

/* The body of a refused request is dropped, and the connection stays good. */
static void a_refused_body_is_dropped(void **state)
{
	static uint8_t piece[1 << 20];
	struct client_call *call;
	struct client *client;
	struct span answer;
	struct echo echo;
	const char *text;
	int r = CLIENT_OK;

	rig_start(&echo, state, (struct echo_config){ 0 });
	client = rig_client(&echo);
	for (unsigned round = 0; round < 20; round++) {
		assert_int_equal(client_call_open(&call, client, "/test.Echo/Nothing", NULL, 0), 0);
		for (unsigned i = 0; i < 20 && r == CLIENT_OK; i++)
			r = client_send(call, span_make(piece, sizeof(piece)), 0);
		r = client_receive(call, &answer, UINT64_MAX);
		assert_int_equal(r, CLIENT_END);
		assert_int_equal(client_call_status(call, &text), GRPC_UNIMPLEMENTED);
		client_call_close(call);
		r = CLIENT_OK;
	}
	assert_int_equal(client_unary(client, "/test.Echo/Unary", span_text("x"), &call, &answer), CLIENT_OK);
	client_call_close(call);
	client_close(client);
	echo_stop(&echo);
}

static void garbage_is_cut_off(void **state)
{
	static const struct span garbage[] = {
		{ (const uint8_t *)"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27 },
		{ (const uint8_t *)"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11 },
		{ (const uint8_t *)"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\1\6\0\0\0\0\0x", 34 },
		{ (const uint8_t *)"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 26 },
	};
	struct echo echo;
	size_t i;

	rig_start(&echo, state, (struct echo_config){ 0 });
	for (i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		int fd = wire_connect(echo.bound);

		wire_send(fd, garbage[i]);
		wire_drain(fd);
		close(fd);
	}
	echo_until(&echo, rig_connections_are, 0);
	assert_int_equal(echo_status(&echo).handshake_failures + echo_status(&echo).protocol_faults, i);
	assert_int_equal(echo_status(&echo).handshake_timeouts, 0);
	echo_stop(&echo);
}

/* What nghttp2 refuses on its own is known only when its GOAWAY goes out: such a connection was not drained. */
static void late_faults_are_faults(void **state)
{
#define FRAME(bytes) { (const uint8_t *)(bytes), sizeof(bytes) - 1 }
	static const struct {
		const char *what;
		struct span frame;
	} faults[] = {
		{ "a window's increment of 0", FRAME("\0\0\4\10\0\0\0\0\0\0\0\0\0") },
		{ "a window above its maximum", FRAME("\0\0\4\10\0\0\0\0\0\x7f\xff\xff\xff") },
		{ "DATA on an idle stream", FRAME("\0\0\1\0\0\0\0\0\1x") },
		{ "RST_STREAM of an idle stream", FRAME("\0\0\4\3\0\0\0\0\1\0\0\0\0") },
		{ "HEADERS of an even stream", FRAME("\0\0\1\1\5\0\0\0\2\x82") },
		{ "PING on a stream", FRAME("\0\0\10\6\0\0\0\0\1\0\0\0\0\0\0\0\0") },
	};
	struct server_status status;
	struct echo echo;

	rig_start(&echo, state, (struct echo_config){ 0 });
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		int fd = wire_connect(echo.bound);

		wire_send(fd, wire_preface);
		wire_send(fd, faults[i].frame);
		assert_true(wire_drain(fd) > 0);
		close(fd);
		status = echo_until(&echo, rig_connections_are, 0);
		if (status.protocol_faults != i + 1)
			fail_msg("%s: %llu faults", faults[i].what, (unsigned long long)status.protocol_faults);
		assert_int_equal(status.handshake_failures, 0);
	}
	echo_stop(&echo);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_BOTH(refusals_are_answers),
		RIG_BOTH(a_refused_body_is_dropped),
		RIG_BOTH(garbage_is_cut_off),
		RIG_BOTH(late_faults_are_faults),
	};

	return cmocka_run_group_tests(tests, rig_quiet, NULL);
}
