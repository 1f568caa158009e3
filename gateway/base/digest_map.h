/*
 * digest_map: entries by digest: structs whose first member is their struct digest. Open addressing, growing; where a digest belongs
 * is no peer's to choose (digest_hash.h). The digest of size 0 and hash 0 cannot be a key: it marks what is free.
 */
#pragma once

#include "gateway/base/digest_hash.h"

struct digest_map {                      /* all-zero but for entry_size: empty */
	size_t entry_size;
	uint8_t *entries;
	size_t capacity, count;
	struct digest_secret secret;     /* made with the first entry */
};

void digest_map_fini(struct digest_map *map);            /* and is empty then */
/* The entry of `digest`, until the next digest_map_add(). NULL: none. */
void *digest_map_find(const struct digest_map *map, const struct digest *digest);
/*
 * The entry of `digest`; `added`: it is new, with nothing but its digest set. Others move: what find() gave is no longer good.
 * NULL: no memory.
 */
void *digest_map_add(struct digest_map *map, const struct digest *digest, bool *added);
