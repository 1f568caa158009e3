/*
 * Shows an edge's connections to its gateway (channel.c, pusher.c), between clients and a gateway that keeps each call open, all on
 * one ring: a call that the gateway has no room for is refused; where it says goodbye on a connection the calls that this has go
 * on, and the next one takes another; that others cannot reach it is no matter to who has a connection to it; and a push hears why
 * its own connection has gone, and of no other.
 */
#include "gateway/edge/channel.h"
#include "gateway/edge/pusher.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define CALLS_MAX   4
#define STREAMS_MAX 2                    /* that the gateway takes on a connection */
#define PATH        "/test.Service/Stay"
#define PATIENCE_NS 20000000000ull

/* A call, at who made it or at who took it. */
struct end {
	struct call call;
	struct conn *conn;               /* that it came on */
	unsigned messages;
	bool closed;
	enum grpc_status status;
	char message[256];
	char lost[256];                  /* what the pusher says of its connection then; "": nothing */
};

static struct world {
	struct ring *ring;
	char directory[64];
	struct server *gateway, *edge;
	unsigned drained;
	struct upstream upstream;
	struct channels channels;
	struct pusher pusher;
	struct end made[CALLS_MAX];
	struct end taken[CALLS_MAX];     /* at the gateway */
	unsigned taken_count;
	struct conn *clients[CALLS_MAX];
	unsigned clients_count, clients_closed;
} world;

#define WAIT(condition)                                                                                                \
	do {                                                                                                           \
		uint64_t since_ = ring_now_ns(world.ring);                                                             \
		while (!(condition)) {                                                                                 \
			ring_run(world.ring, 10000000);                                                                \
			if (ring_now_ns(world.ring) - since_ > PATIENCE_NS)                                            \
				fail_msg("what was waited for never came");                                            \
		}                                                                                                      \
	} while (0)

/* ---- calls ---- */

static void end_on_message(struct call *call, struct span message)
{
	container_of(call, struct end, call)->messages++;
}

static void end_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct end *end = container_of(call, struct end, call);
	const char *lost = pusher_lost(&world.pusher);

	end->closed = true;
	snprintf(end->lost, sizeof(end->lost), "%s", lost ? lost : "");
	end->status = status;
	snprintf(end->message, sizeof(end->message), "%.*s", (int)message.size, (const char *)message.data);
	call_fini(call);
}

static const struct call_events end_events = { .on_message = end_on_message, .on_closed = end_on_closed };

static int gateway_on_request(void *context, const struct server_request *request, char *why, size_t why_size)
{
	struct end *end = &world.taken[world.taken_count++];

	assert_true(world.taken_count <= CALLS_MAX);
	end->conn = request->conn;
	call_accept(&end->call, request->stream, request->head, 1 << 20, &end_events, NULL);
	return 0;
}

/* On the `client`th connection of buildx's. */
static void end_start(struct end *end, unsigned client)
{
	*end = (struct end){ .conn = world.clients[client] };
	assert_int_equal(call_start(&end->call, conn_h2(end->conn), PATH, span_text("localhost"), 0, NULL, 0, 1 << 20, &end_events,
	                            NULL), 0);
}

/* It is the next that comes to the gateway. */
static void end_arrives(const struct end *end)
{
	unsigned before = world.taken_count;

	WAIT(world.taken_count > before || end->closed);
	if (end->closed)
		fail_msg("%s: %s", grpc_status_name(end->status), end->message);
}

static void gateway_ends(unsigned taken, const struct end *end)
{
	assert_false(end->closed);
	call_finish(&world.taken[taken].call, GRPC_OK, NULL);
	WAIT(end->closed);
	assert_int_equal(end->status, GRPC_OK);
}

/* GOAWAY, as of a proxy's on its way out. It has come by the end of this: what is said behind it to `end` has. */
static void gateway_says_goodbye(unsigned taken, const struct end *end)
{
	conn_drain(world.taken[taken].conn);
	assert_int_equal(call_send(&world.taken[taken].call, span_text("bye"), 0), CALL_SENT);
	WAIT(end->messages > 0);
}

/* ---- the world ---- */

static int edge_on_request(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return channels_start(&world.channels, request, why, why_size);
}

static void edge_on_conn_closed(void *context, struct conn *conn)
{
	channels_conn_closed(&world.channels, conn);
}

static void on_drained(void *context)
{
	world.drained++;
}

static void address_of(struct address *address, const char *name)
{
	*address = (struct address){ .local = true };
	snprintf(address->host, sizeof(address->host), "%s/%s", world.directory, name);
}

static struct server *serve(const char *name, struct server_config *config)
{
	static const struct server_method none[] = { { NULL, NULL } };
	char bound[300], why[256] = "";
	struct address address;
	struct server *server;

	config->methods = none;
	config->on_drained = on_drained;
	address_of(&address, name);
	assert_int_equal(server_create(&server, world.ring, config), 0);
	if (server_listen(server, &address, NULL, bound, sizeof(bound), why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return server;
}

static void client_on_ready(struct conn *conn)
{
}

static void client_on_closed(struct conn *conn, const char *reason)
{
	world.clients_closed++;
}

/* One more connection of buildx's. */
static void client_connects(void)
{
	static const struct conn_events conn_events = { .on_ready = client_on_ready, .on_closed = client_on_closed };
	static const struct h2_events h2_events = { 0 };
	struct conn_config config = { .h2 = { .events = &h2_events }, .events = &conn_events };
	struct address address;
	char why[256] = "";

	address_of(&address, "edge");
	if (conn_connect(&world.clients[world.clients_count++], world.ring, &address, NULL, &config, why, sizeof(why)) < 0)
		fail_msg("%s", why);
}

static int setup(void **state)
{
	struct ring_config ring = { .engine = *(const enum ring_engine *)*state };
	struct server_config gateway = { .unknown = gateway_on_request, .streams_max = STREAMS_MAX };
	struct server_config edge = { .unknown = edge_on_request, .on_conn_closed = edge_on_conn_closed };
	struct client_config upstream = { .fd = -1 };
	char why[256] = "";

	world = (struct world){ .directory = "/tmp/channel-test-XXXXXX" };
	assert_non_null(mkdtemp(world.directory));
	assert_int_equal(ring_create(&world.ring, &ring), 0);
	world.gateway = serve("gateway", &gateway);
	world.edge = serve("edge", &edge);
	address_of(&upstream.address, "gateway");
	assert_int_equal(upstream_init(&world.upstream, world.ring, &upstream, why, sizeof(why)), 0);
	world.channels.ring = world.pusher.ring = world.ring;
	world.channels.upstream = world.pusher.upstream = &world.upstream;
	channels_init(&world.channels);
	pusher_init(&world.pusher);
	client_connects();
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	for (unsigned i = 0; i < world.clients_count; i++)
		conn_close(world.clients[i], "the test is over");
	WAIT(world.clients_closed == world.clients_count);
	pusher_close(&world.pusher);
	WAIT(pusher_idle(&world.pusher) && channels_idle(&world.channels));
	server_drain(world.edge, 0);
	server_drain(world.gateway, 0);
	WAIT(world.drained == 2);
	server_destroy(world.edge);
	server_destroy(world.gateway);
	upstream_fini(&world.upstream);
	ring_destroy(world.ring);
	snprintf(command, sizeof(command), "rm -rf %s", world.directory);
	return system(command);
}

/* ---- tests ---- */

static void a_call_too_many_is_refused(void **state)
{
	struct end *calls = world.made;

	for (unsigned i = 0; i < STREAMS_MAX; i++) {
		end_start(&calls[i], 0);
		end_arrives(&calls[i]);
	}
	end_start(&calls[STREAMS_MAX], 0);
	WAIT(calls[STREAMS_MAX].closed);
	assert_int_equal(calls[STREAMS_MAX].status, GRPC_RESOURCE_EXHAUSTED);
	assert_string_equal(calls[STREAMS_MAX].message, "the gateway takes no more calls on this connection");
	for (unsigned i = 0; i < STREAMS_MAX; i++)
		gateway_ends(i, &calls[i]);
}

static void a_goodbye_sends_the_next_call_elsewhere(void **state)
{
	struct end *first = &world.made[0], *second = &world.made[1];

	end_start(first, 0);
	end_arrives(first);
	gateway_says_goodbye(0, first);
	end_start(second, 0);
	end_arrives(second);
	assert_ptr_not_equal(world.taken[1].conn, world.taken[0].conn);
	gateway_ends(0, first);
	gateway_ends(1, second);
}

static void a_goodbye_sends_the_next_push_elsewhere(void **state)
{
	struct end *first = &world.made[0], *second = &world.made[1];

	assert_int_equal(pusher_call(&world.pusher, &first->call, PATH, 1 << 20, &end_events, NULL), 0);
	end_arrives(first);
	gateway_says_goodbye(0, first);
	assert_int_equal(pusher_call(&world.pusher, &second->call, PATH, 1 << 20, &end_events, NULL), 0);
	end_arrives(second);
	assert_ptr_not_equal(world.taken[1].conn, world.taken[0].conn);
	gateway_ends(0, first);
	gateway_ends(1, second);
}

static void a_push_too_many_is_refused(void **state)
{
	struct end *calls = world.made;
	unsigned begun = 0;
	int r;

	assert_int_equal(pusher_call(&world.pusher, &calls[begun++].call, PATH, 1 << 20, &end_events, NULL), 0);
	end_arrives(&calls[0]);                  /* and so what the gateway allows */
	while ((r = pusher_call(&world.pusher, &calls[begun].call, PATH, 1 << 20, &end_events, NULL)) == 0)
		end_arrives(&calls[begun++]);
	assert_int_equal(begun, STREAMS_MAX);
	assert_int_equal(r, -EAGAIN);
	assert_string_equal(world.pusher.why, "the gateway takes no more calls on the connection that contexts are pushed over");
	for (unsigned i = 0; i < begun; i++)
		gateway_ends(i, &calls[i]);
}

/* What was wrong with an earlier connection is not said of what the gateway itself ends on the next. */
static void a_push_is_told_of_its_own_connection(void **state)
{
	struct end *first = &world.made[0], *second = &world.made[1];

	assert_int_equal(pusher_call(&world.pusher, &first->call, PATH, 1 << 20, &end_events, NULL), 0);
	end_arrives(first);
	conn_close(world.taken[0].conn, "gone");
	WAIT(first->closed);
	assert_int_equal(first->status, GRPC_UNAVAILABLE);
	assert_non_null(strstr(first->lost, " lost: "));
	WAIT(!world.pusher.conn);
	assert_int_equal(pusher_call(&world.pusher, &second->call, PATH, 1 << 20, &end_events, NULL), 0);
	end_arrives(second);
	call_finish(&world.taken[1].call, GRPC_UNAVAILABLE, "not now");
	WAIT(second->closed);
	assert_string_equal(second->message, "not now");
	assert_string_equal(second->lost, "");
}

/* So many of others' tries have failed, for so long, that who asks now is told. */
static void others_failures_end_no_build(void **state)
{
	struct end *calls = world.made;
	uint64_t now;

	end_start(&calls[0], 0);
	end_arrives(&calls[0]);
	gateway_ends(0, &calls[0]);      /* so the connection is ready */
	now = ring_now_ns(world.ring);
	world.upstream.failing_since_ns = now - UPSTREAM_PATIENCE_NS;
	world.upstream.failed_ns = now;
	snprintf(world.upstream.failure, sizeof(world.upstream.failure), "cannot reach it");
	end_start(&calls[1], 0);
	end_arrives(&calls[1]);
	client_connects();
	end_start(&calls[2], 1);
	WAIT(calls[2].closed);
	assert_int_equal(calls[2].status, GRPC_FAILED_PRECONDITION);
	assert_string_equal(calls[2].message, "cannot reach it");
	gateway_ends(1, &calls[1]);
}

static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;

#define BOTH(test)                                                                                                     \
	{ #test " (io_uring)", test, setup, teardown, (void *)&uring }, { #test " (epoll)", test, setup, teardown, (void *)&epoll }

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(a_call_too_many_is_refused),
		BOTH(a_goodbye_sends_the_next_call_elsewhere),
		BOTH(a_goodbye_sends_the_next_push_elsewhere),
		BOTH(a_push_too_many_is_refused),
		BOTH(a_push_is_told_of_its_own_connection),
		BOTH(others_failures_end_no_build),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
