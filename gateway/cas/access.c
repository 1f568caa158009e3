/* From a request to a scope. */
#include "gateway/cas/access.h"

#include <errno.h>
#include <stdio.h>
#include "gateway/base/check.h"

struct span access_header(const struct grpc_request *head, const char *name)
{
	for (size_t i = 0; i < head->headers_count; i++)
		if (span_is(head->headers[i].name, name))
			return head->headers[i].value;
	return (struct span){ 0 };
}

static enum grpc_status access_check(uint32_t has, uint32_t rights, char *why, size_t why_size)
{
	static const struct {
		uint32_t right;
		const char *name;
	} names[] = { { SCOPE_READ, "read" }, { SCOPE_WRITE, "write" }, { SCOPE_COMMIT, "commit" }, { SCOPE_EXECUTE, "execute" } };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if ((rights & names[i].right) && !(has & names[i].right)) {
			snprintf(why, why_size, "this credential lacks the right to %s", names[i].name);
			return GRPC_PERMISSION_DENIED;
		}
	}
	return GRPC_OK;
}

enum grpc_status access_caller(const struct access *access, const struct server_request *request, uint32_t rights,
                               struct access_caller *caller, char *why, size_t why_size)
{
	const struct conn_peer *peer = conn_peer(request->conn);
	struct tenant_credential credential = {
		.certificate = peer->certificate,
		.organisation = span_text(peer->organisation),
		.common_name = span_text(peer->common_name),
		.authorization = request->head->authorization,
		.loopback = peer->loopback || peer->local,
	};
	struct span instance = access_header(request->head, "sluice-instance");
	int r;

	caller->executor = false;
	caller->instance_size = 0;
	if (access->executor_scope) {
		r = access->executor_scope(access->context, request->conn, &caller->scope);
		if (r == 0) {
			caller->executor = true;
			return access_check(caller->scope.rights, rights, why, why_size);
		}
		if (r != -ENOENT) {
			snprintf(why, why_size, "this executor has no assignment");
			return GRPC_PERMISSION_DENIED;
		}
	}
	if (instance.size > ACCESS_INSTANCE_BYTES_MAX) {
		snprintf(why, why_size, "sluice-instance is longer than %d bytes", ACCESS_INSTANCE_BYTES_MAX);
		return GRPC_INVALID_ARGUMENT;
	}
	if (tenant_identify(access->registry, &credential, &caller->identity, why, why_size) < 0)
		return GRPC_UNAUTHENTICATED;
	caller->rights = caller->identity.rights;
	if (instance.size)
		memcpy(caller->instance, instance.data, instance.size);
	caller->instance_size = instance.size;
	return access_check(caller->rights, rights, why, why_size);
}

/* Where nothing of his tenant's is: no name has the number 0. The tenant's never is 0: to the store that is who sees all. */
static int enter_nowhere(const struct access *access, const struct access_caller *caller, struct scope *scope)
{
	int r = store_scope(access->store, span_text(caller->identity.tenant), (struct span){ 0 }, caller->rights, scope);

	if (r == 0)
		scope->instance = 0;
	return r;
}

/* `make`: a name that is new is kept, for ever; a tenant's is so in any case. */
static enum grpc_status enter(const struct access *access, const struct access_caller *caller, struct span instance, bool make,
                              struct scope *scope, char *why, size_t why_size)
{
	int r;

	if (instance.size > ACCESS_INSTANCE_BYTES_MAX) {
		snprintf(why, why_size, "the instance name is longer than %d bytes", ACCESS_INSTANCE_BYTES_MAX);
		return GRPC_INVALID_ARGUMENT;
	}
	r = (make ? store_scope : store_scope_find)(access->store, span_text(caller->identity.tenant), instance, caller->rights, scope);
	if (r == -ENOENT)
		r = enter_nowhere(access, caller, scope);
	if (r == -ENOSPC) {
		snprintf(why, why_size, "no more tenants or instance names fit this store");
		return GRPC_RESOURCE_EXHAUSTED;
	}
	if (r < 0) {
		snprintf(why, why_size, "the store cannot keep a new tenant or instance name");
		return GRPC_INTERNAL;
	}
	CHECK(scope->tenant);
	return GRPC_OK;
}

static struct span instance_of(const struct access_caller *caller, struct span instance)
{
	return instance.size ? instance : span_make(caller->instance, caller->instance_size);
}

enum grpc_status access_enter(const struct access *access, const struct access_caller *caller, struct span instance,
                              struct scope *scope, char *why, size_t why_size)
{
	if (caller->executor) {
		*scope = caller->scope;
		return GRPC_OK;
	}
	return enter(access, caller, instance_of(caller, instance), true, scope, why, why_size);
}

/* Tenants are the operator's to name, so the nameless instance of one may begin with a question. */
enum grpc_status access_find(const struct access *access, const struct access_caller *caller, struct span instance,
                             struct scope *scope, char *why, size_t why_size)
{
	instance = instance_of(caller, instance);
	if (caller->executor || instance.size == 0)
		return access_enter(access, caller, instance, scope, why, why_size);
	return enter(access, caller, instance, false, scope, why, why_size);
}

enum grpc_status access_scope(const struct access *access, const struct server_request *request, uint32_t rights,
                              struct scope *scope, struct tenant_identity *identity, char *why, size_t why_size)
{
	struct access_caller caller;
	/* Rights first: a name that the store takes is kept for ever. */
	enum grpc_status status = access_caller(access, request, rights, &caller, why, why_size);

	if (status == GRPC_OK)
		status = access_enter(access, &caller, (struct span){ 0 }, scope, why, why_size);
	if (status == GRPC_OK && identity && !caller.executor)
		*identity = caller.identity;
	return status;
}
