/*
 * refs: which executors ran builds of a Ref, for the last REFS_MAX builds: where its history, logs and content are, and where
 * it is taken. Pure. Refs of different tenants are told apart.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/buildkit/build.h"

#define REFS_MAX 4096                    /* beyond, the oldest is forgotten */

struct ref_entry {
	char ref[BUILD_ID_MAX];
	char executor[EXECUTOR_NAME_MAX];
	uint64_t taken_until_ns;         /* there; of the ring's clock. 0: it is not known to be */
	uint64_t remembered;             /* when, in refs_remember() calls */
};

struct refs {
	struct ref_entry *entries;       /* REFS_MAX of them, from the first on */
	uint64_t keys[REFS_MAX];         /* theirs, of tenant and Ref: close together, as each build looks through them often */
	uint32_t count, next;
	uint64_t remembered;
};

void refs_fini(struct refs *refs);       /* all-zero is accepted, and is an empty table */
/* Without memory it is not remembered. */
void refs_remember(struct refs *refs, const char *tenant, const char *ref, const char *executor);
/*
 * A daemon takes a Ref for one build at a time, and keeps it for REFS_KEPT_NS after. `until_ns`: UINT64_MAX while the build
 * runs. What is not remembered is not taken.
 */
#define REFS_KEPT_NS 11000000000ull
void refs_take(struct refs *refs, const char *tenant, const char *ref, const char *executor, uint64_t until_ns);
bool refs_taken(const struct refs *refs, const char *tenant, const char *ref, const char *executor, uint64_t now_ns);
/* Of the executors with that Ref the one remembered last: its name, borrowed until the next refs_remember(); NULL: none. */
const char *refs_find(const struct refs *refs, const char *tenant, const char *ref);
/* Of (tenant, text): never 0. */
uint64_t refs_hash(const char *tenant, const char *text);
