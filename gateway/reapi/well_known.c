/*
 * What any gRPC server is asked: grpc.health.v1 Check (the gateway serves as long as it answers; Watch is UNIMPLEMENTED, which
 * clients take for that), and reflection, v1 and v1alpha: the list of services. Descriptors are not kept here: `.proto` files
 * say the rest, and whoever asks is told so.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/reapi/methods.h"
#include "gateway/reapi/rpc.h"
#include "proto/pb.h"

#define REQUEST_BYTES_MAX 4096
#define OUT_BYTES_MAX     8192
#define HEALTH_SERVING    1

static const char *const services[] = {
	"build.bazel.remote.execution.v2.ActionCache",
	"build.bazel.remote.execution.v2.Capabilities",
	"build.bazel.remote.execution.v2.ContentAddressableStorage",
	"build.bazel.remote.execution.v2.Execution",
	"google.bytestream.ByteStream",
	"grpc.health.v1.Health",
	"google.longrunning.Operations",
	"grpc.reflection.v1.ServerReflection",
	"grpc.reflection.v1alpha.ServerReflection",
	"sluice.v1.Store",
};
#define SERVICES (sizeof(services) / sizeof(services[0]))

static bool served(struct span service)
{
	for (size_t i = 0; i < SERVICES; i++)
		if (span_is(service, services[i]))
			return true;
	return service.size == 0;
}

/* ---- health ---- */

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
	if (!served(request.service)) {
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

/* ---- reflection ---- */

struct reflection {
	struct call call;
	struct reapi *reapi;
};

struct reflection_request {
	struct span host, list_services;         /* the second is there, perhaps empty, or its `data` is NULL */
};
static const struct message_field reflection_request_fields[] = {
	MESSAGE_FIELD(struct reflection_request, host, 1, MESSAGE_BYTES),
	MESSAGE_FIELD(struct reflection_request, list_services, 7, MESSAGE_PRESENT),
};
static const struct message_type reflection_request_type = {
	reflection_request_fields, 2, sizeof(struct reflection_request),
};

static void put_services(struct buffer *out)
{
	size_t list = pb_begin(out, 6);

	for (size_t i = 0; i < SERVICES; i++) {
		size_t service = pb_begin(out, 1);

		pb_put_text(out, 1, services[i]);
		pb_end(out, service);
	}
	pb_end(out, list);
}

static void put_error(struct buffer *out)
{
	size_t error = pb_begin(out, 7);

	pb_put_varint(out, 1, GRPC_NOT_FOUND);
	pb_put_text(out, 2, "descriptors are not kept here: use the .proto files of REAPI and sluice");
	pb_end(out, error);
}

static void reflection_on_message(struct call *call, struct span message)
{
	struct buffer out = buffer_heap(OUT_BYTES_MAX);
	struct reflection_request request;

	if (!message_decode(&reflection_request_type, message, &request)) {
		call_finish(call, GRPC_INVALID_ARGUMENT, "malformed ServerReflectionRequest");
		buffer_fini(&out);
		return;
	}
	pb_put_bytes(&out, 1, request.host);
	pb_put_bytes_always(&out, 2, message);
	if (request.list_services.data)
		put_services(&out);
	else
		put_error(&out);
	if (call_send(call, buffer_span(&out), 0) == CALL_FULL)
		call_finish(call, GRPC_RESOURCE_EXHAUSTED, "ask again when the last answer was read");
	buffer_fini(&out);
}

static void reflection_on_end(struct call *call)
{
	call_finish(call, GRPC_OK, NULL);
}

static void reflection_on_writable(struct call *call)
{
}

static void reflection_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct reflection *reflection = container_of(call, struct reflection, call);

	reflection->reapi->open--;
	call_fini(call);
	free(reflection);
}

static const struct call_events reflection_events = {
	.on_message = reflection_on_message,
	.on_end = reflection_on_end,
	.on_writable = reflection_on_writable,
	.on_closed = reflection_on_closed,
};

int reapi_reflection(struct reapi *reapi, const struct server_request *request, char *why, size_t why_size)
{
	struct access_caller caller;
	enum grpc_status status = access_caller(&reapi->cas->access, request, 0, &caller, why, why_size);
	struct reflection *reflection;

	if (status != GRPC_OK)
		return status;
	reflection = calloc(1, sizeof(*reflection));
	if (!reflection) {
		snprintf(why, why_size, RPC_TEXT_MEMORY);
		return GRPC_RESOURCE_EXHAUSTED;
	}
	reflection->reapi = reapi;
	reapi->open++;
	call_accept(&reflection->call, request->stream, request->head, REQUEST_BYTES_MAX, &reflection_events, reflection);
	return 0;
}
