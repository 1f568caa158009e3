/* Hints by blob, and former chunks by place. */
#include "gateway/edge/bases.h"

#include "gateway/upload/same_place.h"

void bases_fini(struct bases *bases)
{
	digest_map_fini(&bases->hints);
}

static void add(struct bases *bases, const struct base_hint *hint)
{
	struct base_hint *entry;
	bool added;

	if (hint->blob.size == 0 || hint->former.digest.size == 0 || digest_equal(&hint->blob, &hint->former.digest))
		return;
	bases->hints.entry_size = sizeof(*entry);
	entry = digest_map_add(&bases->hints, &hint->blob, &added);
	if (entry && added)
		*entry = *hint;
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
	const struct base_hint *hint = digest_map_find(&bases->hints, blob);
	const struct recipe_record *record;

	if (!hint || max == 0)
		return 0;
	if (!hint->former.recipe || hint->as_named) {
		found[0] = hint->former.digest;
		return 1;
	}
	/* Of a file with parts (1 GiB and more) only what is there to be looked at at once. */
	record = recipes_find(recipes, &hint->former.digest);
	return record && !record->are_recipes ? find_chunks(hint, record, found, max) : 0;
}
