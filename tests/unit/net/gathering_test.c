/*
 * Shows that parts of messages take no more memory than they may, whatever their calls' windows let in: a connection's call that
 * wants too much is refused, the others of it go on, and those between two messages make room; with many connections it is the call
 * that has stood still for longest; and what ends gives back what it had.
 */
#include "tests/unit/net/server_rig.h"

#include <string.h>

#include "gateway/base/check.h"

#define ALL_BYTES     (4u << 20)         /* a connection's calls: 1 MiB */
#define MESSAGE_BYTES (300u << 10)
#define PART_BYTES    (290u << 10)       /* for which 512 KiB are taken */
#define CONNS         5
#define CALLS         2                  /* a connection's that fit */

struct sender {
	struct call call;
	bool closed;
	enum grpc_status status;
	uint64_t answered;
};

struct peer {
	struct conn *conn;
	bool ready;
	struct sender senders[CALLS + 1];
};

static uint8_t bytes[MESSAGE_BYTES];

static void on_ready(struct conn *conn)
{
	((struct peer *)conn_owner(conn))->ready = true;
}

static void on_conn_closed(struct conn *conn, const char *reason)
{
	((struct peer *)conn_owner(conn))->conn = NULL;
}

static void on_message(struct call *call, struct span message)
{
	struct sender *sender = call->owner;

	CHECK(message.size == sizeof(sender->answered));
	memcpy(&sender->answered, message.data, message.size);
}

static void on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct sender *sender = call->owner;

	sender->closed = true;
	sender->status = status;
	call_fini(call);
}

static const struct h2_events h2_events = { 0 };
static const struct conn_events conn_events = { .on_ready = on_ready, .on_closed = on_conn_closed };
static const struct call_events call_events = { .on_message = on_message, .on_closed = on_closed };

static struct ring *ring_of(struct echo *echo)
{
	struct ring_config config = { .engine = echo->config.engine };
	struct ring *ring;

	assert_int_equal(ring_create(&ring, &config), 0);
	return ring;
}

static void connect_peer(struct peer *peer, struct ring *ring, const struct echo *echo)
{
	struct conn_config config = { .h2.events = &h2_events, .h2.owner = peer, .events = &conn_events, .owner = peer };
	struct address address;
	char why[256];

	assert_true(address_parse(&address, echo->bound, why, sizeof(why)));
	assert_int_equal(conn_connect(&peer->conn, ring, &address, NULL, &config, why, sizeof(why)), 0);
	while (!peer->ready)
		ring_run(ring, UINT64_MAX);
}

static void send_part(struct peer *peer, struct sender *sender)
{
	assert_int_equal(call_start(&sender->call, conn_h2(peer->conn), "/test.Echo/Sink", span_text("localhost"), 0, NULL, 0, 4096,
	                            &call_events, sender), 0);
	assert_int_equal(call_send_begin(&sender->call, MESSAGE_BYTES), CALL_SENT);
	call_send_more(&sender->call, span_make(bytes, PART_BYTES));
}

static void send_rest(struct sender *sender)
{
	call_send_more(&sender->call, span_make(bytes, MESSAGE_BYTES - PART_BYTES));
	call_end(&sender->call);
}

/* Until the server has as many calls' parts, and has refused so many. */
static void until(struct echo *echo, struct ring *ring, unsigned calls, unsigned refused)
{
	struct server_status status;
	unsigned turns = 0;

	do {
		assert_true(turns++ < 20000);
		ring_run(ring, MS);
		status = echo_status(echo);
		assert_true(status.gathered_bytes <= ALL_BYTES);
	} while (status.gathered_bytes != calls * 512ull << 10 || status.refused_messages != refused);
}

static void until_closed(struct ring *ring, const struct sender *sender)
{
	while (!sender->closed)
		ring_run(ring, UINT64_MAX);
}

static void ends_well(struct ring *ring, const struct sender *sender)
{
	until_closed(ring, sender);
	assert_int_equal(sender->status, GRPC_OK);
	assert_int_equal(sender->answered, MESSAGE_BYTES);
}

static void leave(struct ring *ring, struct peer *peer)
{
	conn_close(peer->conn, "the test is over");
	while (peer->conn)
		ring_run(ring, UINT64_MAX);
}

static void a_connection_has_its_part(void **state)
{
	struct peer peer = { 0 };
	struct ring *ring;
	struct echo echo;

	rig_start(&echo, state, (struct echo_config){ .gathered_bytes_max = ALL_BYTES });
	ring = ring_of(&echo);
	connect_peer(&peer, ring, &echo);
	for (unsigned i = 0; i < CALLS; i++)
		send_part(&peer, &peer.senders[i]);
	until(&echo, ring, CALLS, 0);
	send_part(&peer, &peer.senders[CALLS]);
	until_closed(ring, &peer.senders[CALLS]);
	assert_int_equal(peer.senders[CALLS].status, GRPC_RESOURCE_EXHAUSTED);
	until(&echo, ring, CALLS, 1);
	for (unsigned i = 0; i < CALLS; i++) {
		send_rest(&peer.senders[i]);
		ends_well(ring, &peer.senders[i]);
	}
	until(&echo, ring, 0, 1);
	leave(ring, &peer);
	ring_destroy(ring);
	echo_stop(&echo);
}

/* For the next message: what a call in the middle of one needs comes first. */
static void between_messages_it_is_given_back(void **state)
{
	struct peer peer = { 0 };
	struct ring *ring;
	struct echo echo;

	rig_start(&echo, state, (struct echo_config){ .gathered_bytes_max = ALL_BYTES });
	ring = ring_of(&echo);
	connect_peer(&peer, ring, &echo);
	for (unsigned i = 0; i < CALLS; i++) {
		send_part(&peer, &peer.senders[i]);
		call_send_more(&peer.senders[i].call, span_make(bytes, MESSAGE_BYTES - PART_BYTES));
	}
	until(&echo, ring, CALLS, 0);
	send_part(&peer, &peer.senders[CALLS]);
	until(&echo, ring, CALLS, 0);
	send_rest(&peer.senders[CALLS]);
	for (unsigned i = 0; i < CALLS; i++)
		call_end(&peer.senders[i].call);
	for (unsigned i = 0; i <= CALLS; i++)
		ends_well(ring, &peer.senders[i]);
	until(&echo, ring, 0, 0);
	leave(ring, &peer);
	ring_destroy(ring);
	echo_stop(&echo);
}

static void who_stands_still_goes_first(void **state)
{
	struct peer peers[CONNS] = { 0 };
	struct sender *last = &peers[CONNS - 1].senders[CALLS - 1];
	struct ring *ring;
	struct echo echo;

	rig_start(&echo, state, (struct echo_config){ .gathered_bytes_max = ALL_BYTES });
	ring = ring_of(&echo);
	for (unsigned i = 0; i < CONNS; i++)
		connect_peer(&peers[i], ring, &echo);
	for (unsigned i = 0; i < CONNS * CALLS; i++) {
		unsigned fit = ALL_BYTES / (512 << 10);

		send_part(&peers[i / CALLS], &peers[i / CALLS].senders[i % CALLS]);
		until(&echo, ring, i < fit ? i + 1 : fit, i < fit ? 0 : i + 1 - fit);
	}
	for (unsigned i = 0; i < CALLS; i++) {
		until_closed(ring, &peers[0].senders[i]);
		assert_int_equal(peers[0].senders[i].status, GRPC_RESOURCE_EXHAUSTED);
	}
	send_rest(last);
	ends_well(ring, last);
	for (unsigned i = 0; i < CONNS; i++)
		leave(ring, &peers[i]);
	until(&echo, ring, 0, CALLS);
	ring_destroy(ring);
	echo_stop(&echo);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_BOTH(a_connection_has_its_part),
		RIG_BOTH(between_messages_it_is_given_back),
		RIG_BOTH(who_stands_still_goes_first),
	};

	return cmocka_run_group_tests(tests, rig_quiet, NULL);
}
