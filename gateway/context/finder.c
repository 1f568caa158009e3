/* Prediction first, a hash table second. */
#include "gateway/context/finder.h"

#include <errno.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define PREDICTION_STEPS 4               /* rows that are looked at before the names are hashed */

void finder_fini(struct finder *finder)
{
	free(finder->slots);
	*finder = (struct finder){ 0 };
}

void finder_begin(struct finder *finder, const struct table *former, uint32_t directory)
{
	finder->first = 0;
	finder->count = 0;
	if (directory != TABLE_NONE) {
		finder->first = former->directories[directory].first;
		finder->count = former->directories[directory].count;
	}
	finder->next = 0;
	finder->hashed = false;
}

static bool row_is(const struct table *former, uint32_t row, struct span name)
{
	const struct table_row *candidate = &former->rows[row];

	return candidate->name_size == name.size && memcmp(former->names + candidate->name, name.data, name.size) == 0;
}

static int hash_names(struct finder *finder, const struct table *former)
{
	uint32_t wanted = 16;

	while (wanted < 2 * finder->count)
		wanted *= 2;
	if (wanted > finder->slots_capacity) {
		free(finder->slots);
		finder->slots_capacity = 0;
		finder->slots = malloc(wanted * sizeof(finder->slots[0]));
		if (!finder->slots)
			return -ENOMEM;
		finder->slots_capacity = wanted;
	}
	memset(finder->slots, 0, wanted * sizeof(finder->slots[0]));
	finder->slots_count = wanted;
	for (uint32_t i = 0; i < finder->count; i++) {
		struct span name = table_name(former, &former->rows[finder->first + i]);
		uint64_t slot = XXH3_64bits(name.data, name.size);

		while (finder->slots[slot & (wanted - 1)])
			slot++;
		finder->slots[slot & (wanted - 1)] = i + 1;
	}
	finder->hashed = true;
	return 0;
}

static uint32_t predict(const struct finder *finder, const struct table *former, struct span name)
{
	uint32_t left = finder->count - finder->next;

	for (uint32_t i = 0; i < left && i < PREDICTION_STEPS; i++) {
		if (row_is(former, finder->first + finder->next + i, name))
			return finder->first + finder->next + i;
	}
	return TABLE_NONE;
}

static uint32_t look_up(const struct finder *finder, const struct table *former, struct span name)
{
	for (uint64_t slot = XXH3_64bits(name.data, name.size);; slot++) {
		uint32_t found = finder->slots[slot & (finder->slots_count - 1)];

		if (!found)
			return TABLE_NONE;
		if (row_is(former, finder->first + found - 1, name))
			return finder->first + found - 1;
	}
}

int finder_find(struct finder *finder, const struct table *former, struct span name, uint32_t *row)
{
	*row = predict(finder, former, name);
	if (*row == TABLE_NONE && finder->count) {
		int r = finder->hashed ? 0 : hash_names(finder, former);

		if (r)
			return r;
		*row = look_up(finder, former, name);
	}
	if (*row != TABLE_NONE)
		finder->next = *row - finder->first + 1;
	return 0;
}
