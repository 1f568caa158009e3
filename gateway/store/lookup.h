/* lookup: which of many blobs a scope has, a slice at a time, with pauses for the loop. */
#pragma once

#include "gateway/store/resolve.h"

/* The place of a blob that needs none. */
#define LOOKUP_NOWHERE (STORE_SEGMENTS_MAX + 1)

struct lookups {
	struct list queue;               /* struct store_lookup; the first one is being worked on */
	struct resolve resolve;
	size_t at;
	uint64_t sequence;               /* the store's, at the first slice */
	unsigned restarts;               /* of the first one, as something was taken out meanwhile */
	bool resolving, resolved;
};

int lookups_init(struct lookups *lookups, struct store *store);
void lookups_fini(struct lookups *lookups);
void lookups_step(struct store *store);
