/* From a request to a scope. */
#include "gateway/cas/access.h"

#include <errno.h>
#include <stdio.h>

#define ACCESS_INSTANCE_BYTES_MAX 255

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

enum grpc_status access_scope(const struct access *access, const struct server_request *request, uint32_t rights,
                              struct scope *scope, struct tenant_identity *identity, char *why, size_t why_size)
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
	struct tenant_identity found;
	enum grpc_status status;
	int r;

	if (access->executor_scope) {
		r = access->executor_scope(access->context, request->conn, scope);
		if (r == 0)
			return access_check(scope->rights, rights, why, why_size);
		if (r != -ENOENT) {
			snprintf(why, why_size, "this executor has no assignment");
			return GRPC_PERMISSION_DENIED;
		}
	}
	if (instance.size > ACCESS_INSTANCE_BYTES_MAX) {
		snprintf(why, why_size, "sluice-instance is longer than %d bytes", ACCESS_INSTANCE_BYTES_MAX);
		return GRPC_INVALID_ARGUMENT;
	}
	if (tenant_identify(access->registry, &credential, &found, why, why_size) < 0)
		return GRPC_UNAUTHENTICATED;
	status = access_check(found.rights, rights, why, why_size);      /* first: a name that the store takes is kept for ever */
	if (status != GRPC_OK)
		return status;
	r = store_scope(access->store, span_text(found.tenant), instance, found.rights, scope);
	if (r == -ENOSPC) {
		snprintf(why, why_size, "no more tenants or instance names fit this store");
		return GRPC_RESOURCE_EXHAUSTED;
	}
	if (r < 0) {
		snprintf(why, why_size, "the store cannot keep a new tenant or instance name");
		return GRPC_INTERNAL;
	}
	if (identity)
		*identity = found;
	return GRPC_OK;
}
