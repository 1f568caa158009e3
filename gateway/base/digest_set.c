/* A map with nothing but keys; an array that grows. */
#include "gateway/base/digest_set.h"

#include <errno.h>
#include <stdlib.h>

void digest_set_fini(struct digest_set *set)
{
	digest_map_fini(&set->map);
}

int digest_set_add(struct digest_set *set, const struct digest *digest)
{
	bool added;

	set->map.entry_size = sizeof(struct digest);
	return digest_map_add(&set->map, digest, &added) ? added : -ENOMEM;
}

bool digest_set_has(const struct digest_set *set, const struct digest *digest)
{
	return digest_map_find(&set->map, digest);
}

void digest_vector_fini(struct digest_vector *vector)
{
	free(vector->items);
	*vector = (struct digest_vector){ 0 };
}

int digest_vector_add(struct digest_vector *vector, const struct digest *digest)
{
	if (vector->count == vector->capacity) {
		size_t capacity = vector->capacity ? vector->capacity * 2 : 64;
		struct digest *items = realloc(vector->items, capacity * sizeof(*items));

		if (!items)
			return -ENOMEM;
		vector->items = items;
		vector->capacity = capacity;
	}
	vector->items[vector->count++] = *digest;
	return 0;
}
