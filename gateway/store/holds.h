/* holds: what must not be evicted: transactions' holds, and `sluice pin`. */
#pragma once

#include "gateway/base/digest_set.h"
#include "gateway/store/fingerprints.h"
#include "gateway/store/store.h"

struct hold_roots {
	struct digest_vector list;
	struct digest_set seen;          /* the same, to be asked: real names, that no peer can make to collide */
};

struct store_hold {
	struct store *store;
	struct scope scope;
	struct fingerprints blobs;
	struct hold_roots directories, recipes;
	struct list link;
};

struct holds {
	struct list list;
	uint32_t count;
	struct store_pin *pins;          /* all that are in force, or about to be */
	uint32_t pins_count;
	uint64_t epoch;                  /* grows when something was released */
};

int holds_init(struct holds *holds, struct store *store);
void holds_fini(struct holds *holds);
/* A hold names this blob itself (what its roots need is found by the eviction's walk). */
bool holds_blob(const struct store *store, const uint8_t *hash);
