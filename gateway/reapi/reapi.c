/* The methods of this folder by their paths, and what they share. */
#include "gateway/reapi/reapi.h"

#include <stdio.h>

#include "gateway/base/check.h"
#include "gateway/reapi/asking.h"
#include "gateway/reapi/batch_update.h"
#include "gateway/reapi/methods.h"
#include "gateway/reapi/sending.h"
#include "gateway/reapi/web.h"
#include "gateway/reapi/write.h"
#include "proto/reapi_cas.h"

#define SWEEP_NS 5000000000u

static const struct {
	const char *path;
	reapi_method_fn *start;
} methods[] = {
	{ REAPI_CAPABILITIES, reapi_get_capabilities },
	{ REAPI_FIND_MISSING, reapi_find_missing },
	{ REAPI_BATCH_UPDATE, reapi_batch_update },
	{ REAPI_BATCH_READ, reapi_batch_read },
	{ REAPI_GET_TREE, reapi_get_tree },
	{ REAPI_SPLIT, reapi_split },
	{ REAPI_SPLICE, reapi_splice },
	{ REAPI_GET_RESULT, reapi_get_result },
	{ REAPI_UPDATE_RESULT, reapi_update_result },
	{ BYTESTREAM_READ, bytestream_read },
	{ BYTESTREAM_WRITE, bytestream_write },
	{ BYTESTREAM_QUERY, bytestream_query },
	{ GRPC_HEALTH, reapi_health },
	{ GRPC_REFLECTION, reapi_reflection },
	{ GRPC_REFLECTION_ALPHA, reapi_reflection },
};

int reapi_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	struct reapi *reapi = context;

	if (reapi->open >= REAPI_CALLS_MAX) {
		reapi->crowded_ns = ring_now_ns(reapi->cas->ring);
		snprintf(why, why_size, "the gateway has too many calls in progress; try again");
		return GRPC_RESOURCE_EXHAUSTED;
	}
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (span_is(request->head->path, methods[i].path))
			return methods[i].start(reapi, request, why, why_size);
	snprintf(why, why_size, "unknown method");
	return GRPC_UNIMPLEMENTED;
}

void reapi_init(struct reapi *reapi)
{
	budget_init(&reapi->uploads, REAPI_UPLOAD_BYTES);
	budget_init(&reapi->downloads, REAPI_DOWNLOAD_BYTES);
	budget_init(&reapi->expanders, REAPI_EXPANDERS_BYTES);
	verifier_init(&reapi->verifier, reapi->cas->ring, reapi->cas->hasher);
	gate_init(&reapi->keys, REAPI_KEYS_MAX);
	reapi->key_wait_ns = REAPI_KEY_WAIT_NS;
	list_init(&reapi->writes);
	list_init(&reapi->batches);
	quota_init(&reapi->callers, REAPI_TENANT_CALLS_MAX);
	list_init(&reapi->askings);
	list_init(&reapi->sendings);
	list_init(&reapi->web);
	list_init(&reapi->orphans);
}

static void sweep_on_timer(struct op *op, int32_t res)
{
	struct reapi *reapi = container_of(op, struct reapi, sweep);
	uint64_t now = ring_now_ns(reapi->cas->ring);

	writes_sweep(reapi, now);
	batches_sweep(reapi, now);
	askings_sweep(reapi, now);
	sendings_sweep(reapi, now);
	web_sweep(reapi, now);
	reapi_watch(reapi);
}

void reapi_watch(struct reapi *reapi)
{
	if (op_in_flight(&reapi->sweep) || reapi->closing ||
	    (list_empty(&reapi->writes) && list_empty(&reapi->batches) && list_empty(&reapi->askings) &&
	     list_empty(&reapi->sendings) && list_empty(&reapi->web) && list_empty(&reapi->orphans)))
		return;
	reapi->sweep.fn = sweep_on_timer;
	ring_timer(reapi->cas->ring, &reapi->sweep, SWEEP_NS);
}

void reapi_close(struct reapi *reapi)
{
	reapi->closing = true;
	writes_close(reapi);
	ring_cancel(reapi->cas->ring, &reapi->sweep);
}

bool reapi_idle(const struct reapi *reapi)
{
	return !reapi->open && !op_in_flight(&reapi->sweep);
}
