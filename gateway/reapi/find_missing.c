/* ContentAddressableStorage/FindMissingBlobs. */
#include <stdlib.h>

#include "gateway/cas/presence.h"
#include "gateway/reapi/methods.h"
#include "gateway/reapi/rpc.h"

struct find_missing {
	struct rpc rpc;
	struct presence presence;
	struct digest *digests;
	bool *present;
};

static void on_presence(struct presence *presence)
{
	struct find_missing *find = container_of(presence, struct find_missing, presence);
	struct reapi_counters *counters = &find->rpc.reapi->counters;
	struct buffer out = buffer_heap(2 * REAPI_MESSAGE_BYTES_MAX);

	if (presence->result < 0) {
		rpc_fail_store(&find->rpc, presence->result);
		return;
	}
	counters->blobs_asked += presence->count;
	for (size_t i = 0; i < presence->count; i++) {
		if (find->present[i])
			continue;
		counters->blobs_missing++;
		message_put_digest(&out, 2, &find->digests[i]);
	}
	rpc_reply(&find->rpc, &out);
	buffer_fini(&out);
}

static void on_request(struct rpc *rpc, struct span bytes)
{
	struct find_missing *find = container_of(rpc, struct find_missing, rpc);
	struct reapi_find_missing_request request;
	size_t count;

	if (!message_decode(&reapi_find_missing_request_type, bytes, &request)) {
		rpc_fail_malformed(rpc);
		return;
	}
	if (!rpc_enter(rpc, request.instance_name, request.digest_function))
		return;
	find->digests = rpc_digests(rpc, &request.blob_digests, &count);
	if (!find->digests)
		return;
	find->present = calloc(count ? count : 1, sizeof(*find->present));
	if (!find->present) {
		rpc_fail_memory(rpc);
		return;
	}
	find->presence = (struct presence){
		.cas = rpc->reapi->cas, .scope = rpc->scope, .digests = find->digests, .count = count,
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
