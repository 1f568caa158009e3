/*
 * Shows that the client says in one sentence what went wrong and what to do, and how its waits end: by a message, a
 * readable pipe, a time-out, a signal, the end of the connection. Against the echo server of the network tests, on real
 * sockets, over both ring engines.
 */
#include "gateway/client/client.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/unit/net/echo.h"
#include "tests/unit/net/keys.h"
#include "tests/unit/net/wire.h"

#define MS 1000000ull

static enum ring_engine engine_of(void **state)
{
	return *(const enum ring_engine *)*state;
}

static void start(struct echo *echo, void **state, struct echo_config config)
{
	config.engine = engine_of(state);
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

/* Opening must fail with `error`, and say `says`. */
static void refused(void **state, const char *address, struct client_config config, int error, const char *says)
{
	struct client *client = NULL;
	char why[640] = "";
	int r;

	config.fd = -1;
	config.engine = (int)engine_of(state);
	assert_true(address_parse(&config.address, address, why, sizeof(why)));
	r = client_open(&client, &config, why, sizeof(why));
	if (r == 0 || (error && r != error) || !strstr(why, says))
		fail_msg("%s: %d \"%s\", not %d \"%s\"", address, r, why, error, says);
	assert_null(client);
	/* One line, and not a word of it cut off. */
	assert_null(strchr(why, '\n'));
	assert_true(strlen(why) < 400);
}

static const char *with_scheme(const char *scheme, const char *bound)
{
	static char text[ADDRESS_TEXT_MAX];

	snprintf(text, sizeof(text), "%s%s", scheme, strchr(bound, ':'));
	return text;
}

static void nobody_there(void **state)
{
	struct sockaddr_in name = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct client_config config = { 0 };
	socklen_t size = sizeof(name);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char address[64];

	/* Bound and not listening: nobody else can take the port meanwhile. */
	assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &size), 0);
	snprintf(address, sizeof(address), "grpc://127.0.0.1:%u", ntohs(name.sin_port));
	refused(state, address, config, -ECONNREFUSED, "connection refused: is `sluice serve` running there?");
	refused(state, "unix:///tmp/sluice-no-such.sock", config, -ENOENT, "there is no such socket");
	/* A resolver that is away and one that says no are two errors, and one sentence. */
	refused(state, "grpc://no-such-host.invalid:1", config, 0, "cannot resolve the host name \"no-such-host.invalid\"");
	close(fd);
}

/* A listener that nobody accepts from: the connection stands, nobody answers. */
static void nobody_answers(void **state)
{
	struct sockaddr_in name = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct client_config config = { .connect_timeout_ns = 1000 * MS };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), filler = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	socklen_t size = sizeof(name);
	char address[64];

	assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &size), 0);
	snprintf(address, sizeof(address), "grpc://127.0.0.1:%u", ntohs(name.sin_port));
	refused(state, address, config, -ETIMEDOUT, "said nothing");
	/* Now its backlog is full, and a connection is not even made. */
	connect(filler, (struct sockaddr *)&name, sizeof(name));
	refused(state, address, config, -ETIMEDOUT, "");
	close(filler);
	close(fd);
}

static void tls_and_cleartext_tell_each_other(void **state)
{
	struct tls_config tls = keys_server("server", NULL, false);
	struct client_config config = { .ca_path = keys_path("ca", "ca.pem") };
	struct echo plain, secure;

	start(&plain, state, (struct echo_config){ 0 });
	start(&secure, state, (struct echo_config){ .address = "grpcs://127.0.0.1:0", .tls = &tls });
	refused(state, with_scheme("grpcs", plain.bound), config, -EPROTO, "is this a grpc:// (plain) listener?");
	refused(state, with_scheme("grpc", secure.bound), config, -EPROTO, "speaks TLS: use a grpcs:// address");
	echo_stop(&plain);
	echo_stop(&secure);
}

static void certificates_that_do_not_do(void **state)
{
	struct tls_config tls = keys_server("server", "ca", true), expired = keys_server("expired", NULL, false);
	struct client_config none = { .ca_path = keys_path("ca", "ca.pem") };
	struct client_config good = none, wrong_ca = none, stranger = none, misnamed = none, no_file = none, no_ca = none;
	struct client *client;
	struct echo echo, late;
	char why[256];

	start(&echo, state, (struct echo_config){ .address = "grpcs://127.0.0.1:0", .tls = &tls });
	start(&late, state, (struct echo_config){ .address = "grpcs://127.0.0.1:0", .tls = &expired });
	good.certificate_path = keys_path("client", "cert.pem");
	good.key_path = keys_path("client", "key.pem");
	wrong_ca.ca_path = keys_path("other-ca", "ca.pem");
	no_ca.ca_path = NULL;
	stranger.certificate_path = keys_path("stranger", "cert.pem");
	stranger.key_path = keys_path("stranger", "key.pem");
	misnamed.server_name = "gateway.example";
	no_file.certificate_path = "/nonexistent/cert.pem";
	no_file.key_path = "/nonexistent/key.pem";
	refused(state, echo.bound, none, -EPROTO, "requires a client certificate");
	refused(state, echo.bound, wrong_ca, -EPROTO, "is ca.pem of this gateway given? SLUICE_TLS_CA");
	refused(state, echo.bound, no_ca, -EPROTO, "is ca.pem of this gateway given? SLUICE_TLS_CA");
	refused(state, echo.bound, stranger, -EPROTO, "is it one that the gateway's CA issued?");
	refused(state, echo.bound, misnamed, -EPROTO, "not made out for \"gateway.example\"");
	refused(state, echo.bound, no_file, -ENOENT, "/nonexistent/cert.pem");
	refused(state, late.bound, good, -EPROTO, "has expired");
	/* And one that does. */
	good.fd = -1;
	good.engine = (int)engine_of(state);
	good.server_name = "localhost";
	assert_true(address_parse(&good.address, echo.bound, why, sizeof(why)));
	assert_int_equal(client_open(&client, &good, why, sizeof(why)), 0);
	client_close(client);
	echo_stop(&echo);
	echo_stop(&late);
}

static void a_name_with_several_addresses_is_tried_in_turn(void **state)
{
	struct client_config config = { .fd = -1, .engine = (int)engine_of(state) };
	struct client *client;
	struct echo echo;
	char why[256], address[64];

	/* "localhost" is ::1 first on most machines, where nobody listens. */
	start(&echo, state, (struct echo_config){ 0 });
	snprintf(address, sizeof(address), "grpc://localhost%s", strrchr(echo.bound, ':'));
	assert_true(address_parse(&config.address, address, why, sizeof(why)));
	if (client_open(&client, &config, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	client_close(client);
	echo_stop(&echo);
}

/* ---- calls that end ---- */

static void refusals_reach_the_caller(void **state)
{
	const uint64_t none = 0;
	struct client_call *call;
	struct client *client;
	struct span answer;
	struct echo echo;
	const char *text;

	start(&echo, state, (struct echo_config){ 0 });
	client = open_client(&echo);
	assert_int_equal(client_unary(client, "/test.Echo/Refuse", span_text("x"), &call, &answer), CLIENT_END);
	assert_int_equal(client_call_status(call, &text), GRPC_PERMISSION_DENIED);
	assert_string_equal(text, "not you, 100 % sure");
	client_call_close(call);
	assert_int_equal(client_unary(client, "/test.Echo/No", span_text("x"), &call, &answer), CLIENT_END);
	assert_int_equal(client_call_status(call, &text), GRPC_UNIMPLEMENTED);
	client_call_close(call);
	/* An end without an answer has a sentence, too: all that there is to show of it. */
	assert_int_equal(client_unary(client, "/test.Echo/Source", span_make(&none, sizeof(none)), &call, &answer), CLIENT_END);
	assert_int_equal(client_call_status(call, &text), GRPC_OK);
	assert_string_equal(text, "the gateway ended the call without an answer");
	client_call_close(call);
	client_call_close(NULL);
	client_close(client);
	echo_stop(&echo);
}

static void a_lost_connection_is_unavailable(void **state)
{
	struct client_call *call, *next;
	struct client *client;
	struct span message;
	struct echo echo;
	const char *text;

	start(&echo, state, (struct echo_config){ 0 });
	client = open_client(&echo);
	assert_int_equal(client_call_open(&call, client, "/test.Echo/Hang", NULL, 0), 0);
	assert_int_equal(client_send(call, span_text("x"), 0), CLIENT_OK);
	while (echo_hanging(&echo) == 0)
		assert_int_equal(client_receive(call, &message, 1 * MS), CLIENT_AGAIN);
	echo_stop(&echo);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(call, &text), GRPC_UNAVAILABLE);
	assert_string_equal(text, client_error(client));
	assert_non_null(strstr(text, "connection to grpc://127.0.0.1:"));
	assert_int_equal(client_send(call, span_text("x"), 0), CLIENT_END);
	client_call_close(call);
	assert_true(client_call_open(&next, client, "/test.Echo/Hang", NULL, 0) < 0);
	client_close(client);
}

/* Calls that nobody closed, one of them with a message that nobody fetched. */
static void closing_closes_the_calls(void **state)
{
	struct client_call *calls[4];
	struct client *client;
	struct span message;
	struct echo echo;
	uint64_t bytes = 100000000;

	start(&echo, state, (struct echo_config){ 0 });
	client = open_client(&echo);
	assert_int_equal(client_call_open(&calls[0], client, "/test.Echo/Hang", NULL, 0), 0);
	assert_int_equal(client_call_open(&calls[1], client, "/test.Echo/Source", NULL, 0), 0);
	assert_int_equal(client_send(calls[1], span_make(&bytes, sizeof(bytes)), 0), CLIENT_OK);
	assert_int_equal(client_receive(calls[1], &message, UINT64_MAX), CLIENT_OK);
	assert_int_equal(client_call_open(&calls[2], client, "/test.Echo/Peer", NULL, 0), 0);
	assert_int_equal(client_wait(client, NULL, 0, NULL, UINT64_MAX), CLIENT_OK);
	assert_int_equal(client_receive(calls[2], &message, UINT64_MAX), CLIENT_OK);
	assert_int_equal(client_call_open(&calls[3], client, "/test.Echo/Refuse", NULL, 0), 0);
	assert_int_equal(client_receive(calls[3], &message, UINT64_MAX), CLIENT_END);
	client_close(client);
	echo_stop(&echo);
	assert_int_equal(echo.hanging, 0);
}

static void an_abandoned_call_is_cancelled_there(void **state)
{
	struct client_call *call;
	struct client *client;
	struct span message;
	struct echo echo;

	start(&echo, state, (struct echo_config){ 0 });
	client = open_client(&echo);
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(client_call_open(&call, client, "/test.Echo/Hang", NULL, 0), 0);
		assert_int_equal(client_receive(call, &message, 0), CLIENT_AGAIN);
		client_call_close(call);
	}
	assert_int_equal(client_unary(client, "/test.Echo/Unary", span_text("x"), &call, &message), CLIENT_OK);
	client_call_close(call);
	assert_int_equal(echo_hanging(&echo), 0);
	client_close(client);
	echo_stop(&echo);
}

/* ---- waits ---- */

static struct client *alarmed;

static void on_alarm(int signal)
{
	client_interrupt(alarmed);
}

static void a_signal_interrupts_each_wait_once(void **state)
{
	struct itimerval timer = { .it_value.tv_usec = 50000 };
	struct client_call *call;
	struct client *client;
	struct span message;
	struct echo echo;

	start(&echo, state, (struct echo_config){ 0 });
	client = open_client(&echo);
	alarmed = client;
	signal(SIGALRM, on_alarm);
	assert_int_equal(client_call_open(&call, client, "/test.Echo/Hang", NULL, 0), 0);
	setitimer(ITIMER_REAL, &timer, NULL);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_INTERRUPTED);
	assert_int_equal(client_receive(call, &message, 1 * MS), CLIENT_AGAIN);
	setitimer(ITIMER_REAL, &timer, NULL);
	assert_int_equal(client_wait(client, NULL, 0, NULL, UINT64_MAX), CLIENT_INTERRUPTED);
	/* One that comes while nobody waits is not lost. */
	client_interrupt(client);
	client_interrupt(client);
	assert_int_equal(client_wait(client, NULL, 0, NULL, UINT64_MAX), CLIENT_INTERRUPTED);
	assert_int_equal(client_wait(client, NULL, 0, NULL, 1 * MS), CLIENT_AGAIN);
	client_call_close(call);
	client_close(client);
	echo_stop(&echo);
}

static void a_wait_ends_by_what_comes_first(void **state)
{
	int pipes[2], idle[2], fds[3];
	struct client_call *call;
	struct client *client;
	struct span message;
	struct echo echo;
	bool ready[3];

	start(&echo, state, (struct echo_config){ 0 });
	client = open_client(&echo);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(pipe(idle), 0);
	fds[0] = idle[0], fds[1] = -1, fds[2] = pipes[0];
	assert_int_equal(client_call_open(&call, client, "/test.Echo/Stream", NULL, 0), 0);
	assert_int_equal(client_wait(client, fds, 3, ready, 5 * MS), CLIENT_AGAIN);
	assert_false(ready[0] || ready[1] || ready[2]);
	assert_int_equal(write(pipes[1], "x", 1), 1);
	assert_int_equal(client_wait(client, fds, 3, ready, UINT64_MAX), CLIENT_OK);
	assert_true(!ready[0] && !ready[1] && ready[2]);
	fds[2] = -1;
	assert_int_equal(client_send(call, span_text("y"), 0), CLIENT_OK);
	assert_int_equal(client_wait(client, fds, 3, ready, UINT64_MAX), CLIENT_OK);
	assert_false(ready[0] || ready[1] || ready[2]);
	assert_int_equal(client_receive(call, &message, 0), CLIENT_OK);
	assert_true(span_is(message, "y"));
	/* A pipe that was hung up is ready too. */
	close(idle[1]);
	assert_int_equal(client_wait(client, fds, 3, ready, UINT64_MAX), CLIENT_OK);
	assert_true(ready[0]);
	fds[0] = pipes[0];
	assert_int_equal(read(pipes[0], ready, 1), 1);
	/* The end of the call, then of the connection: each told once. */
	client_send_end(call);
	assert_int_equal(client_wait(client, fds, 1, ready, UINT64_MAX), CLIENT_OK);
	assert_int_equal(client_receive(call, &message, 0), CLIENT_END);
	assert_int_equal(client_wait(client, fds, 1, ready, 5 * MS), CLIENT_AGAIN);
	echo_stop(&echo);
	assert_int_equal(client_wait(client, fds, 1, ready, UINT64_MAX), CLIENT_OK);
	assert_false(ready[0]);
	assert_int_equal(client_wait(client, fds, 1, ready, 5 * MS), CLIENT_AGAIN);
	assert_int_equal(client_wait(client, NULL, 0, NULL, UINT64_MAX), CLIENT_OK);
	client_call_close(call);
	client_close(client);
	close(pipes[0]);
	close(pipes[1]);
	close(idle[0]);
}

static uint64_t turns(struct client *client)
{
	return ring_counters(client_ring(client))->turns;
}

static int timer_fd(uint64_t delay_ns)
{
	struct itimerspec delay = { .it_value.tv_nsec = (long)delay_ns };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(timerfd_settime(fd, 0, &delay, NULL), 0);
	return fd;
}

/* Start, arm, time out, cancel: a handful of turns, however long it lasts; one that spins takes thousands. */
#define TURNS_OF_A_SLEEP 30

/* And what ends a sleep ends it. */
static void a_wait_sleeps(void **state)
{
	struct client_call *call;
	struct client *client;
	struct echo echo;
	uint64_t before;
	bool ready[2];
	int idle[2], fds[2];

	start(&echo, state, (struct echo_config){ 0 });
	client = open_client(&echo);
	assert_int_equal(client_call_open(&call, client, "/test.Echo/Hang", NULL, 0), 0);
	assert_int_equal(client_wait(client, NULL, 0, NULL, 20 * MS), CLIENT_AGAIN);
	assert_int_equal(pipe(idle), 0);
	fds[0] = idle[0], fds[1] = -1;
	before = turns(client);
	assert_int_equal(client_wait(client, fds, 2, ready, 200 * MS), CLIENT_AGAIN);
	assert_true(turns(client) - before <= TURNS_OF_A_SLEEP);
	fds[1] = timer_fd(100 * MS);
	before = turns(client);
	assert_int_equal(client_wait(client, fds, 2, ready, UINT64_MAX), CLIENT_OK);
	assert_true(!ready[0] && ready[1]);
	assert_true(turns(client) - before <= TURNS_OF_A_SLEEP);
	client_call_close(call);
	client_close(client);
	close(fds[1]);
	close(idle[0]);
	close(idle[1]);
	echo_stop(&echo);
}

/* A pipe that was waited for, then closed here, and goes on elsewhere: its bytes end no later wait and cost no turn. */
static void a_closed_descriptor_is_forgotten(void **state)
{
	int old[2], other[2], kept, fds[1];
	struct client *client;
	struct echo echo;
	uint64_t before;
	bool ready[1];

	start(&echo, state, (struct echo_config){ 0 });
	client = open_client(&echo);
	assert_int_equal(pipe(old), 0);
	kept = dup(old[0]);
	fds[0] = old[0];
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(client_wait(client, fds, 1, ready, 100000), CLIENT_AGAIN);
	client_interrupt(client);
	assert_int_equal(client_wait(client, fds, 1, ready, UINT64_MAX), CLIENT_INTERRUPTED);
	close(old[0]);
	assert_int_equal(pipe(other), 0);
	assert_int_equal(other[0], old[0]);
	before = turns(client);
	assert_int_equal(write(old[1], "x", 1), 1);
	assert_int_equal(client_wait(client, fds, 1, ready, 50 * MS), CLIENT_AGAIN);
	assert_false(ready[0]);
	assert_int_equal(write(old[1], "x", 1), 1);
	assert_int_equal(client_wait(client, NULL, 0, NULL, 50 * MS), CLIENT_AGAIN);
	assert_true(turns(client) - before <= TURNS_OF_A_SLEEP);
	assert_int_equal(write(other[1], "x", 1), 1);
	assert_int_equal(client_wait(client, fds, 1, ready, UINT64_MAX), CLIENT_OK);
	assert_true(ready[0]);
	client_close(client);
	close(old[1]);
	close(other[0]);
	close(other[1]);
	close(kept);
	echo_stop(&echo);
}

static void a_message_stays_until_the_next_is_fetched(void **state)
{
	struct client_call *call, *other;
	struct span first, second, answer;
	struct client *client;
	struct echo echo;

	start(&echo, state, (struct echo_config){ 0 });
	client = open_client(&echo);
	assert_int_equal(client_call_open(&call, client, "/test.Echo/Stream", NULL, 0), 0);
	assert_int_equal(client_send(call, span_text("first"), 0), CLIENT_OK);
	assert_int_equal(client_send(call, span_text("second, longer"), 0), CLIENT_OK);
	assert_int_equal(client_send(call, span_text("third, longer than that"), 0), CLIENT_OK);
	assert_int_equal(client_receive(call, &first, UINT64_MAX), CLIENT_OK);
	assert_int_equal(client_unary(client, "/test.Echo/Unary", span_text("x"), &other, &answer), CLIENT_OK);
	client_call_close(other);
	assert_int_equal(client_wait(client, NULL, 0, NULL, UINT64_MAX), CLIENT_OK);
	assert_true(span_is(first, "first"));
	assert_int_equal(client_receive(call, &second, 0), CLIENT_OK);
	assert_true(span_is(second, "second, longer"));
	client_call_close(call);
	client_close(client);
	echo_stop(&echo);
}

static void many_clients_leave_nothing(void **state)
{
	struct client_call *call;
	struct client *client;
	struct span answer;
	struct echo echo;
	unsigned before;

	start(&echo, state, (struct echo_config){ 0 });
	before = wire_count_fds();
	for (unsigned i = 0; i < 100; i++) {
		client = open_client(&echo);
		assert_int_equal(client_unary(client, "/test.Echo/Unary", span_text("x"), &call, &answer), CLIENT_OK);
		client_call_close(call);
		client_close(client);
	}
	while (echo_status(&echo).connections)
		;
	/* The last descriptor may still be on its way out in the server's thread. */
	for (unsigned i = 0; i < 5000 && wire_count_fds() != before; i++)
		usleep(1000);
	assert_int_equal(wire_count_fds(), before);
	echo_stop(&echo);
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(nobody_there),
		BOTH(nobody_answers),
		BOTH(tls_and_cleartext_tell_each_other),
		BOTH(certificates_that_do_not_do),
		BOTH(a_name_with_several_addresses_is_tried_in_turn),
		BOTH(refusals_reach_the_caller),
		BOTH(a_lost_connection_is_unavailable),
		BOTH(closing_closes_the_calls),
		BOTH(an_abandoned_call_is_cancelled_there),
		BOTH(a_signal_interrupts_each_wait_once),
		BOTH(a_wait_ends_by_what_comes_first),
		BOTH(a_wait_sleeps),
		BOTH(a_closed_descriptor_is_forgotten),
		BOTH(a_message_stays_until_the_next_is_fetched),
		BOTH(many_clients_leave_nothing),
	};

	return cmocka_run_group_tests(tests, keys_make, keys_remove);
}
