/*
 * filter: which keys may be in a table. A false "may" costs a look-up; a false "not" never happens for what was added, so
 * nothing is ever taken out. A block of 64 bytes a key (one line of the cache), four bits in it, so that a question
 * costs one access to memory. Adding and asking may go on in several threads at once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct filter {
	uint64_t *words;
	uint64_t blocks;                 /* a power of two; 0: it knows nothing, and everything may be there */
	uint64_t added, added_max;       /* that changed it; beyond so many it says "may" too often to be worth asking */
};

/* For about so many keys, a byte each. -ENOMEM: it stays one that knows nothing. */
int filter_init(struct filter *filter, uint64_t keys);
void filter_fini(struct filter *filter);
/* `hash`: 16 bytes without structure. */
void filter_add(struct filter *filter, const uint8_t *hash);
bool filter_may(const struct filter *filter, const uint8_t *hash);
/* Before asking: fetches what that will look at. */
void filter_prefetch(const struct filter *filter, const uint8_t *hash);
/* It was made for fewer keys. */
bool filter_full(const struct filter *filter);
