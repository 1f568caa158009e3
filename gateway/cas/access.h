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

/*
 * The same in two steps, for calls that name their instance inside a message (REAPI): who it is, when the call comes; then,
 * with the message, on whose behalf. `instance` empty: what the `sluice-instance` field says.
 */
#define ACCESS_INSTANCE_BYTES_MAX 255
struct access_caller {
	struct tenant_identity identity;
	uint32_t rights;
	bool executor;                   /* its assignment's scope is all that it has */
	struct scope scope;              /* of an executor */
	char instance[ACCESS_INSTANCE_BYTES_MAX];
	size_t instance_size;
};
enum grpc_status access_caller(const struct access *access, const struct server_request *request, uint32_t rights,
                               struct access_caller *caller, char *why, size_t why_size);
enum grpc_status access_enter(const struct access *access, const struct access_caller *caller, struct span instance,
                              struct scope *scope, char *why, size_t why_size);
/*
 * As access_enter, for who only reads and may be anybody: an instance name that is not known stays so. The scope is then one in
 * which nothing is but what is everywhere (the empty blob). Nothing may be put under it.
 */
enum grpc_status access_find(const struct access *access, const struct access_caller *caller, struct span instance,
                             struct scope *scope, char *why, size_t why_size);

/* The first header field of that name; empty when there is none. */
struct span access_header(const struct grpc_request *head, const char *name);
