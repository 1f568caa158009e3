/*
 * refs: which executors ran builds of a Ref: where its history, logs and content are, and where it is taken. Pure. Refs of
 * different tenants are told apart.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/buildkit/build.h"

/*
 * Pairs of a Ref and an executor that built it, and those that its history tells of. Beyond, the one that was first remembered
 * before all others of its kind is forgotten, of those that are not taken; while all are, no further one is remembered. So
 * whoever lists a long history pushes out no builds.
 */
#define REFS_MAX        4096
#define REFS_LISTED_MAX 1024
#define REFS_BUCKETS 8192

struct ref_entry {
	char ref[BUILD_ID_MAX];
	char executor[EXECUTOR_NAME_MAX];
	uint32_t takers;                 /* builds of it that run there */
	uint32_t process;                /* the daemon's that took it last; 0: not known, or several did */
	uint64_t kept_until_ns;          /* after the last of them; of the ring's clock */
	uint64_t remembered;             /* when, in calls of refs_remember() and refs_note() */
};

/* Places of one kind, in turn. */
struct refs_places {
	uint32_t count, next;
};

struct refs {
	struct ref_entry *entries;       /* REFS_MAX, and behind them REFS_LISTED_MAX; each kind from its first on */
	uint64_t keys[REFS_MAX + REFS_LISTED_MAX];       /* theirs, of tenant and Ref */
	/* Each place is an index and one, 0: none. Looked into often: for each executor that a build may be placed at. */
	uint16_t buckets[REFS_BUCKETS], following[REFS_MAX + REFS_LISTED_MAX];
	struct refs_places built, listed;
	uint64_t remembered;
};

void refs_fini(struct refs *refs);       /* all-zero is accepted, and is an empty table */
/* A build of it begins there. Without memory or room it is not remembered. */
void refs_remember(struct refs *refs, const char *tenant, const char *ref, const char *executor, uint64_t now_ns);
/* The executor's history has it. */
void refs_note(struct refs *refs, const char *tenant, const char *ref, const char *executor, uint64_t now_ns);
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
/* Of the executors with that Ref the one remembered last: its name, borrowed until the next is; NULL: none. */
const char *refs_find(const struct refs *refs, const char *tenant, const char *ref);
/* Of (tenant, text): never 0. */
uint64_t refs_hash(const char *tenant, const char *text);
