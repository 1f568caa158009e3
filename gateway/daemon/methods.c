/* The methods of the daemon: each hands its request to the service that it belongs to; and Status, which knows all parts. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/daemon/parts.h"
#include "gateway/reapi/web.h"
#include "proto/pb.h"
#include "proto/sluice_v1.h"

#define STATUS_REQUEST_BYTES_MAX  1024
#define STATUS_RESPONSE_BYTES_MAX (4u << 20)

int daemon_push(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return cas_push_start(&((struct daemon *)context)->cas, request, why, why_size);
}

int daemon_fetch(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return cas_fetch_start(&((struct daemon *)context)->cas, request, why, why_size);
}

int daemon_pin(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return cas_pin_start(&((struct daemon *)context)->cas, request, why, why_size);
}

int daemon_builds(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return builds_start(&((struct daemon *)context)->builds, request, why, why_size);
}

int daemon_carry(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return link_service_start(((struct daemon *)context)->links, request, why, why_size);
}

/* No right is asked for: each call inside the link is looked at by itself. */
enum grpc_status daemon_identify(void *context, const struct server_request *request, struct tenant_identity *identity,
                                 char *why, size_t why_size)
{
	const struct access *access = &((struct daemon *)context)->cas.access;
	struct access_caller caller;
	enum grpc_status status;
	struct scope scope;

	/* Its scope comes and goes with its assignments; what it opened would be left behind. */
	if (access->executor_scope(access->context, request->conn, &scope) != -ENOENT) {
		snprintf(why, why_size, "an executor has no use for a link");
		return GRPC_PERMISSION_DENIED;
	}
	status = access_caller(access, request, 0, &caller, why, why_size);
	if (status == GRPC_OK)
		*identity = caller.identity;
	return status;
}

int daemon_adopt(void *context, int fd, const struct conn_peer *peer)
{
	return server_adopt(((struct daemon *)context)->server, fd, peer);
}

int daemon_attach(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return pool_attach_start(((struct daemon *)context)->pool, request, why, why_size);
}

int daemon_execute(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return execute_start(&((struct daemon *)context)->execute, request, why, why_size);
}

int daemon_reapi(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return reapi_start(&((struct daemon *)context)->reapi, request, why, why_size);
}

void daemon_web(void *context, struct conn *conn, struct stream *stream, const struct h2_request *head)
{
	web_start(&((struct daemon *)context)->reapi, conn, stream, head);
}

int daemon_execute_wait(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return execute_wait_start(&((struct daemon *)context)->execute, request, why, why_size);
}

int daemon_execute_get(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return execute_get_start(&((struct daemon *)context)->execute, request, why, why_size);
}

int daemon_execute_cancel(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return execute_cancel_start(&((struct daemon *)context)->execute, request, why, why_size);
}

/* BuildKit's services, and whatever an executor may know that we do not. */
int daemon_unknown(void *context, const struct server_request *request, char *why, size_t why_size)
{
	static const char builder[] = "/moby.buildkit.";
	const struct daemon *daemon = context;
	struct span path = request->head->path;

	if (daemon->buildkit)
		return buildkit_start(daemon->buildkit, request, why, why_size);
	if (path.size >= strlen(builder) && memcmp(path.data, builder, strlen(builder)) == 0) {
		snprintf(why, why_size, "this gateway has no buildkitd: `sluice serve --buildkit` names some, `--spawn` starts them");
		return GRPC_FAILED_PRECONDITION;
	}
	snprintf(why, why_size, "unknown method %.*s", (int)(path.size < 200 ? path.size : 200), (const char *)path.data);
	return GRPC_UNIMPLEMENTED;
}

/* ---- Status ---- */

struct status_call {
	struct question question;
	struct daemon *daemon;
	bool local;                      /* the caller is on this machine */
};

static void status_add_pin(void *context, const struct store_pin *pin)
{
	struct buffer *pins = context;
	uint8_t storage[48];
	struct buffer root = buffer_over(storage, sizeof(storage));
	struct pinned_root pinned = { .note = span_text(pin->note) };

	digest_list_put(&root, &pin->root);
	pinned.root = buffer_span(&root);
	if (pin->expires_wall_ns != UINT64_MAX)
		pinned.expires_unix_seconds = pin->expires_wall_ns / 1000000000u;
	message_nest(&pinned_root_type, pins, 12, &pinned);
}

static void status_on_request(struct unary *unary, struct span bytes)
{
	struct status_call *call = container_of(unary, struct status_call, question.unary);
	const struct daemon *daemon = call->daemon;
	const struct tenant_identity *identity = &call->question.caller.identity;
	struct buffer pins = buffer_heap(STATUS_RESPONSE_BYTES_MAX), out = buffer_heap(STATUS_RESPONSE_BYTES_MAX);
	struct server_status server;
	struct store_status store;
	struct pool_status pool;
	struct status_response response;

	server_status(daemon->server, &server);
	store_status(daemon->store, &store);
	/* What others have, the store's fill and the pool's load among it, is told to those on this machine alone. */
	if (call->local)
		pool_status(daemon->pool, &pool);
	else
		pool_tenant_status(daemon->pool, call->question.scope.tenant, &pool);
	store_pins_list(daemon->store, &call->question.scope, status_add_pin, &pins);
	response = (struct status_response){
		.version = span_text(SLUICE_VERSION),
		.engine = span_text(ring_engine_name(daemon->ring)),
		.tenant = span_text(identity->tenant),
		.subject = span_text(identity->subject),
		.uptime_seconds = (ring_now_ns(daemon->ring) - daemon->started_ns) / 1000000000u,
		.slots = pool.slots,
		.slots_busy = pool.slots_busy,
		.queued = pool.queued,
		.pins.message = buffer_span(&pins),
	};
	if (call->local) {
		response.connections = server.connections;
		response.ceiling_bytes = store.ceiling_bytes;
		response.used_bytes = store.segments_used * store.segment_bytes + store.index_bytes;
	}
	message_encode(&status_response_type, &out, &response);
	if (pins.failed || out.failed)
		unary_fail(unary, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory, or the pins do not fit a message");
	else
		unary_reply(unary, buffer_span(&out));
	buffer_fini(&pins);
	buffer_fini(&out);
}

static void status_on_done(struct unary *unary)
{
	struct status_call *call = container_of(unary, struct status_call, question.unary);

	question_end(&call->question);
	free(call);
}

int daemon_status(void *context, const struct server_request *request, char *why, size_t why_size)
{
	struct daemon *daemon = context;
	struct status_call *call = calloc(1, sizeof(*call));
	enum grpc_status status = GRPC_RESOURCE_EXHAUSTED;

	if (call)
		status = question_begin(&call->question, &daemon->questions, request, why, why_size);
	else
		snprintf(why, why_size, "the gateway is out of memory; try again");
	if (status != GRPC_OK) {
		free(call);
		return status;
	}
	call->daemon = daemon;
	call->local = conn_peer(request->conn)->local || conn_peer(request->conn)->loopback;
	call->question.unary.on_request = status_on_request;
	call->question.unary.on_done = status_on_done;
	question_accept(&call->question, request, STATUS_REQUEST_BYTES_MAX);
	return 0;
}
