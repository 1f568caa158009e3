/* executors_private: what executors.c, executor.c, executor_health.c and lease.c share. */
#pragma once

#include "gateway/buildkitd/affinity.h"
#include "gateway/buildkitd/executor_ask.h"
#include "gateway/buildkitd/executor_capabilities.h"
#include "gateway/buildkitd/executors.h"

#define QUEUE_TIMEOUT_NS       600000000000ull
#define HEALTH_INTERVAL_NS     5000000000ull
#define WANTED_INTERVAL_NS     1000000000ull     /* between two on_wanted for one tenant */
#define ANSWER_TIMEOUT_NS      10000000000ull
#define EXECUTOR_RETRY_SHARE   16                /* of the health interval: the first wait before connecting again */

/* What one tenant has and waits for. Stays, with its answers, until its place is needed (EXECUTORS_TENANTS_MAX). */
struct executors_tenant {
	struct executors *executors;
	char *name;
	struct list link;                /* executors.tenants */
	uint32_t executors_count;        /* those that drain, too */
	uint32_t granted_count;
	/* the queue: first in, first out. Its tenants take turns when a spawner is asked */
	struct list waiting;
	uint32_t waiting_count;
	struct list turn;                /* in executors.turns while anything waits */
	bool serving, again;
	uint64_t wanted_at_ns;           /* not asked for before this */
	/* what all that are ready can do */
	bool common_known;
	struct capabilities common;
	struct buffer list_workers, info, pong;
};

/*
 *	AWAY -> (RESOLVING ->) CHECKING -> ASKING -> RESTING -> CHECKING -> RESTING ...
 *	CHECKING, ASKING, RESTING -> CLOSING -> AWAY             any -> ENDED, when asked for
 */
enum health_state {
	HEALTH_AWAY,                     /* no connection; the timer says when to try */
	HEALTH_RESOLVING,                /* the name is looked up on a worker */
	HEALTH_CHECKING,                 /* the health call is open, perhaps on a connection that is still being made */
	HEALTH_ASKING,                   /* what it can do is asked, once a connection */
	HEALTH_RESTING,                  /* until the next check */
	HEALTH_CLOSING,                  /* the connection is going */
	HEALTH_ENDED,
};

struct executor_health {
	enum health_state state;
	bool ending;                     /* ENDED is to come */
	struct conn *conn;
	struct call check;
	bool check_open;
	bool serving;                    /* the open check has said so */
	struct ask ask;
	bool asked;                      /* on this connection */
	struct op timer, resolve;
	uint64_t wake_ns;                /* what the timer is for */
	uint64_t retry_ns;               /* the next wait of AWAY */
	bool found;                      /* `place` is an address without a name to look up */
	struct address place;
	struct address_resolved resolved[ADDRESS_RESOLVED_MAX];
	int resolved_count;              /* or a negative errno */
	unsigned tries;                  /* which of them is next */
	char why[EXECUTOR_WHY_MAX];
};

struct executor {
	struct executors *executors;
	struct executors_tenant *tenant;
	struct list link;                /* executors.all */
	enum executor_state state;
	char name[EXECUTOR_NAME_MAX];
	char why[EXECUTOR_WHY_MAX];
	struct address address;
	struct tls_context *tls;
	char server_name[sizeof(((struct address *)NULL)->host)];
	uint32_t slots, slots_busy;
	struct list leases;
	uint32_t leases_count;
	uint64_t idle_since_ns;
	uint64_t losses;                 /* times that its leases had to be told */
	uint64_t away_since_ns;          /* when it became JOINING or LOST */
	bool reachable;                  /* its last check was good */
	bool understood;                 /* `capabilities` are what it answered */
	struct capabilities capabilities;
	struct executor_health health;
	void (*gone)(void *context);
	void *gone_context;
};

struct executors {
	struct ring *ring;
	struct executors_config config;
	struct list all, tenants, turns;
	uint32_t count, tenants_count, waiting_count;
	bool closing;
	struct op tick;                  /* while anything waits: time-outs, and asking the spawner */
	struct op sweep;                 /* frees executors that have ended */
	struct affinities affinities;
	uint64_t leases_total, leases_refused, lost;
};

/* ---- executors.c ---- */

struct executors_tenant *executors_tenant_find(const struct executors *executors, const char *name);
/* Found or made; NULL: EXECUTORS_TENANTS_MAX have executors or leases, or no memory. */
struct executors_tenant *executors_tenant_get(struct executors *executors, const char *name);
void executors_sweep_later(struct executors *executors);

/* ---- executor.c ---- */

/* Its health check was good, and `health.ask` has answers when `asked` says that they are new. */
void executor_answered(struct executor *executor, bool asked);
void executor_lost(struct executor *executor, const char *why);
/* A lease has gone. */
void executor_left(struct executor *executor);
void executor_free(struct executor *executor);

/* ---- executor_health.c ---- */

void health_start(struct executor *executor);
/* Connects anew, now. */
void health_restart(struct executor *executor, const char *why);
void health_end(struct executor *executor);
bool health_ended(const struct executor *executor);

/* ---- lease.c ---- */

/* Grants what can be granted to the tenant's waiting leases, tells the others where they stand. */
void tenant_serve(struct executors_tenant *tenant);
/* It goes: nobody avoids it any more, nor the next one that has its memory. */
void leases_forget(const struct executor *executor);
/* Refuses those that wait, when nothing will come for them. */
void tenant_refuse_hopeless(struct executors_tenant *tenant);
void executors_refuse_all(struct executors *executors, const char *why);
void executors_on_tick(struct op *op, int32_t res);
