/* Shows that of the addresses behind a name those are tried in turn that a socket can be had for; over both ring engines. */
#include "tests/unit/net/server_rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FAMILY_OF_NONE 12345

static bool ready, closed;
static char reason[128];

static void on_ready(struct conn *conn)
{
	ready = true;
}

static void on_closed(struct conn *conn, const char *why)
{
	snprintf(reason, sizeof(reason), "%s", why);
	closed = true;
}

static const struct h2_events h2_events = { 0 };
static const struct conn_events conn_events = { .on_ready = on_ready, .on_closed = on_closed };

/* `strange` addresses of a family that there are no sockets of, then the server's if `real`. What conn_connect() returns. */
static int connect_to(struct ring *ring, const struct echo *echo, int strange, bool real, struct conn **conn, char why[static 256])
{
	struct address_resolved resolved[ADDRESS_RESOLVED_MAX] = { 0 }, found[ADDRESS_RESOLVED_MAX];
	struct conn_config config = { .h2.events = &h2_events, .events = &conn_events, .resolved = resolved };
	struct address address;

	assert_true(address_parse(&address, echo->bound, why, 256));
	for (int i = 0; i < strange; i++) {
		resolved[i].sockaddr.ss_family = FAMILY_OF_NONE;
		resolved[i].size = sizeof(struct sockaddr);
	}
	assert_true(address_resolve_all(&address, false, found, why, 256) >= 1);
	resolved[strange] = found[0];
	config.resolved_count = strange + real;
	ready = closed = false;
	return conn_connect(conn, ring, &address, NULL, &config, why, 256);
}

static void a_family_without_sockets_is_passed_over(void **state)
{
	struct ring_config config = { .engine = *(const enum ring_engine *)*state };
	char why[256];
	struct conn *conn;
	struct ring *ring;
	struct echo echo;

	rig_start(&echo, state, (struct echo_config){ .address = "grpc://127.0.0.1:0" });
	assert_int_equal(ring_create(&ring, &config), 0);
	assert_int_equal(connect_to(ring, &echo, 2, true, &conn, why), 0);
	while (!ready)
		ring_run(ring, UINT64_MAX);
	conn_close(conn, "done");
	while (!closed)
		ring_run(ring, UINT64_MAX);
	assert_int_equal(connect_to(ring, &echo, 2, false, &conn, why), -EAFNOSUPPORT);
	assert_non_null(strstr(why, "cannot make a socket"));
	ring_destroy(ring);
	echo_stop(&echo);
}

/* A listener whose backlog is full: what else comes is dropped. Its connections are in `fds`. */
static int listen_full(struct sockaddr_in *address, int fds[static 4])
{
	socklen_t size = sizeof(*address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	assert_int_equal(bind(fd, (struct sockaddr *)address, size), 0);
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)address, &size), 0);
	for (int i = 0; i < 4; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		(void)connect(fds[i], (struct sockaddr *)address, size);
	}
	return fd;
}

static void an_address_that_drops_all_does_not_use_up_the_time(void **state)
{
	struct ring_config ring_config = { .engine = *(const enum ring_engine *)*state };
	struct address_resolved resolved[ADDRESS_RESOLVED_MAX] = { 0 };
	struct conn_config config = { .h2.events = &h2_events, .events = &conn_events, .resolved = resolved, .resolved_count = 2,
	                              .handshake_timeout_ns = 4000 * MS };
	int fds[4], listener = listen_full((struct sockaddr_in *)&resolved[0].sockaddr, fds);
	struct address_resolved found[ADDRESS_RESOLVED_MAX];
	struct address address;
	char why[256];
	struct conn *conn;
	struct ring *ring;
	struct echo echo;

	resolved[0].size = sizeof(struct sockaddr_in);
	rig_start(&echo, state, (struct echo_config){ .address = "grpc://127.0.0.1:0" });
	assert_int_equal(ring_create(&ring, &ring_config), 0);
	assert_true(address_parse(&address, echo.bound, why, sizeof(why)));
	assert_true(address_resolve_all(&address, false, found, why, sizeof(why)) >= 1);
	resolved[1] = found[0];
	ready = closed = false;
	assert_int_equal(conn_connect(&conn, ring, &address, NULL, &config, why, sizeof(why)), 0);
	while (!ready && !closed)
		ring_run(ring, UINT64_MAX);
	assert_true(ready);
	conn_close(conn, "done");
	while (!closed)
		ring_run(ring, UINT64_MAX);
	/* Alone it has all the time, and that is told. */
	config.resolved_count = 1;
	config.handshake_timeout_ns = 500 * MS;
	ready = closed = false;
	assert_int_equal(conn_connect(&conn, ring, &address, NULL, &config, why, sizeof(why)), 0);
	while (!closed)
		ring_run(ring, UINT64_MAX);
	assert_false(ready);
	assert_string_equal(reason, "connecting timed out");
	for (int i = 0; i < 4; i++)
		close(fds[i]);
	close(listener);
	ring_destroy(ring);
	echo_stop(&echo);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_BOTH(a_family_without_sockets_is_passed_over),
		RIG_BOTH(an_address_that_drops_all_does_not_use_up_the_time),
	};

	return cmocka_run_group_tests(tests, rig_quiet, NULL);
}
