/*
 * binding_rig: a gateway with stand-in daemons in threads (builder.h), and the calls of buildx's that make a build. For tests;
 * the daemons' ring engine is the test's `state`.
 */
#pragma once

#include "tests/unit/buildkit/builder.h"
#include "tests/unit/buildkitd/impostor.h"
#include "tests/unit/cas/gateway_thread.h"
#include "tests/unit/link/proxy.h"

#define MS      1000000ull
#define CONTROL "/moby.buildkit.v1.Control/"
#define BRIDGE  "/moby.buildkit.v1.frontend.LLBBridge/"

struct fixture {
	struct builder builders[2];
	const char *executors[3];
	char behind[ADDRESS_TEXT_MAX];   /* of the proxy or impostor; "": none */
	struct gateway_thread *gateway;
	struct client *clients[4];
	struct buildkit *buildkit;       /* for the gateway's thread alone */
	bool barren;                     /* spawnable, and none can be started any more */
	struct builder *lost, *other;    /* of a build that was begun to be replayed */
	/* Of the last build that ended. */
	struct build ended;
	unsigned ended_count;
};

/* `sick`: the daemons are not ready, and are not waited for. */
struct fixture *rig_begin_as(void **state, unsigned builders, uint32_t slots, uint64_t queue_timeout_ns, bool sick,
                             enum replay_policy replay);
struct fixture *rig_begin_with(void **state, unsigned builders, uint32_t slots, uint64_t queue_timeout_ns, bool sick);
/* One daemon of one slot. */
struct fixture *rig_begin(void **state);
/* The same behind a proxy, to be stopped after rig_end(). */
struct fixture *rig_begin_behind(void **state, struct proxy *proxy);
/*
 * Two daemons, the first behind an impostor that was begun, the second not ready at first and not waited for; what is lost
 * may be replayed.
 */
struct fixture *rig_begin_behind_impostor(void **state, struct impostor *impostor);
/* With a spawner that says that it may start one. */
struct fixture *rig_begin_spawnable(void **state, unsigned builders, uint64_t queue_timeout_ns);
/* The port of that daemon, for an impostor. */
uint16_t rig_port(const struct fixture *fixture, unsigned builder);
/* Waits until nothing is left at the gateway. */
void rig_end(struct fixture *fixture);

struct client *rig_client_of(struct fixture *fixture, unsigned number);
/* Its connection breaks. */
void rig_leave(struct fixture *fixture, unsigned number);
/* Nothing goes out before the client waits for something. */
void rig_turn(struct client *client);
/* Until a build has ended, with turns of that client: then `ended` says of it. */
void rig_until_ended(struct fixture *fixture, unsigned number);
/* For gateway_thread_until(): an `unsigned *` of executors. */
bool rig_all_are_ready(struct gateway_parts *parts, void *context);

/* ---- a client's calls ---- */

/* With up to two header fields; NULL: none. */
struct client_call *rig_call(struct client *client, const char *path, const char *name, const char *value,
                             const char *name2, const char *value2);
struct client_call *rig_session(struct client *client, const char *uuid, const char *shared_key);
struct client_call *rig_solve(struct client *client, const char *ref, const char *session);
struct client_call *rig_solve_of_size(struct client *client, const char *ref, const char *session, bool internal, bool work,
                                      size_t size);
struct client_call *rig_status(struct client *client, const char *ref);
struct client_call *rig_bridge(struct client *client, const char *method, const char *ref, struct span message);
struct client_call *rig_return_nothing(struct client *client, const char *ref);
/* A Return that carries an error, as buildx sends when its build failed. */
struct client_call *rig_return_failure(struct client *client, const char *ref);
/* The call ends so, with that in its status's text; whatever comes before is dropped. */
void rig_ends(struct client_call *call, enum grpc_status wanted, const char *text);
/* The next message has it. */
void rig_says(struct client_call *call, const char *text);

/* A Session and a Solve. */
void rig_build(struct fixture *fixture, unsigned number, const char *ref, struct client_call **running);
/* Until that daemon has so many calls open of the method. */
void rig_wait_open(struct fixture *fixture, unsigned number, unsigned builder, const char *method, unsigned count);
