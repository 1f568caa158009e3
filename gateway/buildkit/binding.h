/*
 * binding: a client connection's route to an executor, and the calls that take it.
 *
 *	UNBOUND -> WAITING -> CONNECTING -> BOUND -> UNBOUND         any -> CLOSED -> (freed)
 *
 * A connection is bound while it builds. What asks for an executor is a Solve that is not the empty capability probe, or
 * an LLBBridge call that does more than ping or return nothing. From then until the executor's connection stands, Session,
 * Solve, Status and LLBBridge calls are held together: sent alone, some of them fail after seconds for the lack of the
 * others. They are opened in order: Sessions, Solves, then the rest. When its last Solve and all that belonged to it has
 * ended, the binding gives the lease back; while a session is still there, which further builds may name, two seconds
 * later. It keeps one on an executor that is not ready as long, too: that may be gone without it, and buildx asks for the
 * record of its build when the session has ended. The connection to the executor ends with the streams that are left on
 * it. A client that is only connected holds nothing.
 *
 * When the connection is lost under builds that can all go on elsewhere (replay.h), their calls are held again and another
 * executor is asked for; else they end.
 *
 * Calls that belong to no build travel on *errands*: other connections of the same client, to whichever executor they
 * name, which close themselves when idle.
 *
 * Loop context: all on the ring's thread. Handlers note what happened; binding_step() decides.
 * Source: DESIGN.md "How a stock buildx build flows", research/buildkit-tricks.md D.
 */
#pragma once

#include "gateway/buildkit/build.h"
#include "gateway/buildkit/buildkit.h"
#include "gateway/buildkit/doubt.h"
#include "gateway/session/forward.h"
#include "gateway/session/siblings.h"
#include "gateway/buildkit/replay.h"
#include "gateway/buildkit/vertex.h"
#include "proto/buildkit.h"

#define BINDING_SLOTS_MAX         16             /* that one connection takes; its further builds are not counted */
#define BINDING_TRIES_MAX         3              /* executors that are tried before the builds are told */
#define BINDING_TWIN_PAUSE_NS  50000000ull       /* between looks whether a Ref has become free at the executor */
#define BINDING_TWIN_WAIT_NS   250000000ull      /* for the Solve of a Status whose Ref builds elsewhere, too */
#define BINDING_LINGER_NS         2000000000ull  /* from the last build's end, while something of it is still there */
#define BINDING_SESSION_WAIT_NS   250000000ull   /* for the session that a Solve names: its directory decides where */
#define BINDING_STRAY_WAIT_NS     6000000000ull  /* for the Solve that a Status or Return belongs to; as buildkitd */
#define BINDING_ANSWER_WAIT_NS    15000000000ull /* for a first executor that can say what it can do; `ls` gives 20 s;
                                                    together no longer than a lease may wait */
#define BINDING_KEPT_BYTES_MAX    (64u << 20)    /* of requests that wait, beyond the client's windows */
#define BINDING_PROBES_KEPT       4              /* refs of probes that were answered: late Status calls of theirs */
#define BINDING_OVER_KEPT         32             /* refs of Solves that have gone: late LLBBridge calls of theirs */

enum binding_state {
	BINDING_UNBOUND,
	BINDING_WAITING,                 /* a lease was requested */
	BINDING_CONNECTING,              /* granted; the connection to the executor is being made */
	BINDING_BOUND,
	BINDING_CLOSED,                  /* the client has gone; waits until nothing of it is left */
};

enum call_kind {
	CALL_SESSION, CALL_SOLVE, CALL_STATUS, CALL_BRIDGE,              /* a build's; held until there is an executor */
	CALL_RETURN,                     /* LLBBridge/Return: a build's too, unless it returns nothing */
	CALL_PING, CALL_LIST_WORKERS, CALL_INFO,                         /* answered here */
	CALL_TRACE,                      /* answered while unbound */
	CALL_DISK_USAGE, CALL_PRUNE, CALL_HISTORY, CALL_UPDATE_HISTORY,  /* of all executors, unless a Ref says which */
	CALL_CONTENT,                    /* of whoever has it, first of the executor whose Ref was named last */
	CALL_STORE,                      /* of that one: what else the content's service has */
	CALL_OTHER,
};

/* One connection to an executor. Its owner outlives it. */
struct uplink {
	struct list link;                /* the binding's */
	struct binding *binding;
	struct conn *conn;
	char executor[EXECUTOR_NAME_MAX];
	uint32_t process;                /* the executor's, once it is ready; 0: not known (executor_process.h) */
	bool ready;
	bool errand;                     /* may take calls that need no lease */
	bool leaving;                    /* the other side takes no new calls */
};

/* One call of the client's. */
struct buildkit_call {
	struct forward forward;
	struct list link;                /* the binding's, in the order in which they came */
	struct binding *binding;
	enum call_kind kind;
	bool known;                      /* its first message has come, where that decides */
	bool empty;                      /* Return: of nothing */
	bool probe;                      /* Solve: internal, and nothing to build so far */
	uint64_t since_ns, deadline_ns;  /* deadline 0: none */
	char ref[BUILD_ID_MAX];          /* Solve, Status, LLBBridge; "" when none is named */
	char session[BUILD_ID_MAX];      /* Session: its own; Solve: the one that it names */
	uint64_t affinity;               /* Session */
	char shared_key[BUILD_DIRECTORY_MAX];
	struct build *build;             /* Solve that is no probe; Status: of a Solve that has gone before it */
	struct vertex waiting;  /* Status: our vertex */
	uint32_t told;                   /* the position that it showed last */
	struct lease lease;              /* for an answer before any executor was ready */
	bool has_ref;                    /* Solve: its Ref is taken at its build's executor (refs.h) */
	bool leasing;
	struct fanout *fanout;           /* a question to several executors that is under way */
	struct session *carried;         /* Session: what it is; `forward` is not used then */
	unsigned losses;                 /* Session: the binding's when it was carried */
	struct replay *replay;           /* Solve that is no probe; NULL: it will not be done again */
	bool repeats;                    /* LLBBridge: `answer` is kept as it goes by */
	struct buffer answer;
};

struct binding {
	struct list link;                /* buildkit's, while the client is there */
	struct buildkit *buildkit;
	const struct conn *client;       /* NULL: gone */
	enum binding_state state;
	char tenant[256], subject[256];
	struct scope scope;
	struct lease lease;
	uint32_t position, waiting;      /* in the queue; 0: not told yet */
	uint32_t slots;                  /* of the lease */
	unsigned tries;
	struct uplink *uplink;           /* the leased one */
	struct list uplinks, calls;
	struct siblings sessions;
	const char *losing;              /* the name in the uplink that is going under its calls; NULL: none */
	bool replaying;                  /* they are held, not ended */
	unsigned losses;                 /* of which builds were replayed */
	struct doubt doubt;              /* of the leased executor; given up: the leased connection is being closed */
	uint64_t twin_deadline_ns;       /* a Solve waits for another one of its Ref to leave the executor: looked at again then */
	uint64_t idle_deadline_ns;       /* 0: it builds, or is not bound */
	uint64_t asked_ns;               /* since when its calls wait for a first executor, one after the other; 0: none does */
	struct op timer;
	uint64_t timer_at_ns;
	bool stepping, again;
	struct forward_account account;
	char executor[EXECUTOR_NAME_MAX];        /* where it last built */
	char probes[BINDING_PROBES_KEPT][BUILD_ID_MAX];
	unsigned probes_next;
	char over[BINDING_OVER_KEPT][BUILD_ID_MAX];
	unsigned over_next;
};

#define for_each_call(call, binding)                                                                                   \
	list_for_each_safe(link_, after_, &(binding)->calls)                                                           \
		for (struct buildkit_call *call = container_of(link_, struct buildkit_call, link); call; call = NULL)

/* ---- binding.c ---- */

/* NULL: no memory. */
struct binding *binding_create(struct buildkit *buildkit, const struct conn *client, const struct scope *scope,
                               const struct tenant_identity *identity);
/* The client's connection has gone, after its streams. */
void binding_close(struct binding *binding);
/* Decides what comes next; from anywhere. */
void binding_step(struct binding *binding);
/* A call of the client's, or a connection to an executor, has gone. May free a closed one. */
void binding_join(struct binding *binding);
/* The Solve of that Ref on this connection; NULL: there is none. */
struct buildkit_call *binding_solve(const struct binding *binding, const char *ref);
/* There was one, and it has gone. */
bool binding_solve_is_over(const struct binding *binding, const char *ref);
/* The Solve has gone: what is held of its build, and is its own, has no answer any more, nor what comes later. */
void binding_end_solve(struct binding *binding, const char *ref);

/* ---- opening.c: BOUND ---- */

/* A daemon that was asked has, or just had, another build of its Ref: it would refuse this one. */
bool opening_has_twin(const struct buildkit_call *solve, const char *executor);
/* A held call waits for a connection and for nothing else. */
bool opening_is_due(struct binding *binding);
/* Opens what may be, as far as the connection takes it, and goes on with what is replayed there. */
void opening_run(struct binding *binding);

/* ---- uplink.c ---- */

/* To an executor; in binding->uplinks at once. 0 or conn_connect()'s errors, with `why`. */
int uplink_open(struct uplink **uplink, struct binding *binding, struct executor *executor, bool errand, char *why,
                size_t why_size);
/* No new calls; it ends with the streams that it has. */
void uplink_leave(struct uplink *uplink);
bool uplink_usable(const struct uplink *uplink);
/* The connection to that executor which calls without a lease take: the leased one, an errand, or a new one. */
int uplink_for(struct uplink **uplink, struct binding *binding, struct executor *executor, char *why, size_t why_size);
/* binding.c: what uplinks tell. */
void binding_on_uplink_ready(struct binding *binding, struct uplink *uplink);
void binding_on_uplink_gone(struct binding *binding, struct uplink *uplink, const char *reason);

/* ---- calls.c ---- */

/* Takes the request over. 0, -ENOMEM, -EINVAL. */
int call_begin(struct binding *binding, const struct server_request *request);
/* Its stream on the binding's connection was lost: it is held again. False: it ends. */
bool binding_on_call_lost(struct buildkit_call *call);
/* Held, and there is no Solve of its Ref: NOT_FOUND, as buildkitd says it. */
void call_has_no_job(struct buildkit_call *call);
/* Held, and the deadline has passed. */
void call_expire(struct buildkit_call *call);
/* Opens it on the leased connection. False: that takes no more now. */
bool call_open(struct buildkit_call *call);
/* Held, and will not be opened: the client is told. A build ends as BUILD_REFUSED. */
void call_refuse(struct buildkit_call *call, enum grpc_status status, const char *why);
/* It is over: what belongs to it is settled, and it is freed. */
void call_gone(struct buildkit_call *call);
/* Cut to what fits, with a NUL. */
void call_copy(char *to, size_t to_size, struct span text);

/* ---- call_session.c: all that knows how a Session is carried ---- */

/* Inside on_stream: takes it over, held; call_gone() follows at its end. 0 or -ENOMEM. */
int call_session_accept(struct buildkit_call *call, const struct server_request *request);
/* It is in the binding's list: what is to be known of it, and the client hears from us at once. */
void call_session_begin(struct buildkit_call *call);
bool call_session_held(const struct buildkit_call *call);
/* An executor has it. */
bool call_session_carried(const struct buildkit_call *call);
/* It meets its executor. 0 or h2_open()'s errors; then it is held still. */
int call_session_open(struct buildkit_call *call, struct uplink *uplink);

/* No executor has it, and its client waits. */
static inline bool call_held(const struct buildkit_call *call)
{
	return call->kind == CALL_SESSION ? call_session_held(call) :
	       call->forward.state == FORWARD_HELD && forward_answerable(&call->forward);
}

static inline bool call_carried(const struct buildkit_call *call)
{
	return call->kind == CALL_SESSION ? call_session_carried(call) :
	       call->forward.state == FORWARD_OPEN && forward_answerable(&call->forward);
}

/* ---- builds.c ---- */

/* A Solve that is no probe: its build begins. Without memory it is refused. */
void builds_begin(struct buildkit_call *solve, const struct buildkit_solve_request *request);
/* It was opened at its executor; that has answered; it is refused; its client left it while it waited. */
void builds_run(struct buildkit_call *solve);
/* Its daemon takes the Ref for another build after a while. Nothing, when it has none. */
void builds_leave_ref(struct buildkit_call *solve);
void builds_answered(struct buildkit_call *solve, enum grpc_status status, struct span text);
void builds_refuse(struct buildkit_call *solve, enum grpc_status status, const char *why);
void builds_solve_left(struct buildkit_call *solve);
/* The Solve has gone. A Status that its executor has not ended may still tell of the build; else it ends. */
void builds_solve_gone(struct buildkit_call *solve);
/* The last that is heard of it. */
void builds_end(struct buildkit *buildkit, struct build *build);
/* What went through a Session's DiffCopy calls is its build's: one, or all of the binding's. */
void builds_collect(struct buildkit_call *session);
void builds_collect_all(struct binding *binding);
/* Of a Status: that of its Solve, or what that one left to it. NULL: none. */
struct build *builds_of_status(const struct buildkit_call *status);
/* Status calls of builds that wait: the position, when it is another than was told. */
void call_show_position(struct buildkit_call *call, uint32_t position, uint32_t waiting);
/* Status: the wait is over; `error` NULL: an executor was found. */
void call_end_waiting(struct buildkit_call *call, const char *error);

/* ---- probe.c ---- */

/* The build of that Ref does more than the probe, though its Solve says nothing of it. */
void probe_is_build(struct binding *binding, const char *ref);
/* Answers all of it when the Solve and the Return are both there, in whichever order. */
void probe_look(struct binding *binding, const char *ref);
bool probe_was_answered(const struct binding *binding, const char *ref);
/* A frontend.ReturnRequest that returns nothing: no result, no metadata, no error. */
bool probe_return_is_empty(struct span message);

/* ---- answers.c ---- */

/* ListWorkers, Info, Ping: from what is known of the tenant's executors, or once one is ready. */
void answers_give(struct buildkit_call *call);
/* To an executor, without a lease: the one of that name, as long as it answers. NULL, or it does not: any that is ready. */
void errand_run(struct buildkit_call *call, const char *executor);
/* The one of that name; NULL: it does not answer, or is not there. */
struct executor *errand_find(const struct binding *binding, const char *name);
/* The time for a first executor is over. */
void answers_expire(struct buildkit_call *call);
/* One sentence: why each executor of the tenant is not ready. */
void answers_why(const struct buildkit *buildkit, const char *tenant, char *why, size_t why_size);
