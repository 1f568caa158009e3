/*
 * Shows how a server treats those that are too many and those that vanish, on real sockets, over both ring engines; its own
 * orderly end; and that nothing is left behind after a thousand connections.
 */
#include "tests/unit/net/server_rig.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static void beyond_the_limit_they_wait(void **state)
{
	struct client *clients[2], *third;
	struct client_call *call;
	struct span answer;
	struct echo echo;
	char why[256];

	rig_start(&echo, state, (struct echo_config){ .connections_max = 2 });
	for (unsigned i = 0; i < 2; i++)
		clients[i] = rig_client(&echo);
	third = rig_client_begin(&echo);
	assert_int_equal(client_wait(third, NULL, 0, NULL, 200 * MS), CLIENT_AGAIN);
	assert_int_equal(echo_status(&echo).connections, 2);
	client_close(clients[0]);
	assert_int_equal(client_open_finish(third, why, sizeof(why)), 0);
	assert_int_equal(client_unary(third, "/test.Echo/Unary", span_text("x"), &call, &answer), CLIENT_OK);
	client_call_close(call);
	client_close(third);
	client_close(clients[1]);
	echo_until(&echo, rig_connections_are, 0);
	assert_int_equal(echo_status(&echo).refused_connections, 0);
	assert_int_equal(echo_status(&echo).connections_total, 3);
	echo_stop(&echo);
}

/* They wait where they cost nothing, and are all served. */
static void beyond_those_that_wait_nothing_is_accepted(void **state)
{
	enum { COUNT = SERVER_PARKED_MAX + 100 };
	struct rlimit limit;
	static int fds[COUNT];
	struct client *client;
	struct echo echo;
	uint8_t byte;
	ssize_t n;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	rig_start(&echo, state, (struct echo_config){ .connections_max = 1 });
	client = rig_client(&echo);
	for (int i = 0; i < COUNT; i++) {
		fds[i] = wire_connect(echo.bound);
		if (i % 64 == 0)
			echo_status(&echo);      /* so that it has had a turn */
	}
	client_close(client);
	for (int i = 0; i < COUNT; i++) {
		wire_send(fds[i], wire_preface);
		do {
			n = recv(fds[i], &byte, 1, 0);
		} while (n < 0 && errno == EINTR);       /* as wire.c */
		assert_int_equal(n, 1);
		close(fds[i]);
	}
	echo_until(&echo, rig_connections_are, 0);
	assert_int_equal(echo_status(&echo).refused_connections, 0);
	assert_int_equal(echo_status(&echo).connections_total, COUNT + 1);
	echo_stop(&echo);
}

static void a_server_that_is_full_ends(void **state)
{
	enum { COUNT = SERVER_PARKED_MAX / 2 + 64 };
	static int fds[COUNT];
	struct echo echo;

	rig_start(&echo, state, (struct echo_config){ .connections_max = 1 });
	for (int i = 0; i < COUNT; i++) {
		fds[i] = wire_connect(echo.bound);
		if (i % 64 == 0)
			echo_status(&echo);
	}
	echo_drain(&echo, 100 * MS);
	echo_wait_drained(&echo);
	for (int i = 0; i < COUNT; i++)
		close(fds[i]);
	echo_stop(&echo);
}

static struct client *own_client(const struct echo *echo, const char *path)
{
	struct client_config config = { .fd = -1, .engine = (int)echo->config.engine, .address.local = true };
	struct client *client;
	char why[256];

	snprintf(config.address.host, sizeof(config.address.host), "%s", path);
	if (client_open(&client, &config, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return client;
}

/* They get in where no client does, and a drain lets them call to the end. */
static void helpers_have_a_door_of_their_own(void **state)
{
	struct client *client, *helper;
	struct client_call *call;
	struct span answer;
	struct echo echo;
	char path[64];

	snprintf(path, sizeof(path), "/tmp/sluice-server-%d.sock", (int)getpid());
	rig_start(&echo, state, (struct echo_config){ .connections_max = 1, .own_path = path });
	client = rig_client(&echo);
	helper = own_client(&echo, path);
	echo_drain(&echo, 60000 * MS);
	client_wait(client, NULL, 0, NULL, 20000 * MS);
	client_close(client);
	echo_until(&echo, rig_connections_are, 1);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(client_unary(helper, "/test.Echo/Unary", span_text("x"), &call, &answer), CLIENT_OK);
		client_call_close(call);
	}
	client_close(helper);
	echo_wait_drained(&echo);
	echo_stop(&echo);
}

static void a_vanished_peer_is_cleaned_up(void **state)
{
	struct echo echo;
	int fd;

	rig_start(&echo, state, (struct echo_config){ 0 });
	for (unsigned i = 0; i < 20; i++) {
		fd = wire_connect(echo.bound);
		wire_open_call(fd, i % 2 ? "/test.Echo/Hang" : "/test.Echo/Stream");
		echo_until(&echo, rig_streams_are, 1);
		if (i % 3)
			wire_reset(fd);
		else
			close(fd);
		echo_until(&echo, rig_connections_are, 0);
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

	rig_start(&echo, state, (struct echo_config){ 0 });
	for (unsigned i = 0; i < 5; i++) {
		client = rig_client(&echo);
		assert_int_equal(client_call_open(&call, client, "/test.Echo/Source", NULL, 0), 0);
		assert_int_equal(client_send(call, span_make(&bytes, sizeof(bytes)), 0), CLIENT_OK);
		for (unsigned n = 0; n < 10; n++)
			assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_OK);
		client_close(client);
		echo_until(&echo, rig_connections_are, 0);
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

	rig_start(&echo, state, (struct echo_config){ 0 });
	client = rig_client(&echo);
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
		second = rig_client_begin(&echo);
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

	rig_start(&echo, state, (struct echo_config){ 0 });
	client = rig_client(&echo);
	assert_int_equal(client_call_open(&call, client, "/test.Echo/Hang", NULL, 0), 0);
	assert_int_equal(client_send(call, span_text("x"), 0), CLIENT_OK);
	echo_until(&echo, rig_streams_are, 1);
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

	rig_start(&echo, state, (struct echo_config){ 0 });
	client = rig_client(&echo);
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
			echo_until(&echo, rig_one_is_left_of, i + 2);
	}
	echo_until(&echo, rig_one_is_left_of, 1101);
	assert_int_equal(echo_hanging(&echo), 0);
	assert_int_equal(wire_count_fds(), before);
	assert_int_equal(client_unary(client, "/test.Echo/Unary", span_text("x"), &call, &answer), CLIENT_OK);
	client_call_close(call);
	client_close(client);
	echo_stop(&echo);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_BOTH(beyond_the_limit_they_wait),
		RIG_BOTH(beyond_those_that_wait_nothing_is_accepted),
		RIG_BOTH(a_server_that_is_full_ends),
		RIG_BOTH(helpers_have_a_door_of_their_own),
		RIG_BOTH(a_vanished_peer_is_cleaned_up),
		RIG_BOTH(a_peer_that_vanishes_in_mid_stream_is_cleaned_up),
		RIG_BOTH(a_drain_lets_streams_finish),
		RIG_BOTH(a_drain_does_not_wait_for_ever),
		RIG_BOTH(nothing_is_left_after_many_connections),
	};

	return cmocka_run_group_tests(tests, rig_quiet, NULL);
}
