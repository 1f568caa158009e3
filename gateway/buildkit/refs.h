/*
 * refs: which executors ran builds of a Ref: where its history, logs and content are, and where it is taken. Pure. Refs of
 * different tenants are told apart.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/buildkit/build.h"

/*
 * Pairs of a Ref and an executor. Beyond, the one that was first remembered before all others is forgotten, of those that no
 * build runs of; while one runs of each, no further one is remembered.
 */
#define REFS_MAX 4096
#define REFS_BUCKETS 8192

struct ref_entry {
	char ref[BUILD_ID_MAX];
	char executor[EXECUTOR_NAME_MAX];
	uint32_t takers;                 /* builds of it that run there */
	uint32_t process;                /* the daemon's that took it last; 0: not known, or several did */
	uint64_t kept_until_ns;          /* after the last of them; of the ring's clock */
	uint64_t remembered;             /* when, in refs_remember() calls */
};

struct refs {
	struct ref_entry *entries;       /* REFS_MAX of them, from the first on */
	uint64_t keys[REFS_MAX];         /* theirs, of tenant and Ref */
	/* Each place is an index and one, 0: none. Looked into often: for each executor that a build may be placed at. */
	uint16_t buckets[REFS_BUCKETS], following[REFS_MAX];
	uint32_t count, next;
	uint64_t remembered;
};

void refs_fini(struct refs *refs);       /* all-zero is accepted, and is an empty table */
/* Without memory or room it is not remembered. */
void refs_remember(struct refs *refs, const char *tenant, const char *ref, const char *executor);
/*
 * A daemon takes a Ref for one build at a time, and keeps it for REFS_KEPT_NS after. Each refs_take() that said true is
 * followed by one refs_leave(). False: it is not remembered, and so not taken.
 */
#define REFS_KEPT_NS 11000000000ull
bool refs_take(struct refs *refs, const char *tenant, const char *ref, const char *executor, uint32_t process);
void refs_leave(struct refs *refs, const char *tenant, const char *ref, const char *executor, uint64_t kept_until_ns);
bool refs_taken(const struct refs *refs, const char *tenant, const char *ref, const char *executor, uint64_t now_ns);
/* The process that keeps it after its last build; 0: not known, or a build of it runs there. */
uint32_t refs_keeper(const struct refs *refs, const char *tenant, const char *ref, const char *executor);
/* That process has ended: nobody keeps it. Only when refs_keeper() named one. */
void refs_let_go(struct refs *refs, const char *tenant, const char *ref, const char *executor);
/* Of the executors with that Ref the one remembered last: its name, borrowed until the next refs_remember(); NULL: none. */
const char *refs_find(const struct refs *refs, const char *tenant, const char *ref);
/* Of (tenant, text): never 0. */
uint64_t refs_hash(const char *tenant, const char *text);
