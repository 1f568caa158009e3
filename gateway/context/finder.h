/*
 * finder: finds rows of the former scan by name, one directory after the other. Names are expected in the order in
 * which they were listed then: as long as that holds, a look at the next row is all it takes. Where it fails, the
 * directory's names are hashed. Pure.
 */
#pragma once

#include "gateway/context/table.h"

/* All zero to begin with. */
struct finder {
	uint32_t first, count;                   /* rows of the directory at hand */
	uint32_t next;                           /* expected, counted from first */
	uint32_t *slots;                         /* hash table of the directory's rows + 1 */
	uint32_t slots_capacity, slots_count;
	bool hashed;
};

void finder_fini(struct finder *finder);

/* From here on names are those of `directory` of `former`; TABLE_NONE: of none. */
void finder_begin(struct finder *finder, const struct table *former, uint32_t directory);

/* 0 with the row, or with TABLE_NONE when there is none; -ENOMEM. */
int finder_find(struct finder *finder, const struct table *former, struct span name, uint32_t *row);
