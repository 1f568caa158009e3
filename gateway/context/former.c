/* Paths in two tables. */
#include "gateway/context/former.h"

#include <stdlib.h>
#include <sys/stat.h>
#include "gateway/context/finder.h"
#include "gateway/upload/same_place.h"

#define UNKNOWN (TABLE_NONE - 1)

struct former {
	const struct table *table, *before;
	uint32_t *directories;           /* of the table's: the one before; TABLE_NONE, or UNKNOWN yet */
	struct finder finder;
	uint32_t finding;                /* its directory */
};

struct former *former_create(const struct table *table, const struct table *before)
{
	struct former *former = calloc(1, sizeof(*former));
	uint32_t *directories = malloc(((size_t)table->directories_count + 1) * sizeof(*directories));

	if (!former || !directories) {
		free(former);
		free(directories);
		return NULL;
	}
	for (uint32_t i = 0; i < table->directories_count; i++)
		directories[i] = UNKNOWN;
	directories[0] = 0;
	*former = (struct former){ .table = table, .before = before, .directories = directories, .finding = TABLE_NONE };
	return former;
}

void former_destroy(struct former *former)
{
	if (!former)
		return;
	finder_fini(&former->finder);
	free(former->directories);
	free(former);
}

/* What is asked for is sorted by path: a directory's names come one after the other. */
static uint32_t find_name(struct former *former, uint32_t directory, struct span name)
{
	uint32_t row;

	if (former->finding != directory)
		finder_begin(&former->finder, former->before, directory);
	former->finding = directory;
	if (finder_find(&former->finder, former->before, name, &row) < 0 || row == TABLE_NONE ||
	    !table_included(former->before, &former->before->rows[row]))
		return TABLE_NONE;
	return row;
}

static uint32_t directory_before(struct former *former, uint32_t directory);

static uint32_t row_before(struct former *former, uint32_t row)
{
	uint32_t directory = directory_before(former, table_directory_of(former->table, row));

	return directory == TABLE_NONE ? TABLE_NONE : find_name(former, directory, table_name(former->table, &former->table->rows[row]));
}

/* Not deeper than trees are. */
static uint32_t directory_before(struct former *former, uint32_t directory)
{
	uint32_t *known = &former->directories[directory], row;

	if (*known != UNKNOWN)
		return *known;
	row = row_before(former, former->table->directories[directory].row);
	*known = row != TABLE_NONE && S_ISDIR(former->before->rows[row].mode) ? former->before->rows[row].link : TABLE_NONE;
	return *known;
}

static size_t chunks_at(const struct table *before, const struct table_recipe *recipe, uint64_t offset, uint64_t size,
                        struct digest *bases, size_t max)
{
	size_t count = 0;

	for (uint32_t i = 0; i < recipe->count && count < max; i++) {
		struct digest chunk = table_chunk_digest(before, recipe, i);
		uint64_t at = table_chunks(before, recipe)[i].offset;

		if (at >= offset + size)
			break;
		if (same_place(offset, size, at, chunk.size))
			bases[count++] = chunk;
	}
	return count;
}

/* Of the bytes [offset, offset + size) of what is a file now. */
static size_t content_bases(const struct table *before, const struct table_row *row, uint64_t offset, uint64_t size,
                            struct digest *bases, size_t max)
{
	if (row->flags & TABLE_ROW_RECIPE)
		return chunks_at(before, &before->recipes[row->link], offset, size, bases, max);
	bases[0] = table_row_digest(before, row);
	return bases[0].size > 0;
}

static size_t file_bases(struct former *former, const struct lookup_place *place, struct digest *bases, size_t max)
{
	const struct table_row *now = &former->table->rows[place->number];
	uint32_t number = row_before(former, place->number);
	const struct table_row *row = number == TABLE_NONE ? NULL : &former->before->rows[number];
	const struct table_recipe *recipe;

	if (!row || !S_ISREG(row->mode))
		return 0;
	switch (place->kind) {
	case LOOKUP_WHOLE:
		return content_bases(former->before, row, 0, now->size, bases, max);
	case LOOKUP_RECIPE:
		bases[0] = table_row_digest(former->before, row);
		return row->flags & TABLE_ROW_RECIPE ? 1 : 0;
	case LOOKUP_CHUNK:
		recipe = &former->table->recipes[now->link];
		return content_bases(former->before, row, table_chunks(former->table, recipe)[place->index].offset,
		                     table_chunk_digest(former->table, recipe, place->index).size, bases, max);
	case LOOKUP_DIRECTORY:
	case LOOKUP_PART:
		return 0;
	}
	return 0;
}

size_t former_bases(struct former *former, const struct lookup_place *place, struct digest *bases, size_t max)
{
	uint32_t directory;

	if (max == 0)
		return 0;
	if (place->kind != LOOKUP_DIRECTORY)
		return file_bases(former, place, bases, max);
	directory = directory_before(former, place->number);
	if (directory == TABLE_NONE)
		return 0;
	bases[0] = table_directory_digest(&former->before->directories[directory]);
	return 1;
}
