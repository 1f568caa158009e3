/* digest_set: a set of digests, growing up to a bound. And digest_vector: digests one after the other. */
#pragma once

#include "gateway/base/digest_map.h"

struct digest_set {
	struct digest_map map;           /* of digests alone */
};

void digest_set_fini(struct digest_set *set);            /* all-zero is accepted, and is an empty set */
/* 1: added; 0: was there; -ENOMEM. The digest of size 0 and hash 0 cannot be kept. */
int digest_set_add(struct digest_set *set, const struct digest *digest);
bool digest_set_has(const struct digest_set *set, const struct digest *digest);
static inline size_t digest_set_count(const struct digest_set *set)
{
	return set->map.count;
}

struct digest_vector {
	struct digest *items;
	size_t count, capacity;
};

void digest_vector_fini(struct digest_vector *vector);
int digest_vector_add(struct digest_vector *vector, const struct digest *digest);        /* 0 or -ENOMEM */
