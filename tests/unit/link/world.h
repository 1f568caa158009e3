/*
 * world: a gateway with the link service, a client, and between them a proxy that cuts, swallows or shuts; all on one ring, but
 * for the proxy. What users write into channels at one end their users at the other end read: once, in order, all of it. For
 * tests of links, each of which runs over both ring engines.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gateway/link/link_private.h"
#include "gateway/link/link_service.h"
#include "gateway/net/server.h"
#include "tests/unit/link/proxy.h"
#include "tests/unit/link/user.h"
#include "tests/unit/net/keys.h"

#define SECOND_NS       1000000000ull
#define PATIENCE_NS     (40 * SECOND_NS) /* without a byte */
#define WORLD_USERS_MAX 64

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
	struct user *users[WORLD_USERS_MAX];     /* at the gateway, as channels are opened */
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

/* A test's state is its engine. */
extern enum ring_engine world_engines[2];
#define WORLD_BOTH(test) \
	cmocka_unit_test_prestate(test, &world_engines[0]), cmocka_unit_test_prestate(test, &world_engines[1])
/* For main(): all tests, or those that the first argument names. */
#define world_run(argc, argv, tests) (world_choose(argc, argv), cmocka_run_group_tests(tests, keys_make, keys_remove))
void world_choose(int argc, char **argv);

/* With a gateway and a proxy, and without a link. */
struct world *world_make(void **state, bool tls);
/* Ends the link that is there, in good order, and everything else. */
void world_end(struct world *world);

/* With the service's config as it is then. After another start the proxy has to be told the port. */
void world_gateway_start(struct world *world);
void world_gateway_stop(struct world *world);
uint16_t world_gateway_port(const struct world *world);

/* Of a link through the proxy. */
struct link_config world_link_config(struct world *world);
void world_open_link(struct world *world, const struct link_config *config);
/* With a user at this end; the other end's are in `users`, as they come. */
struct user *world_open_channel(struct world *world, uint64_t to_send, bool lazy);
uint64_t world_channels(const struct world *world);
/* So many bytes both ways on each of so many channels, which are gone then. */
void world_transfer(struct world *world, uint64_t bytes, unsigned channels);
void world_close_link(struct world *world);      /* and waits; does nothing when there is none */
/* It may take its time to say goodbye, on however slow a machine; `closed` follows. */
void world_begin_end(struct world *world);

/* How long is waited: however slow the machine is, bytes go on moving. */
struct patience {
	uint64_t since_ns, moved;
};

struct patience patience_begin(const struct world *world);
/* Fails the test when patience is at its end. */
void world_turn(struct world *world, struct patience *patience, uint64_t timeout_ns);

#define WAIT(world, condition)                                                                                         \
	do {                                                                                                           \
		struct patience patience_ = patience_begin(world);                                                     \
		while (!(condition))                                                                                   \
			world_turn(world, &patience_, SECOND_NS);                                                      \
	} while (0)
