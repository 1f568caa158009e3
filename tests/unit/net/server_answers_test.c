/*
 * Shows that answers leave whole, however slowly they are read: when the server ends, when the request asked for the connection's end,
 * and when the client has closed its own side; on real sockets, over both ring engines.
 */
#include "tests/unit/net/server_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/net/keys.h"
#include "tests/unit/net/sealed.h"

#define ANSWER_BYTES ((4u << 18) + 250000)      /* the end rides in a long send */
#define LAST_REQUEST "GET /1298576 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
#define CLIENTS      10

/* What a client leaves unread for a while: for some it is more than a socket takes at once, and the last send is under way. */
static size_t left_bytes(int client)
{
	return 100000 + 15000 * (size_t)client;
}

static void read_bytes(int fd, size_t bytes)
{
	static uint8_t data[65536];
	ssize_t n;

	for (; bytes; bytes -= (size_t)n) {
		do {
			n = recv(fd, data, bytes < sizeof(data) ? bytes : sizeof(data), 0);
		} while (n < 0 && errno == EINTR);       /* as wire.c */
		if (n <= 0)
			fail_msg("%zu bytes are lacking", bytes);
	}
}

static const struct span last_request = { (const uint8_t *)LAST_REQUEST, sizeof(LAST_REQUEST) - 1 };

/* A unix socket's buffer, by default. */
static int socket_takes(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), bytes = 0;
	socklen_t size = sizeof(bytes);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &size), 0);
	close(fd);
	return bytes;
}

/* Over a unix socket: what that takes at once does not grow. */
static void start_local(struct echo *echo, void **state, struct echo_config config)
{
	char address[80];

	snprintf(address, sizeof(address), "unix:///tmp/sluice-answers-%d.sock", (int)getpid());
	config.address = address;
	rig_start(echo, state, config);
}

/* The last send is under way when the client pauses for longer than a farewell may take. */
static void a_drain_waits_for_who_reads_slowly(void **state)
{
	struct echo echo;
	int fds[CLIENTS];

	start_local(&echo, state, (struct echo_config){ 0 });
	for (int i = 0; i < CLIENTS; i++) {
		fds[i] = wire_connect(echo.bound);
		wire_open_source(fds[i], ANSWER_BYTES);
		read_bytes(fds[i], 65536);       /* so that the call is open */
	}
	echo_drain(&echo, 20000 * MS);
	for (int i = 0; i < CLIENTS; i++)
		read_bytes(fds[i], ANSWER_BYTES - 65536 - left_bytes(i));
	usleep(1500000);
	for (int i = 0; i < CLIENTS; i++) {
		assert_true(wire_drain(fds[i]) >= left_bytes(i));
		close(fds[i]);
	}
	echo_wait_drained(&echo);
	echo_stop(&echo);
}

static void so_does_a_request_that_ends_the_connection(void **state)
{
	struct echo echo;
	int fds[CLIENTS];

	start_local(&echo, state, (struct echo_config){ .web = true });
	for (int i = 0; i < CLIENTS; i++) {
		fds[i] = wire_connect(echo.bound);
		wire_send(fds[i], last_request);
		read_bytes(fds[i], ANSWER_BYTES - left_bytes(i));
	}
	usleep(1500000);
	for (int i = 0; i < CLIENTS; i++) {
		assert_true(wire_drain(fds[i]) >= left_bytes(i));
		close(fds[i]);
	}
	assert_int_equal(echo_until(&echo, rig_connections_are, 0).stalls, 0);
	echo_stop(&echo);
}

/* What the socket still has of an answer is not cut off by the windows that its reader gives. */
static void a_drain_waits_for_what_the_socket_holds(void **state)
{
	static const uint8_t window[13] = { 0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 16, 0 };
	int fd, small = 16384;
	struct echo echo;

	rig_start(&echo, state, (struct echo_config){ 0 });
	fd = wire_connect(echo.bound);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	wire_open_source(fd, ANSWER_BYTES);
	read_bytes(fd, 65536);
	echo_drain(&echo, 20000 * MS);
	usleep(700000);
	for (size_t bytes = 2 * 65536; bytes <= ANSWER_BYTES; bytes += 65536) {
		send(fd, window, sizeof(window), MSG_NOSIGNAL);
		read_bytes(fd, 65536);
		usleep(20000);
	}
	close(fd);
	echo_wait_drained(&echo);
	echo_stop(&echo);
}

/* Who reads nothing more gets no longer than any send. */
static void who_does_not_read_the_last_answer_is_cut_off(void **state)
{
	struct echo echo;
	int fds[CLIENTS];

	if (socket_takes() > 212992)
		skip();                  /* and all of every answer here */
	start_local(&echo, state, (struct echo_config){ .web = true, .stall_timeout_ns = 1500 * MS });
	for (int i = 0; i < CLIENTS; i++) {
		fds[i] = wire_connect(echo.bound);
		wire_send(fds[i], last_request);
		read_bytes(fds[i], ANSWER_BYTES - left_bytes(i));
	}
	echo_until(&echo, rig_connections_are, 0);
	assert_true(echo_status(&echo).stalls > 0);
	for (int i = 0; i < CLIENTS; i++)
		close(fds[i]);
	echo_stop(&echo);
}

/* RFC 9112 section 9.6: what it asked for is answered, also what it had asked for ahead; what it has not finished is not. */
static void a_client_may_close_its_side(void **state)
{
	static const char two[] = "GET /5 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
	char got[1024];
	size_t size = 0;
	ssize_t n;
	struct echo echo;
	int fd;

	rig_start(&echo, state, (struct echo_config){ .web = true });
	fd = wire_connect(echo.bound);
	wire_send(fd, span_text(two));
	shutdown(fd, SHUT_WR);
	while ((n = read(fd, got + size, sizeof(got) - 1 - size)) > 0)
		size += (size_t)n;
	got[size] = 0;
	assert_non_null(memmem(got, size, "content-length: 5\r\n", 19));
	assert_true(size > 7 && memcmp(got + size - 7, "0 bytes", 7) == 0);
	close(fd);
	fd = wire_connect(echo.bound);
	wire_send(fd, span_text("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nxxx"));
	shutdown(fd, SHUT_WR);
	assert_int_equal(wire_drain(fd), 0);
	close(fd);
	echo_until(&echo, rig_connections_are, 0);
	echo_stop(&echo);
}

/* Also when the answer is on its way already, and the connection ends with it. */
static void a_client_may_close_its_side_late(void **state)
{
	int fds[CLIENTS];
	struct echo echo;

	start_local(&echo, state, (struct echo_config){ .web = true });
	for (int i = 0; i < CLIENTS; i++) {
		fds[i] = wire_connect(echo.bound);
		wire_send(fds[i], last_request);
		read_bytes(fds[i], ANSWER_BYTES - left_bytes(i));
		shutdown(fds[i], SHUT_WR);
	}
	usleep(100000);
	for (int i = 0; i < CLIENTS; i++) {
		assert_true(wire_drain(fds[i]) >= left_bytes(i));
		close(fds[i]);
	}
	echo_stop(&echo);
}

/* And close_notify ends one direction, too (RFC 8446 section 6.1). */
static void a_client_may_close_its_side_of_tls(void **state)
{
	struct tls_config tls = keys_server("server", NULL, false);
	static const uint8_t close_notify[] = { 1, 0 };
	struct sealed sealed;
	struct echo echo;
	int fd;

	rig_start(&echo, state, (struct echo_config){ .address = "grpcs://127.0.0.1:0", .tls = &tls, .web = true });
	fd = wire_connect(echo.bound);
	sealed_begin(&sealed, fd);
	sealed_send(&sealed, SEALED_APPLICATION, span_text("GET /50000 HTTP/1.1\r\nHost: x\r\n\r\n"));
	sealed_send(&sealed, SEALED_ALERT, span_make(close_notify, sizeof(close_notify)));
	assert_true(wire_drain(fd) > 50000);
	sealed_end(&sealed);
	close(fd);
	echo_stop(&echo);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_BOTH(a_drain_waits_for_who_reads_slowly),
		RIG_BOTH(so_does_a_request_that_ends_the_connection),
		RIG_BOTH(a_drain_waits_for_what_the_socket_holds),
		RIG_BOTH(who_does_not_read_the_last_answer_is_cut_off),
		RIG_BOTH(a_client_may_close_its_side),
		RIG_BOTH(a_client_may_close_its_side_late),
		RIG_BOTH(a_client_may_close_its_side_of_tls),
	};

	return cmocka_run_group_tests(tests, keys_make, keys_remove);
}
