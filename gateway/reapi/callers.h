/*
 * callers: REAPI's calls that are open, and how many of them are whose: a tenant has a bound of its own, which leaves room for the
 * others. On the ring's thread.
 */
#pragma once

#include "gateway/cas/access.h"

struct reapi;
struct callers_tenant;

/* Embedded in a call. */
struct callers_share {
	struct callers_tenant *tenant;   /* NULL: it counts as nobody's */
};

/* Whose calls they are: a number for callers_open(). 0: nobody's, as are those of executors, which are few. */
uint64_t callers_tenant(const struct access_caller *caller);
/* False with `why` (may be NULL, of no size) for RESOURCE_EXHAUSTED: the tenant has REAPI_TENANT_CALLS_MAX. */
bool callers_admit(const struct reapi *reapi, uint64_t tenant, char *why, size_t why_size);
/* One more, whether or not there is room. */
void callers_open(struct reapi *reapi, uint64_t tenant, struct callers_share *share);
/* Its memory is free. Once for each that was opened. */
void callers_close(struct reapi *reapi, struct callers_share *share);
