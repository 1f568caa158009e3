/*
 * Shows that peers that say nothing or too slowly, read nothing, or have nothing open are cut off, and that who has is not, on
 * real sockets, over both ring engines; and that a call in which nothing ever comes ends. Time-outs are set short; the tests wait for
 * their effect, not for time.
 */
#include "tests/unit/net/server_rig.h"

#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/net/keys.h"
#include "tests/unit/net/sealed.h"

static void silence_is_cut_off(void **state)
{
	struct echo echo;
	int fd;

	rig_start(&echo, state, (struct echo_config){ .handshake_timeout_ns = 100 * MS });
	fd = wire_connect(echo.bound);
	wire_drain(fd);
	assert_int_equal(echo_until(&echo, rig_connections_are, 0).handshake_timeouts, 1);
	close(fd);
	echo_stop(&echo);
}

static void silence_in_tls_is_cut_off(void **state)
{
	struct tls_config tls = keys_server("server", NULL, false);
	struct echo echo;
	int fd;

	rig_start(&echo, state, (struct echo_config){ .address = "grpcs://127.0.0.1:0", .tls = &tls,
	                                              .handshake_timeout_ns = 100 * MS });
	fd = wire_connect(echo.bound);
	wire_send(fd, span_make("\x16\x03\x01\x02", 4));
	wire_drain(fd);
	assert_int_equal(echo_until(&echo, rig_connections_are, 0).handshake_timeouts, 1);
	close(fd);
	echo_stop(&echo);
}

/*
 * Behind the handshake comes the head of a KeyUpdate, which wants a byte more (RFC 8446 section 4.6.3): that peer has begun something
 * short that it has to end. When it does, all goes on.
 */
static void half_a_message_of_tls(void **state)
{
	static const uint8_t key_update[] = { 24, 0, 0, 1, 0 };
	struct tls_config tls = keys_server("server", NULL, false);
	struct sealed sealed;
	struct echo echo;
	int fd;

	rig_start(&echo, state, (struct echo_config){ .address = "grpcs://127.0.0.1:0", .tls = &tls,
	                                              .stall_timeout_ns = 1000 * MS });
	fd = wire_connect(echo.bound);
	sealed_begin(&sealed, fd);
	sealed_send(&sealed, SEALED_APPLICATION, wire_preface);
	sealed_send(&sealed, SEALED_HANDSHAKE, span_make(key_update, 4));
	wire_drain(fd);
	assert_int_equal(echo_until(&echo, rig_connections_are, 0).stalls, 1);
	sealed_end(&sealed);
	close(fd);

	fd = wire_connect(echo.bound);
	sealed_begin(&sealed, fd);
	sealed_send(&sealed, SEALED_APPLICATION, wire_preface);
	sealed_send(&sealed, SEALED_HANDSHAKE, span_make(key_update, 4));
	sealed_send(&sealed, SEALED_HANDSHAKE, span_make(key_update + 4, 1));
	assert_false(wire_closed_within(fd, 2200));
	assert_int_equal(echo_status(&echo).connections, 1);
	assert_int_equal(echo_status(&echo).stalls, 1);
	sealed_end(&sealed);
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

	rig_start(&echo, state, (struct echo_config){ .handshake_timeout_ns = 200 * MS });
	fd = wire_connect(echo.bound);
	assert_true(trickle(fd, wire_preface) < wire_preface.size);
	assert_int_equal(echo_until(&echo, rig_connections_are, 0).handshake_timeouts, 1);
	close(fd);
	echo_stop(&echo);
}

/* A HEADERS frame that does not end, whatever trickles in. */
static void a_slow_request_gains_no_time(void **state)
{
	static const uint8_t headers[200] = { 0, 0, 190, 1, 4, 0, 0, 0, 1, 0x83 };
	struct echo echo;
	int fd;

	rig_start(&echo, state, (struct echo_config){ .stall_timeout_ns = 200 * MS });
	fd = wire_connect(echo.bound);
	wire_send(fd, wire_preface);
	assert_true(trickle(fd, span_make(headers, sizeof(headers))) < sizeof(headers));
	assert_int_equal(echo_until(&echo, rig_connections_are, 0).stalls, 1);
	close(fd);
	echo_stop(&echo);
}

/* Asks for a lot and reads nothing: its connection's send does not end. The windows are large enough for that. */
static void who_never_reads_is_cut_off(void **state)
{
	uint64_t bytes = 1ull << 30;
	struct echo echo;
	int fd, small = 4096;

	rig_start(&echo, state, (struct echo_config){ .stall_timeout_ns = 200 * MS });
	fd = wire_connect(echo.bound);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	wire_open_source(fd, bytes);
	assert_int_equal(echo_until(&echo, rig_stalls_are, 1).streams, 0);
	close(fd);
	echo_stop(&echo);
}

static void pings_keep_nobody(void **state)
{
	struct echo echo;
	unsigned pings = 0;
	int fd;

	rig_start(&echo, state, (struct echo_config){ .idle_timeout_ns = 1000 * MS });
	fd = wire_connect(echo.bound);
	wire_send(fd, wire_preface);
	while (!wire_closed_within(fd, 10)) {
		assert_true(pings++ < 500);
		if (send(fd, wire_ping.data, wire_ping.size, MSG_NOSIGNAL) < 0)
			break;
	}
	assert_true(pings > 2);
	assert_int_equal(echo_until(&echo, rig_connections_are, 0).idle_closed, 1);
	close(fd);
	echo_stop(&echo);
}

static void an_open_stream_is_not_idle(void **state)
{
	static const uint8_t reset[] = { 0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8 };
	struct echo echo;
	int fd;

	rig_start(&echo, state, (struct echo_config){ .idle_timeout_ns = 50 * MS });
	fd = wire_connect(echo.bound);
	wire_open_call(fd, "/test.Echo/Hang");   /* behind the first bytes: there is hardly a moment without it */
	assert_false(wire_closed_within(fd, 300));
	assert_int_equal(echo_status(&echo).connections, 1);
	assert_int_equal(echo_status(&echo).idle_closed, 0);
	/* Without it, it is. */
	wire_send(fd, span_make(reset, sizeof(reset)));
	echo_until(&echo, rig_connections_are, 0);
	assert_int_equal(echo_status(&echo).idle_closed, 1);
	close(fd);
	echo_stop(&echo);
}

/* One that was asked something may take its time. */
static void a_call_of_which_nothing_comes_ends(void **state)
{
	struct client_call *silent, *asked;
	struct client *client;
	struct span message;
	const char *text;
	struct echo echo;

	rig_start(&echo, state, (struct echo_config){ .stall_timeout_ns = 100 * MS });
	client = rig_client(&echo);
	assert_int_equal(client_call_open(&asked, client, "/test.Echo/Hang", NULL, 0), 0);
	assert_int_equal(client_send(asked, span_text("a question"), 0), CLIENT_OK);
	assert_int_equal(client_call_open(&silent, client, "/test.Echo/Hang", NULL, 0), 0);
	assert_int_equal(client_receive(silent, &message, 20000 * MS), CLIENT_END);
	assert_int_equal(client_call_status(silent, &text), GRPC_DEADLINE_EXCEEDED);
	assert_non_null(strstr(text, "nothing came"));
	client_call_close(silent);
	assert_int_equal(client_receive(asked, &message, 1000 * MS), CLIENT_AGAIN);
	assert_int_equal(echo_hanging(&echo), 1);
	client_call_close(asked);
	client_close(client);
	echo_stop(&echo);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_BOTH(silence_is_cut_off),
		RIG_BOTH(silence_in_tls_is_cut_off),
		RIG_BOTH(half_a_message_of_tls),
		RIG_BOTH(a_slow_preface_gains_no_time),
		RIG_BOTH(a_slow_request_gains_no_time),
		RIG_BOTH(who_never_reads_is_cut_off),
		RIG_BOTH(pings_keep_nobody),
		RIG_BOTH(an_open_stream_is_not_idle),
		RIG_BOTH(a_call_of_which_nothing_comes_ends),
	};

	return cmocka_run_group_tests(tests, keys_make, keys_remove);
}
