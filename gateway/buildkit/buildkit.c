/* Bindings: which connection to an executor a client's calls go out on. */
#include "gateway/buildkit/buildkit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/buildkit/forward.h"

/* buildkitd's own limits are dynamic; these let a context through at the speed of the link. */
#define STREAM_WINDOW_BYTES     (1u << 20)
#define CONNECTION_WINDOW_BYTES (8u << 20)
#define STREAMS_MAX             256

/* One connection to the executor. It may outlive its binding by its last streams. */
struct uplink {
	struct buildkit *buildkit;
	struct binding *binding;         /* NULL: it is not to be used for new calls */
	struct conn *conn;
};

struct binding {
	struct list link;
	const struct conn *client;
	struct uplink *uplink;           /* NULL: none was made, or the last was lost */
};

struct buildkit {
	struct ring *ring;
	const struct access *access;
	struct address address;
	const char *tenant;
	struct forward_owner forwards;
	struct list bindings;
	uint64_t bindings_count, uplinks_count;
};

bool buildkit_address(struct address *address, const char *text, char *why, size_t why_size)
{
	char grpc[ADDRESS_TEXT_MAX];

	if (strncmp(text, "tcp://", 6) == 0) {
		snprintf(grpc, sizeof(grpc), "grpc://%s", text + 6);
		if (strchr(text + 6, ':') && address_parse(address, grpc, why, why_size))
			return true;
	} else if (address_parse(address, text, why, why_size) && !address->tls) {
		return true;
	}
	snprintf(why, why_size, "\"%.200s\" is not the address of a buildkitd: use tcp://host:port or unix:///path", text);
	return false;
}

/* ---- the way to the executor ---- */

static void uplink_on_ready(struct conn *conn)
{
	log_event(LOG_DEBUG, "executor connected", LOG_U64("conn", conn_id(conn)));
}

static void uplink_on_closed(struct conn *conn, const char *reason)
{
	struct uplink *uplink = conn_owner(conn);
	struct buildkit *buildkit = uplink->buildkit;

	if (uplink->binding) {
		log_event(LOG_WARNING, "executor connection lost", LOG_TEXT("executor", buildkit->forwards.executor),
		          LOG_TEXT("reason", reason));
		uplink->binding->uplink = NULL;
	}
	CHECK(buildkit->uplinks_count > 0);
	buildkit->uplinks_count--;
	free(uplink);
}

static const struct conn_events uplink_events = { .on_ready = uplink_on_ready, .on_closed = uplink_on_closed };
static const struct h2_events uplink_h2_events = { 0 };

static int uplink_open(struct binding *binding, struct buildkit *buildkit, char *why, size_t why_size)
{
	struct uplink *uplink = calloc(1, sizeof(*uplink));
	struct conn_config config = {
		.h2 = {
			.events = &uplink_h2_events, .streams_max = STREAMS_MAX,
			.stream_window_bytes = STREAM_WINDOW_BYTES, .connection_window_bytes = CONNECTION_WINDOW_BYTES,
		},
		.events = &uplink_events, .owner = uplink,
		.idle_timeout_ns = UINT64_MAX / 4,       /* it ends with the client's connection */
	};
	int r;

	if (!uplink) {
		snprintf(why, why_size, "out of memory");
		return ERR_RAISE(-ENOMEM);
	}
	*uplink = (struct uplink){ .buildkit = buildkit, .binding = binding };
	config.h2.owner = uplink;
	r = conn_connect(&uplink->conn, buildkit->ring, &buildkit->address, NULL, &config, why, why_size);
	if (r < 0) {
		free(uplink);
		return ERR_RAISE(r);
	}
	buildkit->uplinks_count++;
	binding->uplink = uplink;
	return 0;
}

static void uplink_leave(struct uplink *uplink)
{
	uplink->binding->uplink = NULL;
	uplink->binding = NULL;
	conn_drain(uplink->conn);
}

/* ---- bindings ---- */

static struct binding *binding_of(struct buildkit *buildkit, const struct conn *client)
{
	list_for_each(link, &buildkit->bindings) {
		struct binding *binding = container_of(link, struct binding, link);

		if (binding->client == client)
			return binding;
	}
	return NULL;
}

static struct binding *binding_get(struct buildkit *buildkit, const struct conn *client)
{
	struct binding *binding = binding_of(buildkit, client);

	if (binding)
		return binding;
	binding = calloc(1, sizeof(*binding));
	if (!binding)
		return NULL;
	binding->client = client;
	list_append(&buildkit->bindings, &binding->link);
	buildkit->bindings_count++;
	return binding;
}

void buildkit_conn_closed(struct buildkit *buildkit, const struct conn *client)
{
	struct binding *binding = binding_of(buildkit, client);

	if (!binding)
		return;
	if (binding->uplink)
		uplink_leave(binding->uplink);
	list_remove(&binding->link);
	buildkit->bindings_count--;
	free(binding);
}

/* ---- calls ---- */

/* An executor that says goodbye keeps its present calls; the next goes over a new connection. */
static int binding_forward(struct buildkit *buildkit, struct binding *binding, const struct server_request *request,
                           char *why, size_t why_size)
{
	int r = -EPIPE;

	if (binding->uplink && conn_end(binding->uplink->conn) == CONN_END_NONE)
		r = forward_open(&buildkit->forwards, conn_h2(binding->uplink->conn), request->stream, request->head);
	if (r != -EPIPE)
		return r;
	if (binding->uplink)
		uplink_leave(binding->uplink);
	r = uplink_open(binding, buildkit, why, why_size);
	if (r == 0)
		r = forward_open(&buildkit->forwards, conn_h2(binding->uplink->conn), request->stream, request->head);
	return r;
}

int buildkit_start(struct buildkit *buildkit, const struct server_request *request, char *why, size_t why_size)
{
	struct tenant_identity identity;
	struct binding *binding;
	struct scope scope;
	enum grpc_status status;
	int r;

	status = access_scope(buildkit->access, request, SCOPE_EXECUTE, &scope, &identity, why, why_size);
	if (status != GRPC_OK)
		return (int)status;
	if (strcmp(identity.tenant, buildkit->tenant) != 0) {
		snprintf(why, why_size, "no buildkitd serves your tenant here: ask the operator for one");
		return GRPC_FAILED_PRECONDITION;
	}
	binding = binding_get(buildkit, request->conn);
	why[0] = '\0';
	r = binding ? binding_forward(buildkit, binding, request, why, why_size) : -ENOMEM;
	if (r == 0)
		return 0;
	if (r == -ENOMEM || r == -EINVAL) {
		snprintf(why, why_size, r == -ENOMEM ? "out of memory" : "too many header fields to carry on");
		return GRPC_RESOURCE_EXHAUSTED;
	}
	if (!why[0])
		snprintf(why, why_size, "executor %s takes no more calls on this connection", buildkit->forwards.executor);
	return GRPC_UNAVAILABLE;
}

/* ---- life ---- */

int buildkit_create(struct buildkit **buildkit, const struct buildkit_config *config, char *why, size_t why_size)
{
	struct address address;
	struct buildkit *made;

	if (!buildkit_address(&address, config->executor, why, why_size))
		return ERR_RAISE(-EINVAL);
	made = calloc(1, sizeof(*made));
	if (!made) {
		snprintf(why, why_size, "out of memory");
		return ERR_RAISE(-ENOMEM);
	}
	made->ring = config->ring;
	made->access = config->access;
	made->address = address;
	made->tenant = config->tenant;
	forward_owner_init(&made->forwards, config->executor);
	list_init(&made->bindings);
	*buildkit = made;
	return 0;
}

void buildkit_destroy(struct buildkit *buildkit)
{
	CHECK(!buildkit || buildkit_idle(buildkit));
	free(buildkit);
}

bool buildkit_idle(const struct buildkit *buildkit)
{
	return buildkit->bindings_count == 0 && buildkit->uplinks_count == 0 && list_empty(&buildkit->forwards.forwards);
}

void buildkit_status(const struct buildkit *buildkit, struct buildkit_status *status)
{
	*status = (struct buildkit_status){
		.bindings = buildkit->bindings_count, .calls_total = buildkit->forwards.opened,
		.calls_lost = buildkit->forwards.lost,
	};
	list_for_each(link, &buildkit->forwards.forwards)
		status->calls++;
}
