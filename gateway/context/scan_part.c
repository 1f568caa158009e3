/* Parts, and the walk over them that joins them. */
#include "gateway/context/scan_part.h"

#include "gateway/base/check.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

int scan_part_init(struct scan_part *part, const struct table *former)
{
	uint32_t unused;

	*part = (struct scan_part){ .table = table_make(former) };
	return table_add_row(&part->table, (struct span){ 0 }, &unused);
}

void scan_part_fini(struct scan_part *part)
{
	table_fini(&part->table);
	free(part->origins);
	*part = (struct scan_part){ 0 };
}

static int reserve_origin(struct scan_part *part)
{
	uint32_t capacity = part->origins_capacity * 2 + 64;
	struct scan_origin *moved;

	if (part->table.directories_count < part->origins_capacity)
		return 0;
	moved = realloc(part->origins, capacity * sizeof(*moved));
	if (!moved)
		return -ENOMEM;
	part->origins = moved;
	part->origins_capacity = capacity;
	return 0;
}

int scan_part_begin(struct scan_part *part, struct scan_place place, uint32_t *directory)
{
	/* The root's row comes before its directory, and what is in the arena for it goes with it. */
	uint32_t names_first = place.row ? part->table.names_bytes : 0;
	int r = reserve_origin(part);

	if (!r)
		r = table_add_directory(&part->table, 0, 0, directory);
	if (!r)
		part->origins[*directory] = (struct scan_origin){ .place = place, .names_first = names_first };
	return r;
}

void scan_part_end(struct scan_part *part, uint32_t directory)
{
	CHECK(directory + 1 == part->table.directories_count);
	part->origins[directory].names_end = part->table.names_bytes;
}

struct joining {
	struct scan_part *parts;
	struct table *table;
};

/* Each directory's row learns where the directory is: its part + 1 in `former`, its number there in `link`. */
static void link_rows(struct scan_part *parts, uint32_t count)
{
	for (uint32_t part = 0; part < count; part++) {
		for (uint32_t i = 0; i < parts[part].table.directories_count; i++) {
			struct scan_place place = parts[part].origins[i].place;
			struct table_row *row = &parts[place.part].table.rows[place.row];

			row->former = part + 1;
			row->link = i;
		}
	}
}

static int reserve_all(struct table *table, const struct scan_part *parts, uint32_t count)
{
	uint64_t rows = 1, directories = 0, recipes = 0, chunks = 0, names = 1;

	for (uint32_t i = 0; i < count; i++) {
		rows += parts[i].table.rows_count;
		directories += parts[i].table.directories_count;
		recipes += parts[i].table.recipes_count;
		chunks += parts[i].table.chunks_count;
		names += parts[i].table.names_bytes;
	}
	return table_reserve(table, rows, directories, recipes, chunks, names);
}

/* The recipe of a row with its chunks, but for those that stay in the former table. */
static void join_recipe(struct table *table, const struct table *from, struct table_row *row)
{
	struct table_recipe *recipe = &table->recipes[table->recipes_count];

	*recipe = from->recipes[row->link];
	row->link = table->recipes_count++;
	if (recipe->borrowed)
		return;
	memcpy(table->chunks + table->chunks_count, from->chunks + recipe->first, recipe->count * sizeof(table->chunks[0]));
	recipe->first = table->chunks_count;
	table->chunks_count += recipe->count;
}

/* `moved`: how far its bytes in the arena were. */
static void join_row(struct table *table, const struct table *from, struct table_row *row, uint32_t moved)
{
	row->name += moved;
	if (row->xattrs)
		row->xattrs += moved;
	if (row->hardlink)
		row->hardlink += moved;
	if (row->flags & TABLE_ROW_RECIPE)
		join_recipe(table, from, row);
	else if (row->target_size)
		row->link += moved;
	if (!S_ISDIR(row->mode))
		row->former = 0;
}

/* A directory with its rows and their bytes; `listed` is the joined row that lists it. */
static uint32_t join_directory(struct joining *joining, uint32_t part, uint32_t number, uint32_t parent, uint32_t listed)
{
	const struct table *from = &joining->parts[part].table;
	struct scan_origin *origin = &joining->parts[part].origins[number];
	struct table *table = joining->table;
	uint32_t joined = table->directories_count++;
	struct table_directory *directory = &table->directories[joined];
	uint32_t bytes = origin->names_end - origin->names_first, moved = table->names_bytes - origin->names_first;

	*directory = from->directories[number];
	memcpy(table->names + table->names_bytes, from->names + origin->names_first, bytes);
	table->names_bytes += bytes;
	if (joined == 0) {
		table->rows[0] = from->rows[0];
		join_row(table, from, &table->rows[table->rows_count++], moved);
	}
	memcpy(table->rows + table->rows_count, from->rows + directory->first, directory->count * sizeof(table->rows[0]));
	directory->first = table->rows_count;
	directory->parent = parent;
	directory->row = listed;
	directory->depth = joined ? table->directories[parent].depth + 1 : 0;
	for (uint32_t i = 0; i < directory->count; i++)
		join_row(table, from, &table->rows[table->rows_count++], moved);
	if (origin->xattrs_read)
		table->rows[listed].xattrs = origin->xattrs ? origin->xattrs + moved : 0;
	table->rows[listed].link = joined;
	table->rows[listed].former = 0;
	origin->joined = joined;
	return joined;
}

/* From the top, each row's directory before the next row's. */
static void join_all(struct joining *joining)
{
	struct table *table = joining->table;
	uint32_t next[TREE_DEPTH_MAX], directory = join_directory(joining, 0, 0, 0, 0);

	next[0] = table->directories[0].first;
	for (;;) {
		uint32_t depth = table->directories[directory].depth, row = next[depth];
		const struct table_row *at = &table->rows[row];

		if (row == table->directories[directory].first + table->directories[directory].count) {
			if (depth == 0)
				return;
			directory = table->directories[directory].parent;
			continue;
		}
		next[depth]++;
		/* One that vanished before it could be opened is in no part. */
		if (!S_ISDIR(at->mode) || at->former == 0)
			continue;
		directory = join_directory(joining, at->former - 1, at->link, directory, row);
		CHECK(depth + 1 < TREE_DEPTH_MAX);
		next[depth + 1] = table->directories[directory].first;
	}
}

int scan_part_join(struct scan_part *parts, uint32_t count, struct table *table)
{
	struct joining joining = { .parts = parts, .table = table };
	int r = reserve_all(table, parts, count);

	if (r)
		return r;
	link_rows(parts, count);
	table->names[table->names_bytes++] = 0;  /* offset 0 means that there is nothing */
	join_all(&joining);
	return 0;
}

uint32_t scan_part_joined_row(const struct scan_part *parts, const struct table *table, struct scan_place place)
{
	const struct scan_part *part = &parts[place.part];
	uint32_t number = table_directory_of(&part->table, place.row);
	uint32_t index = place.row - part->table.directories[number].first;

	return table->directories[part->origins[number].joined].first + index;
}
