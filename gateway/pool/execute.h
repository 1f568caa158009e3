/*
 * execute: REAPI Execution: an action from its digest to its result, from the cache or from a slot; waiting for one
 * again, looking at it, and cancelling it.
 *
 * The cache key is SHA-256 over the action's digest and the environment that it would meet (action_key.h); only exit 0
 * is cached, and only of a run that did meet that one. A result whose outputs are no longer there is no hit. Callers with the
 * same action at the same time share one execution, unless it is `do_not_cache`, or one wants no cached result and the other may
 * still get one. With the request field `sluice-output: stream` the caller gets output as it comes, in the operations' metadata
 * (ExecuteOutput); `sluice-directory` names the directory that the tree came from, for affinity. What goes wrong with an action that was
 * asked for is in the ExecuteResponse's status.
 *
 * When its last caller cancels his call the action is cancelled; when only his connection breaks it goes on for
 * linger_ns, so that WaitExecution finds it. So it does when he had sent a grpc-timeout: there is no telling whether he cancelled
 * or his time was over, and who gives a call a time comes again. An ended one is found for EXECUTE_ENDED_NS. The input tree is held from
 * eviction until the answer.
 *
 * Calls that look at an operation are counted apart, so that they take no room from those that wait. A call whose request does not
 * come ends, as does an answer of theirs that is not taken.
 */
#pragma once

#include "gateway/pool/pool.h"
#include "gateway/tenant/quota.h"

#define EXECUTE_OUTPUT_BYTES_MAX (4u << 20)      /* of each stream that is kept for the result; more: not cached */
#define EXECUTE_COMMAND_BYTES_MAX (1u << 20)     /* an Action or a Command, or a result */
#define EXECUTE_OPEN_MAX          2048           /* calls at a time, waiting for a slot or not; and actions */
#define EXECUTE_TENANT_CALLS_MAX  (EXECUTE_OPEN_MAX / 2) /* of one tenant, that wait for an action */
#define EXECUTE_LOOKS_MAX         256            /* calls at a time that look at an operation, or cancel it: an answer has up to 3 MiB */
#define EXECUTE_TENANT_LOOKS_MAX  (EXECUTE_LOOKS_MAX / 2)
#define EXECUTE_ASK_NS            60000000000u   /* in which nothing comes of the request of any of these calls; what a link adds is not in it */
#define EXECUTE_TAKE_NS           120000000000u  /* in which nothing of an answer about an operation is taken */
#define EXECUTE_LINGER_NS         30000000000u   /* that an action goes on after its last caller's connection broke */
#define EXECUTE_ENDED_NS          300000000000u  /* that the end of an action is remembered for WaitExecution */
#define EXECUTE_ENDED_MAX         256            /* so many, the latest */
#define EXECUTE_ENDED_BYTES_MAX   (16u << 20)    /* of them together */
#define EXECUTE_KEPT_OUTPUT_BYTES (32u << 10)    /* of an action's output, for those who read it when it has ended already */
#define EXECUTE_NAME_BYTES        320            /* "INSTANCE/operations/" and 32 hex digits */

struct execute_counters {
	uint64_t executions, cache_hits, cache_misses, failures, cancelled, joined, waited;
};

struct execute_service {
	struct cas *cas;
	struct pool *pool;
	bool allow_host_root;            /* actions without an image may run on the host's /usr */
	bool allow_network;              /* actions may ask for the network */
	uint64_t linger_ns;
	struct execute_counters counters;
	unsigned open;                   /* actions under way */
	unsigned calls, looks, timers;
	bool draining;
	struct quota callers;            /* of Execute and WaitExecution: those that wait are held for hours */
	struct quota lookers;            /* of the others */
	struct list running, ended;      /* of struct execution; ended: oldest first */
	unsigned ended_count;
	unsigned readers;                /* of output (output_stream.h) */
	size_t ended_bytes;
};

/* After the first five fields were filled in. */
void execute_init(struct execute_service *service);
/* It is idle: what is remembered is forgotten. */
void execute_fini(struct execute_service *service);
bool execute_idle(const struct execute_service *service);
/* Nobody will come again: what goes on without a caller is cancelled. */
void execute_drain(struct execute_service *service);

/* struct server_method.start; `context` is the service. */
int execute_start(void *context, const struct server_request *request, char *why, size_t why_size);
int execute_wait_start(void *context, const struct server_request *request, char *why, size_t why_size);
int execute_get_start(void *context, const struct server_request *request, char *why, size_t why_size);
int execute_cancel_start(void *context, const struct server_request *request, char *why, size_t why_size);
