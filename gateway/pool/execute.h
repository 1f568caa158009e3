/*
 * execute: REAPI Execution/Execute: an action from its digest to its result, from the cache or from a slot.
 *
 * The cache key is SHA-256 over the action's digest and the environment that it would meet (pool_resolve); only exit 0
 * is cached. A result whose outputs are no longer there is no hit. Two callers with the same action at the same time
 * both run it: the later result replaces the earlier. With the request field `sluice-output: stream` the caller gets output as it comes, in the operations'
 * metadata (ExecuteOutput); `sluice-directory` names the directory that the tree came from, for affinity.
 * The caller going away cancels the action. The input tree is held from eviction until the answer.
 */
#pragma once

#include "gateway/pool/pool.h"

#define EXECUTE_OUTPUT_BYTES_MAX (4u << 20)      /* of each stream that is kept for the result; more: not cached */
#define EXECUTE_COMMAND_BYTES_MAX (1u << 20)     /* an Action or a Command */
#define EXECUTE_OPEN_MAX          2048           /* calls at a time, waiting for a slot or not */

struct execute_counters {
	uint64_t executions, cache_hits, cache_misses, failures, cancelled;
};

struct execute_service {
	struct cas *cas;
	struct pool *pool;
	bool allow_host_root;            /* actions without an image may run on the host's /usr */
	bool allow_network;              /* actions may ask for the network */
	struct execute_counters counters;
	unsigned open;
};

/* struct server_method.start; `context` is the service. */
int execute_start(void *context, const struct server_request *request, char *why, size_t why_size);
