/* Of all, and of each tenant. */
#include "gateway/reapi/callers.h"

#include <stdio.h>

#include "gateway/base/check.h"
#include "gateway/reapi/reapi.h"

uint64_t callers_tenant(const struct access_caller *caller)
{
	return caller->executor ? 0 : quota_key(caller->identity.tenant);
}

bool callers_admit(const struct reapi *reapi, uint64_t tenant, char *why, size_t why_size)
{
	if (quota_has_room(&reapi->callers, tenant))
		return true;
	snprintf(why, why_size, "this tenant has too many calls in progress; try again");
	return false;
}

void callers_open(struct reapi *reapi, uint64_t tenant, struct quota_place *place)
{
	reapi->open++;
	quota_enter(&reapi->callers, tenant, place);
}

void callers_close(struct reapi *reapi, struct quota_place *place)
{
	CHECK(reapi->open > 0);
	reapi->open--;
	quota_leave(place);
}
