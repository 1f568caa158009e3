/*
 * Sockets: echo over TCP and unix sockets, many at once, big transfers against a peer that stops reading, refusal,
 * reset, half-close, a thousand rounds of accept and close, and which path of the engine carried it (counters).
 */
#include "tests/unit/ring/tests.h"

#include <netinet/in.h>
#include <sys/un.h>
#include "gateway/ring/selftest.h"
#include "tests/unit/ring/peer.h"

static bool on_uring(void)
{
	return fixture_engine == RING_ENGINE_URING;
}

/* A peer that is connected to `address` by ring_connect and receives. */
static void dial(struct peer *peer, struct ring *ring, const struct sockaddr_storage *address, socklen_t size)
{
	struct call connected;
	int fd = socket_like(address);

	ring_connect(ring, &call_init(&connected)->op, fd, (const struct sockaddr *)address, size);
	assert_int_equal(call_wait(ring, &connected), 0);
	peer_init(peer, ring, fd, 0);
	peer_open(peer);
}

static void wait_received(struct peer *peer, uint64_t bytes)
{
	uint64_t end_ns = ring_now_ns(peer->ring) + UINT64_C(1000000000) * PATIENCE_S;

	/* A turn may end early and with nothing: a socket that was ready for somebody else's send. */
	while (peer->received < bytes) {
		assert_true(ring_now_ns(peer->ring) < end_ns);
		ring_run(peer->ring, 1000000000);
		assert_false(peer->ended);
	}
	assert_int_equal(peer->received, bytes);
	assert_false(peer->corrupt);
}

/* Sizes around the edges of receive buffers; each awaited before the next. */
static void echo(struct fixture *fixture, int listener, const struct sockaddr_storage *address, socklen_t size)
{
	static const uint64_t sizes[] = { 1, 10, 65535, 65536, 65537, 3, 200000, 1 };
	struct server server;
	struct peer client;
	uint64_t total = 0;

	server_init(&server, fixture->ring, listener, 1, 1 << 20);
	dial(&client, fixture->ring, address, size);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		total += sizes[i];
		peer_send(&client, sizes[i], 1 << 20);
		wait_received(&client, total);
	}
	assert_int_equal(server.peers[0].received, total);
	peer_fini(&client);
	run_until(fixture->ring, &server.peers[0].ended);
	assert_int_equal(server.peers[0].end_res, 0);
	server_fini(&server);
}

static void test_echo_tcp(void **state)
{
	struct fixture *fixture = *state;
	struct sockaddr_storage address;
	socklen_t size;
	int listener = listen_tcp(&address, &size);
	const struct ring_counters *counters = ring_counters(fixture->ring);

	echo(fixture, listener, &address, size);
	assert_true(counters->receives > 0 && counters->sends > 0 && counters->completions > 0 && counters->turns > 0);
	assert_int_equal(counters->receive_multishot > 0, on_uring());
	assert_int_equal(counters->direct_accepts, on_uring() && selftest_direct() == 0 ? 1 : 0);
}

static void test_echo_unix(void **state)
{
	struct fixture *fixture = *state;
	struct sockaddr_storage address;
	socklen_t size;
	int listener = listen_unix(fixture, &address, &size);

	echo(fixture, listener, &address, size);
	assert_int_equal(ring_counters(fixture->ring)->direct_accepts, 0);
}

/* The owner of a unix connection can ask who is at the other end. */
static void test_unix_peer_credentials(void **state)
{
	struct fixture *fixture = *state;
	struct sockaddr_storage address;
	struct ucred credentials = { 0 };
	socklen_t size, credentials_size = sizeof(credentials);
	struct server server;
	struct peer client;

	server_init(&server, fixture->ring, listen_unix(fixture, &address, &size), 1, 1);
	dial(&client, fixture->ring, &address, size);
	run_until_count(fixture->ring, &server.accepted, 1);
	assert_int_equal(getsockopt(ring_handle_fd(fixture->ring, server.peers[0].handle), SOL_SOCKET, SO_PEERCRED,
	                            &credentials, &credentials_size), 0);
	assert_int_equal(credentials.pid, getpid());
	assert_int_equal(ring_handle_fd(fixture->ring, client.handle), client.handle);
	peer_fini(&client);
	server_fini(&server);
}

static void test_many_connections(void **state)
{
	enum { COUNT = 200, ROUNDS = 5, BYTES = 3000 };
	struct fixture *fixture = *state;
	struct peer *clients = calloc(COUNT, sizeof(*clients));
	struct sockaddr_storage address;
	struct server server;
	socklen_t size;

	server_init(&server, fixture->ring, listen_tcp(&address, &size), COUNT, 1 << 16);
	for (int i = 0; i < COUNT; i++)
		dial(&clients[i], fixture->ring, &address, size);
	for (int round = 1; round <= ROUNDS; round++) {
		for (int i = 0; i < COUNT; i++)
			peer_send(&clients[i], BYTES, BYTES);
		for (int i = 0; i < COUNT; i++)
			wait_received(&clients[i], (uint64_t)BYTES * round);
	}
	assert_int_equal(server.accepted, COUNT);
	for (int i = 0; i < COUNT; i++)
		peer_fini(&clients[i]);
	server_fini(&server);
	free(clients);
}

/* The echo stops reading whenever it lags, so the client's sends meet a full socket, and both directions are whole. */
static void test_big_transfer(void **state)
{
	enum { BYTES = 24 << 20 };
	struct fixture *fixture = *state;
	const struct ring_counters *counters = ring_counters(fixture->ring);
	struct sockaddr_storage address;
	struct server server;
	struct peer client;
	socklen_t size;

	server_init(&server, fixture->ring, listen_tcp(&address, &size), 1, 100000);
	dial(&client, fixture->ring, &address, size);
	peer_send(&client, BYTES, 1 << 20);
	wait_received(&client, BYTES);
	assert_false(server.peers[0].corrupt);
	assert_true(server.peers[0].pauses > 0);
	assert_int_equal(client.sent, BYTES);
	if (on_uring())
		assert_int_equal(counters->receive_bundle > 0, selftest_bundle() == 0);
	else
		assert_true(counters->short_sends > 0);
	peer_fini(&client);
	server_fini(&server);
}

/* Pieces of kilobytes wait for those behind them, words do not; all comes all the same, and nobody waits for what does not come. */
static void test_gather(void **state)
{
	enum { WORDS = 50, WORD = 100, BYTES = 4 << 20, PIECE = 8 << 10 };
	struct fixture *fixture = *state;
	const struct ring_counters *counters;
	struct sockaddr_storage address;
	struct server server;
	struct peer client;
	socklen_t size;

	fixture_ring(fixture, &(struct ring_config){ .engine = fixture_engine, .gather = true });
	counters = ring_counters(fixture->ring);
	server_init(&server, fixture->ring, listen_tcp(&address, &size), 1, BYTES);
	dial(&client, fixture->ring, &address, size);
	for (unsigned i = 1; i <= WORDS; i++) {
		peer_send(&client, WORD, WORD);
		wait_received(&client, i * WORD);
	}
	assert_int_equal(counters->gathered, 0);
	peer_send(&client, BYTES, PIECE);
	wait_received(&client, WORDS * WORD + BYTES);
	assert_int_equal(counters->gathered > 0, on_uring());
	peer_fini(&client);
	server_fini(&server);
}

/* Two buffers for forty senders at once: receives find none, wait, and nothing is lost. */
static void test_receive_buffers_run_out(void **state)
{
	enum { COUNT = 40, BYTES = 100000 };
	struct fixture *fixture = *state;
	struct peer *clients = calloc(COUNT, sizeof(*clients));
	struct sockaddr_storage address;
	struct server server;
	socklen_t size;

	fixture_ring(fixture, &(struct ring_config){ .receive_buffers = 2, .receive_buffer_bytes = 4096 });
	server_init(&server, fixture->ring, listen_tcp(&address, &size), COUNT, 1 << 20);
	for (int i = 0; i < COUNT; i++)
		dial(&clients[i], fixture->ring, &address, size);
	for (int i = 0; i < COUNT; i++)
		peer_send(&clients[i], BYTES, BYTES);
	for (int i = 0; i < COUNT; i++)
		wait_received(&clients[i], BYTES);
	assert_int_equal(ring_counters(fixture->ring)->receive_no_buffers > 0, on_uring());
	for (int i = 0; i < COUNT; i++)
		peer_fini(&clients[i]);
	server_fini(&server);
	free(clients);
}

static void test_connect_refused(void **state)
{
	struct fixture *fixture = *state;
	struct sockaddr_storage address;
	struct sockaddr_un nowhere = { .sun_family = AF_UNIX };
	struct call connected, closed;
	socklen_t size;
	int listener = listen_tcp(&address, &size), fd = socket_like(&address);

	close(listener);
	ring_connect(fixture->ring, &call_init(&connected)->op, fd, (struct sockaddr *)&address, size);
	assert_int_equal(call_wait(fixture->ring, &connected), -ECONNREFUSED);
	ring_close(fixture->ring, &call_init(&closed)->op, fd);
	assert_int_equal(call_wait(fixture->ring, &closed), 0);

	snprintf(nowhere.sun_path, sizeof(nowhere.sun_path), "%s/nothing", fixture->directory);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ring_connect(fixture->ring, &call_init(&connected)->op, fd, (struct sockaddr *)&nowhere, sizeof(nowhere));
	assert_int_equal(call_wait(fixture->ring, &connected), -ENOENT);
	close(fd);
}

/* An accepted peer and the plain blocking socket at its other end. */
static int dial_plain(struct server *server, const struct sockaddr_storage *address, socklen_t size)
{
	int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned before = server->accepted;

	assert_int_equal(connect(fd, (const struct sockaddr *)address, size), 0);
	run_until_count(server->ring, &server->accepted, before + 1);
	return fd;
}

/* Closes with a reset instead of a FIN. */
static void reset(int fd)
{
	struct linger linger = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

static void test_peer_resets(void **state)
{
	struct fixture *fixture = *state;
	struct sockaddr_storage address;
	struct server server;
	struct call sent;
	socklen_t size;
	int fd, r = 0;

	server_init(&server, fixture->ring, listen_tcp(&address, &size), 1, 1);
	fd = dial_plain(&server, &address, size);
	reset(fd);
	run_until(fixture->ring, &server.peers[0].ended);
	assert_int_equal(server.peers[0].end_res, -ECONNRESET);
	ring_send(fixture->ring, &call_init(&sent)->op, server.peers[0].handle, span_text("too late"));
	r = call_wait(fixture->ring, &sent);
	assert_true(r == -EPIPE || r == -ECONNRESET);
	server_fini(&server);
}

/* Asked by the accepting end, and what the connecting end says of itself. */
static void ask_peer(struct fixture *fixture, int listener, const struct sockaddr_storage *address, socklen_t size)
{
	struct sockaddr_storage own = { 0 };
	socklen_t own_size = sizeof(own);
	struct server server;
	struct call asked;
	int32_t res;
	int fd;

	server_init(&server, fixture->ring, listener, 1, 1);
	fd = dial_plain(&server, address, size);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &own_size), 0);
	ring_peer(fixture->ring, &call_init(&asked)->op, server.peers[0].handle);
	assert_false(asked.done);
	res = call_wait(fixture->ring, &asked);
	if (ring_handle_fd(fixture->ring, server.peers[0].handle) >= 0 || selftest_peer() == 0) {
		assert_int_equal(res, 0);
		assert_int_equal(asked.op.address_size, own_size);
		assert_memory_equal(&asked.op.u.address, &own, own_size);
	} else {
		assert_true(res < 0);
	}
	/* One that has gone, and a cancel: an answer comes, one or the other. */
	reset(fd);
	run_until(fixture->ring, &server.peers[0].ended);
	ring_peer(fixture->ring, &call_init(&asked)->op, server.peers[0].handle);
	assert_true(call_wait(fixture->ring, &asked) <= 0);
	ring_peer(fixture->ring, &call_init(&asked)->op, server.peers[0].handle);
	ring_cancel(fixture->ring, &asked.op);
	assert_true(call_wait(fixture->ring, &asked) <= 0);
	assert_int_equal(asked.completions, 1);
	server_fini(&server);
}

static void test_peer_name(void **state)
{
	struct sockaddr_storage address;
	socklen_t size;
	int listener = listen_tcp(&address, &size);

	ask_peer(*state, listener, &address, size);
	listener = listen_unix(*state, &address, &size);
	ask_peer(*state, listener, &address, size);
	listener = listen_tcp6(&address, &size);
	if (listener >= 0)
		ask_peer(*state, listener, &address, size);
}

/* The peer has sent all, and still gets an answer. */
static void test_half_close(void **state)
{
	struct fixture *fixture = *state;
	struct sockaddr_storage address;
	struct server server;
	struct call sent;
	socklen_t size;
	char text[8] = "";
	int fd;

	server_init(&server, fixture->ring, listen_tcp(&address, &size), 1, 1);
	fd = dial_plain(&server, &address, size);
	shutdown(fd, SHUT_WR);
	run_until(fixture->ring, &server.peers[0].ended);
	assert_int_equal(server.peers[0].end_res, 0);
	ring_send(fixture->ring, &call_init(&sent)->op, server.peers[0].handle, span_text("answer"));
	assert_int_equal(call_wait(fixture->ring, &sent), 6);
	assert_int_equal(recv(fd, text, sizeof(text), 0), 6);
	assert_string_equal(text, "answer");
	server_fini(&server);
	assert_int_equal(recv(fd, text, sizeof(text), 0), 0);
	close(fd);
}

/* A table of 16 direct descriptors serves a thousand connections, if each slot comes back. */
static void test_accept_close_rounds(void **state)
{
	enum { ROUNDS = 1000 };
	struct fixture *fixture = *state;
	struct sockaddr_storage address;
	struct server server;
	unsigned descriptors;
	socklen_t size;

	fixture_ring(fixture, &(struct ring_config){ .sockets_max = 16 });
	server_init(&server, fixture->ring, listen_tcp(&address, &size), ROUNDS, 1);
	descriptors = open_descriptors();
	for (int i = 0; i < ROUNDS; i++) {
		int fd = dial_plain(&server, &address, size);
		struct peer *peer = &server.peers[i];

		close(fd);
		run_until(fixture->ring, &peer->ended);
		peer_close(peer);
		run_until(fixture->ring, &peer->closed);
	}
	assert_int_equal(open_descriptors(), descriptors);
	if (on_uring() && selftest_direct() == 0)
		assert_int_equal(ring_counters(fixture->ring)->direct_accepts, ROUNDS);
	server_fini(&server);
}

/* More connections than direct descriptors: the rest get real ones; the one in between is dropped, not left hanging. */
static void test_direct_table_full(void **state)
{
	enum { COUNT = 8 };
	struct fixture *fixture = *state;
	struct sockaddr_storage address;
	struct server server;
	int fds[COUNT], served = 0;
	socklen_t size;
	char byte;

	fixture_ring(fixture, &(struct ring_config){ .sockets_max = 4 });
	server_init(&server, fixture->ring, listen_tcp(&address, &size), COUNT, 1000);
	for (int i = 0; i < COUNT; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(fds[i], (struct sockaddr *)&address, size), 0);
	}
	run_until_count(fixture->ring, &server.accepted, COUNT - 1);
	while (ring_run(fixture->ring, 0) > 0)
		;
	for (unsigned i = 0; i < server.accepted; i++) {
		struct call sent;

		ring_send(fixture->ring, &call_init(&sent)->op, server.peers[i].handle, span_text("x"));
		assert_int_equal(call_wait(fixture->ring, &sent), 1);
	}
	for (int i = 0; i < COUNT; i++) {
		served += recv(fds[i], &byte, 1, 0) == 1;
		close(fds[i]);
	}
	assert_int_equal(served, server.accepted);
	server_fini(&server);
}

/* Everything that can wait on a socket waits; one cancel each; one last completion each. */
static void test_cancel_all(void **state)
{
	enum { FULL = 32 << 20 };
	struct fixture *fixture = *state;
	struct sockaddr_storage address;
	struct server server;
	struct call sent;
	uint8_t *data = calloc(1, FULL);
	socklen_t size;
	int fd;

	server_init(&server, fixture->ring, listen_tcp(&address, &size), 1, 1);
	fd = dial_plain(&server, &address, size);
	ring_send(fixture->ring, &call_init(&sent)->op, server.peers[0].handle, span_make(data, FULL));
	while (ring_run(fixture->ring, 10000000) > 0)
		;
	assert_true(op_in_flight(&sent.op) && op_in_flight(&server.peers[0].recv) && op_in_flight(&server.accept));
	ring_cancel(fixture->ring, &sent.op);
	ring_cancel(fixture->ring, &sent.op);
	assert_false(sent.done);                /* never from inside the request */
	assert_int_equal(call_wait(fixture->ring, &sent), -ECANCELED);
	assert_int_equal(sent.completions, 1);
	ring_cancel(fixture->ring, &sent.op);   /* it has landed: nothing happens */
	ring_send(fixture->ring, &call_init(&sent)->op, server.peers[0].handle, span_make(data, FULL));
	ring_cancel(fixture->ring, &sent.op);   /* before it was submitted */
	assert_int_equal(call_wait(fixture->ring, &sent), -ECANCELED);
	server_fini(&server);
	close(fd);
	free(data);
}

/* A cancel that comes late must not hit the op's next use. */
static void test_stale_cancel(void **state)
{
	struct fixture *fixture = *state;
	struct call timer, received;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	for (int i = 0; i < 100; i++) {
		ring_recv(fixture->ring, &call_init(&received)->op, pair[0]);
		ring_cancel(fixture->ring, &received.op);
		assert_int_equal(call_wait(fixture->ring, &received), -ECANCELED);
		/* Generations are the engine's: keep them over the use. */
		received.done = false;
		received.completions = 0;
		ring_recv(fixture->ring, &received.op, pair[0]);
		assert_int_equal(send(pair[1], "y", 1, 0), 1);
		run_until_count(fixture->ring, &received.completions, 1);
		assert_int_equal(received.res, 1);
		ring_timer(fixture->ring, &call_init(&timer)->op, 0);
		call_wait(fixture->ring, &timer);
		assert_true(op_in_flight(&received.op));
		ring_cancel(fixture->ring, &received.op);
		assert_int_equal(call_wait(fixture->ring, &received), -ECANCELED);
	}
	ring_close(fixture->ring, NULL, pair[0]);
	ring_close(fixture->ring, NULL, pair[1]);
}

struct restarter {
	struct op op;
	struct ring *ring;
	int handle;
	unsigned received, restarts;
};

/* Each message: cancel, and receive again from the last completion's handler. */
static void restarter_on_recv(struct op *op, int32_t res)
{
	struct restarter *restarter = container_of(op, struct restarter, op);

	handler_enter();
	if (res > 0) {
		restarter->received += (unsigned)res;
		ring_cancel(restarter->ring, op);
	} else if (res == -ECANCELED) {
		restarter->restarts++;
		ring_recv(restarter->ring, op, restarter->handle);
	}
	handler_leave();
}

static void test_restart_in_handler(void **state)
{
	struct fixture *fixture = *state;
	struct restarter restarter = { .op.fn = restarter_on_recv, .ring = fixture->ring };
	struct call closed;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	restarter.handle = pair[0];
	ring_recv(fixture->ring, &restarter.op, pair[0]);
	for (unsigned i = 1; i <= 50; i++) {
		assert_int_equal(send(pair[1], "z", 1, 0), 1);
		run_until_count(fixture->ring, &restarter.restarts, i);
		assert_int_equal(restarter.received, i);
	}
	close(pair[1]);
	while (op_in_flight(&restarter.op))
		ring_run(fixture->ring, 1000000000);
	ring_close(fixture->ring, &call_init(&closed)->op, pair[0]);
	assert_int_equal(call_wait(fixture->ring, &closed), 0);
}

/* A descriptor that its owner closed without the ring, and whose number comes again for another socket. */
static void test_descriptor_number_again(void **state)
{
	struct fixture *fixture = *state;
	int previous = -1;

	for (int round = 0; round < 3; round++) {
		struct call received;
		int pair[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
		assert_true(previous < 0 || pair[0] == previous);
		previous = pair[0];
		ring_recv(fixture->ring, &call_init(&received)->op, pair[0]);
		assert_int_equal(ring_run(fixture->ring, 0), 0);        /* it waits */
		assert_int_equal(send(pair[1], "n", 1, 0), 1);
		run_until_count(fixture->ring, &received.completions, 1);
		assert_int_equal(received.res, 1);
		ring_cancel(fixture->ring, &received.op);
		assert_int_equal(call_wait(fixture->ring, &received), -ECANCELED);
		close(pair[0]);
		close(pair[1]);
	}
}

/* A copy of the descriptor is open elsewhere (a child, say): the peer sees the end all the same. */
static void test_close_shuts_down(void **state)
{
	struct fixture *fixture = *state;
	int pair[2], copy;
	char byte;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	copy = dup(pair[0]);
	ring_close(fixture->ring, NULL, pair[0]);
	ring_run(fixture->ring, 0);
	assert_int_equal(recv(pair[1], &byte, 1, 0), 0);
	close(copy);
	close(pair[1]);
}

int run_socket_tests(void)
{
	const struct CMUnitTest tests[] = {
		fixture_test(test_echo_tcp),
		fixture_test(test_echo_unix),
		fixture_test(test_unix_peer_credentials),
		fixture_test(test_many_connections),
		fixture_test(test_big_transfer),
		fixture_test(test_gather),
		fixture_test(test_receive_buffers_run_out),
		fixture_test(test_connect_refused),
		fixture_test(test_peer_resets),
		fixture_test(test_peer_name),
		fixture_test(test_half_close),
		fixture_test(test_accept_close_rounds),
		fixture_test(test_direct_table_full),
		fixture_test(test_cancel_all),
		fixture_test(test_stale_cancel),
		fixture_test(test_restart_in_handler),
		fixture_test(test_descriptor_number_again),
		fixture_test(test_close_shuts_down),
	};

	return cmocka_run_group_tests_name("sockets", tests, NULL, NULL);
}
