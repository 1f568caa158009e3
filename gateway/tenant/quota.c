/* Counters; those that are used most are at the front. */
#include "gateway/tenant/quota.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

struct quota_tenant {
	uint64_t key;
	unsigned count;
	struct list link;
};

void quota_init(struct quota *quota, unsigned max)
{
	quota->max = max;
	list_init(&quota->tenants);
}

uint64_t quota_key(const char *tenant)
{
	uint64_t key = XXH3_64bits(tenant, strlen(tenant));

	return key ? key : 1;
}

static struct quota_tenant *find(const struct quota *quota, uint64_t key)
{
	list_for_each(link, &quota->tenants) {
		struct quota_tenant *tenant = container_of(link, struct quota_tenant, link);

		if (tenant->key == key)
			return tenant;
	}
	return NULL;
}

bool quota_has_room(const struct quota *quota, uint64_t tenant)
{
	const struct quota_tenant *found = tenant ? find(quota, tenant) : NULL;

	return !found || found->count < quota->max;
}

static struct quota_tenant *make(struct quota *quota, uint64_t key)
{
	struct quota_tenant *tenant = malloc(sizeof(*tenant));

	if (!tenant)
		return NULL;
	*tenant = (struct quota_tenant){ .key = key };
	list_append(&quota->tenants, &tenant->link);
	return tenant;
}

void quota_enter(struct quota *quota, uint64_t tenant, struct quota_place *place)
{
	struct quota_tenant *found = tenant ? find(quota, tenant) : NULL;

	if (tenant && !found)
		found = make(quota, tenant);
	place->tenant = found;
	if (!found)
		return;
	found->count++;
	list_remove(&found->link);
	list_insert_before(quota->tenants.next, &found->link);
}

void quota_leave(struct quota_place *place)
{
	struct quota_tenant *tenant = place->tenant;

	place->tenant = NULL;
	if (!tenant || --tenant->count)
		return;
	list_remove(&tenant->link);
	free(tenant);
}
