/*
 * Shows HTTP/1.1 beside gRPC on one port: that it is spoken where it is wanted, gains no time by slowness, and that a first head
 * that is none is no fault; on real sockets, over both ring engines.
 */
#include "tests/unit/net/server_rig.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/http1.h"

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

	rig_start(&echo, state, (struct echo_config){ .web = true });
	fd = wire_connect(echo.bound);
	for (unsigned i = 0; i < 2; i++) {
		snprintf(head, sizeof(head), "PUT /%u HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", i, sizeof(body));
		wire_send(fd, span_text(head));
		wire_send(fd, span_make(body, sizeof(body)));
		expect(fd, "\r\n\r\n10485760 bytes");
	}
	client = rig_client(&echo);
	assert_int_equal(client_unary(client, "/test.Echo/Unary", span_text("x"), &call, &answer), CLIENT_OK);
	client_call_close(call);
	/* A drain closes what is between two requests, also when one has begun. */
	wire_send(fd, span_text("GET /"));
	echo_until(&echo, rig_connections_are, 2);
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

	rig_start(&echo, state, (struct echo_config){ .web = true, .handshake_timeout_ns = 100 * MS });
	fd = wire_connect(echo.bound);
	wire_send(fd, span_text("P"));           /* may still be either */
	assert_true(wire_closed_within(fd, 20000));
	close(fd);
	assert_int_equal(echo_until(&echo, rig_connections_are, 0).handshake_timeouts, 1);
	fd = wire_connect(echo.bound);
	wire_send(fd, span_text("GET / HTTP/1.1\r\nHost: x\r\n"));
	assert_true(wire_closed_within(fd, 20000));
	close(fd);
	assert_int_equal(echo_until(&echo, rig_connections_are, 0).handshake_timeouts, 2);
	echo_stop(&echo);
	/* Between two requests it is a stall. The first one has its time. */
	rig_start(&echo, state, (struct echo_config){ .web = true, .stall_timeout_ns = 100 * MS });
	fd = wire_connect(echo.bound);
	wire_send(fd, span_text("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
	expect(fd, "\r\n\r\n0 bytes");
	wire_send(fd, span_text("GET / HTTP/1.1\r\nHost: x\r\n"));
	assert_true(wire_closed_within(fd, 20000));
	close(fd);
	echo_until(&echo, rig_stalls_are, 1);
	echo_stop(&echo);
}

/* What scanners say first is no fault of a client's: none is warned of. */
static void a_first_head_that_is_none_is_no_fault(void **state)
{
	struct server_status status;
	struct echo echo;
	int fd;

	rig_start(&echo, state, (struct echo_config){ .web = true });
	fd = wire_connect(echo.bound);
	wire_send(fd, span_text("GET / HTTP/9.9\r\n\r\n"));
	expect(fd, "HTTP/1.1 505 ");
	wire_drain(fd);
	close(fd);
	status = echo_until(&echo, rig_connections_are, 0);
	assert_true(status.handshake_failures == 1 && status.protocol_faults == 0);
	fd = wire_connect(echo.bound);
	wire_send(fd, span_text("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/9.9\r\n\r\n"));
	expect(fd, "HTTP/1.1 505 ");
	wire_drain(fd);
	close(fd);
	status = echo_until(&echo, rig_connections_are, 0);
	assert_true(status.handshake_failures == 1 && status.protocol_faults == 1);
	echo_stop(&echo);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_BOTH(http1_is_spoken_where_it_is_wanted),
		RIG_BOTH(a_slow_http1_client_gains_no_time),
		RIG_BOTH(a_first_head_that_is_none_is_no_fault),
	};

	return cmocka_run_group_tests(tests, rig_quiet, NULL);
}
