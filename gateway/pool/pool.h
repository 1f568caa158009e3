/*
 * pool: the slots of the executor host, and the fair queue of actions in front of them. On the reactor's thread.
 *
 * A slot is one process of the host with one Attach call; it runs one job at a time. The host's control stream
 * resolves environments (what an action would meet: image or host packages, runtime, mounts), which key the cache.
 */
#pragma once

#include "gateway/cas/cas.h"
#include "proto/sluice_v1.h"

#define POOL_SLOTS_MAX        64
#define POOL_QUEUE_MAX        1024       /* jobs waiting, all tenants */
#define POOL_QUEUE_TENANT_MAX 256
#define POOL_TENANTS_MAX      1024       /* with a job waiting at the same time */
#define POOL_ASSIGNMENT_BYTES_MAX (3u << 20)

struct pool;

/* What the host says of the buildkitd processes that it starts. From the loop, on the control stream's behalf. */
struct pool_spawn_events {
	void (*on_host)(void *context, bool works, struct span why);     /* it is there; `works` false: it starts none */
	void (*on_host_lost)(void *context);
	void (*on_event)(void *context, const struct executor_spawn_event *event);
};

struct pool_config {
	struct cas *cas;
	uint32_t executor_uid;           /* only a unix peer of this uid may attach */
	bool enabled;                    /* false: no executor host was started */
	const char *disabled_why;        /* then: why, for FAILED_PRECONDITION */
	const struct pool_spawn_events *spawn_events;    /* NULL: nobody asks for any */
	void *spawn_context;
};

int pool_create(struct pool **pool, const struct pool_config *config);
void pool_destroy(struct pool *pool);            /* with no job left */

/* struct server_method.start of sluice.v1.Executor/Attach; `context` is the pool. */
int pool_attach_start(void *context, const struct server_request *request, char *why, size_t why_size);
/* For struct access. */
int pool_executor_scope(void *pool, const struct conn *conn, struct scope *scope);

/*
 * Users are those who resolve or submit, or are about to. The pool counts them so that a drain waits for them: while
 * the gateway is going, the executor host is told to go when the last one has left.
 */
void pool_enter(struct pool *pool);
void pool_leave(struct pool *pool);
void pool_drain(struct pool *pool);

/*
 * GRPC_OK, or with `why`: FAILED_PRECONDITION, no action will run here (no host, no runtime); UNAVAILABLE, none runs now
 * (the host is down, or the gateway is going).
 */
enum grpc_status pool_ready(const struct pool *pool, char *why, size_t why_size);

/* ---- buildkitd processes of the host: see proto/sluice.v1.proto ---- */

/* 0, or -ENOTCONN: there is no host, or it does not read. Events follow. */
int pool_spawn_start(struct pool *pool, uint64_t id, const char *tenant, uint32_t number);
int pool_spawn_stop(struct pool *pool, uint64_t id);

/* ---- environments ---- */

struct pool_resolve {
	struct span image;               /* borrowed until fn */
	void (*fn)(struct pool_resolve *resolve);
	uint8_t environment[32];         /* out */
	enum grpc_status status;         /* out: GRPC_OK, or why it cannot be had: */
	char fault[256];
	uint64_t id;                     /* the rest is the pool's */
	struct list link;
};
/* `fn` comes inline when it is clear at once that the answer is no. */
void pool_resolve(struct pool *pool, struct pool_resolve *resolve);
void pool_resolve_cancel(struct pool *pool, struct pool_resolve *resolve);       /* fn will not be called */

/* ---- jobs ---- */

struct pool_job {
	struct scope scope;
	struct span tenant;              /* its name */
	uint64_t affinity;               /* hash of (tenant, directory); 0: none */
	struct span assignment;          /* encoded Assignment; `id` is the first field and the pool's: pool_job_id() */
	uint64_t id;
	/* The owner's. None of the first three may call the pool. */
	void (*on_started)(struct pool_job *job);
	/* Told again as the job moves up, among those of all tenants; not every step of a long way. */
	void (*on_queued)(struct pool_job *job, uint32_t position);
	/* False: the owner cannot take it now; the slot is held until pool_job_resume(). */
	bool (*on_output)(struct pool_job *job, uint32_t stream, struct span data);
	/* Last event. `finished` NULL: the slot or the host was lost (`why`). Borrowed until return. */
	void (*on_finished)(struct pool_job *job, const struct executor_finished *finished, const char *why);
	struct slot *slot;               /* the rest is the pool's */
	uint32_t position;               /* last told */
	bool cancelled;
	struct list link;
};

uint64_t pool_job_id(struct pool *pool);
/*
 * 0; -ENOSPC: the queue is full (RESOURCE_EXHAUSTED); -EMSGSIZE: the assignment is too long; -ENOTCONN: not ready.
 * on_started and on_queued may come inline.
 */
int pool_submit(struct pool *pool, struct pool_job *job);
/*
 * False: the job was waiting; it is gone, and no event comes. True: it is running and the slot is told; on_finished
 * follows, or has come from inside this call already.
 */
bool pool_cancel(struct pool *pool, struct pool_job *job);
/* Offers again what on_output() refused; this may bring further events, on_finished too. Else nothing. */
void pool_job_resume(struct pool *pool, struct pool_job *job);

struct pool_status {
	uint32_t slots, slots_busy, queued;
	uint64_t jobs_total, jobs_lost;
	char runtime[128];
};
void pool_status(const struct pool *pool, struct pool_status *status);
/* The same, but what is busy and queued is a tenant's own, and totals are 0. */
void pool_tenant_status(const struct pool *pool, uint32_t tenant, struct pool_status *status);
