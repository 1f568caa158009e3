/*
 * state: one store's parts. For the files of this folder only.
 *
 * Each part has a step function that decides what it does next; store_step() runs them all until none has anything
 * to do. Completion handlers note what happened and call store_step(). So no part runs inside another.
 */
#pragma once

#include "gateway/store/commit.h"
#include "gateway/store/evict.h"
#include "gateway/store/holds.h"
#include "gateway/store/lookup.h"
#include "gateway/store/marks.h"
#include "gateway/store/put.h"
#include "gateway/store/read.h"
#include "gateway/store/scopes.h"
#include "gateway/store/space.h"
#include "gateway/store/tidy.h"
#include "gateway/store/writer.h"

struct store {
	struct ring *ring;
	struct store_config config;
	int dir_fd, lock_fd;
	uint64_t secret;                 /* of this store: seeds its checksums and tables */
	uint64_t ceiling_bytes;          /* as far as segments can fill it */
	uint64_t segment_bytes, map_bytes;
	uint32_t segments_max;
	struct segment *segments;
	const struct index_engine *engine;
	struct index *index;
	struct index_usage usage;
	uint32_t pending_limit;          /* entries a commit may have, as the index has room */
	uint64_t sequence;               /* grows whenever something is taken out of a segment */
	uint64_t used_clock;             /* grows with each use of a segment */
	int failed;                      /* a write or sync failed: nothing is accepted any more; reads go on */

	struct generation generations[2];
	unsigned open;                   /* which of them takes new entries */
	struct writer writer;
	struct commit commit;
	struct space space;
	struct evict evict;
	struct tidy tidy;
	struct puts puts;
	struct reads reads;
	struct lookups lookups;
	struct marks marks;
	struct holds holds;
	struct scopes scopes;
	struct store_status status;

	bool stepping, again;
	struct post pause;
	unsigned paused;                 /* of enum store_part: who goes on after the loop had a turn */
	bool closing;
	struct post close;               /* `fn` is set once all is quiet */
	void (*closed)(void *context);
	void *closed_context;
};

static inline struct generation *store_open_generation(const struct store *store)
{
	return (struct generation *)(uintptr_t)&store->generations[store->open];
}

static inline struct generation *store_frozen_generation(const struct store *store)
{
	return (struct generation *)(uintptr_t)&store->generations[1 - store->open];
}

bool generation_empty(const struct generation *generation);

void store_step(struct store *store);
/* What pauses by itself: others go on meanwhile, or the first in store_step() would keep those behind it from their turn. */
enum store_part {
	STORE_PART_EVICT = 1,
	STORE_PART_PUTS = 2,
	STORE_PART_LOOKUPS = 4,
	STORE_PART_MARKS = 8,
	STORE_PART_TIDY = 16,
};
/* `part` goes on after the loop had a turn: its step does nothing until then. */
void store_pause(struct store *store, enum store_part part);
static inline bool store_pauses(const struct store *store, enum store_part part)
{
	return store->paused & part;
}
/* The disk failed under us: sticky. `segment` is where, UINT32_MAX: the index. */
void store_fail(struct store *store, int error, const char *what, uint32_t segment);
/* A segment was of use: it moves to the end of the order of eviction. */
static inline void store_used(struct store *store, uint32_t segment)
{
	store->segments[segment].row.used = ++store->used_clock;
}
/* The index's room as of its last transaction. */
void store_usage(struct store *store, const struct index_usage *usage);
/* The index has little room left: something must be evicted before more is accepted. */
bool store_index_tight(const struct store *store);
