/* Edits one after the other, and where whose are. */
#include "gateway/upload/based.h"

void based_fini(struct based *based)
{
	digest_map_fini(&based->blobs);
	buffer_fini(&based->edits);
	*based = (struct based){ 0 };
}

void based_add(struct based *based, const struct digest *blob, const struct digest *base, struct span edits)
{
	struct based_blob *entry;
	bool added;

	if (!based->blobs.capacity) {
		based->blobs.entry_size = sizeof(*entry);
		based->edits = buffer_heap(BASED_BYTES_MAX);
	}
	if (blob->size == 0 || edits.size > BASED_BYTES_MAX - based->edits.size || !buffer_reserve(&based->edits, edits.size))
		return;
	entry = digest_map_add(&based->blobs, blob, &added);
	if (!entry || !added)
		return;
	*entry = (struct based_blob){ .blob = *blob, .base = *base, .at = based->edits.size, .size = edits.size };
	buffer_put(&based->edits, edits.data, edits.size);
}

const struct based_blob *based_find(const struct based *based, const struct digest *blob)
{
	return digest_map_find(&based->blobs, blob);
}
