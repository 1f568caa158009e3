/* ContentAddressableStorage/FindMissingBlobs. */
#include <stdlib.h>

#include "gateway/cas/presence.h"
#include "gateway/reapi/methods.h"
#include "gateway/reapi/rpc.h"

struct find_missing {
	struct rpc rpc;
	struct presence presence;
	struct digest *digests;
	size_t count;
	bool *present;
};

static void answer(struct find_missing *find)
{
	struct reapi_counters *counters = &find->rpc.reapi->counters;
	struct buffer out = buffer_heap(2 * REAPI_MESSAGE_BYTES_MAX);

	counters->blobs_asked += find->count;
	for (size_t i = 0; i < find->count; i++) {
		if (find->present[i])
			continue;
		counters->blobs_missing++;
		message_put_digest(&out, 2, &find->digests[i]);
	}
	rpc_reply(&find->rpc, &out);
	buffer_fini(&out);
}

static void on_presence(struct presence *presence)
{
	struct find_missing *find = container_of(presence, struct find_missing, presence);

	if (presence->result < 0)
		rpc_fail_store(&find->rpc, presence->result);
	else
		answer(find);
}

/* Nothing was ever written where it is looked for, and a question makes no name of it. */
static void answer_nowhere(struct find_missing *find)
{
	for (size_t i = 0; i < find->count; i++)
		find->present[i] = digest_equal(&find->digests[i], &digest_empty);
	answer(find);
}

static void on_request(struct rpc *rpc, struct span bytes)
{
	struct find_missing *find = container_of(rpc, struct find_missing, rpc);
	struct reapi_find_missing_request request;
	enum grpc_status status;
	char why[256];

	if (!message_decode(&reapi_find_missing_request_type, bytes, &request)) {
		rpc_fail_malformed(rpc);
		return;
	}
	if (!rpc_takes_function(rpc, request.digest_function))
		return;
	status = access_find(&rpc->reapi->cas->access, &rpc->caller, request.instance_name, &rpc->scope, why, sizeof(why));
	if (status != GRPC_OK && status != GRPC_NOT_FOUND) {
		rpc_fail(rpc, status, why);
		return;
	}
	find->digests = rpc_digests(rpc, &request.blob_digests, &find->count);
	if (!find->digests)
		return;
	find->present = calloc(find->count ? find->count : 1, sizeof(*find->present));
	if (!find->present) {
		rpc_fail_memory(rpc);
		return;
	}
	if (status == GRPC_NOT_FOUND) {
		answer_nowhere(find);
		return;
	}
	find->presence = (struct presence){
		.cas = rpc->reapi->cas, .scope = rpc->scope, .digests = find->digests, .count = find->count,
		.present = find->present, .fn = on_presence,
	};
	presence_look(&find->presence);
}

static void fini(struct rpc *rpc)
{
	struct find_missing *find = container_of(rpc, struct find_missing, rpc);

	free(find->digests);
	free(find->present);
}

static const struct rpc_type type = {
	.size = sizeof(struct find_missing), .rights = SCOPE_READ, .request_bytes_max = REAPI_MESSAGE_BYTES_MAX,
	.on_request = on_request, .fini = fini,
};

int reapi_find_missing(struct reapi *reapi, const struct server_request *request, char *why, size_t why_size)
{
	return rpc_start(reapi, &type, request, why, why_size);
}
