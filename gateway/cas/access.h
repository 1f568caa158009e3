/*
 * access: who asks, and what they may: from a request to a scope. Credentials come from the connection's client
 * certificate or the request's bearer token (tenant.h); the instance name from the `sluice-instance` field; on the
 * executor socket the scope is that of the slot's present assignment.
 */
#pragma once

#include "gateway/net/server.h"
#include "gateway/store/store.h"
#include "gateway/tenant/tenant.h"

struct access {
	struct store *store;
	const struct tenant_registry *registry;
	/* 0 and `scope` when `conn` belongs to an executor that runs something; -ENOENT when it is no executor's. */
	int (*executor_scope)(void *context, const struct conn *conn, struct scope *scope);
	void *context;
};

/*
 * Returns GRPC_OK with `scope` (and `identity` when it is not NULL), or the status to answer with and `why`:
 * UNAUTHENTICATED, PERMISSION_DENIED (lacks one of `rights`), INVALID_ARGUMENT (the instance name is too long),
 * RESOURCE_EXHAUSTED (too many instance names), INTERNAL.
 */
enum grpc_status access_scope(const struct access *access, const struct server_request *request, uint32_t rights,
                              struct scope *scope, struct tenant_identity *identity, char *why, size_t why_size);

/* The first header field of that name; empty when there is none. */
struct span access_header(const struct grpc_request *head, const char *name);
