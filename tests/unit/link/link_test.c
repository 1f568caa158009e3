/*
 * A link over real sockets: a gateway with the link service, a client, and between them a proxy that cuts, swallows or shuts.
 * What users write into channels at one end their users at the other end read: once, in order, all of it. Where a link cannot
 * go on, both ends hear of it. Over both ring engines.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include "gateway/base/check.h"
#include "gateway/link/link_private.h"
#include "gateway/link/link_service.h"
#include "gateway/net/server.h"
#include "proto/sluice_v1.h"
#include "tests/unit/link/proxy.h"
#include "tests/unit/net/keys.h"

#define SECOND_NS   1000000000ull
#define PATIENCE_NS (40 * SECOND_NS)     /* without a byte */
#define PIECE_BYTES 200000
#define ENDS_MAX    64

/* A user's end of a channel: writes so many bytes of a pattern, and checks that what comes follows the other pattern. */
struct user {
	struct ring *ring;
	int fd;
	uint8_t seed, expected_seed;
	uint64_t to_send, sent, received;
	bool wrong, ended, broken, closed;
	bool lazy;                       /* does not read */
	size_t piece;
	struct op recv, send;
	uint8_t out[PIECE_BYTES];
};

static uint64_t bytes_moved;             /* to all users */

struct world {
	enum ring_engine engine;
	struct ring *ring;
	struct server *server;
	struct tls_context *server_tls, *client_tls;
	bool tls;
	struct link_service *service;
	struct link_service_config service_config;
	char bound[300];
	struct proxy proxy;
	bool drained;
	struct user *users[ENDS_MAX];    /* at the gateway, as channels are opened */
	unsigned users_count;
	uint64_t users_send;             /* what each of them sends */
	bool users_lazy;
	bool refusing;                   /* whoever comes now */
	unsigned refusals;
	bool closing;                    /* channels are closed as they are opened */
	struct conn_peer peer;           /* of the last channel */
	struct link *link;
	unsigned ups, downs;
	bool lost, closed;
	char reason[LINK_REASON_MAX];
};

static uint8_t pattern(uint8_t seed, uint64_t at)
{
	return (uint8_t)(seed + at * 7 + (at >> 11) * 13);
}

/* ---- users ---- */

static void user_send(struct user *user)
{
	uint64_t left = user->to_send - user->sent;

	if (op_in_flight(&user->send) || user->closed || user->broken)
		return;
	user->piece = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
	if (user->piece == 0) {
		shutdown(user->fd, SHUT_WR);
		return;
	}
	for (size_t i = 0; i < user->piece; i++)
		user->out[i] = pattern(user->seed, user->sent + i);
	ring_send(user->ring, &user->send, user->fd, span_make(user->out, user->piece));
}

static void user_on_send(struct op *op, int32_t res)
{
	struct user *user = container_of(op, struct user, send);

	if (res < 0) {
		user->broken = true;
		return;
	}
	user->sent += (uint64_t)res;
	user_send(user);
}

static void user_on_recv(struct op *op, int32_t res)
{
	struct user *user = container_of(op, struct user, recv);

	if (res <= 0) {
		user->ended = true;
		return;
	}
	for (int32_t i = 0; i < res; i++)
		user->wrong |= op->received.data[i] != pattern(user->expected_seed, user->received + (uint64_t)i);
	user->received += (uint64_t)res;
	bytes_moved += (uint64_t)res;
}

static void user_read(struct user *user)
{
	user->lazy = false;
	ring_recv(user->ring, &user->recv, user->fd);
}

static struct user *user_create(struct ring *ring, int fd, uint8_t seed, uint8_t expected_seed, uint64_t to_send, bool lazy)
{
	struct user *user = calloc(1, sizeof(*user));

	*user = (struct user){
		.ring = ring, .fd = fd, .seed = seed, .expected_seed = expected_seed, .to_send = to_send, .lazy = lazy,
		.recv.fn = user_on_recv, .send.fn = user_on_send,
	};
	if (!lazy)
		user_read(user);
	user_send(user);
	return user;
}

static void user_destroy(struct user *user)
{
	if (!user)
		return;
	user->closed = true;             /* or what was sent at the last moment would be followed by more, for ever */
	ring_cancel(user->ring, &user->recv);
	ring_cancel(user->ring, &user->send);
	while (op_in_flight(&user->recv) || op_in_flight(&user->send))
		ring_run(user->ring, UINT64_MAX);
	close(user->fd);
	free(user);
}

/* ---- the gateway ---- */

static enum grpc_status identify(void *context, const struct server_request *request, struct tenant_identity *identity,
                                 char *why, size_t why_size)
{
	struct span authorization = request->head->authorization;
	struct world *world = context;

	(void)why, (void)why_size;
	if (world->refusing) {
		world->refusals++;
		return GRPC_PERMISSION_DENIED;
	}
	*identity = (struct tenant_identity){ .rights = SCOPE_ALL };
	snprintf(identity->tenant, sizeof(identity->tenant), span_is(authorization, "Bearer other") ? "other" : "acme");
	snprintf(identity->subject, sizeof(identity->subject), "%.*s", (int)authorization.size, (const char *)authorization.data);
	return GRPC_OK;
}

static int adopt(void *context, int fd, const struct conn_peer *peer)
{
	struct world *world = context;

	if (world->closing) {
		close(fd);
		return 0;
	}
	CHECK(world->users_count < ENDS_MAX);
	world->peer = *peer;
	world->users[world->users_count++] = user_create(world->ring, fd, 101, 7, world->users_send, world->users_lazy);
	return 0;
}

static int carry(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return link_service_start(((struct world *)context)->service, request, why, why_size);
}

static void on_drained(void *context)
{
	((struct world *)context)->drained = true;
}

static const struct server_method methods[] = { { SLUICE_LINK_CARRY, carry }, { NULL, NULL } };

static void gateway_start(struct world *world)
{
	struct server_config server = { .methods = methods, .context = world, .on_drained = on_drained };
	struct address address;
	char why[256] = "";

	world->service_config.ring = world->ring;
	world->service_config.identify = identify;
	world->service_config.adopt = adopt;
	world->service_config.context = world;
	world->drained = false;
	assert_int_equal(link_service_create(&world->service, &world->service_config), 0);
	assert_int_equal(server_create(&world->server, world->ring, &server), 0);
	assert_true(address_parse(&address, world->tls ? "grpcs://127.0.0.1:0" : "grpc://127.0.0.1:0", why, sizeof(why)));
	if (server_listen(world->server, &address, world->server_tls, world->bound, sizeof(world->bound), why, sizeof(why)) < 0)
		fail_msg("%s", why);
}

static void gateway_stop(struct world *world)
{
	server_drain(world->server, 0);
	link_service_close(world->service);
	while (!world->drained || !link_service_idle(world->service))
		ring_run(world->ring, UINT64_MAX);
	server_destroy(world->server);
	link_service_destroy(world->service);
	for (unsigned i = 0; i < world->users_count; i++)
		user_destroy(world->users[i]);
	world->users_count = 0;
}

static uint16_t gateway_port(const struct world *world)
{
	return (uint16_t)atoi(strrchr(world->bound, ':') + 1);
}

static struct world *world_make(void **state, bool tls)
{
	struct world *world = calloc(1, sizeof(*world));
	struct ring_config ring = { .engine = *(const enum ring_engine *)*state };
	struct tls_config server = keys_server("server", "ca", false);
	struct tls_config client = {
		.certificate_path = keys_path("client", "cert.pem"), .key_path = keys_path("client", "key.pem"),
		.ca_path = keys_path("ca", "ca.pem"),
	};
	char why[256] = "";

	world->engine = ring.engine;
	world->tls = tls;
	assert_int_equal(ring_create(&world->ring, &ring), 0);
	if (tls && (tls_context_create(&world->server_tls, &server, why, sizeof(why)) < 0 ||
	            tls_context_create(&world->client_tls, &client, why, sizeof(why)) < 0))
		fail_msg("%s", why);
	gateway_start(world);
	proxy_start(&world->proxy, gateway_port(world), 42);
	return world;
}

/* ---- the client ---- */

static void on_up(struct link *link)
{
	((struct world *)link_owner(link))->ups++;
}

static void on_down(struct link *link, const char *reason)
{
	(void)reason;
	((struct world *)link_owner(link))->downs++;
}

static void on_lost(struct link *link, const char *reason)
{
	struct world *world = link_owner(link);

	world->lost = true;
	snprintf(world->reason, sizeof(world->reason), "%s", reason);
}

static void on_closed(struct link *link)
{
	struct world *world = link_owner(link);

	world->closed = true;
	world->link = NULL;
}

static const struct link_events events = { .on_up = on_up, .on_down = on_down, .on_lost = on_lost, .on_closed = on_closed };

static struct link_config link_config(struct world *world)
{
	struct link_config config = { .events = &events, .owner = world, .token = "one", .tls = world->client_tls };
	char text[64], why[256];

	snprintf(text, sizeof(text), "%s://127.0.0.1:%u", world->tls ? "grpcs" : "grpc", world->proxy.port);
	assert_true(address_parse(&config.address, text, why, sizeof(why)));
	return config;
}

static void open_link(struct world *world, const struct link_config *config)
{
	char why[256] = "";

	world->lost = world->closed = false;
	world->ups = world->downs = 0;
	if (link_open(&world->link, world->ring, config, why, sizeof(why)) < 0)
		fail_msg("%s", why);
}

static struct user *open_channel(struct world *world, uint64_t to_send, bool lazy)
{
	int fd = link_channel_open(world->link);

	assert_true(fd >= 0);
	return user_create(world->ring, fd, 7, 101, to_send, lazy);
}

/* How long is waited: however slow the machine is, bytes go on moving. */
struct patience {
	uint64_t since_ns, moved;
};

static struct patience patience_begin(const struct world *world)
{
	return (struct patience){ .since_ns = ring_now_ns(world->ring), .moved = bytes_moved };
}

static void turn(struct world *world, struct patience *patience, uint64_t timeout_ns)
{
	ring_run(world->ring, timeout_ns);
	if (bytes_moved != patience->moved)
		*patience = patience_begin(world);
	if (ring_now_ns(world->ring) - patience->since_ns > PATIENCE_NS)
		fail_msg("it takes too long");
}

#define WAIT(world, condition)                                                                                         \
	do {                                                                                                           \
		struct patience patience_ = patience_begin(world);                                                     \
		while (!(condition))                                                                                   \
			turn(world, &patience_, SECOND_NS);                                                            \
	} while (0)

static void close_link(struct world *world)
{
	if (!world->link)
		return;
	world->closed = false;
	link_close(world->link);
	WAIT(world, world->closed);
}

/* It may take its time to say goodbye, on however slow a machine; `closed` follows. */
static void begin_end(struct world *world)
{
	world->closed = false;
	link_close(world->link);
	WAIT(world, world->closed || world->link->ending);
	if (world->link)
		world->link->farewell_ns = UINT64_MAX;
}

static void world_end(struct world *world)
{
	close_link(world);
	gateway_stop(world);
	proxy_stop(&world->proxy);
	ring_destroy(world->ring);
	tls_context_destroy(world->server_tls);
	tls_context_destroy(world->client_tls);
	free(world);
}

static uint64_t channels_of(const struct world *world)
{
	struct link_status status;

	link_status(world->link, &status);
	return status.channels;
}

/* ---- tests ---- */

static bool done(const struct user *user, uint64_t received)
{
	return user->ended && user->received == received && user->sent == user->to_send;
}

static void transfer(struct world *world, uint64_t bytes, unsigned channels)
{
	struct user *users[ENDS_MAX];

	world->users_send = bytes;
	for (unsigned i = 0; i < channels; i++)
		users[i] = open_channel(world, bytes, false);
	WAIT(world, world->users_count == channels || world->lost);
	for (unsigned i = 0; i < channels; i++) {
		WAIT(world, world->lost || (done(users[i], bytes) && done(world->users[i], bytes)));
		if (world->lost)
			fail_msg("%s", world->reason);
		assert_false(users[i]->wrong);
		assert_false(world->users[i]->wrong);
		user_destroy(users[i]);
	}
}

/* One channel and then many, each way at once, whole, over a link that nothing happens to. */
static void test_channels_carry_bytes(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = link_config(world);
	struct link_status status;
	struct link_service_status service;

	open_link(world, &config);
	transfer(world, 3000000, 1);
	WAIT(world, channels_of(world) == 0);
	link_status(world->link, &status);
	assert_int_equal(status.bytes_sent, 3000000);
	assert_int_equal(status.bytes_received, 3000000);
	assert_int_equal(status.bytes_resent, 0);
	assert_int_equal(world->ups, 1);
	assert_true(world->peer.linked);
	link_service_status(world->service, &service);
	assert_int_equal(service.links, 1);
	assert_int_equal(service.bytes_received, 3000000);
	close_link(world);
	WAIT(world, link_service_idle(world->service));
	link_service_status(world->service, &service);
	assert_int_equal(service.links, 0);
	assert_int_equal(service.paths_lost, 0);
	world_end(world);
}

/*
 * Cut twenty times in one transfer, both ways at once: all arrives, once, and what had to be sent again is under 2 %. Also over
 * four conns, of which one at a time is cut, and with TLS.
 */
static void cut(void **state, bool tls, unsigned conns)
{
	const uint64_t bytes = 128u << 20;
	struct world *world = world_make(state, tls);
	struct link_config config = link_config(world);
	struct link_service_status service;
	struct link_status status;
	uint64_t resent;

	config.conns = conns;
	config.conns_at_once = true;
	world->proxy.cut_bytes = 2 * bytes / (20 + 2 * conns);
	world->proxy.cuts_wanted = 20;
	open_link(world, &config);
	transfer(world, bytes, 1);
	link_status(world->link, &status);
	link_service_status(world->service, &service);
	resent = status.bytes_resent + service.bytes_resent;
	printf("cuts %u resent %llu (%.2f %%) duplicate %llu lost %llu resumes %llu window %llu round trip %llu us\n",
	       world->proxy.cuts, (unsigned long long)resent, 100.0 * (double)resent / (double)(2 * bytes),
	       (unsigned long long)(status.bytes_duplicate + service.bytes_duplicate), (unsigned long long)status.paths_lost,
	       (unsigned long long)status.resumes, (unsigned long long)world->link->mux.core.paths[0].window.bytes,
	       (unsigned long long)world->link->mux.core.paths[0].window.round_trip_ns / 1000);
	assert_int_equal(world->proxy.cuts, 20);
	assert_true(status.paths_lost >= 20);
	assert_true(resent < 2 * bytes / 50);
	if (conns == 1)
		assert_int_equal(status.bytes_duplicate + service.bytes_duplicate, 0);
	world_end(world);
}

static void test_cut_twenty_times(void **state)
{
	cut(state, false, 1);
}

static void test_cut_twenty_times_tls(void **state)
{
	cut(state, true, 1);
}

static void test_cut_twenty_times_of_four(void **state)
{
	cut(state, false, 4);
}

/* A gateway that takes one path and no other is not asked again and again. */
static void test_a_further_path_is_refused_once(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = link_config(world);

	config.conns = 2;
	open_link(world, &config);
	WAIT(world, world->ups);
	world->refusing = true;
	transfer(world, 30000000, 1);
	assert_int_equal(world->refusals, 1);
	world_end(world);
}

/* A call without a hello. */
struct mute {
	struct call call;
	bool closed;
	enum grpc_status status;
};

static void mute_on_message(struct call *call, struct span message)
{
	(void)call, (void)message;
}

static void mute_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct mute *mute = container_of(call, struct mute, call);

	(void)message;
	mute->closed = true;
	mute->status = status;
	call_fini(call);
}

static void mutes_on_ready(struct conn *conn)
{
	(void)conn;
}

static void mutes_on_closed(struct conn *conn, const char *reason)
{
	(void)reason;
	*(bool *)conn_owner(conn) = true;
}

/* Calls that never say for which link they are fill their own tenant's places, and who is refused for it may try again. */
static void test_calls_without_a_hello_are_bounded(void **state)
{
	static const struct call_events call_events = { .on_message = mute_on_message, .on_closed = mute_on_closed };
	static const struct conn_events conn_events = { .on_ready = mutes_on_ready, .on_closed = mutes_on_closed };
	static const struct h2_events h2_events = { 0 };
	static struct mute mutes[LINK_HELLOS_TENANT_MAX + 1];
	struct world *world = world_make(state, false);
	struct link_config config = link_config(world);
	struct conn_config conn_config = { .h2 = { .events = &h2_events }, .events = &conn_events };
	struct mute *last = &mutes[LINK_HELLOS_TENANT_MAX];
	struct conn *conn;
	bool closed = false;
	char why[256] = "";

	conn_config.owner = &closed;
	assert_int_equal(conn_connect(&conn, world->ring, &config.address, NULL, &conn_config, why, sizeof(why)), 0);
	for (unsigned i = 0; i <= LINK_HELLOS_TENANT_MAX; i++) {
		mutes[i] = (struct mute){ 0 };
		assert_int_equal(call_start(&mutes[i].call, conn_h2(conn), SLUICE_LINK_CARRY, span_text("localhost"), 0, NULL, 0, 1000,
		                            &call_events, NULL), 0);
	}
	WAIT(world, last->closed);
	assert_int_equal(last->status, GRPC_UNAVAILABLE);
	assert_false(mutes[0].closed);
	config.token = "other";
	open_link(world, &config);
	transfer(world, 1000, 1);
	conn_close(conn, "the test is over");
	WAIT(world, closed);
	world_end(world);
}

/* A path that swallows everything is noticed and given up, at both ends; the transfer goes on over the next one. */
static void test_a_hole_is_noticed(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = link_config(world);
	struct user *user;
	unsigned downs;

	gateway_stop(world);
	world->service_config.silence_ns = SECOND_NS / 4;
	gateway_start(world);
	world->proxy.target = gateway_port(world);
	config.silence_ns = SECOND_NS / 4;
	open_link(world, &config);
	world->users_send = 20000000;
	user = open_channel(world, 20000000, false);
	WAIT(world, user->received > 1000000);
	downs = world->downs;            /* a machine that does nothing for so long looks like a hole, too */
	proxy_set(&world->proxy, PROXY_HOLE);
	WAIT(world, world->downs > downs);
	proxy_set(&world->proxy, PROXY_PASS);
	WAIT(world, done(user, 20000000) && done(world->users[0], 20000000));
	assert_false(user->wrong || world->users[0]->wrong);
	assert_true(world->ups >= 2);
	user_destroy(user);
	world_end(world);
}

/* Who ends a link while the line takes nothing is heard all the same, and does not leave the gateway to wait for his return. */
static void test_a_goodbye_waits_for_room(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = link_config(world);
	struct link_service_status service;
	struct patience patience;
	struct user *users[20];
	struct call *call;
	unsigned full = 0;

	gateway_stop(world);
	world->service_config.silence_ns = config.silence_ns = 2 * PATIENCE_NS;
	gateway_start(world);
	world->proxy.target = gateway_port(world);
	open_link(world, &config);
	transfer(world, 1000, 1);
	proxy_set(&world->proxy, PROXY_STALL);
	world->link->mux.core.paths[0].window.bytes = LINK_WINDOW_BYTES_MAX;     /* as on a line that holds so much */
	for (unsigned i = 0; i < 20; i++)
		users[i] = open_channel(world, 1000000, false);
	call = &world->link->conns[0].path.call;
	patience = patience_begin(world);
	while (full < 50) {
		turn(world, &patience, SECOND_NS / 1000);
		full = call_has_room(call) ? 0 : full + 1;
	}
	begin_end(world);
	proxy_set(&world->proxy, PROXY_PASS);
	WAIT(world, world->closed && link_service_idle(world->service));
	link_service_status(world->service, &service);
	assert_int_equal(service.links_expired, 0);
	assert_int_equal(service.paths_lost, 0);
	for (unsigned i = 0; i < 20; i++)
		user_destroy(users[i]);
	world_end(world);
}

/*
 * Among the moments are those between the hello and the welcome, and between the close and the goodbye, when the welcome may come.
 * The gateway waits for nobody's return.
 */
static void test_an_end_at_any_moment(void **state)
{
	struct world *world = world_make(state, false);

	for (unsigned turns = 0; turns < 40; turns++) {
		struct link_config config = link_config(world);

		open_link(world, &config);
		for (unsigned i = 0; i < turns; i++)
			ring_run(world->ring, SECOND_NS / 20000);
		begin_end(world);
		WAIT(world, world->closed);
	}
	WAIT(world, link_service_idle(world->service));
	world_end(world);
}

static bool has_spoken(const struct world *world)
{
	const struct link_conn *at = &world->link->conns[0];
	uint64_t received, sent = 0;

	if (at->conn && at->call_open)
		conn_bytes(at->conn, &received, &sent);
	return sent > 0;
}

/* A path that has said hello and heard no welcome says goodbye all the same: the gateway may know the link, and would wait for it. */
static void test_an_end_before_the_welcome(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = link_config(world);
	struct link_service_status service;
	unsigned opened;

	open_link(world, &config);
	transfer(world, 1000, 1);
	proxy_set(&world->proxy, PROXY_SHUT);
	WAIT(world, world->downs == 1);
	opened = world->proxy.opened;
	proxy_set(&world->proxy, PROXY_STALL);
	WAIT(world, world->proxy.opened > opened && has_spoken(world));
	assert_false(world->link->conns[0].path.greeted);
	begin_end(world);
	proxy_set(&world->proxy, PROXY_PASS);
	WAIT(world, world->closed && link_service_idle(world->service));
	link_service_status(world->service, &service);
	assert_int_equal(service.resumes, 1);
	assert_int_equal(service.links_expired, 0);
	world_end(world);
}

/* Nobody gets through for longer than the link waits: both ends give up, and whoever uses a channel hears of it. */
static void test_the_time_runs_out(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = link_config(world);
	struct link_service_status service;
	struct user *user;

	config.timeout_ns = SECOND_NS / 2;
	open_link(world, &config);
	world->users_send = 100;
	user = open_channel(world, 100, false);
	WAIT(world, user->received == 100 && world->users[0]->received == 100);
	assert_false(user->ended && world->users[0]->ended);
	proxy_set(&world->proxy, PROXY_SHUT);
	WAIT(world, world->lost && user->ended);
	assert_non_null(strstr(world->reason, "is lost: no connection for 1 s: "));
	assert_true(link_is_lost(world->link));
	assert_int_equal(link_channel_open(world->link), -EPIPE);
	WAIT(world, link_service_idle(world->service));
	link_service_status(world->service, &service);
	assert_int_equal(service.links_expired, 1);
	assert_int_equal(service.channels_total, 1);
	WAIT(world, world->users[0]->ended);
	user_destroy(user);
	world_end(world);
}

/* Opens a link that claims to be another one. What it hears is in world->reason. */
static void claim(struct world *world, const char *token, const uint8_t *id)
{
	struct link_config config = link_config(world);
	char why[256] = "";

	config.token = token;
	world->lost = false;
	if (link_open(&world->link, world->ring, &config, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	memcpy(world->link->id, id, LINK_ID_BYTES);
	world->link->welcomed = world->link->attempted = true;
	WAIT(world, world->lost);
}

/* Who has another credential hears what one hears who names a link that never was; the link lives on. */
static void test_another_credential_is_refused(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = link_config(world);
	struct link_service_status service;
	uint8_t id[LINK_ID_BYTES], other[LINK_ID_BYTES] = { 1 };
	char reason[LINK_REASON_MAX];
	struct link *first;

	open_link(world, &config);
	transfer(world, 1000, 1);
	first = world->link;
	memcpy(id, first->id, sizeof(id));
	claim(world, "two", id);
	snprintf(reason, sizeof(reason), "%s", world->reason);
	close_link(world);
	claim(world, "two", other);
	assert_string_equal(reason, world->reason);
	assert_non_null(strstr(reason, "does not know this link"));
	close_link(world);
	link_service_status(world->service, &service);
	assert_int_equal(service.links, 1);
	assert_int_equal(service.links_refused, 2);
	assert_true(link_is_up(first));
	world->link = first;
	world_end(world);
}

/* A gateway that was restarted knows nothing of the link: it is lost, in so many words, and nothing is done twice. */
static void test_a_restart_loses_the_link(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = link_config(world);
	struct user *user;

	open_link(world, &config);
	world->users_send = UINT64_MAX / 2;
	user = open_channel(world, UINT64_MAX / 2, false);
	WAIT(world, user->received > 1000000);
	gateway_stop(world);
	gateway_start(world);
	world->proxy.target = gateway_port(world);
	WAIT(world, world->lost && user->ended);
	assert_non_null(strstr(world->reason, "does not know this link: it was restarted"));
	assert_int_equal(world->users_count, 0);
	user_destroy(user);
	world_end(world);
}

/* Where nobody listens, one hears so at once, as of any connection. */
static void test_nobody_listens(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = link_config(world);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);

	/* A port that is taken, and not listened on. */
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	snprintf(config.address.port, sizeof(config.address.port), "%u", ntohs(address.sin_port));
	open_link(world, &config);
	WAIT(world, world->lost);
	assert_int_equal(link_how_ended(world->link), CONN_END_CONNECT);
	assert_int_equal(link_conn_error(world->link), -ECONNREFUSED);
	assert_int_equal(world->ups, 0);
	close(fd);
	world_end(world);
}

/* This process has as many descriptors as it may. Returns what it was allowed. */
static struct rlimit exhaust_descriptors(void)
{
	struct rlimit before, none;
	int next = dup(STDIN_FILENO);

	assert_true(next >= 0);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	return before;
}

/* The first attempt comes to nothing before there is a connection, whose end would tell: the link tries again all the same. */
static void test_a_socket_cannot_be_made(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = link_config(world);
	struct rlimit limit = exhaust_descriptors();

	open_link(world, &config);
	WAIT(world, world->link->failures > 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_string_equal(world->link->reason, "cannot make a socket: Too many open files");
	WAIT(world, world->ups == 1);
	assert_false(world->lost);
	transfer(world, 1000, 1);
	world_end(world);
}

/* A reader that does not read stops its own channel, within its credit, and no other. */
static void test_a_slow_reader_stops_nobody_else(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = link_config(world);
	struct user *slow, *fast;

	open_link(world, &config);
	world->users_lazy = true;
	slow = open_channel(world, 40000000, false);
	WAIT(world, world->users_count == 1);
	world->users_lazy = false;
	world->users_send = 30000000;
	fast = open_channel(world, 30000000, false);
	WAIT(world, done(fast, 30000000) && world->users_count == 2 && done(world->users[1], 30000000));
	assert_true(slow->sent < 4000000);
	assert_true(world->users[0]->received == 0);
	user_read(world->users[0]);
	WAIT(world, world->users[0]->ended);
	assert_int_equal(world->users[0]->received, 40000000);
	assert_false(world->users[0]->wrong);
	user_destroy(slow);
	user_destroy(fast);
	world_end(world);
}

/* Who hangs up in the middle leaves the other side of his channel with an end, and the link as it was. */
static void test_a_user_hangs_up(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = link_config(world);
	struct user *user;

	open_link(world, &config);
	world->users_send = UINT64_MAX / 2;
	user = open_channel(world, UINT64_MAX / 2, false);
	WAIT(world, user->received > 1000000);
	user_destroy(user);
	WAIT(world, world->users[0]->ended && world->users[0]->broken && channels_of(world) == 0);
	user_destroy(world->users[0]);
	world->users_count = 0;
	transfer(world, 100000, 3);
	assert_false(world->lost);
	world_end(world);
}

/* As many channels as there may be, and no more; their places are free again when they have gone. */
static void test_channels_are_bounded(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = link_config(world);
	int fds[LINK_CHANNELS_MAX];

	world->closing = true;
	open_link(world, &config);
	for (unsigned i = 0; i < LINK_CHANNELS_MAX; i++) {
		fds[i] = link_channel_open(world->link);
		assert_true(fds[i] >= 0);
	}
	assert_int_equal(link_channel_open(world->link), -EAGAIN);
	for (unsigned i = 0; i < LINK_CHANNELS_MAX; i++)
		close(fds[i]);
	WAIT(world, channels_of(world) == 0);
	world->closing = false;
	transfer(world, 1000, 1);
	world_end(world);
}

/* A hello may ask for any time: what is looked at more and more often would keep the gateway from everything else. */
static void test_time_is_looked_at_now_and_then(void **state)
{
	(void)state;
	assert_int_equal(link_mux_tick_ns(1000000), LINK_TICK_NS_MIN);
	assert_int_equal(link_mux_tick_ns(SECOND_NS), SECOND_NS / 4);
	assert_int_equal(link_mux_tick_ns(60 * SECOND_NS), LINK_TICK_NS);
}

/* A gateway is told nonsense: the link ends, and says so at both ends. */
static void test_broken_rules_end_the_link(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = link_config(world);
	struct link_service_status service;
	struct user *user;

	open_link(world, &config);
	user = open_channel(world, 1000, false);
	WAIT(world, world->users_count == 1 && world->users[0]->received == 1000);
	/* A thousand frames are taken that nobody sent. */
	assert_int_equal(call_send(&world->link->conns[0].path.call, span_make("\x20\xe8\x07", 3), 0), CALL_SENT);
	WAIT(world, world->lost);
	assert_non_null(strstr(world->reason, "broke the rules"));
	link_service_status(world->service, &service);
	assert_int_equal(service.links_broken, 1);
	WAIT(world, link_service_idle(world->service));
	user_destroy(user);
	world_end(world);
}

int main(int argc, char **argv)
{
	static enum ring_engine engines[] = { RING_ENGINE_URING, RING_ENGINE_EPOLL };
#define BOTH(test) cmocka_unit_test_prestate(test, &engines[0]), cmocka_unit_test_prestate(test, &engines[1])
	const struct CMUnitTest tests[] = {
		BOTH(test_channels_carry_bytes),
		BOTH(test_cut_twenty_times),
		BOTH(test_cut_twenty_times_tls),
		BOTH(test_cut_twenty_times_of_four),
		BOTH(test_a_further_path_is_refused_once),
		BOTH(test_calls_without_a_hello_are_bounded),
		BOTH(test_a_hole_is_noticed),
		BOTH(test_a_goodbye_waits_for_room),
		BOTH(test_an_end_at_any_moment),
		BOTH(test_an_end_before_the_welcome),
		BOTH(test_the_time_runs_out),
		BOTH(test_another_credential_is_refused),
		BOTH(test_a_restart_loses_the_link),
		BOTH(test_nobody_listens),
		BOTH(test_a_socket_cannot_be_made),
		BOTH(test_a_slow_reader_stops_nobody_else),
		BOTH(test_a_user_hangs_up),
		BOTH(test_channels_are_bounded),
		BOTH(test_broken_rules_end_the_link),
		cmocka_unit_test(test_time_is_looked_at_now_and_then),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, keys_make, keys_remove);
}
