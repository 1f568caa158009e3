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
	uint32_t names_first = place.index == SCAN_PLACE_ROOT ? 0 : part->table.names_bytes;
	int r = reserve_origin(part);

	if (!r)
		r = table_add_directory(&part->table, 0, 0, directory);
	if (!r)
		part->origins[*directory] =
			(struct scan_origin){ .place = place, .same = TABLE_NONE, .names_first = names_first };
	return r;
}

void scan_part_end(struct scan_part *part, uint32_t directory)
{
	CHECK(directory + 1 == part->table.directories_count);
	part->origins[directory].names_end = part->table.names_bytes;
}

void scan_part_end_same(struct scan_part *part, uint32_t directory, const struct table_mark *mark, uint32_t same)
{
	table_rewind(&part->table, mark);
	scan_part_end(part, directory);
	part->origins[directory].same = same;
}

int scan_part_take_over(struct table *table, const struct table *former, const struct table_row *known, uint32_t number)
{
	struct tree_xattr xattrs[TREE_XATTRS_MAX];
	struct table_row *row = &table->rows[number];
	int r = 0;

	if (known->flags & TABLE_ROW_RECIPE) {
		struct table_recipe recipe = former->recipes[known->link];

		recipe.borrowed = 1;
		r = table_add_recipe(table, &recipe, &row->link);
		row->flags |= TABLE_ROW_RECIPE;
	} else if (known->target_size) {
		r = table_add_bytes(table, table_target(former, known), &row->link);
		row->target_size = known->target_size;
	}
	memcpy(row->hash, known->hash, sizeof(row->hash));
	if (!r && known->xattrs)
		r = table_add_xattrs(table, xattrs, table_xattrs(former, known, xattrs), &row->xattrs);
	if (!r && known->hardlink)
		r = table_set_hardlink(table, number, table_hardlink(former, known));
	return r;
}

bool scan_part_same_row(const struct table_row *row, const struct table_row *former)
{
	return row->device == former->device && (row->flags | TABLE_ROW_CHANGED) == (former->flags | TABLE_ROW_CHANGED);
}

bool scan_part_unchanged(const struct scan_part *parts, uint32_t count, const struct table *former)
{
	uint32_t directories = 0;

	if (!scan_part_same_row(&parts[0].table.rows[0], &former->rows[0]))
		return false;
	for (uint32_t part = 0; part < count; part++) {
		directories += parts[part].table.directories_count;
		for (uint32_t i = 0; i < parts[part].table.directories_count; i++) {
			if (parts[part].origins[i].same == TABLE_NONE || parts[part].origins[i].xattrs_read ||
			    parts[part].table.directories[i].flags & TABLE_DIRECTORY_DIRTY)
				return false;
		}
	}
	return directories == former->directories_count;
}

/* A directory as somebody's child. */
struct child {
	uint64_t parent;                         /* counted over all parts */
	uint32_t index;
	uint32_t part, number;
};

struct joining {
	struct scan_part *parts;
	struct table *table;
	uint64_t first[SCAN_PARTS_MAX + 1];      /* of each part: what the directories before it add up to */
	struct child *children;                  /* by parent, and in the order in which it lists them */
	uint64_t *children_first;                /* of each parent, counted over all parts; and one more */
};

static int compare_children(const void *a, const void *b)
{
	const struct child *x = a, *y = b;

	if (x->parent != y->parent)
		return x->parent < y->parent ? -1 : 1;
	return (x->index > y->index) - (x->index < y->index);
}

/* All directories but the root. */
static void list_children(struct joining *joining, uint32_t count)
{
	uint64_t listed = 0, total = joining->first[count], parent = 0;

	for (uint32_t part = 0; part < count; part++) {
		for (uint32_t i = part == 0; i < joining->parts[part].table.directories_count; i++) {
			struct scan_place place = joining->parts[part].origins[i].place;

			joining->children[listed++] = (struct child){
				.parent = joining->first[place.part] + place.directory,
				.index = place.index,
				.part = part,
				.number = i,
			};
		}
	}
	qsort(joining->children, listed, sizeof(joining->children[0]), compare_children);
	for (uint64_t i = 0; i < listed; i++) {
		while (parent <= joining->children[i].parent)
			joining->children_first[parent++] = i;
	}
	while (parent <= total)
		joining->children_first[parent++] = listed;
}

/* The recipe of a row with its chunks, but for those that stay in the former table. */
static int join_recipe(struct table *table, const struct table *from, struct table_row *row)
{
	struct table_recipe recipe = from->recipes[row->link];
	uint64_t first = table->chunks_count;
	int r = 0;

	for (uint32_t i = 0; !r && !recipe.borrowed && i < recipe.count; i++)
		r = table_add_chunk(table, &from->chunks[recipe.first + i]);
	if (!recipe.borrowed)
		recipe.first = first;
	return r ? r : table_add_recipe(table, &recipe, &row->link);
}

/* `moved`: how far its bytes in the arena were. */
static int join_row(struct table *table, const struct table *from, struct table_row *row, uint32_t moved)
{
	row->former = 0;
	row->name += moved;
	if (row->xattrs)
		row->xattrs += moved;
	if (row->hardlink)
		row->hardlink += moved;
	if (row->flags & TABLE_ROW_RECIPE)
		return join_recipe(table, from, row);
	if (row->target_size)
		row->link += moved;
	return 0;
}

/* Rows that are all in the former table. */
static int join_same(struct table *table, uint32_t former)
{
	const struct table *from = table->former;
	const struct table_directory *directory = &from->directories[former];
	int r = 0;

	for (uint32_t i = 0; !r && i < directory->count; i++) {
		const struct table_row *known = &from->rows[directory->first + i];
		uint32_t name, number;

		r = table_add_row(table, table_name(from, known), &number);
		if (r)
			break;
		name = table->rows[number].name;
		table->rows[number] = *known;
		table->rows[number].name = name;
		table->rows[number].link = TABLE_NONE;
		table->rows[number].flags &= (uint8_t)~TABLE_ROW_CHANGED;
		r = scan_part_take_over(table, from, known, number);
	}
	return r;
}

/* Rows of a part, whose bytes in the arena have moved. */
static int join_rows(struct table *table, const struct table *from, uint32_t number, uint32_t moved)
{
	const struct table_directory *directory = &from->directories[number];
	struct table_row *rows = table->rows + table->rows_count;
	int r = 0;

	memcpy(rows, from->rows + directory->first, directory->count * sizeof(rows[0]));
	table->rows_count += directory->count;
	table->directories[table->directories_count - 1].count += directory->count;
	for (uint32_t i = 0; !r && i < directory->count; i++)
		r = join_row(table, from, &rows[i], moved);
	return r;
}

/* The root's row stands before all directories. */
static int join_root(struct table *table, const struct table *from, uint32_t moved)
{
	table->rows[table->rows_count++] = from->rows[0];
	return join_row(table, from, &table->rows[0], moved);
}

/* A directory with its rows and their bytes; `listed` is the joined row that lists it. */
static int join_directory(struct joining *joining, uint32_t part, uint32_t number, uint32_t parent, uint32_t listed)
{
	const struct table *from = &joining->parts[part].table;
	struct scan_origin *origin = &joining->parts[part].origins[number];
	struct table *table = joining->table;
	struct table_directory *directory;
	struct span bytes = span_make(from->names + origin->names_first, origin->names_end - origin->names_first);
	uint32_t offset;
	int r = table_add_bytes(table, bytes, &offset);

	if (!r && table->rows_count == 0)
		r = join_root(table, from, offset - origin->names_first);
	if (!r)
		r = table_add_directory(table, parent, listed, &origin->joined);
	if (r)
		return r;
	directory = &table->directories[origin->joined];
	memcpy(directory->hash, from->directories[number].hash, sizeof(directory->hash));
	directory->size = from->directories[number].size;
	directory->flags = from->directories[number].flags;
	if (origin->xattrs_read)
		table->rows[listed].xattrs = origin->xattrs ? origin->xattrs + (offset - origin->names_first) : 0;
	if (origin->same != TABLE_NONE)
		return join_same(table, origin->same);
	return join_rows(table, from, number, offset - origin->names_first);
}

/* From the top, each directory before the next one beside it. */
static int join_all(struct joining *joining)
{
	uint64_t next[TREE_DEPTH_MAX], end[TREE_DEPTH_MAX];
	uint32_t joined[TREE_DEPTH_MAX] = { 0 };
	uint32_t depth = 0;
	int r = join_directory(joining, 0, 0, 0, 0);

	next[0] = joining->children_first[0];
	end[0] = joining->children_first[1];
	while (!r) {
		const struct child *child;
		uint64_t all;

		if (next[depth] == end[depth]) {
			if (depth-- == 0)
				return 0;
			continue;
		}
		child = &joining->children[next[depth]++];
		r = join_directory(joining, child->part, child->number, joined[depth],
				   joining->table->directories[joined[depth]].first + child->index);
		all = joining->first[child->part] + child->number;
		CHECK(depth + 1 < TREE_DEPTH_MAX);
		depth++;
		joined[depth] = joining->parts[child->part].origins[child->number].joined;
		next[depth] = joining->children_first[all];
		end[depth] = joining->children_first[all + 1];
	}
	return r;
}

static int reserve_all(struct joining *joining, uint32_t count)
{
	uint64_t rows = 1, names = 1;

	for (uint32_t part = 0; part < count; part++) {
		const struct table *from = &joining->parts[part].table;

		rows += from->rows_count - 1;
		names += from->names_bytes;
		for (uint32_t i = 0; i < from->directories_count; i++) {
			uint32_t same = joining->parts[part].origins[i].same;

			rows += same == TABLE_NONE ? 0 : from->former->directories[same].count;
		}
		joining->first[part + 1] = joining->first[part] + from->directories_count;
	}
	joining->children = malloc(joining->first[count] * sizeof(joining->children[0]));
	joining->children_first = malloc((joining->first[count] + 1) * sizeof(joining->children_first[0]));
	if (!joining->children || !joining->children_first)
		return -ENOMEM;
	if (names > TABLE_NAMES_BYTES_MAX)
		return -EOVERFLOW;
	return table_reserve(joining->table, rows, (uint32_t)names);
}

int scan_part_join(struct scan_part *parts, uint32_t count, struct table *table)
{
	struct joining joining = { .parts = parts, .table = table };
	int r = reserve_all(&joining, count);

	if (!r) {
		list_children(&joining, count);
		r = join_all(&joining);
	}
	free(joining.children);
	free(joining.children_first);
	return r;
}

uint32_t scan_part_joined_row(const struct scan_part *parts, const struct table *table, struct scan_place place)
{
	return table->directories[parts[place.part].origins[place.directory].joined].first + place.index;
}
