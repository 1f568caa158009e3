/* A table by the blob's digest. */
#include "gateway/upload/based.h"

#include <stdlib.h>
#include <string.h>

#define SLOTS_MIN 64u

void based_fini(struct based *based)
{
	free(based->slots);
	buffer_fini(&based->edits);
	*based = (struct based){ 0 };
}

static struct based_blob *slot_of(struct based_blob *slots, size_t capacity, const struct digest *blob)
{
	uint64_t value;
	size_t i;

	memcpy(&value, blob->hash, sizeof(value));
	i = (size_t)value & (capacity - 1);
	while (slots[i].blob.size && !digest_equal(&slots[i].blob, blob))
		i = (i + 1) & (capacity - 1);
	return &slots[i];
}

static bool grow(struct based *based)
{
	size_t capacity = based->capacity ? based->capacity * 2 : SLOTS_MIN;
	struct based_blob *slots = calloc(capacity, sizeof(*slots));

	if (!slots)
		return false;
	for (size_t i = 0; i < based->capacity; i++)
		if (based->slots[i].blob.size)
			*slot_of(slots, capacity, &based->slots[i].blob) = based->slots[i];
	free(based->slots);
	based->slots = slots;
	based->capacity = capacity;
	return true;
}

void based_add(struct based *based, const struct digest *blob, const struct digest *base, struct span edits)
{
	struct based_blob *slot;

	if (!based->capacity)
		based->edits = buffer_heap(BASED_BYTES_MAX);
	if (blob->size == 0 || edits.size > BASED_BYTES_MAX - based->edits.size)
		return;
	if (based->count * 2 >= based->capacity && !grow(based))
		return;
	slot = slot_of(based->slots, based->capacity, blob);
	if (slot->blob.size || !buffer_reserve(&based->edits, edits.size))
		return;
	*slot = (struct based_blob){ .blob = *blob, .base = *base, .at = based->edits.size, .size = edits.size };
	buffer_put(&based->edits, edits.data, edits.size);
	based->count++;
}

const struct based_blob *based_find(const struct based *based, const struct digest *blob)
{
	const struct based_blob *slot = based->capacity ? slot_of(based->slots, based->capacity, blob) : NULL;

	return slot && slot->blob.size ? slot : NULL;
}
