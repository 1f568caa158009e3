/*
 * resolve: where blobs lie and whether a scope sees them: the index's answer (asynchronous, a batch), then, at the
 * moment of use, what is pending and what is being evicted on top of it.
 */
#pragma once

#include "gateway/store/pending.h"

#define RESOLVE_MAX 256                  /* about as many look-ups as the loop may do without a pause */

struct resolve {
	struct store *store;
	size_t max;
	/* The owner's, before each start. */
	struct scope scope;              /* tenant 0: the store itself, which sees everything */
	const uint8_t *hashes;           /* hash i at hashes + i * stride; kept by the owner until the last use */
	size_t stride, count;
	void (*fn)(struct resolve *resolve);
	int result;
	/* The answer, for resolve_sight(). */
	uint8_t *values;
	int32_t *sizes, *sight_sizes;
	bool *seen;
	uint8_t *keys;
	uint16_t *which;
	size_t which_count;
	uint64_t done;                   /* the last commit that the answer is sure to know */
	struct index_get get;
};

/* 0 or -ENOMEM. */
int resolve_init(struct resolve *resolve, struct store *store, size_t max);
void resolve_fini(struct resolve *resolve);
void resolve_start(struct resolve *resolve);

struct sight {
	bool exists;                     /* the bytes are there */
	bool visible;                    /* and the scope sees them */
	bool pending;                    /* in memory only so far */
	struct place place;
	uint32_t size;
};

/*
 * A commit ended since the start: what it took out of the pending tables may be in neither answer. To be started again.
 */
bool resolve_stale(const struct resolve *resolve);
/* What is true now of hash `i`, unless stale; to be called again after anything else had a turn. */
struct sight resolve_sight(const struct resolve *resolve, size_t i);
