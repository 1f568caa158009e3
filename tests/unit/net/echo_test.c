/*
 * Shows that calls work end to end over real sockets: unary, streams both ways, 100 MB each way at once with a peer that
 * stops reading in between (nothing piles up), over TLS with a client certificate, and how many bytes a connection with
 * one empty call costs; and that the kernel tells how fast a TCP line is, and nothing of others. Each test runs over io_uring and over epoll.
 */
#include <signal.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <cmocka.h>
#include "gateway/client/client.h"
#include "tests/unit/net/echo.h"
#include "tests/unit/net/keys.h"

#define MB    1000000ull
#define PIECE 65536

static void start(struct echo *echo, void **state, struct echo_config config)
{
	config.engine = *(const enum ring_engine *)*state;
	if (!echo_start(echo, &config))
		fail_msg("%s", echo->why);
}

static struct client *open_with(const struct echo *echo, struct client_config config)
{
	struct client *client = NULL;
	char why[256] = "";

	config.fd = -1;
	config.engine = (int)echo->config.engine;
	if (!address_parse(&config.address, echo->bound, why, sizeof(why)) || client_open(&client, &config, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return client;
}

static struct client *open_client(const struct echo *echo)
{
	return open_with(echo, (struct client_config){ 0 });
}

static void unary(struct client *client, const char *path, const char *request, const char *expected)
{
	struct client_call *call;
	struct span answer;
	int r = client_unary(client, path, span_text(request), &call, &answer);

	if (r != CLIENT_OK)
		fail_msg("%s: %d %s", path, r, client_error(client));
	if (!span_is(answer, expected))
		fail_msg("%s: \"%.*s\", not \"%s\"", path, (int)answer.size, (const char *)answer.data, expected);
	client_call_close(call);
}

static void unary_comes_back(void **state)
{
	struct client *client;
	struct echo echo;

	start(&echo, state, (struct echo_config){ 0 });
	client = open_client(&echo);
	assert_string_equal(ring_engine_name(client_ring(client)),
	                    echo.config.engine == RING_ENGINE_EPOLL ? "epoll" : "io_uring");
	for (unsigned i = 0; i < 200; i++)
		unary(client, "/test.Echo/Unary", "hello", "hello");
	unary(client, "/test.Echo/Unary", "", "");
	client_close(client);
	echo_stop(&echo);
}

static void credentials_arrive(void **state)
{
	struct client *client;
	struct echo echo;

	start(&echo, state, (struct echo_config){ 0 });
	client = open_with(&echo, (struct client_config){ .token = "s3cret", .instance = "team/x" });
	unary(client, "/test.Echo/Headers", "", "Bearer s3cret|team/x");
	client_close(client);
	client = open_client(&echo);
	unary(client, "/test.Echo/Headers", "", "|");
	client_close(client);
	echo_stop(&echo);
}

/* Messages of all sizes around frame, window and queue limits come back in order, compressed on the way there or not. */
static void a_stream_comes_back_in_order(void **state)
{
	static const size_t sizes[] = { 0, 1, 4, 5, 16379, 16384, 16385, 65535, 262139, 262144, 1 << 20, 4 << 20, 5000000 };
	uint8_t *data = malloc(5000000);
	struct client_call *call;
	struct client *client;
	struct span message;
	struct echo echo;

	assert_non_null(data);
	for (size_t i = 0; i < 5000000; i++)
		data[i] = (uint8_t)(i >> 10 ^ i / 3);
	start(&echo, state, (struct echo_config){ 0 });
	client = open_client(&echo);
	assert_int_equal(client_call_open(&call, client, "/test.Echo/Stream", NULL, 0), 0);
	for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t size = sizes[i / 2];

		assert_int_equal(client_send(call, span_make(data + i % 2, size ? size - 1 : 0), i % 2 ? 3 : 0), CLIENT_OK);
		assert_int_equal(client_send(call, span_text("between"), 0), CLIENT_OK);
		assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_OK);
		assert_true(span_equal(message, span_make(data + i % 2, size ? size - 1 : 0)));
		assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_OK);
		assert_true(span_is(message, "between"));
	}
	client_send_end(call);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(call, NULL), GRPC_OK);
	client_call_close(call);
	client_close(client);
	echo_stop(&echo);
	free(data);
}

/* 100 MB up by one call and 100 MB down by another, over the same connection at the same time. */
static void transfer_both_ways(struct client *client, uint64_t bytes)
{
	static uint8_t piece[PIECE];
	uint64_t up = 0, down = 0, counted = 0;
	struct client_call *sink, *source;
	struct span message;

	assert_int_equal(client_call_open(&sink, client, "/test.Echo/Sink", NULL, 0), 0);
	assert_int_equal(client_call_open(&source, client, "/test.Echo/Source", NULL, 0), 0);
	assert_int_equal(client_send(source, span_make(&bytes, sizeof(bytes)), 0), CLIENT_OK);
	while (up < bytes || down < bytes) {
		if (up < bytes) {
			size_t n = bytes - up < PIECE ? bytes - up : PIECE;

			assert_int_equal(client_send(sink, span_make(piece, n), 0), CLIENT_OK);
			up += n;
		}
		if (down < bytes) {
			assert_int_equal(client_receive(source, &message, UINT64_MAX), CLIENT_OK);
			for (size_t i = 0; i < message.size; i += 997)
				assert_int_equal(message.data[i], (uint8_t)((down + i) * 7));
			down += message.size;
		}
	}
	client_send_end(sink);
	assert_int_equal(client_receive(sink, &message, UINT64_MAX), CLIENT_OK);
	memcpy(&counted, message.data, sizeof(counted));
	assert_int_equal(counted, bytes);
	assert_int_equal(client_receive(sink, &message, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_receive(source, &message, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(source, NULL), GRPC_OK);
	client_call_close(sink);
	client_call_close(source);
}

static void large_streams_both_ways(void **state)
{
	struct client *client;
	struct echo echo;

	start(&echo, state, (struct echo_config){ 0 });
	client = open_client(&echo);
	/* 100 MB go over a line of this machine's memory: it is no slower than an old hard disk. Two samples have to say so. */
	transfer_both_ways(client, 50 * MB);
	assert_int_equal(client_line_rate(client), 0);
	transfer_both_ways(client, 50 * MB);
	assert_true(client_line_rate(client) > MB);
	client_close(client);
	echo_stop(&echo);
}

static void large_streams_both_ways_over_tls(void **state)
{
	struct tls_config tls = keys_server("server", "ca", true);
	struct client *client;
	struct echo echo;

	start(&echo, state, (struct echo_config){ .address = "grpcs://127.0.0.1:0", .tls = &tls });
	client = open_with(&echo, (struct client_config){ .ca_path = keys_path("ca", "ca.pem"),
	                                                  .certificate_path = keys_path("client", "cert.pem"),
	                                                  .key_path = keys_path("client", "key.pem") });
	transfer_both_ways(client, 100 * MB);
	unary(client, "/test.Echo/Peer", "", "acme|ci|-1|1");
	client_close(client);
	echo_stop(&echo);
}

/* Keys are replaced under a living connection: it goes on, and the next one meets the new ones. */
static void keys_can_be_replaced(void **state)
{
	struct tls_config first = keys_server("server", "ca", true), second = keys_server("stranger-server", NULL, false);
	struct client *old, *new;
	struct echo echo;

	start(&echo, state, (struct echo_config){ .address = "grpcs://127.0.0.1:0", .tls = &first });
	old = open_with(&echo, (struct client_config){ .ca_path = keys_path("ca", "ca.pem"),
	                                               .certificate_path = keys_path("client", "cert.pem"),
	                                               .key_path = keys_path("client", "key.pem") });
	unary(old, "/test.Echo/Peer", "", "acme|ci|-1|1");
	echo_set_tls(&echo, &second);
	echo_status(&echo);
	new = open_with(&echo, (struct client_config){ .ca_path = keys_path("other-ca", "ca.pem") });
	unary(new, "/test.Echo/Peer", "", "-|-|-1|1");
	unary(old, "/test.Echo/Peer", "", "acme|ci|-1|1");
	client_close(old);
	client_close(new);
	echo_stop(&echo);
}

static struct client *alarmed;

static void on_alarm(int signal)
{
	client_interrupt(alarmed);
}

static void alarm_after(struct client *client, unsigned milliseconds)
{
	struct itimerval timer = { .it_value.tv_usec = milliseconds * 1000 };

	alarmed = client;
	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &timer, NULL);
}

/*
 * Up: the server holds, and the client's sends must come to a stand after what the windows and queues hold, until a signal
 * interrupts; then it goes on, and nothing is lost.
 */
static void a_server_that_holds_stops_the_client(void **state)
{
	static uint8_t piece[1 << 20];
	uint64_t sent = 0, total = 100 << 20, counted = 0;
	struct client_call *call;
	struct client *client;
	struct span message;
	struct echo echo;
	int r;

	start(&echo, state, (struct echo_config){ 0 });
	client = open_client(&echo);
	assert_int_equal(client_call_open(&call, client, "/test.Echo/Hold", NULL, 0), 0);
	do {                             /* once, unless the machine is busy */
		alarm_after(client, 300);
		while ((r = client_send(call, span_make(piece, sizeof(piece)), 0)) == CLIENT_OK)
			sent += sizeof(piece);
		assert_int_equal(r, CLIENT_INTERRUPTED);
	} while (sent < 4 << 20);
	print_message("held after %llu KiB\n", (unsigned long long)sent >> 10);
	assert_true(sent <= 8 << 20);
	unary(client, "/test.Echo/Release", "go", "go");
	for (; sent < total; sent += sizeof(piece))
		assert_int_equal(client_send(call, span_make(piece, sizeof(piece)), 0), CLIENT_OK);
	client_send_end(call);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_OK);
	memcpy(&counted, message.data, sizeof(counted));
	assert_int_equal(counted, total);
	client_call_close(call);
	client_close(client);
	echo_stop(&echo);
}

/* Down: the client does not fetch while its loop runs; the server must come to a stand, then go on. */
static void a_client_that_does_not_fetch_stops_the_server(void **state)
{
	uint64_t bytes = 100 * MB, down = 0, sent;
	struct client_call *call, *idle;
	struct client *client;
	struct span message;
	struct echo echo;

	start(&echo, state, (struct echo_config){ 0 });
	client = open_client(&echo);
	assert_int_equal(client_call_open(&call, client, "/test.Echo/Source", NULL, 0), 0);
	assert_int_equal(client_call_open(&idle, client, "/test.Echo/Hang", NULL, 0), 0);
	assert_int_equal(client_send(call, span_make(&bytes, sizeof(bytes)), 0), CLIENT_OK);
	do
		assert_int_equal(client_receive(idle, &message, 20 * 1000000), CLIENT_AGAIN);
	while (echo_status(&echo).bytes_sent < 1 << 20);
	assert_int_equal(client_receive(idle, &message, 300 * 1000000), CLIENT_AGAIN);
	sent = echo_status(&echo).bytes_sent;
	print_message("not fetched: %llu KiB sent\n", (unsigned long long)sent >> 10);
	assert_true(sent <= 6 << 20);
	while (client_receive(call, &message, UINT64_MAX) == CLIENT_OK)
		down += message.size;
	assert_int_equal(down, bytes);
	client_call_close(call);
	client_call_close(idle);
	client_close(client);
	echo_stop(&echo);
}

/* What a push that has nothing to send may cost: 4 KB in all, 1.5 KB of it after the handshake. */
static void a_connection_and_an_empty_call_are_small(void **state)
{
	uint64_t received, sent, handshake_received, handshake_sent, after;
	struct tls_config tls = keys_server("server", "ca", true);
	struct server_status status;
	struct client *client;
	struct echo echo;

	start(&echo, state, (struct echo_config){ .address = "grpcs://127.0.0.1:0", .tls = &tls });
	client = open_with(&echo, (struct client_config){ .ca_path = keys_path("ca", "ca.pem"),
	                                                  .certificate_path = keys_path("client", "cert.pem"),
	                                                  .key_path = keys_path("client", "key.pem") });
	unary(client, "/test.Echo/Unary", "", "");
	client_bytes(client, &received, &sent, &handshake_received, &handshake_sent);
	after = received + sent - handshake_received - handshake_sent;
	print_message("handshake %llu + %llu, then %llu bytes\n", (unsigned long long)handshake_sent,
	              (unsigned long long)handshake_received, (unsigned long long)after);
	assert_true(handshake_sent > 500 && handshake_received > 500);
	assert_true(received + sent < 4000 - 1000);      /* leaves room for the push's own messages */
	assert_true(after < 1500 - 700);
	client_close(client);
	echo_drain(&echo, 0);
	echo_wait_drained(&echo);
	/* Both ends counted the same stream; the server may have got more (the end) than the client told here. */
	status = echo.status;
	assert_int_equal(status.bytes_sent, received);
	assert_true(status.bytes_received >= sent);
	echo_stop(&echo);
}

/* A connected pair instead of an address: how a gateway gives its executor host a line. */
static void a_socket_pair_carries_calls(void **state)
{
	struct client_config config = { .engine = (int)*(const enum ring_engine *)*state };
	struct client_call *call;
	struct client *client;
	struct span answer;
	struct echo echo;
	char why[256] = "", expected[64];
	int pair[2];

	start(&echo, state, (struct echo_config){ 0 });
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	echo_adopt(&echo, pair[0]);
	config.fd = pair[1];
	assert_int_equal(client_open(&client, &config, why, sizeof(why)), 0);
	snprintf(expected, sizeof(expected), "-|-|%d|1", (int)getuid());
	assert_int_equal(client_unary(client, "/test.Echo/Peer", span_text(""), &call, &answer), CLIENT_OK);
	assert_true(span_is(answer, expected));
	assert_true(client_line_rate(client) == CONN_LINE_LOCAL);
	client_call_close(call);
	client_close(client);
	echo_stop(&echo);
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(unary_comes_back),
		BOTH(credentials_arrive),
		BOTH(a_stream_comes_back_in_order),
		BOTH(large_streams_both_ways),
		BOTH(large_streams_both_ways_over_tls),
		BOTH(keys_can_be_replaced),
		BOTH(a_server_that_holds_stops_the_client),
		BOTH(a_client_that_does_not_fetch_stops_the_server),
		BOTH(a_connection_and_an_empty_call_are_small),
		BOTH(a_socket_pair_carries_calls),
	};

	return cmocka_run_group_tests(tests, keys_make, keys_remove);
}
