/* Open addressing over digests; SHA-256 itself is the hash. */
#include "gateway/base/digest_set.h"

#include <errno.h>
#include <stdlib.h>

static bool slot_free(const struct digest *slot)
{
	static const struct digest none;

	return digest_equal(slot, &none);
}

static size_t slot_of(const struct digest_set *set, const struct digest *digest)
{
	uint64_t key;

	memcpy(&key, digest->hash, sizeof(key));
	for (size_t i = key & (set->capacity - 1);; i = (i + 1) & (set->capacity - 1))
		if (slot_free(&set->slots[i]) || digest_equal(&set->slots[i], digest))
			return i;
}

static int set_grow(struct digest_set *set)
{
	struct digest_set grown = { .capacity = set->capacity ? set->capacity * 2 : 256, .count = set->count };

	grown.slots = calloc(grown.capacity, sizeof(*grown.slots));
	if (!grown.slots)
		return -ENOMEM;
	for (size_t i = 0; i < set->capacity; i++)
		if (!slot_free(&set->slots[i]))
			grown.slots[slot_of(&grown, &set->slots[i])] = set->slots[i];
	free(set->slots);
	*set = grown;
	return 0;
}

void digest_set_fini(struct digest_set *set)
{
	free(set->slots);
	*set = (struct digest_set){ 0 };
}

int digest_set_add(struct digest_set *set, const struct digest *digest)
{
	size_t i;

	if (set->count * 2 >= set->capacity && set_grow(set) < 0)
		return -ENOMEM;
	i = slot_of(set, digest);
	if (!slot_free(&set->slots[i]))
		return 0;
	set->slots[i] = *digest;
	set->count++;
	return 1;
}

bool digest_set_has(const struct digest_set *set, const struct digest *digest)
{
	return set->capacity && !slot_free(&set->slots[slot_of(set, digest)]);
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
