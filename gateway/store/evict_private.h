/*
 * What the parts of an eviction share: evict.c has the states and copies, evict_walk.c says what must stay,
 * evict_choose.c which segment goes, evict_delete.c takes its entries out of the index.
 */
#pragma once

#include "gateway/store/evict.h"
#include "gateway/store/state.h"

void evict_enter(struct evict *evict, enum evict_state state);
/* Everything is pinned: puts are told, and it is not tried again at once. */
void evict_full(struct store *store);
/* A segment; of its bytes, or of its rows where the index is what is full. */
#define EVICT_WHOLE 65536u

/* Reads a page of the segment's rows, the first one or the next; store_step() when it is there. */
void evict_scan(struct store *store, const struct segment *segment, bool first);
void evict_scan_begin(struct evict *evict, const struct segment *segment);
/* Reads a blob into `buffer`; store_step() when it is there. */
void evict_read(struct store *store, const struct digest *digest);

/* The blob must stay. Right once the walk has ended. */
bool evict_keeps(const struct store *store, const uint8_t *hash);

/* One step of the state of that name. */
void evict_walk(struct store *store);
void evict_measure(struct store *store);
void evict_delete(struct store *store);
