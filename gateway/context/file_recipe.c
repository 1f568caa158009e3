/* Recipes of a table's large files. */
#include "gateway/context/file_recipe.h"

#include "chunker/sha256.h"
#include "proto/pb.h"

#include <errno.h>

#define HEAD_BYTES_MAX (3 + PB_VARINT_BYTES_MAX)

static uint64_t list_bytes(const struct table *table, const struct table_recipe *recipe)
{
	uint64_t bytes = 3 + pb_varint_size(recipe->file_size);

	for (uint32_t i = 0; i < recipe->count; i++)
		bytes += DIGEST_HASH_BYTES + pb_varint_size(table_chunk_digest(table, recipe, i).size);
	return bytes;
}

uint32_t file_recipe_parts(const struct table *table, const struct table_recipe *recipe)
{
	/* Below this count no list is too long, and above the other every one is: summing up is for the few between. */
	if (recipe->count <= (RECIPE_BYTES_MAX - HEAD_BYTES_MAX) / (DIGEST_HASH_BYTES + 5))
		return 0;
	if (list_bytes(table, recipe) <= RECIPE_BYTES_MAX)
		return 0;
	return (recipe->count + RECIPE_PART_ENTRIES - 1) / RECIPE_PART_ENTRIES;
}

static void put_chunks(const struct table *table, const struct table_recipe *recipe, uint32_t first, uint32_t count,
                       struct buffer *out)
{
	const struct table_chunk *chunks = table_chunks(table, recipe);
	uint64_t end = first + count < recipe->count ? chunks[first + count].offset : recipe->file_size;

	recipe_begin(out, &(struct recipe_head){ .profile = recipe->profile, .file_size = end - chunks[first].offset });
	for (uint32_t i = first; i < first + count; i++) {
		struct digest digest = table_chunk_digest(table, recipe, i);

		recipe_add(out, &digest);
	}
}

void file_recipe_put_part(const struct table *table, const struct table_recipe *recipe, uint32_t part,
			  struct buffer *out)
{
	uint32_t first = part * RECIPE_PART_ENTRIES;
	uint32_t left = recipe->count - first;

	put_chunks(table, recipe, first, left < RECIPE_PART_ENTRIES ? left : RECIPE_PART_ENTRIES, out);
}

int file_recipe_part_digest(const struct table *table, const struct table_recipe *recipe, uint32_t part,
                            struct buffer *scratch, struct digest *digest)
{
	buffer_clear(scratch);
	file_recipe_put_part(table, recipe, part, scratch);
	if (scratch->failed)
		return -ENOMEM;
	sha256_once(scratch->data, scratch->size, digest->hash);
	digest->size = scratch->size;
	return 0;
}

static int put_parts(const struct table *table, const struct table_recipe *recipe, uint32_t parts, struct buffer *out)
{
	struct buffer scratch = buffer_heap(RECIPE_BYTES_MAX);
	size_t start = out->size;
	int r = 0;

	recipe_begin(out,
		     &(struct recipe_head){.profile = recipe->profile, .level = 1, .file_size = recipe->file_size});
	for (uint32_t part = 0; !r && part < parts; part++) {
		struct digest digest;

		r = file_recipe_part_digest(table, recipe, part, &scratch, &digest);
		if (r)
			break;
		recipe_add(out, &digest);
		if (out->size - start > RECIPE_BYTES_MAX)
			r = -EFBIG;
	}
	buffer_fini(&scratch);
	return r;
}

int file_recipe_put(const struct table *table, const struct table_recipe *recipe, struct buffer *out)
{
	uint32_t parts = file_recipe_parts(table, recipe);
	int r = 0;

	if (parts)
		r = put_parts(table, recipe, parts, out);
	else
		put_chunks(table, recipe, 0, recipe->count, out);
	return !r && out->failed ? -ENOMEM : r;
}
