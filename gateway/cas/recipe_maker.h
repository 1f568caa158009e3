/*
 * recipe_maker: the recipe of a file whose chunks come one after the other and whose length is not known before its end;
 * the same recipe as gateway/context/file_recipe.h makes of the whole list. Keeps at most RECIPE_BYTES_MAX of entries:
 * then it is certain that the recipe is split, and parts are handed out as they fill.
 */
#pragma once

#include "proto/recipe.h"

struct recipe_maker {
	uint32_t profile;
	bool split;
	uint32_t count;                  /* of chunks in `entries` */
	uint64_t bytes;                  /* that those sum up to */
	uint64_t file_bytes;
	size_t first_end;                /* not split: where the first RECIPE_PART_ENTRIES end, and what they sum up to */
	uint64_t first_bytes;
	struct buffer entries;           /* encoded; of the part that is being filled, or of all so far */
	struct buffer parts;             /* encoded; what the level above lists */
};

void recipe_maker_init(struct recipe_maker *maker, uint32_t profile);
void recipe_maker_fini(struct recipe_maker *maker);      /* all-zero is accepted */

enum { RECIPE_MAKER_NONE = 0, RECIPE_MAKER_PART = 1, RECIPE_MAKER_DONE = 2 };

/*
 * The file's next chunk. NONE; PART: `blob` is a part, to be stored; -EFBIG: longer than recipes go; -ENOMEM. With PART
 * `blob` (heap) and `digest` are the caller's then; otherwise they are left alone.
 */
int recipe_maker_add(struct recipe_maker *maker, const struct digest *chunk, struct buffer *blob, struct digest *digest);
/* The file has ended, after a chunk at least. PART: as above, call again; DONE: `digest` names the file; -EFBIG; -ENOMEM. */
int recipe_maker_finish(struct recipe_maker *maker, struct buffer *blob, struct digest *digest);
