/*
 * recipe: the ordered chunks of a file, itself a blob, whose digest names the file when it is longer than
 * RECIPE_WHOLE_MAX bytes (shorter files are named by their own SHA-256).
 *
 * Wire: one byte version (1), one byte profile (enum profile of chunker/profile.h, carried as a number), one byte level
 * (0: the entries are chunks; 1: they are recipes), varint file size, then for each entry 32 raw digest bytes and a
 * varint size. At level 0 the size is that of the chunk and sizes sum to the file size. A level-0 recipe longer than
 * RECIPE_BYTES_MAX is split: level-0 recipes (each with the size of its own part as file size) listed by one of level
 * 1, whose entries carry the *blob* size of the part recipe. No deeper.
 */
#pragma once

#include "proto/buffer.h"
#include "proto/digest.h"

#define RECIPE_WHOLE_MAX    65536
#define RECIPE_VERSION      1
#define RECIPE_BYTES_MAX    (1u << 20)
#define RECIPE_PART_ENTRIES 16384        /* chunks a part: fixed, so that the same file always splits the same way */

struct recipe_head {
	uint32_t profile;
	uint32_t level;
	uint64_t file_size;
};

void recipe_begin(struct buffer *out, const struct recipe_head *head);
void recipe_add(struct buffer *out, const struct digest *entry);

struct recipe_reader {
	struct recipe_head head;
	struct span rest;
	uint64_t sum;
	bool failed;
};

/* False: not a recipe of a version and level that we know. */
bool recipe_open(struct recipe_reader *reader, struct span blob);
/* False at the end, or on malformed input (`failed`): truncated, sizes that do not sum up, no entries, empty chunks. */
bool recipe_next(struct recipe_reader *reader, struct digest *entry);
