/*
 * file_recipe: recipes as blobs, made from a table's chunks. A list that fits in RECIPE_BYTES_MAX is one recipe; a
 * longer one is cut into parts of RECIPE_PART_ENTRIES chunks, and the recipe lists those. Pure.
 */
#pragma once

#include "gateway/context/table.h"
#include "proto/recipe.h"

/* How many parts the recipe has; 0 when it lists its chunks itself. */
uint32_t file_recipe_parts(const struct table *table, const struct table_recipe *recipe);

/* Appends a part. */
void file_recipe_put_part(const struct table *table, const struct table_recipe *recipe, uint32_t part,
			  struct buffer *out);

/*
 * Appends the recipe itself. 0; -EFBIG: a file of too many chunks, even for a list of parts; -ENOMEM. `out` grows to
 * RECIPE_BYTES_MAX at least.
 */
int file_recipe_put(const struct table *table, const struct table_recipe *recipe, struct buffer *out);

/* The digest of a part, for which it is built in `scratch`. */
int file_recipe_part_digest(const struct table *table, const struct table_recipe *recipe, uint32_t part,
                            struct buffer *scratch, struct digest *digest);
