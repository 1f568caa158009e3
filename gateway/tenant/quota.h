/*
 * quota: how many of something each tenant has at a time, of which it may have so many: that leaves room for the others. A counter for
 * each tenant that has any. Pure; one thread.
 */
#pragma once

#include "gateway/base/list.h"

#include <stdbool.h>
#include <stdint.h>

struct quota_tenant;

struct quota {
	unsigned max;                    /* of each tenant */
	struct list tenants;
};

/* Embedded in what counts. All-zero: it counts as nobody's. */
struct quota_place {
	struct quota_tenant *tenant;
};

/* When all that counted has left there is nothing to be freed. */
void quota_init(struct quota *quota, unsigned max);
/* A tenant, as the others want it. Never 0, which is nobody: of whom there may be any number. */
uint64_t quota_key(const char *tenant);
bool quota_has_room(const struct quota *quota, uint64_t tenant);
/* One more, whether or not there is room. Without memory it counts as nobody's. */
void quota_enter(struct quota *quota, uint64_t tenant, struct quota_place *place);
/* Once for each that entered; also of an all-zero one. */
void quota_leave(struct quota_place *place);
