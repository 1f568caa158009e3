/* grpc.health.v1 Check: the gateway serves as long as it answers. Watch is UNIMPLEMENTED, which clients take for that. */
#include "gateway/reapi/methods.h"
#include "gateway/reapi/rpc.h"
#include "gateway/reapi/services.h"
#include "proto/pb.h"

#define REQUEST_BYTES_MAX 4096
#define HEALTH_SERVING    1

struct health_request {
	struct span service;
};
static const struct message_field health_request_fields[] = {
	MESSAGE_FIELD(struct health_request, service, 1, MESSAGE_BYTES),
};
static const struct message_type health_request_type = { health_request_fields, 1, sizeof(struct health_request) };

static void health_on_request(struct rpc *rpc, struct span bytes)
{
	uint8_t storage[8];
	struct buffer out = buffer_over(storage, sizeof(storage));
	struct health_request request;

	if (!message_decode(&health_request_type, bytes, &request)) {
		rpc_fail(rpc, GRPC_INVALID_ARGUMENT, "malformed HealthCheckRequest");
		return;
	}
	if (request.service.size && !service_served(request.service)) {
		rpc_fail(rpc, GRPC_NOT_FOUND, "no such service is served here");
		return;
	}
	pb_put_varint(&out, 1, HEALTH_SERVING);
	rpc_reply(rpc, &out);
}

static const struct rpc_type health_type = {
	.size = sizeof(struct rpc), .anybody = true, .request_bytes_max = REQUEST_BYTES_MAX, .on_request = health_on_request,
};

int reapi_health(struct reapi *reapi, const struct server_request *request, char *why, size_t why_size)
{
	return rpc_start(reapi, &health_type, request, why, why_size);
}
