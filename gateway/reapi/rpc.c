/* What unary methods share. */
#include "gateway/reapi/rpc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/err.h"

static void rpc_on_request(struct unary *unary, struct span request)
{
	struct rpc *rpc = container_of(unary, struct rpc, unary);

	asking_end(&rpc->asking);
	rpc->type->on_request(rpc, request);
}

static void rpc_on_part(struct unary *unary, struct span part, size_t left)
{
	struct rpc *rpc = container_of(unary, struct rpc, unary);

	asking_end(&rpc->asking);
	rpc->type->on_part(rpc, part, left);
}

static void rpc_free(struct rpc *rpc)
{
	callers_close(rpc->reapi, &rpc->place);
	asking_end(&rpc->asking);
	sending_end(&rpc->sending);
	if (rpc->type->fini)
		rpc->type->fini(rpc);
	free(rpc);
}

static void rpc_on_done(struct unary *unary)
{
	struct rpc *rpc = container_of(unary, struct rpc, unary);

	rpc->ended = true;
	if (!rpc->held)
		rpc_free(rpc);
}

void rpc_hold(struct rpc *rpc)
{
	CHECK(!rpc->held);
	rpc->held = true;
}

void rpc_release(struct rpc *rpc)
{
	rpc->held = false;
	if (rpc->ended)
		rpc_free(rpc);
}

bool rpc_has_ended(const struct rpc *rpc)
{
	return rpc->ended;
}

bool rpc_is_answered(const struct rpc *rpc)
{
	return rpc->unary.answered;
}

bool rpc_has_left(const struct rpc *rpc)
{
	return rpc->unary.closed;
}

int rpc_start(struct reapi *reapi, const struct rpc_type *type, const struct server_request *request, char *why,
              size_t why_size)
{
	struct rpc *rpc = calloc(1, type->size);
	enum grpc_status status = GRPC_RESOURCE_EXHAUSTED;
	uint64_t tenant;

	if (rpc && type->anybody)
		status = GRPC_OK;
	else if (rpc)
		status = access_caller(&reapi->cas->access, request, type->rights, &rpc->caller, why, why_size);
	else
		snprintf(why, why_size, RPC_TEXT_MEMORY);
	tenant = status == GRPC_OK && !type->anybody ? callers_tenant(&rpc->caller) : 0;
	if (!callers_admit(reapi, tenant, why, why_size))
		status = GRPC_RESOURCE_EXHAUSTED;
	if (status != GRPC_OK) {
		free(rpc);
		return status;
	}
	rpc->type = type;
	rpc->reapi = reapi;
	rpc->unary.on_request = rpc_on_request;
	rpc->unary.on_part = type->on_part ? rpc_on_part : NULL;
	rpc->unary.on_done = rpc_on_done;
	callers_open(reapi, tenant, &rpc->place);
	unary_accept(&rpc->unary, request, type->request_bytes_max);
	asking_begin(&rpc->asking, reapi, &rpc->unary.call);
	return 0;
}

bool rpc_takes_function(struct rpc *rpc, uint32_t digest_function)
{
	if (digest_function == REAPI_DIGEST_UNKNOWN || digest_function == REAPI_SHA256)
		return true;
	rpc_fail(rpc, GRPC_INVALID_ARGUMENT, "a digest function other than SHA-256 is not served here");
	return false;
}

bool rpc_enter(struct rpc *rpc, struct span instance, uint32_t digest_function)
{
	bool makes = (rpc->type->rights & SCOPE_WRITE) && !rpc->type->asks;
	char why[256];
	enum grpc_status status;

	if (!rpc_takes_function(rpc, digest_function))
		return false;
	status = (makes ? access_enter : access_find)(&rpc->reapi->cas->access, &rpc->caller, instance, &rpc->scope, why, sizeof(why));
	if (status != GRPC_OK)
		rpc_fail(rpc, status, why);
	return status == GRPC_OK;
}

void rpc_reply_bytes(struct rpc *rpc, struct span response)
{
	sending_begin(&rpc->sending, rpc->reapi, &rpc->unary.call);
	unary_reply(&rpc->unary, response);
}

void rpc_reply(struct rpc *rpc, const struct buffer *response)
{
	if (response->failed)
		rpc_fail_memory(rpc);
	else
		rpc_reply_bytes(rpc, buffer_span(response));
}

void rpc_reply_lending(struct rpc *rpc, struct loan *loan)
{
	sending_begin(&rpc->sending, rpc->reapi, &rpc->unary.call);
	unary_reply_lending(&rpc->unary, loan);
}

void rpc_fail(struct rpc *rpc, enum grpc_status status, const char *text)
{
	unary_fail(&rpc->unary, status, text);
}

void rpc_fail_malformed(struct rpc *rpc)
{
	rpc_fail(rpc, GRPC_INVALID_ARGUMENT, RPC_TEXT_MALFORMED);
}

void rpc_fail_memory(struct rpc *rpc)
{
	rpc_fail(rpc, GRPC_RESOURCE_EXHAUSTED, RPC_TEXT_MEMORY);
}

enum grpc_status rpc_store_status(int result, const char **text)
{
	if (result == STORE_FULL || result == -ENOSPC) {
		*text = RPC_TEXT_FULL;
		return GRPC_RESOURCE_EXHAUSTED;
	}
	if (result == -ENOMEM) {
		*text = RPC_TEXT_MEMORY;
		return GRPC_RESOURCE_EXHAUSTED;
	}
	*text = err_no_descriptors(result) ? RPC_TEXT_DESCRIPTORS : RPC_TEXT_DISK;
	return GRPC_UNAVAILABLE;
}

void rpc_fail_store(struct rpc *rpc, int result)
{
	const char *text;
	enum grpc_status status = rpc_store_status(result, &text);

	rpc_fail(rpc, status, text);
}

struct digest *rpc_digests(struct rpc *rpc, const struct message_list *list, size_t *count)
{
	struct digest *digests = malloc((list->count ? list->count : 1) * sizeof(*digests));
	struct message_cursor cursor = { 0 };
	struct span element;

	*count = 0;
	if (!digests) {
		rpc_fail_memory(rpc);
		return NULL;
	}
	while (message_list_next(list, &cursor, &element)) {
		if (message_digest(element, &digests[*count])) {
			++*count;
			continue;
		}
		free(digests);
		rpc_fail_malformed(rpc);
		return NULL;
	}
	return digests;
}
