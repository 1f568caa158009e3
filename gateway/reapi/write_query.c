/* ByteStream/QueryWriteStatus: how far a write has come, for who lost its call. */
#include "gateway/cas/presence.h"
#include "gateway/reapi/methods.h"
#include "gateway/reapi/rpc.h"
#include "gateway/reapi/write.h"
#include "proto/pb.h"

#define QUERY_BYTES_MAX 4096

struct query {
	struct rpc rpc;
	struct presence presence;
	struct digest digest;
	struct reapi_resource resource;  /* borrows from the request */
	bool present;
};

static void query_on_presence(struct presence *presence)
{
	struct query *query = container_of(presence, struct query, presence);
	uint8_t storage[32];
	struct buffer out = buffer_over(storage, sizeof(storage));
	uint64_t bytes;

	if (presence->result < 0) {
		rpc_fail_store(&query->rpc, presence->result);
		return;
	}
	/* Nothing known of it is no error: a client that lost us in mid-write begins again at 0. */
	if (query->present)
		pb_put_varint(&out, 1, query->digest.size);
	else if (pair_wanted(&query->digest) && writes_progress(query->rpc.reapi, &query->rpc.scope, &query->resource, &bytes))
		pb_put_varint(&out, 1, bytes);
	pb_put_bool(&out, 2, query->present);
	rpc_reply(&query->rpc, &out);
}

static void query_on_request(struct rpc *rpc, struct span bytes)
{
	struct query *query = container_of(rpc, struct query, rpc);
	struct bytestream_query_request request;
	const char *fault = "malformed QueryWriteStatusRequest";

	if (message_decode(&bytestream_query_request_type, bytes, &request))
		fault = reapi_resource_parse(&query->resource, request.resource_name, true);
	if (fault) {
		rpc_fail(rpc, GRPC_INVALID_ARGUMENT, fault);
		return;
	}
	if (!rpc_enter(rpc, query->resource.instance, REAPI_SHA256))
		return;
	query->digest = query->resource.digest;
	query->presence = (struct presence){
		.cas = rpc->reapi->cas, .scope = rpc->scope, .digests = &query->digest, .count = 1, .present = &query->present,
		.fn = query_on_presence,
	};
	presence_look(&query->presence);
}

static const struct rpc_type query_type = {
	.size = sizeof(struct query), .rights = SCOPE_WRITE, .asks = true, .request_bytes_max = QUERY_BYTES_MAX,
	.on_request = query_on_request,
};

int bytestream_query(struct reapi *reapi, const struct server_request *request, char *why, size_t why_size)
{
	return rpc_start(reapi, &query_type, request, why, why_size);
}
