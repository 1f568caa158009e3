/* Shows that of the addresses behind a name those are tried in turn that a socket can be had for; over both ring engines. */
#include "tests/unit/net/server_rig.h"

#include <errno.h>
#include <string.h>

#define FAMILY_OF_NONE 12345

static bool ready, closed;

static void on_ready(struct conn *conn)
{
	ready = true;
}

static void on_closed(struct conn *conn, const char *reason)
{
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_BOTH(a_family_without_sockets_is_passed_over),
	};

	return cmocka_run_group_tests(tests, rig_quiet, NULL);
}
