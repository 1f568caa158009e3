/*
 * executors: the buildkitd that builds may be lent, and the fair queue of those who wait for one. On the ring's thread.
 *
 * An executor is one daemon with one root: it belongs to one tenant (DESIGN.md decision 10). It is *ready* while
 * grpc.health.v1 on a connection of its own says SERVING and its capabilities do not shrink the pool's common set;
 * otherwise it gets no new lease until it is ready again. Health is asked by calls, never by HTTP/2 PING (grpc-go's
 * enforcement: at most one in 5 min).
 *
 *	JOINING -> READY <-> LOST          any of them -> DRAINING (no new lease) -> gone with its last lease
 *	JOINING, LOST -> REFUSED           its capabilities; `why` says which
 *	REFUSED -> JOINING                 not reachable any more
 *	REFUSED -> READY                   those who could more have gone, or it can now
 *
 * The common set is that of the tenant's first ready executor, until no other one is ready or was lost within the last
 * EXECUTORS_SET_KEPT health intervals: then the next one that is heard of defines it anew.
 *
 * Placement: the executor that last built for the same affinity when it has a free slot, else the least loaded one of
 * the tenant. One that does not suit a lease (below) is taken for it only when no other has room, and keeps the affinity
 * when another is taken. Nobody waits while holding: a binding that has a lease takes further slots at its own executor at once
 * (lease_grow), even beyond its slots.
 */
#pragma once

#include "gateway/base/list.h"
#include "gateway/net/address.h"
#include "gateway/net/conn.h"
#include "gateway/net/tls.h"
#include "gateway/ring/ring.h"

#define EXECUTORS_MAX              256
#define EXECUTORS_TENANTS_MAX      1024
#define EXECUTORS_QUEUE_MAX        4096          /* leases waiting, all tenants; */
#define EXECUTORS_QUEUE_SURE       8             /* beyond that, a tenant may still have so many waiting */
#define EXECUTORS_QUEUE_TENANT_MAX 1024
#define EXECUTORS_SET_KEPT         12            /* a minute, by default */
#define EXECUTOR_NAME_MAX          300
#define EXECUTOR_WHY_MAX           512
#define EXECUTOR_SLOTS_DEFAULT     4

struct executors;
struct executors_tenant;
struct executor;

enum executor_state {
	EXECUTOR_JOINING,                /* not heard of yet */
	EXECUTOR_READY,
	EXECUTOR_LOST,                   /* was ready; not reachable or not serving now */
	EXECUTOR_REFUSED,                /* reachable, but cannot do what the others can */
	EXECUTOR_DRAINING,
};

struct executor_config {
	const char *name;                /* as users read it in errors: its address; copied */
	struct address address;
	struct tls_context *tls;         /* NULL: h2c. Outlives the executor */
	const char *server_name;         /* TLS: the name in its certificate; NULL: the address's host. Copied */
	const char *tenant;              /* copied */
	uint32_t slots;                  /* builds at a time; 0: EXECUTOR_SLOTS_DEFAULT */
};

struct executors_config {
	struct ring *ring;
	uint64_t queue_timeout_ns;       /* 0: 10 min. A lease that waits longer is refused */
	uint64_t health_interval_ns;     /* 0: 5 s */
	uint64_t answer_timeout_ns;      /* 0: 10 s. An executor that does not answer for so long is lost */
	/*
	 * A lease of `tenant` waits and no executor of that tenant has room: a spawner may bring one with executors_add().
	 * Optional; called at most once a second a tenant. `spawnable` (optional): whether a tenant without any executor
	 * may hope for one: a lease that comes, and (`waiting`) one that waits already, which may hope for longer. Without it such
	 * a lease is refused at once.
	 */
	void (*on_wanted)(void *context, const char *tenant);
	bool (*spawnable)(void *context, const char *tenant, bool waiting);
	/* An executor has just lost its last lease, for spawners that stop idle ones. Optional. */
	void (*on_idle)(void *context, struct executor *executor);
	void *context;
};

/* 0 or -ENOMEM. */
int executors_create(struct executors **executors, const struct executors_config *config);
/* Asks all health connections to end; executors_idle() tells when they have. Waiting leases are refused. */
void executors_close(struct executors *executors);
bool executors_idle(const struct executors *executors);
void executors_destroy(struct executors *executors);     /* only when closed and idle; NULL is accepted */

/*
 * 0, -ENOSPC (EXECUTORS_MAX, EXECUTORS_TENANTS_MAX), -EEXIST (one of the tenant has that name and does not drain),
 * -EADDRINUSE (another tenant has an executor at that address), -ESHUTDOWN (closing), -ENOMEM. Its first health check
 * begins at once.
 */
int executors_add(struct executors *executors, struct executor **executor, const struct executor_config *config);
/* No new leases; `gone` (may be NULL) is called from the loop, once no lease is left and it was freed. Once is enough. */
void executor_drain(struct executor *executor, void (*gone)(void *context), void *context);

const char *executor_name(const struct executor *executor);
const char *executor_tenant(const struct executor *executor);
enum executor_state executor_state(const struct executor *executor);
const char *executor_why(const struct executor *executor);     /* one sentence when it is not ready, else "" */
/* Its last health check was good, whatever its state: also one that drains, or was refused, may have been lost. */
bool executor_reachable(const struct executor *executor);
uint32_t executor_leases(const struct executor *executor);
uint64_t executor_idle_since_ns(const struct executor *executor);
/* When it became JOINING or LOST; UINT64_MAX: it is neither. */
uint64_t executor_away_since_ns(const struct executor *executor);
/*
 * A connection of the caller's to it, for builds. As conn_connect(), to the address where it was last found, so that
 * nothing is resolved here: -EHOSTUNREACH when its name was never resolved. `config->server_name` may be NULL.
 */
int executor_connect(struct executor *executor, struct conn **conn, const struct conn_config *config, char *why,
                     size_t why_size);
/*
 * A build's own connection to it failed: it is LOST at once, and asked again before it gets a lease. Every lease on it is
 * told so, inline.
 */
void executor_suspect(struct executor *executor, const char *why);

/* Calls `visit` for each executor of `tenant` (NULL: all); may not add or drain meanwhile. */
void executors_visit(const struct executors *executors, const char *tenant,
                     void (*visit)(void *context, struct executor *executor), void *context);
struct executor *executors_find(const struct executors *executors, const char *tenant, const char *name);

/*
 * What every ready executor of the tenant can do, as encoded answers that a client may be given without asking one:
 * moby.buildkit.v1.ListWorkersResponse, InfoResponse, and frontend.PongResponse (capabilities both ways). Kept from the
 * last executor that was ready, so they answer while none is. Empty spans: none of this tenant was ever ready. Borrowed
 * until the next turn.
 */
struct executors_answers {
	struct span list_workers, info, pong;
};
void executors_answers(const struct executors *executors, const char *tenant, struct executors_answers *answers);

/* ---- leases ---- */

/*
 * Embedded in its owner, who fills in the first part. All callbacks may come inline from lease_request(), and those of
 * other leases from lease_release() and lease_shrink(). A callback may call any lease_*().
 */
struct lease {
	const char *tenant;              /* outlives the lease */
	uint64_t affinity;               /* hash of (tenant, directory); 0: none */
	const struct executor *avoid;    /* not this one, if there is another (replay); may be NULL, and becomes so when it goes */
	/* Not this one, if another has room now; asked whenever it may be placed. May be NULL. */
	bool (*suits)(const struct lease *lease, const struct executor *executor);
	void (*on_granted)(struct lease *lease);                 /* `executor` is set */
	/* Among the tenant's own; the next one is 1. Told again when the position changes. */
	void (*on_queued)(struct lease *lease, uint32_t position, uint32_t waiting);
	/* No executor: the queue is full, the wait too long, the tenant has none, or the pool is closing. It is over. */
	void (*on_refused)(struct lease *lease, const char *why);
	/* Granted, and the executor has become LOST. The lease goes on until lease_release(). */
	void (*on_lost)(struct lease *lease, const char *why);
	/* The pool's: */
	struct executor *executor;
	struct executors_tenant *home;   /* NULL: neither waiting nor granted */
	uint32_t slots;
	uint32_t position;               /* as told last; 0: not told */
	uint64_t deadline_ns;
	uint64_t losses;                 /* of the executor's, those that this lease knows of */
	struct list link;
	bool waiting, granted;
};

void lease_request(struct executors *executors, struct lease *lease);
/* One more build, or one fewer, on a granted lease. Never waits. The last slot leaves with lease_release(). */
void lease_grow(struct lease *lease);
void lease_shrink(struct lease *lease);
/*
 * Its executor does not suit it, and one that does, and is not to be avoided, has room now: released and requested again as
 * it was, it comes there.
 */
bool lease_is_misplaced(const struct lease *lease);
/* Waiting or granted, or neither: no event comes any more. */
void lease_release(struct lease *lease);

struct executors_status {
	uint64_t executors, executors_ready, slots, slots_busy, waiting, leases_total, leases_refused, executors_lost;
};
void executors_status(const struct executors *executors, struct executors_status *status);
/* Executors that have `before` make new connections with `after`. */
void executors_set_tls(struct executors *executors, const struct tls_context *before, struct tls_context *after);
/* How long a lease may wait. */
uint64_t executors_queue_timeout_ns(const struct executors *executors);
