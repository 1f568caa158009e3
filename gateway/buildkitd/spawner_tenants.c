/* The tenants that daemons are, were or may be started for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/buildkitd/spawner_private.h"

#define RETRY_DOUBLINGS 6

static bool tenant_is_of_use(const struct spawner *spawner, const struct spawner_tenant *tenant)
{
	uint64_t now = spawner_now_ns(spawner);

	list_for_each(link, &spawner->daemons)
		if (container_of(link, struct daemon, link)->tenant == tenant)
			return true;
	return tenant->warm || tenant->wanted_until_ns > now || tenant->not_before_ns > now;
}

struct spawner_tenant *spawner_tenant_find(const struct spawner *spawner, const char *name)
{
	list_for_each(link, &spawner->tenants) {
		struct spawner_tenant *tenant = container_of(link, struct spawner_tenant, link);

		if (strcmp(tenant->name, name) == 0)
			return tenant;
	}
	return NULL;
}

void spawner_tenants_forget(struct spawner *spawner)
{
	list_for_each_safe(link, after, &spawner->tenants) {
		struct spawner_tenant *tenant = container_of(link, struct spawner_tenant, link);

		if (tenant_is_of_use(spawner, tenant))
			continue;
		list_remove(link);
		spawner->tenants_count--;
		free(tenant);
	}
}

struct spawner_tenant *spawner_tenant_get(struct spawner *spawner, const char *name)
{
	struct spawner_tenant *tenant = spawner_tenant_find(spawner, name);

	if (tenant || strlen(name) >= sizeof(tenant->name))
		return tenant;
	if (spawner->tenants_count == SPAWNER_TENANTS_MAX)
		spawner_tenants_forget(spawner);
	tenant = spawner->tenants_count < SPAWNER_TENANTS_MAX ? calloc(1, sizeof(*tenant)) : NULL;
	if (!tenant)
		return NULL;
	snprintf(tenant->name, sizeof(tenant->name), "%s", name);
	list_append(&spawner->tenants, &tenant->link);
	spawner->tenants_count++;
	return tenant;
}

void spawner_tenant_failed(struct spawner *spawner, struct spawner_tenant *tenant)
{
	unsigned doublings = tenant->failures > 1 ? tenant->failures - 1 : 0;

	if (doublings > RETRY_DOUBLINGS)
		doublings = RETRY_DOUBLINGS;
	if (tenant->failures++ > 0)
		tenant->not_before_ns = spawner_now_ns(spawner) + (spawner->config.retry_ns << doublings);
}
