/*
 * Shows how a server treats what its peers do, on real sockets, over both ring engines: those that say nothing or too
 * slowly, too many of them, no gRPC, no HTTP/2; peers that vanish; its own orderly end; and that nothing is left behind
 * after a thousand connections. Time-outs are set short; the tests wait for their effect, not for time.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>
#include "gateway/base/log.h"
#include "gateway/client/client.h"
#include "gateway/ring/selftest.h"
#include "proto/http1.h"
#include "tests/unit/net/echo.h"
#include "tests/unit/net/keys.h"
#include "tests/unit/net/wire.h"

#define MS 1000000ull

static const struct header grpc_headers[] = {
	{ .name = { (const uint8_t *)"content-type", 12 }, .value = { (const uint8_t *)"application/grpc", 16 } },
};

static void start(struct echo *echo, void **state, struct echo_config config)
{
	config.engine = *(const enum ring_engine *)*state;
	if (!echo_start(echo, &config))
		fail_msg("%s", echo->why);
}

static struct client *begin(const struct echo *echo)
{
	struct client_config config = { .fd = -1, .engine = (int)echo->config.engine };
	struct client *client = NULL;
	char why[256] = "";

	if (!address_parse(&config.address, echo->bound, why, sizeof(why)) ||
	    client_open_begin(&client, &config, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return client;
}

static struct client *open_client(const struct echo *echo)
{
	struct client *client = begin(echo);
	char why[256] = "";

	if (client_open_finish(client, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return client;
}

static bool connections_are(const struct server_status *status, uint64_t value)
{
	return status->connections == value;
}

/* All came, and one is left: some may not be accepted yet when the others have gone. */
static bool one_is_left_of(const struct server_status *status, uint64_t value)
{
	return status->connections_total == value && status->connections == 1;
}

static bool stalls_are(const struct server_status *status, uint64_t value)
{
	return status->stalls == value && status->connections == 0;
}

static bool streams_are(const struct server_status *status, uint64_t value)
{
	return status->streams == value;
}

/* ---- time-outs ---- */

static void silence_is_cut_off(void **state)
{
	struct echo echo;
	int fd;

	start(&echo, state, (struct echo_config){ .handshake_timeout_ns = 100 * MS });
	fd = wire_connect(echo.bound);
	wire_drain(fd);
	assert_int_equal(echo_until(&echo, connections_are, 0).handshake_timeouts, 1);
	close(fd);
	echo_stop(&echo);
}

static void silence_in_tls_is_cut_off(void **state)
{
	struct tls_config tls = keys_server("server", NULL, false);
	struct echo echo;
	int fd;

	start(&echo, state, (struct echo_config){ .address = "grpcs://127.0.0.1:0", .tls = &tls,
	                                          .handshake_timeout_ns = 100 * MS });
	fd = wire_connect(echo.bound);
	wire_send(fd, span_make("\x16\x03\x01\x02", 4));
	wire_drain(fd);
	assert_int_equal(echo_until(&echo, connections_are, 0).handshake_timeouts, 1);
	close(fd);
	echo_stop(&echo);
}

/* Sends `data` a byte at a time until the server has enough; how many bytes it took. */
static size_t trickle(int fd, struct span data)
{
	for (size_t i = 0; i < data.size; i++) {
		if (send(fd, data.data + i, 1, MSG_NOSIGNAL) < 0 || wire_closed_within(fd, 20))
			return i;
	}
	return data.size;
}

static void a_slow_preface_gains_no_time(void **state)
{
	struct echo echo;
	int fd;

	start(&echo, state, (struct echo_config){ .handshake_timeout_ns = 200 * MS });
	fd = wire_connect(echo.bound);
	assert_true(trickle(fd, wire_preface) < wire_preface.size);
	assert_int_equal(echo_until(&echo, connections_are, 0).handshake_timeouts, 1);
	close(fd);
	echo_stop(&echo);
}

/* A HEADERS frame that does not end, whatever trickles in. */
static void a_slow_request_gains_no_time(void **state)
{
	static const uint8_t headers[200] = { 0, 0, 190, 1, 4, 0, 0, 0, 1, 0x83 };
	struct echo echo;
	int fd;

	start(&echo, state, (struct echo_config){ .stall_timeout_ns = 200 * MS });
	fd = wire_connect(echo.bound);
	wire_send(fd, wire_preface);
	assert_true(trickle(fd, span_make(headers, sizeof(headers))) < sizeof(headers));
	assert_int_equal(echo_until(&echo, connections_are, 0).stalls, 1);
	close(fd);
	echo_stop(&echo);
}

/* Asks for a lot and reads nothing: its connection's send does not end. The windows are large enough for that. */
static void who_never_reads_is_cut_off(void **state)
{
	uint64_t bytes = 1ull << 30;
	struct echo echo;
	int fd, small = 4096;

	start(&echo, state, (struct echo_config){ .stall_timeout_ns = 200 * MS });
	fd = wire_connect(echo.bound);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	wire_open_source(fd, bytes);
	assert_int_equal(echo_until(&echo, stalls_are, 1).streams, 0);
	close(fd);
	echo_stop(&echo);
}

static void pings_keep_nobody(void **state)
{
	struct echo echo;
	unsigned pings = 0;
	int fd;

	start(&echo, state, (struct echo_config){ .idle_timeout_ns = 1000 * MS });
	fd = wire_connect(echo.bound);
	wire_send(fd, wire_preface);
	while (!wire_closed_within(fd, 10)) {
		assert_true(pings++ < 500);
		if (send(fd, wire_ping.data, wire_ping.size, MSG_NOSIGNAL) < 0)
			break;
	}
	assert_true(pings > 2);
	assert_int_equal(echo_until(&echo, connections_are, 0).idle_closed, 1);
	close(fd);
	echo_stop(&echo);
}

static void an_open_stream_is_not_idle(void **state)
{
	static const uint8_t reset[] = { 0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8 };
	struct echo echo;
	int fd;

	start(&echo, state, (struct echo_config){ .idle_timeout_ns = 50 * MS });
	fd = wire_connect(echo.bound);
	wire_open_call(fd, "/test.Echo/Hang");   /* behind the first bytes: there is hardly a moment without it */
	assert_false(wire_closed_within(fd, 300));
	assert_int_equal(echo_status(&echo).connections, 1);
	assert_int_equal(echo_status(&echo).idle_closed, 0);
	/* Without it, it is. */
	wire_send(fd, span_make(reset, sizeof(reset)));
	echo_until(&echo, connections_are, 0);
	assert_int_equal(echo_status(&echo).idle_closed, 1);
	close(fd);
	echo_stop(&echo);
}

/* ---- limits ---- */

static void beyond_the_limit_they_wait(void **state)
{
	struct client *clients[2], *third;
	struct client_call *call;
	struct span answer;
	struct echo echo;
	char why[256];

	start(&echo, state, (struct echo_config){ .connections_max = 2 });
	for (unsigned i = 0; i < 2; i++)
		clients[i] = open_client(&echo);
	third = begin(&echo);
	assert_int_equal(client_wait(third, NULL, 0, NULL, 200 * MS), CLIENT_AGAIN);
	assert_int_equal(echo_status(&echo).connections, 2);
	client_close(clients[0]);
	assert_int_equal(client_open_finish(third, why, sizeof(why)), 0);
	assert_int_equal(client_unary(third, "/test.Echo/Unary", span_text("x"), &call, &answer), CLIENT_OK);
	client_call_close(call);
	client_close(third);
	client_close(clients[1]);
	echo_until(&echo, connections_are, 0);
	assert_int_equal(echo_status(&echo).refused_connections, 0);
	assert_int_equal(echo_status(&echo).connections_total, 3);
	echo_stop(&echo);
}

/* ---- what is no call ---- */

static void refusals_are_answers(void **state)
{
	struct header compressed[] = { grpc_headers[0], { .name = span_text("grpc-encoding"), .value = span_text("gzip") } };
	struct wire_answer answer;
	struct echo echo;
	int fd;

	start(&echo, state, (struct echo_config){ 0 });
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

	start(&echo, state, (struct echo_config){ 0 });
	client = open_client(&echo);
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

	start(&echo, state, (struct echo_config){ 0 });
	for (i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		int fd = wire_connect(echo.bound);

		wire_send(fd, garbage[i]);
		wire_drain(fd);
		close(fd);
	}
	echo_until(&echo, connections_are, 0);
	assert_int_equal(echo_status(&echo).handshake_failures + echo_status(&echo).protocol_faults, i);
	assert_int_equal(echo_status(&echo).handshake_timeouts, 0);
	echo_stop(&echo);
}

/* Reads until `text` has come. */
static void expect(int fd, const char *text)
{
	char got[4096];
	size_t size = 0;

	do {
		ssize_t n = read(fd, got + size, sizeof(got) - 1 - size);

		if (n <= 0)
			fail_msg("not heard: %s", text);
		size += (size_t)n;
		got[size] = 0;
	} while (!strstr(got, text));
}

/* HTTP/1.1 beside gRPC on one port; a body of which a window is taken at a time, which stops and begins the receive each time. */
static void http1_is_spoken_where_it_is_wanted(void **state)
{
	static uint8_t body[20 * HTTP1_WINDOW_BYTES];
	struct server_status status;
	struct span answer;
	struct client *client;
	struct client_call *call;
	struct echo echo;
	char head[100];
	int fd;

	start(&echo, state, (struct echo_config){ .web = true });
	fd = wire_connect(echo.bound);
	for (unsigned i = 0; i < 2; i++) {
		snprintf(head, sizeof(head), "PUT /%u HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", i, sizeof(body));
		wire_send(fd, span_text(head));
		wire_send(fd, span_make(body, sizeof(body)));
		expect(fd, "\r\n\r\n10485760 bytes");
	}
	client = open_client(&echo);
	assert_int_equal(client_unary(client, "/test.Echo/Unary", span_text("x"), &call, &answer), CLIENT_OK);
	client_call_close(call);
	/* A drain closes what is between two requests, also when one has begun. */
	wire_send(fd, span_text("GET /"));
	echo_until(&echo, connections_are, 2);
	client_close(client);
	echo_drain(&echo, 20000 * MS);
	wire_drain(fd);
	echo_wait_drained(&echo);
	close(fd);
	status = echo_status(&echo);
	assert_int_equal(status.protocol_faults + status.handshake_failures, 0);
	assert_int_equal(status.streams_total, 3);
	echo_stop(&echo);
}

static void a_slow_http1_client_gains_no_time(void **state)
{
	struct echo echo;
	int fd;

	start(&echo, state, (struct echo_config){ .web = true, .handshake_timeout_ns = 100 * MS });
	fd = wire_connect(echo.bound);
	wire_send(fd, span_text("P"));           /* may still be either */
	assert_true(wire_closed_within(fd, 20000));
	close(fd);
	assert_int_equal(echo_until(&echo, connections_are, 0).handshake_timeouts, 1);
	fd = wire_connect(echo.bound);
	wire_send(fd, span_text("GET / HTTP/1.1\r\nHost: x\r\n"));
	assert_true(wire_closed_within(fd, 20000));
	close(fd);
	assert_int_equal(echo_until(&echo, connections_are, 0).handshake_timeouts, 2);
	echo_stop(&echo);
	/* Between two requests it is a stall. The first one has its time. */
	start(&echo, state, (struct echo_config){ .web = true, .stall_timeout_ns = 100 * MS });
	fd = wire_connect(echo.bound);
	wire_send(fd, span_text("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
	expect(fd, "\r\n\r\n0 bytes");
	wire_send(fd, span_text("GET / HTTP/1.1\r\nHost: x\r\n"));
	assert_true(wire_closed_within(fd, 20000));
	close(fd);
	echo_until(&echo, stalls_are, 1);
	echo_stop(&echo);
}

/* What scanners say first is no fault of a client's: none is warned of. */
static void a_first_head_that_is_none_is_no_fault(void **state)
{
	struct server_status status;
	struct echo echo;
	int fd;

	start(&echo, state, (struct echo_config){ .web = true });
	fd = wire_connect(echo.bound);
	wire_send(fd, span_text("GET / HTTP/9.9\r\n\r\n"));
	expect(fd, "HTTP/1.1 505 ");
	wire_drain(fd);
	close(fd);
	status = echo_until(&echo, connections_are, 0);
	assert_true(status.handshake_failures == 1 && status.protocol_faults == 0);
	fd = wire_connect(echo.bound);
	wire_send(fd, span_text("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/9.9\r\n\r\n"));
	expect(fd, "HTTP/1.1 505 ");
	wire_drain(fd);
	close(fd);
	status = echo_until(&echo, connections_are, 0);
	assert_true(status.handshake_failures == 1 && status.protocol_faults == 1);
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

	start(&echo, state, (struct echo_config){ 0 });
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		int fd = wire_connect(echo.bound);

		wire_send(fd, wire_preface);
		wire_send(fd, faults[i].frame);
		assert_true(wire_drain(fd) > 0);
		close(fd);
		status = echo_until(&echo, connections_are, 0);
		if (status.protocol_faults != i + 1)
			fail_msg("%s: %llu faults", faults[i].what, (unsigned long long)status.protocol_faults);
		assert_int_equal(status.handshake_failures, 0);
	}
	echo_stop(&echo);
}

/* ---- ends ---- */

static void a_vanished_peer_is_cleaned_up(void **state)
{
	struct echo echo;
	int fd;

	start(&echo, state, (struct echo_config){ 0 });
	for (unsigned i = 0; i < 20; i++) {
		fd = wire_connect(echo.bound);
		wire_open_call(fd, i % 2 ? "/test.Echo/Hang" : "/test.Echo/Stream");
		echo_until(&echo, streams_are, 1);
		if (i % 3)
			wire_reset(fd);
		else
			close(fd);
		echo_until(&echo, connections_are, 0);
		assert_int_equal(echo_hanging(&echo), 0);
	}
	echo_stop(&echo);
}

/* In the middle of a download: the server has output queued and a send in flight. */
static void a_peer_that_vanishes_in_mid_stream_is_cleaned_up(void **state)
{
	uint64_t bytes = 1ull << 30;
	struct client_call *call;
	struct client *client;
	struct span message;
	struct echo echo;

	start(&echo, state, (struct echo_config){ 0 });
	for (unsigned i = 0; i < 5; i++) {
		client = open_client(&echo);
		assert_int_equal(client_call_open(&call, client, "/test.Echo/Source", NULL, 0), 0);
		assert_int_equal(client_send(call, span_make(&bytes, sizeof(bytes)), 0), CLIENT_OK);
		for (unsigned n = 0; n < 10; n++)
			assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_OK);
		client_close(client);
		echo_until(&echo, connections_are, 0);
	}
	echo_stop(&echo);
}

static void a_drain_lets_streams_finish(void **state)
{
	struct client_call *call, *late;
	struct client *client, *second;
	struct span message;
	struct echo echo;
	char why[256];
	int r;

	start(&echo, state, (struct echo_config){ 0 });
	client = open_client(&echo);
	assert_int_equal(client_call_open(&call, client, "/test.Echo/Stream", NULL, 0), 0);
	assert_int_equal(client_send(call, span_text("before"), 0), CLIENT_OK);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_OK);
	echo_drain(&echo, 60000 * MS);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(client_send(call, span_text("after"), 0), CLIENT_OK);
		assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_OK);
		assert_true(span_is(message, "after"));
	}
	/* GOAWAY has come by now: a new call is refused, here or there, and says so. */
	if (client_call_open(&late, client, "/test.Echo/Unary", NULL, 0) == 0) {
		assert_int_equal(client_receive(late, &message, UINT64_MAX), CLIENT_END);
		assert_int_equal(client_call_status(late, NULL), GRPC_UNAVAILABLE);
		client_call_close(late);
	} else {
		assert_non_null(strstr(client_error(client), "GOAWAY"));
	}
	/* Nobody listens any more; whom the kernel had taken for the listener before it was closed is reset. */
	do {
		second = begin(&echo);
		r = client_open_finish(second, why, sizeof(why));
		client_close(second);
	} while (r == -ECONNRESET);
	assert_int_equal(r, -ECONNREFUSED);
	client_send_end(call);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(call, NULL), GRPC_OK);
	client_call_close(call);
	client_wait(client, NULL, 0, NULL, 20000 * MS);
	echo_wait_drained(&echo);
	client_close(client);
	echo_stop(&echo);
}

static void a_drain_does_not_wait_for_ever(void **state)
{
	struct client_call *call;
	struct client *client;
	struct span message;
	struct echo echo;

	start(&echo, state, (struct echo_config){ 0 });
	client = open_client(&echo);
	assert_int_equal(client_call_open(&call, client, "/test.Echo/Hang", NULL, 0), 0);
	assert_int_equal(client_send(call, span_text("x"), 0), CLIENT_OK);
	echo_until(&echo, streams_are, 1);
	echo_drain(&echo, 100 * MS);
	echo_wait_drained(&echo);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(call, NULL), GRPC_UNAVAILABLE);
	assert_int_equal(echo_hanging(&echo), 0);
	client_call_close(call);
	client_close(client);
	echo_stop(&echo);
}

/* More than the 1,024 direct descriptors of a ring, so that a leak of those would show too. */
static void nothing_is_left_after_many_connections(void **state)
{
	struct client_call *call;
	struct client *client;
	struct span answer;
	struct echo echo;
	unsigned before;
	int fd;

	start(&echo, state, (struct echo_config){ 0 });
	client = open_client(&echo);
	before = wire_count_fds();
	for (unsigned i = 0; i < 1100; i++) {
		fd = wire_connect(echo.bound);
		if (i % 4 == 1)
			wire_send(fd, wire_preface);
		if (i % 4 >= 2)
			wire_open_call(fd, "/test.Echo/Hang");
		if (i % 4 == 3)
			wire_reset(fd);
		else
			close(fd);
		/* What is reset while the line of those to be accepted is full never was a connection here. */
		if (i % 64 == 63)
			echo_until(&echo, one_is_left_of, i + 2);
	}
	echo_until(&echo, one_is_left_of, 1101);
	assert_int_equal(echo_hanging(&echo), 0);
	assert_int_equal(wire_count_fds(), before);
	assert_int_equal(client_unary(client, "/test.Echo/Unary", span_text("x"), &call, &answer), CLIENT_OK);
	client_call_close(call);
	client_close(client);
	echo_stop(&echo);
}

/* ---- who it is ---- */

/* What was logged, as text; the log goes to the usual place again. */
static void read_log(int fd, char *text, size_t size)
{
	ssize_t n = pread(fd, text, size - 1, 0);

	assert_true(n > 0);
	text[n] = '\0';
	log_setup(STDERR_FILENO, LOG_INFO, false);
	close(fd);
}

static void the_log_says_who(void **state, const char *address, const char *host)
{
	struct sockaddr_storage own = { 0 };
	socklen_t size = sizeof(own);
	char text[4096], opened[128], closed[128];
	int fd, log = memfd_create("log", MFD_CLOEXEC);
	struct echo echo;
	uint16_t port;

	start(&echo, state, (struct echo_config){ .address = address });
	log_setup(log, LOG_DEBUG, false);
	fd = wire_connect(echo.bound);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &size), 0);
	port = ntohs(own.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&own)->sin6_port :
	                                         ((struct sockaddr_in *)&own)->sin_port);
	wire_open_call(fd, "/test.Echo/Hang");
	while (echo_hanging(&echo) == 0)         /* before that it is not there, or not open */
		echo_status(&echo);
	close(fd);
	echo_until(&echo, connections_are, 0);
	echo_stop(&echo);
	read_log(log, text, sizeof(text));
	snprintf(opened, sizeof(opened), "peer=%s:%u\n", host, port);
	snprintf(closed, sizeof(closed), "peer=%s:%u reason=", host, port);
	if (!strstr(text, opened) || !strstr(text, closed))
		fail_msg("neither %s nor %s in: %s", opened, closed, text);
}

static void the_log_says_who_connected(void **state)
{
	if (*(const enum ring_engine *)*state == RING_ENGINE_URING && selftest_direct() == 0 && selftest_peer() < 0)
		skip();
	the_log_says_who(state, "grpc://127.0.0.1:0", "127.0.0.1");
	if (access("/proc/net/if_inet6", F_OK) == 0)
		the_log_says_who(state, "grpc://[::1]:0", "[::1]");
}

/* ---- unix sockets ---- */

static char socket_path[64], socket_address[80];         /* this process's own */

static void name_socket(void)
{
	snprintf(socket_path, sizeof(socket_path), "/tmp/sluice-server-test-%d.sock", (int)getpid());
	snprintf(socket_address, sizeof(socket_address), "unix://%s", socket_path);
}

static void make_stale_socket(void)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(name.sun_path, sizeof(name.sun_path), "%s", socket_path);
	unlink(socket_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	close(fd);
}

static void a_unix_socket_knows_its_peer(void **state)
{
	struct client_call *call;
	struct client *client;
	struct span answer;
	struct stat stat;
	struct echo echo, second;
	char expected[64];

	make_stale_socket();
	start(&echo, state, (struct echo_config){ .address = socket_address });
	assert_int_equal(lstat(socket_path, &stat), 0);
	assert_true(S_ISSOCK(stat.st_mode));
	assert_int_equal(stat.st_mode & 0777, 0660);
	client = open_client(&echo);
	snprintf(expected, sizeof(expected), "-|-|%d|1", (int)getuid());
	assert_int_equal(client_unary(client, "/test.Echo/Peer", span_text(""), &call, &answer), CLIENT_OK);
	assert_true(span_is(answer, expected));
	client_call_close(call);
	/* A living one is not replaced. */
	assert_false(echo_start(&second, &echo.config));
	assert_non_null(strstr(second.why, "another process listens"));
	echo_stop(&second);
	client_close(client);
	echo_stop(&echo);
	assert_int_equal(lstat(socket_path, &stat), -1);
}

static void bad_addresses_are_refused(void **state)
{
	struct echo_config config = { .engine = *(const enum ring_engine *)*state };
	struct echo echo, second;
	int fd;

	config.address = "unix:///nonexistent/x.sock";
	assert_false(echo_start(&echo, &config));
	assert_non_null(strstr(echo.why, "the directory does not exist"));
	echo_stop(&echo);
	config.address = socket_address;
	fd = open(socket_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_false(echo_start(&echo, &config));
	assert_non_null(strstr(echo.why, "is no socket"));
	echo_stop(&echo);
	unlink(socket_path);
	config.address = "grpcs://127.0.0.1:0";
	assert_false(echo_start(&echo, &config));
	assert_non_null(strstr(echo.why, "certificate"));
	echo_stop(&echo);
	config.address = NULL;
	assert_true(echo_start(&echo, &config));
	config.address = echo.bound;
	assert_false(echo_start(&second, &config));
	assert_non_null(strstr(second.why, "another process does already"));
	echo_stop(&second);
	echo_stop(&echo);
}

static void *let_go(void *argument)
{
	usleep(300000);                  /* nothing tells when the other one begins to try */
	close(*(int *)argument);
	return NULL;
}

/* What a server that was killed leaves behind for a moment is no reason not to start again. */
static void a_port_that_is_let_go_is_had(void **state)
{
	struct echo_config config = { .engine = *(const enum ring_engine *)*state };
	struct sockaddr_in name = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(name);
	struct echo echo;
	char address[64];
	pthread_t thread;

	assert_int_equal(bind(fd, (struct sockaddr *)&name, size), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &size), 0);
	snprintf(address, sizeof(address), "grpc://127.0.0.1:%u", ntohs(name.sin_port));
	config.address = address;
	assert_int_equal(pthread_create(&thread, NULL, let_go, &fd), 0);
	assert_true(echo_start(&echo, &config));
	assert_int_equal(pthread_join(thread, NULL), 0);
	echo_stop(&echo);
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(silence_is_cut_off),
		BOTH(silence_in_tls_is_cut_off),
		BOTH(a_slow_preface_gains_no_time),
		BOTH(a_slow_request_gains_no_time),
		BOTH(who_never_reads_is_cut_off),
		BOTH(pings_keep_nobody),
		BOTH(an_open_stream_is_not_idle),
		BOTH(beyond_the_limit_they_wait),
		BOTH(refusals_are_answers),
		BOTH(a_refused_body_is_dropped),
		BOTH(garbage_is_cut_off),
		BOTH(http1_is_spoken_where_it_is_wanted),
		BOTH(a_slow_http1_client_gains_no_time),
		BOTH(a_first_head_that_is_none_is_no_fault),
		BOTH(late_faults_are_faults),
		BOTH(a_vanished_peer_is_cleaned_up),
		BOTH(a_peer_that_vanishes_in_mid_stream_is_cleaned_up),
		BOTH(a_drain_lets_streams_finish),
		BOTH(a_drain_does_not_wait_for_ever),
		BOTH(nothing_is_left_after_many_connections),
		BOTH(the_log_says_who_connected),
		BOTH(a_unix_socket_knows_its_peer),
		BOTH(bad_addresses_are_refused),
		BOTH(a_port_that_is_let_go_is_had),
	};

	name_socket();
	return cmocka_run_group_tests(tests, keys_make, keys_remove);
}
