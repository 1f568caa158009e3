/*
 * siblings: the sessions of one client's connection, and which of them a directory's name belongs to. What several builds of one
 * buildx share of a directory is in one session (build.go, detectSharedMounts()). So where two of one shared key are asked for
 * a directory of one name, these are two directories, whose paths may be the same in all that a stat tells: services/a/app and
 * services/b/app. BuildKit keeps them apart as long as both are in use. Pure.
 */
#pragma once

#include "gateway/base/list.h"
#include "proto/span.h"

#define SIBLING_NAMES_MAX  64            /* of directories, a session */
#define SIBLING_HASH_BYTES 16

struct siblings {
	struct list list;
};

/* Of one session; embedded there. All-zero: it has no siblings. */
struct sibling {
	struct siblings *siblings;
	struct list link;
	struct span shared_key;
	unsigned names_count;
	uint8_t names[SIBLING_NAMES_MAX][SIBLING_HASH_BYTES];
};

void siblings_init(struct siblings *siblings);

/* `shared_key` lives as long as the sibling, `siblings` as well. */
void sibling_join(struct sibling *sibling, struct siblings *siblings, struct span shared_key);
/* What was its, may be another one's. May be called again, or without having joined. */
void sibling_leave(struct sibling *sibling);
/*
 * The directory of that name is this one's, from the first question on. False: it is that of another one of the same shared key;
 * or there are too many names.
 */
bool sibling_takes(struct sibling *sibling, struct span name);
