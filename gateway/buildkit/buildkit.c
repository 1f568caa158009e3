/* A gateway's BuildKit side: who may, and which connection is whose. */
#include "gateway/buildkit/buildkit_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/link/link.h"

static void count_executor(void *context, struct executor *executor)
{
	(void)executor;
	++*(uint32_t *)context;
}

bool buildkit_spawnable(const struct buildkit *buildkit, const char *tenant)
{
	return buildkit->spawnable && buildkit->spawnable(buildkit->spawnable_context, tenant, false);
}

bool buildkit_hopeful(const struct buildkit *buildkit, const char *tenant)
{
	uint32_t count = 0;

	executors_visit(buildkit->executors, tenant, count_executor, &count);
	return count > 0 || buildkit_spawnable(buildkit, tenant);
}

struct list *buildkit_bucket(struct buildkit *buildkit, const struct conn *client)
{
	return &buildkit->bindings[conn_id(client) % BUILDKIT_BUCKETS];
}

static struct binding *binding_of(struct buildkit *buildkit, const struct conn *client)
{
	list_for_each(link, buildkit_bucket(buildkit, client)) {
		struct binding *binding = container_of(link, struct binding, link);

		if (binding->client == client)
			return binding;
	}
	return NULL;
}

void buildkit_conn_closed(struct buildkit *buildkit, const struct conn *client)
{
	struct binding *binding = binding_of(buildkit, client);

	if (binding)
		binding_close(binding);
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
	if (!buildkit_hopeful(buildkit, identity.tenant)) {
		snprintf(why, why_size, "no buildkitd serves your tenant here: ask the operator for one");
		return GRPC_FAILED_PRECONDITION;
	}
	binding = binding_of(buildkit, request->conn);
	if (binding && strcmp(binding->tenant, identity.tenant) != 0) {
		snprintf(why, why_size, "this connection builds for another tenant: take one connection a tenant");
		return GRPC_PERMISSION_DENIED;
	}
	if (!binding)
		binding = binding_create(buildkit, request->conn, &scope, &identity);
	r = binding ? call_begin(binding, request) : -ENOMEM;
	if (r == 0)
		return 0;
	snprintf(why, why_size, r == -ENOMEM ? "out of memory" : "too many header fields to carry on");
	return GRPC_RESOURCE_EXHAUSTED;
}

/* ---- life ---- */

int buildkit_create(struct buildkit **buildkit, const struct buildkit_config *config)
{
	struct buildkit *made = calloc(1, sizeof(*made));

	if (!made)
		return ERR_RAISE(-ENOMEM);
	made->ring = config->ring;
	made->access = config->access;
	made->executors = config->executors;
	made->broker = config->broker;
	made->play = config->play;
	made->spawnable = config->spawnable;
	made->spawnable_context = config->spawnable_context;
	made->events = config->events;
	made->link_timeout_ns = config->link_timeout_ns ? config->link_timeout_ns : LINK_TIMEOUT_NS;
	made->replay = config->replay;
	made->spools = (struct spool_room){ .directory = config->directory, .bytes_max = SPOOL_ALL_BYTES_MAX,
	                                    .spool_bytes_max = SPOOL_BYTES_MAX };
	for (size_t i = 0; i < BUILDKIT_BUCKETS; i++)
		list_init(&made->bindings[i]);
	*buildkit = made;
	return 0;
}

void buildkit_destroy(struct buildkit *buildkit)
{
	if (!buildkit)
		return;
	CHECK(buildkit_idle(buildkit));
	refs_fini(&buildkit->refs);
	free(buildkit);
}

bool buildkit_idle(const struct buildkit *buildkit)
{
	return buildkit->bindings_count == 0 && buildkit->uplinks_count == 0 && buildkit->calls == 0;
}

void buildkit_status(const struct buildkit *buildkit, struct buildkit_status *status)
{
	*status = (struct buildkit_status){
		.bindings = buildkit->bindings_count, .calls = buildkit->calls, .calls_total = buildkit->calls_total,
		.calls_lost = buildkit->calls_lost, .builds = buildkit->builds, .builds_total = buildkit->builds_total,
		.replays_total = buildkit->replays_total, .spooled_bytes = buildkit->spools.bytes,
	};
}
