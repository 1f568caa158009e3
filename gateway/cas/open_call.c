/* Who has how many calls. */
#include "gateway/cas/open_call.h"

#include <stdio.h>

static unsigned count_of(const struct cas *cas, uint32_t tenant)
{
	unsigned count = 0;

	list_for_each(link, &cas->calls)
		count += container_of(link, struct open_call, link)->tenant == tenant;
	return count;
}

bool open_call_begin(struct open_call *open, struct cas *cas, const struct scope *scope, char *why, size_t why_size)
{
	if (count_of(cas, scope->tenant) >= CAS_TENANT_CALLS_MAX) {
		snprintf(why, why_size, "this tenant has too many calls in progress; try again");
		return false;
	}
	open->tenant = scope->tenant;
	list_append(&cas->calls, &open->link);
	return true;
}

void open_call_end(struct open_call *open)
{
	list_remove(&open->link);
}
