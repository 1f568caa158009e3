/*
 * callers: REAPI's calls that are open, and how many of them are whose: a tenant may have REAPI_TENANT_CALLS_MAX. On the ring's
 * thread.
 */
#pragma once

#include "gateway/cas/access.h"
#include "gateway/tenant/quota.h"

struct reapi;

/* Whose calls they are: for callers_open(). 0: nobody's, as are those of executors, which are few. */
uint64_t callers_tenant(const struct access_caller *caller);
/* False with `why` (may be NULL, of no size) for RESOURCE_EXHAUSTED: the tenant has as many as it may. */
bool callers_admit(const struct reapi *reapi, uint64_t tenant, char *why, size_t why_size);
/* One more, whether or not there is room. */
void callers_open(struct reapi *reapi, uint64_t tenant, struct quota_place *place);
/* Its memory is free. Once for each that was opened. */
void callers_close(struct reapi *reapi, struct quota_place *place);
