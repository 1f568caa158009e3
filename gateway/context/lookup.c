/* An open-addressing hash table over what a table holds. */
#include "gateway/context/lookup.h"

#include "gateway/context/file_recipe.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

struct lookup {
	const struct table *table;
	struct lookup_place *places;
	size_t count, capacity;
	uint32_t *slots;                         /* place + 1 */
	size_t slots_count;
	struct digest *parts; /* the only digests that the table does not hold; places' index is into these */
	uint32_t *part_numbers;
	size_t parts_count;
};

/* Parts are few (a part is about 1 GiB of a file) and kept in a list. */
static struct digest digest_at(const struct lookup *lookup, const struct lookup_place *place)
{
	const struct table *table = lookup->table;
	const struct table_row *row;

	if (place->kind == LOOKUP_DIRECTORY)
		return table_directory_digest(&table->directories[place->number]);
	row = &table->rows[place->number];
	if (place->kind == LOOKUP_CHUNK)
		return table_chunk_digest(table, &table->recipes[row->link], place->index);
	if (place->kind == LOOKUP_PART)
		return lookup->parts[place->index];
	return table_row_digest(table, row);
}

/* A digest's bytes are as good as random already. */
static uint64_t slot_of(const struct digest *digest)
{
	uint64_t hash;

	memcpy(&hash, digest->hash, sizeof(hash));
	return hash;
}

static uint32_t *slot_for(const struct lookup *lookup, const struct digest *digest)
{
	for (uint64_t slot = slot_of(digest);; slot++) {
		uint32_t *place = &lookup->slots[slot & (lookup->slots_count - 1)];
		struct digest known;

		if (*place == 0)
			return place;
		known = digest_at(lookup, &lookup->places[*place - 1]);
		if (digest_equal(&known, digest))
			return place;
	}
}

static void add(struct lookup *lookup, enum lookup_kind kind, uint32_t number, uint32_t index)
{
	struct lookup_place place = { .kind = kind, .number = number, .index = index };
	struct digest digest = digest_at(lookup, &place);
	uint32_t *slot = slot_for(lookup, &digest);

	if (*slot)
		return;
	lookup->places[lookup->count++] = place;
	*slot = (uint32_t)lookup->count;
}

static bool is_content(const struct table *table, const struct table_row *row)
{
	return S_ISREG(row->mode) && table_included(table, row);
}

static size_t count_row(const struct table *table, const struct table_row *row, uint32_t kinds, size_t *parts)
{
	const struct table_recipe *recipe;
	size_t count = 0;

	if (!is_content(table, row))
		return 0;
	if (!(row->flags & TABLE_ROW_RECIPE))
		return kinds & LOOKUP_WHOLE ? 1 : 0;
	recipe = &table->recipes[row->link];
	if (kinds & LOOKUP_RECIPE)
		count++;
	if (kinds & LOOKUP_CHUNK)
		count += recipe->count;
	if (kinds & LOOKUP_PART)
		*parts += file_recipe_parts(table, recipe);
	return count;
}

static int prepare(struct lookup *lookup, uint32_t kinds)
{
	const struct table *table = lookup->table;
	size_t count = kinds & LOOKUP_DIRECTORY ? table->directories_count : 0, parts = 0;

	for (uint32_t i = 0; kinds & LOOKUP_CONTENTS && i < table->rows_count; i++)
		count += count_row(table, &table->rows[i], kinds, &parts);
	count += parts;
	lookup->slots_count = 16;
	while (lookup->slots_count < 2 * count)
		lookup->slots_count *= 2;
	lookup->capacity = count;
	lookup->places = malloc((count + 1) * sizeof(lookup->places[0]));
	lookup->slots = calloc(lookup->slots_count, sizeof(lookup->slots[0]));
	lookup->parts = malloc((parts + 1) * sizeof(lookup->parts[0]));
	lookup->part_numbers = malloc((parts + 1) * sizeof(lookup->part_numbers[0]));
	return lookup->places && lookup->slots && lookup->parts && lookup->part_numbers ? 0 : -ENOMEM;
}

static int add_parts(struct lookup *lookup, uint32_t row, const struct table_recipe *recipe)
{
	struct buffer scratch = buffer_heap(RECIPE_BYTES_MAX);
	uint32_t parts = file_recipe_parts(lookup->table, recipe);
	int r = 0;

	for (uint32_t part = 0; !r && part < parts; part++) {
		struct digest *digest = &lookup->parts[lookup->parts_count];

		r = file_recipe_part_digest(lookup->table, recipe, part, &scratch, digest);
		if (r)
			break;
		lookup->part_numbers[lookup->parts_count] = part;
		add(lookup, LOOKUP_PART, row, (uint32_t)lookup->parts_count++);
	}
	buffer_fini(&scratch);
	return r;
}

static int add_row(struct lookup *lookup, uint32_t number, uint32_t kinds)
{
	const struct table_row *row = &lookup->table->rows[number];
	const struct table_recipe *recipe;

	if (!is_content(lookup->table, row))
		return 0;
	if (!(row->flags & TABLE_ROW_RECIPE)) {
		if (kinds & LOOKUP_WHOLE)
			add(lookup, LOOKUP_WHOLE, number, 0);
		return 0;
	}
	recipe = &lookup->table->recipes[row->link];
	if (kinds & LOOKUP_RECIPE)
		add(lookup, LOOKUP_RECIPE, number, 0);
	for (uint32_t i = 0; kinds & LOOKUP_CHUNK && i < recipe->count; i++)
		add(lookup, LOOKUP_CHUNK, number, i);
	return kinds & LOOKUP_PART ? add_parts(lookup, number, recipe) : 0;
}

static int fill(struct lookup *lookup, uint32_t kinds)
{
	const struct table *table = lookup->table;
	int r = 0;

	for (uint32_t i = 0; kinds & LOOKUP_DIRECTORY && i < table->directories_count; i++) {
		if (!(table->directories[i].flags & TABLE_DIRECTORY_OMITTED))
			add(lookup, LOOKUP_DIRECTORY, i, 0);
	}
	for (uint32_t i = 0; !r && kinds & LOOKUP_CONTENTS && i < table->rows_count; i++)
		r = add_row(lookup, i, kinds);
	return r;
}

int lookup_create(struct lookup **out, const struct table *table, uint32_t kinds)
{
	struct lookup *lookup = calloc(1, sizeof(*lookup));
	int r;

	if (!lookup)
		return -ENOMEM;
	lookup->table = table;
	r = prepare(lookup, kinds);
	if (!r)
		r = fill(lookup, kinds);
	if (r) {
		lookup_destroy(lookup);
		return r;
	}
	*out = lookup;
	return 0;
}

void lookup_destroy(struct lookup *lookup)
{
	if (!lookup)
		return;
	free(lookup->places);
	free(lookup->slots);
	free(lookup->parts);
	free(lookup->part_numbers);
	free(lookup);
}

bool lookup_find(const struct lookup *lookup, const struct digest *digest, struct lookup_place *place)
{
	uint32_t slot = *slot_for(lookup, digest);

	if (!slot)
		return false;
	*place = lookup->places[slot - 1];
	if (place->kind == LOOKUP_PART)
		place->index = lookup->part_numbers[place->index];
	return true;
}
