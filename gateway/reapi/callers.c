/* A counter for each tenant that has a call; those that come most are at the front. */
#include "gateway/reapi/callers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "gateway/base/check.h"
#include "gateway/reapi/reapi.h"

struct callers_tenant {
	uint64_t key;
	unsigned open;
	struct list link;                /* reapi.callers */
};

uint64_t callers_tenant(const struct access_caller *caller)
{
	const char *name = caller->identity.tenant;
	uint64_t key = XXH3_64bits(name, strlen(name));

	return caller->executor ? 0 : key ? key : 1;
}

static struct callers_tenant *find(const struct reapi *reapi, uint64_t key)
{
	list_for_each(link, &reapi->callers) {
		struct callers_tenant *tenant = container_of(link, struct callers_tenant, link);

		if (tenant->key == key)
			return tenant;
	}
	return NULL;
}

bool callers_admit(const struct reapi *reapi, uint64_t tenant, char *why, size_t why_size)
{
	const struct callers_tenant *found = tenant ? find(reapi, tenant) : NULL;

	if (!found || found->open < REAPI_TENANT_CALLS_MAX)
		return true;
	snprintf(why, why_size, "this tenant has too many calls in progress; try again");
	return false;
}

/* Without memory it goes uncounted. */
static struct callers_tenant *make(struct reapi *reapi, uint64_t key)
{
	struct callers_tenant *tenant = malloc(sizeof(*tenant));

	if (!tenant)
		return NULL;
	*tenant = (struct callers_tenant){ .key = key };
	list_append(&reapi->callers, &tenant->link);
	return tenant;
}

void callers_open(struct reapi *reapi, uint64_t tenant, struct callers_share *share)
{
	struct callers_tenant *found = tenant ? find(reapi, tenant) : NULL;

	if (tenant && !found)
		found = make(reapi, tenant);
	share->tenant = found;
	reapi->open++;
	if (!found)
		return;
	found->open++;
	list_remove(&found->link);
	list_insert_before(reapi->callers.next, &found->link);
}

void callers_close(struct reapi *reapi, struct callers_share *share)
{
	struct callers_tenant *tenant = share->tenant;

	share->tenant = NULL;
	CHECK(reapi->open > 0);
	reapi->open--;
	if (!tenant || --tenant->open)
		return;
	list_remove(&tenant->link);
	free(tenant);
}
