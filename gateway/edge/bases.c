/* Hints by blob, and former chunks by place. */
#include "gateway/edge/bases.h"

#include <stdlib.h>
#include <string.h>
#include "gateway/upload/same_place.h"

#define SLOTS_MIN 256u

void bases_fini(struct bases *bases)
{
	free(bases->slots);
	*bases = (struct bases){ 0 };
}

static struct base_hint *slot_of(struct base_hint *slots, size_t capacity, const struct digest *blob)
{
	uint64_t value;
	size_t i;

	memcpy(&value, blob->hash, sizeof(value));
	i = (size_t)value & (capacity - 1);
	while (slots[i].blob.size && !digest_equal(&slots[i].blob, blob))
		i = (i + 1) & (capacity - 1);
	return &slots[i];
}

static bool grow(struct bases *bases)
{
	size_t capacity = bases->capacity ? bases->capacity * 2 : SLOTS_MIN;
	struct base_hint *slots = calloc(capacity, sizeof(*slots));

	if (!slots)
		return false;
	for (size_t i = 0; i < bases->capacity; i++)
		if (bases->slots[i].blob.size)
			*slot_of(slots, capacity, &bases->slots[i].blob) = bases->slots[i];
	free(bases->slots);
	bases->slots = slots;
	bases->capacity = capacity;
	return true;
}

static void add(struct bases *bases, const struct base_hint *hint)
{
	struct base_hint *slot;

	if (hint->blob.size == 0 || hint->former.digest.size == 0 || digest_equal(&hint->blob, &hint->former.digest))
		return;
	if (bases->count * 2 >= bases->capacity && !grow(bases))
		return;
	slot = slot_of(bases->slots, bases->capacity, &hint->blob);
	if (slot->blob.size)
		return;
	*slot = *hint;
	bases->count++;
}

void bases_add(struct bases *bases, const struct digest *blob, const struct content_name *former, uint64_t offset)
{
	add(bases, &(struct base_hint){ .blob = *blob, .former = *former, .offset = offset });
}

void bases_add_recipe(struct bases *bases, const struct digest *blob, const struct content_name *former)
{
	if (former->recipe)
		add(bases, &(struct base_hint){ .blob = *blob, .former = *former, .as_named = true });
}

static size_t find_chunks(const struct base_hint *hint, const struct recipe_record *record, struct digest *found, size_t max)
{
	uint64_t offset = 0;
	size_t count = 0;

	for (uint32_t i = 0; i < record->count && count < max && offset < hint->offset + hint->blob.size; i++) {
		if (same_place(hint->offset, hint->blob.size, offset, record->blobs[i].size))
			found[count++] = record->blobs[i];
		offset += record->blobs[i].size;
	}
	return count;
}

size_t bases_find(const struct bases *bases, const struct recipes *recipes, const struct digest *blob, struct digest *found,
                  size_t max)
{
	const struct base_hint *hint = bases->capacity ? slot_of(bases->slots, bases->capacity, blob) : NULL;
	const struct recipe_record *record;

	if (!hint || !hint->blob.size || max == 0)
		return 0;
	if (!hint->former.recipe || hint->as_named) {
		found[0] = hint->former.digest;
		return 1;
	}
	/* Of a file with parts (1 GiB and more) only what is there to be looked at at once. */
	record = recipes_find(recipes, &hint->former.digest);
	return record && !record->are_recipes ? find_chunks(hint, record, found, max) : 0;
}
