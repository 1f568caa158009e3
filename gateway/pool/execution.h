/*
 * execution: an action on its way from its digest to its result, and who waits for it. Callers with an equal action (same
 * scope, action and environment) share one, unless the action says that its result is not to be kept. It has a name, by
 * which others of its scope find it, also for some time after its end. Of the pool's own; execute.h is the outside.
 *
 *	ACTION -> COMMAND -> RESOLVE -> NOTE -> CACHED_RESULT -> CACHED_WHOLE -> ENDED
 *	                        |          (any miss)
 *	                        |          -> INPUTS -> LONG_INPUTS -> POOL -> STORING -> NOTING [-> REPLACING] or SYNCING -> ENDED
 *	                        +-> (its callers join one that is under way already)
 *
 * A state names the operation in flight; its completion calls the next step, any of which may also end it with
 * execution_fail(). When its last caller has gone it is cancelled: at once when he said so, after some time when only
 * his connection broke or his call's time was over.
 */
#pragma once

#include "gateway/cas/closure.h"
#include "gateway/cas/result_check.h"
#include "gateway/pool/execute.h"
#include "gateway/pool/operation.h"
#include "gateway/pool/task.h"

enum execution_state {
	EXECUTION_ACTION,
	EXECUTION_COMMAND,
	EXECUTION_RESOLVE,
	EXECUTION_NOTE,
	EXECUTION_CACHED_RESULT,
	EXECUTION_CACHED_WHOLE,          /* is all that it names still there? */
	EXECUTION_INPUTS,                /* are they all there? */
	EXECUTION_LONG_INPUTS,           /* and those that are longer than a record? */
	EXECUTION_POOL,                  /* queued or running */
	EXECUTION_STORING,
	EXECUTION_NOTING,                /* durable with all before it */
	EXECUTION_REPLACING,             /* what a client brought for the same action */
	EXECUTION_SYNCING,               /* what is not to be kept as a result */
	EXECUTION_ENDED,
};

/* A caller, as an execution sees it. */
struct waiter {
	bool stream_output;
	/* Both the owner's. False: it cannot take it now; execution_resume() when it can. */
	bool (*send)(struct waiter *waiter, struct span operation);
	void (*over)(struct waiter *waiter);     /* last: it has had the Operation that ends it, and belongs to none now */
	struct execution *execution;     /* the rest is the execution's; NULL: of none */
	uint64_t told[2];                /* bytes of each stream that it was given, or that were gone when it came */
	struct list link;
};

struct execution {
	struct execute_service *service;
	enum execution_state state;
	char name[EXECUTE_NAME_BYTES];
	bool skip_cache;                 /* one of its callers wants no known result */
	bool cancelled;                  /* ends with the operation in flight */
	struct scope scope;
	char tenant[256];
	uint64_t directory;              /* hash of tenant and directory */
	struct list waiters;
	struct list readers;             /* of its output (output_stream.h) */
	struct list link;                /* in the service's running or ended */
	struct op linger;                /* armed while there is no waiter who said that he leaves */
	uint64_t began_ns, ended_ns;
	struct store_hold *hold;         /* of the input tree, and of what the result names */
	struct digest action;
	uint8_t key[SHA256_BYTES];
	bool shared;                     /* others may join: it has its key */
	struct buffer action_bytes, command_bytes;
	struct task task;                /* borrows from these two */
	struct buffer output[2];         /* what is kept: the first so many bytes */
	uint64_t output_bytes[2];        /* what there was */
	uint64_t output_ns;              /* when the first came: it ran by then. 0: none yet */
	struct op late;                  /* armed while some waiter does not take it: he has the action's time, and no more */
	bool output_gone;                /* after the end: it was given back */
	size_t remembered;               /* ended: what it counts for in the service's ended_bytes */
	bool output_offered;             /* the chunk at hand was counted; some waiter could not take it */
	struct buffer outputs;           /* fields of the ActionResult that the executor made */
	struct buffer result;            /* ActionResult */
	struct digest result_digest;
	struct buffer progress;          /* the Operation at hand */
	struct buffer operation;         /* the last one */
	struct buffer assignment;
	uint32_t status;                 /* of an action that has a result and failed all the same */
	bool as_resolved;                /* it met the environment that its key is made of */
	char text[512];
	uint64_t queued_wall_ns, started_wall_ns;
	uint64_t slot_ms;                /* the command and its container, as the executor says */

	struct store_read read;
	struct pool_resolve resolve;
	struct store_note note;
	struct result_check check;
	struct closure closure;
	struct presence presence;
	struct digest *inputs;           /* that the closure did not find */
	bool *inputs_present;
	struct pool_job job;
	struct store_item items[3];
	struct store_put put;
	struct store_sync sync;
};

struct execution_wish {
	struct scope scope;
	const struct tenant_identity *identity;
	struct span instance;            /* its name: part of the execution's */
	uint64_t directory;
	struct digest action;
	bool skip_cache;
};

/* Begins, with its first waiter. False: no memory. What follows may come inline, `over` too. */
bool execution_begin(struct execute_service *service, const struct execution_wish *wish, struct waiter *waiter);
/* The one of that name in this scope, under way or ended; NULL: not known (any more). */
struct execution *execution_find(struct execute_service *service, const struct scope *scope, struct span name);
/* Where it stands, or its end, as an Operation: until it goes on. Empty: no memory. */
struct span execution_operation(struct execution *execution);
/* One more waits. He is told where it stands, and what there is of its output; `over` may come inline. */
void execution_join(struct execution *execution, struct waiter *waiter);
/* He has gone. `lost`: his connection broke, or his call had a time, so he may come again. */
void execution_leave(struct waiter *waiter, bool lost);
/* He can take more. */
void execution_resume(struct waiter *waiter);
void execution_cancel(struct execution *execution);
/* Frees one that has ended, has no waiter and no timer. */
void execution_free(struct execution *execution);

/* ---- for the files that it is made of ---- */

/* It came as far as the pool, or may have: what it writes has a name. */
static inline bool execution_has_run(const struct execution *execution)
{
	return execution->queued_wall_ns != 0;
}
/* A reader has gone, or a waiter: what nobody needs of an ended one is given back. */
void execution_settle(struct execution *execution);
/* Its readers: there is more, or no more comes. */
void execution_wake_readers(struct execution *execution);

/* Its first step, and where each of the others goes on: a known result, a run, the answer. */
void execution_look_at_action(struct execution *execution);
void execution_look_up(struct execution *execution);
void execution_run(struct execution *execution);
void execution_answer(struct execution *execution, bool cached);

/* An operation has landed. True when nobody wants to know: it has ended. */
bool execution_gone(struct execution *execution);

/* Each ends it. `digests`: a digest list of blobs that are to be uploaded first. */
void execution_fail(struct execution *execution, enum grpc_status status, const char *text);
void execution_fail_memory(struct execution *execution);
void execution_fail_store(struct execution *execution, int result);
void execution_fail_missing(struct execution *execution, const char *text, struct span digests);
void execution_fail_missing_one(struct execution *execution, const char *text, const struct digest *digest);

/* False: out of memory. `digest` is at most EXECUTE_COMMAND_BYTES_MAX long. */
bool execution_read(struct execution *execution, const struct digest *digest, void (*fn)(struct store_read *read));

/* All waiters: where it stands; those who stream also `output`, which may be NULL. */
void execution_tell(struct execution *execution, const struct execute_output *output);
/* Output that just came. False: he cannot take it now. */
bool waiter_take_output(struct waiter *waiter, uint32_t stream, struct span data);
