/*
 * scope: on whose behalf something is done. Every cas, context, store and pool call takes one. Made from the
 * credential alone (tenant.h); `instance` is a sub-scope inside the tenant, named by the client (REAPI instance name).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum scope_right {
	SCOPE_READ = 1,
	SCOPE_WRITE = 2,
	SCOPE_COMMIT = 4,
	SCOPE_EXECUTE = 8,
	SCOPE_ALL = 15,
};

struct scope {
	uint32_t tenant;         /* number of the tenant's name in this store (store_scope_name); never 0 */
	uint32_t instance;       /* likewise, of the instance name inside it; 1 for the empty name */
	uint32_t rights;         /* of enum scope_right */
};

/* The same blobs are seen, whatever may be done with them. */
static inline bool scope_same(const struct scope *a, const struct scope *b)
{
	return a->tenant == b->tenant && a->instance == b->instance;
}

static inline bool scope_may(const struct scope *scope, uint32_t rights)
{
	return (scope->rights & rights) == rights;
}
