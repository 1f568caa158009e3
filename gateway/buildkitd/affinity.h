/*
 * affinity: which executor last built for a directory, for the last AFFINITIES_MAX directories that were built. Pure; the
 * executor is a name for whoever asks, never looked into.
 */
#pragma once

#include <stdint.h>

#include "gateway/base/list.h"

#define AFFINITIES_MAX     4096          /* beyond, the one that was not built for longest is forgotten */
#define AFFINITIES_BUCKETS 8192

struct executor;

struct affinity {
	uint64_t key;
	const struct executor *executor;
	struct list link;                /* in `used`, latest last */
	struct affinity *next;           /* in its bucket */
};

struct affinities {
	struct affinity all[AFFINITIES_MAX];
	struct affinity *buckets[AFFINITIES_BUCKETS];
	struct list used;
	uint32_t count;                  /* of `all` that are in `used` */
};

void affinities_init(struct affinities *affinities);
/* NULL: not known. */
const struct executor *affinities_get(const struct affinities *affinities, uint64_t key);
/* It is the latest now. */
void affinities_set(struct affinities *affinities, uint64_t key, const struct executor *executor);
/* The executor goes away. */
void affinities_forget(struct affinities *affinities, const struct executor *executor);
