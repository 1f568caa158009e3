/* Gateways, clients, and what is between them. */
#include "tests/unit/link/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "proto/sluice_v1.h"

enum ring_engine world_engines[2] = { RING_ENGINE_URING, RING_ENGINE_EPOLL };

void world_choose(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
}

/* ---- time ---- */

struct patience patience_begin(const struct world *world)
{
	return (struct patience){ .since_ns = ring_now_ns(world->ring), .moved = user_bytes_moved };
}

void world_turn(struct world *world, struct patience *patience, uint64_t timeout_ns)
{
	ring_run(world->ring, timeout_ns);
	if (user_bytes_moved != patience->moved)
		*patience = patience_begin(world);
	if (ring_now_ns(world->ring) - patience->since_ns > PATIENCE_NS)
		fail_msg("it takes too long");
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
	CHECK(world->users_count < WORLD_USERS_MAX);
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

void world_gateway_start(struct world *world)
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

void world_gateway_stop(struct world *world)
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

uint16_t world_gateway_port(const struct world *world)
{
	return (uint16_t)atoi(strrchr(world->bound, ':') + 1);
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

struct link_config world_link_config(struct world *world)
{
	struct link_config config = { .events = &events, .owner = world, .token = "one", .tls = world->client_tls };
	char text[64], why[256];

	snprintf(text, sizeof(text), "%s://127.0.0.1:%u", world->tls ? "grpcs" : "grpc", world->proxy.port);
	assert_true(address_parse(&config.address, text, why, sizeof(why)));
	return config;
}

void world_open_link(struct world *world, const struct link_config *config)
{
	char why[256] = "";

	world->lost = world->closed = false;
	world->ups = world->downs = 0;
	if (link_open(&world->link, world->ring, config, why, sizeof(why)) < 0)
		fail_msg("%s", why);
}

struct user *world_open_channel(struct world *world, uint64_t to_send, bool lazy)
{
	int fd = link_channel_open(world->link);

	assert_true(fd >= 0);
	return user_create(world->ring, fd, 7, 101, to_send, lazy);
}

uint64_t world_channels(const struct world *world)
{
	struct link_status status;

	link_status(world->link, &status);
	return status.channels;
}

void world_transfer(struct world *world, uint64_t bytes, unsigned channels)
{
	struct user *users[WORLD_USERS_MAX];

	world->users_send = bytes;
	for (unsigned i = 0; i < channels; i++)
		users[i] = world_open_channel(world, bytes, false);
	WAIT(world, world->users_count == channels || world->lost);
	for (unsigned i = 0; i < channels; i++) {
		WAIT(world, world->lost || (user_done(users[i], bytes) && user_done(world->users[i], bytes)));
		if (world->lost)
			fail_msg("%s", world->reason);
		assert_false(users[i]->wrong);
		assert_false(world->users[i]->wrong);
		user_destroy(users[i]);
	}
}

void world_close_link(struct world *world)
{
	if (!world->link)
		return;
	world->closed = false;
	link_close(world->link);
	WAIT(world, world->closed);
}

void world_begin_end(struct world *world)
{
	world->closed = false;
	link_close(world->link);
	WAIT(world, world->closed || world->link->ending);
	if (world->link)
		world->link->farewell_ns = UINT64_MAX;
}

/* ---- all of it ---- */

struct world *world_make(void **state, bool tls)
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
	world_gateway_start(world);
	proxy_start(&world->proxy, world_gateway_port(world), 42);
	return world;
}

void world_end(struct world *world)
{
	world_close_link(world);
	world_gateway_stop(world);
	proxy_stop(&world->proxy);
	ring_destroy(world->ring);
	tls_context_destroy(world->server_tls);
	tls_context_destroy(world->client_tls);
	free(world);
}
