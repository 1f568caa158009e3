/*
 * Shows that a server keeps the time that a client gives its call (`grpc-timeout`), on real sockets, over both ring
 * engines: the call ends with DEADLINE_EXCEEDED and its owner is told, whatever state it is in; a call that ends before
 * leaves no timer behind (the echo server's ring goes down with no op in flight, or a CHECK fails).
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include "gateway/client/client.h"
#include "tests/unit/net/echo.h"
#include "tests/unit/net/wire.h"

#define MS 1000000ull

static void start(struct echo *echo, void **state)
{
	struct echo_config config = { .engine = *(const enum ring_engine *)*state };

	if (!echo_start(echo, &config))
		fail_msg("%s", echo->why);
}

static struct client *open_client(const struct echo *echo)
{
	struct client_config config = { .fd = -1, .engine = (int)echo->config.engine };
	struct client *client = NULL;
	char why[256] = "";

	if (!address_parse(&config.address, echo->bound, why, sizeof(why)) || client_open(&client, &config, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return client;
}

static struct client_call *open_timed(struct client *client, const char *path, const char *timeout)
{
	struct header metadata = { .name = span_text("grpc-timeout"), .value = span_text(timeout) };
	struct client_call *call;

	assert_int_equal(client_call_open(&call, client, path, &metadata, 1), 0);
	return call;
}

static void assert_exceeded(struct client_call *call)
{
	struct span message;
	const char *text;

	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(call, &text), GRPC_DEADLINE_EXCEEDED);
	assert_string_equal(text, "the time that the client gave this call has passed");
	client_call_close(call);
}

static void assert_good(struct client *client)
{
	struct client_call *call;
	struct span answer;

	assert_int_equal(client_unary(client, "/test.Echo/Unary", span_text("x"), &call, &answer), CLIENT_OK);
	client_call_close(call);
}

static bool no_streams(const struct server_status *status, uint64_t value)
{
	return status->streams == 0;
}

/* Not before its time, not much later, and the owner knows; the connection goes on. */
static void a_call_ends_in_time(void **state)
{
	struct client_call *call;
	struct client *client;
	uint64_t begin, took;
	struct echo echo;

	start(&echo, state);
	client = open_client(&echo);
	begin = ring_now_ns(client_ring(client));
	call = open_timed(client, "/test.Echo/Hang", "500m");
	assert_exceeded(call);
	took = ring_now_ns(client_ring(client)) - begin;
	assert_true(took >= 500 * MS && took < 10000 * MS);
	echo_until_none_hangs(&echo);
	assert_int_equal(echo_exceeded(&echo), 1);
	assert_good(client);
	client_close(client);
	echo_stop(&echo);
}

/* Their deadlines pass in another order than they were opened in, some in the same turn. */
static void many_at_once(void **state)
{
	enum { COUNT = 200 };
	struct client_call *calls[COUNT], *patient;
	struct client *client;
	struct echo echo;
	char timeout[16];

	start(&echo, state);
	client = open_client(&echo);
	patient = open_timed(client, "/test.Echo/Hang", "99999999H");
	for (unsigned i = 0; i < COUNT; i++) {
		snprintf(timeout, sizeof(timeout), "%um", 1 + i * 37 % 100);
		calls[i] = open_timed(client, "/test.Echo/Hang", timeout);
	}
	for (unsigned i = 0; i < COUNT; i++)
		assert_exceeded(calls[i]);
	assert_good(client);
	assert_int_equal(echo_hanging(&echo), 1);
	client_call_close(patient);
	echo_until_none_hangs(&echo);
	assert_int_equal(echo_exceeded(&echo), COUNT);
	client_close(client);
	echo_stop(&echo);
}

static void who_ends_before_is_left_alone(void **state)
{
	struct client_call *call;
	struct client *client;
	struct span answer;
	struct echo echo;
	int fd;

	start(&echo, state);
	client = open_client(&echo);
	for (unsigned i = 0; i < 100; i++) {
		call = open_timed(client, "/test.Echo/Unary", i % 2 ? "1H" : "900S");
		assert_int_equal(client_send(call, span_text("hello"), 0), CLIENT_OK);
		client_send_end(call);
		assert_int_equal(client_receive(call, &answer, UINT64_MAX), CLIENT_OK);
		assert_true(span_is(answer, "hello"));
		assert_int_equal(client_receive(call, &answer, UINT64_MAX), CLIENT_END);
		assert_int_equal(client_call_status(call, NULL), GRPC_OK);
		client_call_close(call);
	}
	/* Cancelled, refused by the method, refused for its path; and open when the client or the server goes. */
	client_call_close(open_timed(client, "/test.Echo/Hang", "1H"));
	call = open_timed(client, "/test.Echo/Refuse", "1H");
	assert_int_equal(client_receive(call, &answer, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(call, NULL), GRPC_PERMISSION_DENIED);
	client_call_close(call);
	call = open_timed(client, "/test.Echo/Nothing", "1H");
	assert_int_equal(client_receive(call, &answer, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(call, NULL), GRPC_UNIMPLEMENTED);
	client_call_close(call);
	fd = wire_connect(echo.bound);
	wire_open_timed_call(fd, "/test.Echo/Hang", "1H");
	wire_reset(fd);
	open_timed(client, "/test.Echo/Hang", "1H");
	client_close(client);
	client = open_client(&echo);
	call = open_timed(client, "/test.Echo/Hang", "1H");
	assert_good(client);
	echo_stop(&echo);
	assert_int_equal(client_receive(call, &answer, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(call, NULL), GRPC_UNAVAILABLE);
	client_call_close(call);
	client_close(client);
	assert_int_equal(echo.exceeded, 0);
}

/* The status waits behind 1 GiB that nobody reads: it is not sent, and the stream ends all the same. */
static void a_client_that_does_not_read(void **state)
{
	struct client_call *other;
	struct span answer;
	uint64_t bytes = 1ull << 30;
	struct client_call *call;
	struct client *client;
	struct span message;
	struct echo echo;
	int r;

	start(&echo, state);
	client = open_client(&echo);
	call = open_timed(client, "/test.Echo/Source", "100m");
	assert_int_equal(client_send(call, span_make(&bytes, sizeof(bytes)), 0), CLIENT_OK);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_OK);
	/* Its bytes go up to the window; other calls keep the connection read, or the socket would be what is full. */
	for (unsigned i = 0; i < 2000 && echo_status(&echo).streams; i++) {
		assert_int_equal(client_unary(client, "/test.Echo/Unary", span_text("x"), &other, &answer), CLIENT_OK);
		client_call_close(other);
		usleep(10000);
	}
	echo_until(&echo, no_streams, 0);
	do {
		r = client_receive(call, &message, UINT64_MAX);
	} while (r == CLIENT_OK);
	assert_int_equal(r, CLIENT_END);
	/* On a busy core the time may pass before the window is full: then the status gets through. */
	r = client_call_status(call, NULL);
	assert_true(r == GRPC_CANCELLED || r == GRPC_DEADLINE_EXCEEDED);
	client_call_close(call);
	assert_good(client);
	client_close(client);
	echo_stop(&echo);
}

/* The call is held, with messages in its backlog: they are dropped, and the window that they took is given back. */
static void a_held_call(void **state)
{
	static uint8_t piece[1 << 20];
	struct client_call *call;
	struct client *client;
	struct echo echo;

	start(&echo, state);
	client = open_client(&echo);
	for (unsigned round = 0; round < 6; round++) {
		call = open_timed(client, "/test.Echo/Hold", "100m");
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(client_send(call, span_make(piece, sizeof(piece)), 0), CLIENT_OK);
		assert_exceeded(call);
	}
	assert_good(client);
	client_close(client);
	echo_stop(&echo);
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(a_call_ends_in_time),
		BOTH(many_at_once),
		BOTH(who_ends_before_is_left_alone),
		BOTH(a_client_that_does_not_read),
		BOTH(a_held_call),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
