/* Arrays of rows, and how to find one's way in them. */
#include "gateway/context/table.h"

#include "gateway/base/check.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

struct table table_make(const struct table *former)
{
	return (struct table){ .former = former };
}

struct table table_borrow(const struct table *former)
{
	struct table table = *former;

	table.rows_capacity = table.directories_capacity = table.recipes_capacity = table.names_capacity = 0;
	table.chunks_capacity = 0;
	table.former = former;
	return table;
}

void table_fini(struct table *table)
{
	if (table->rows_capacity)
		free(table->rows);
	if (table->directories_capacity)
		free(table->directories);
	if (table->recipes_capacity)
		free(table->recipes);
	if (table->chunks_capacity)
		free(table->chunks);
	if (table->names_capacity)
		free(table->names);
	*table = (struct table){ 0 };
}

/*
 * Room for `more` items behind `count`. Grows by half, so that a tree's worth of rows is never twice in memory for
 * long.
 */
static int reserve(void **items, uint64_t *capacity, uint64_t count, uint64_t more, size_t item_size, uint64_t max)
{
	uint64_t wanted = count + more, grown = *capacity + *capacity / 2 + 64;
	void *moved;

	if (wanted <= *capacity)
		return 0;
	if (wanted > max)
		return -EOVERFLOW;
	if (grown < wanted)
		grown = wanted;
	if (grown > max)
		grown = max;
	moved = realloc(*items, grown * item_size);
	if (!moved)
		return -ENOMEM;
	*items = moved;
	*capacity = grown;
	return 0;
}

static int reserve32(void **items, uint32_t *capacity, uint32_t count, uint32_t more, size_t item_size, uint32_t max)
{
	uint64_t wide = *capacity;
	int r = reserve(items, &wide, count, more, item_size, max);

	*capacity = (uint32_t)wide;
	return r;
}

/* As much as is asked for, and no more. */
static int reserve_exactly(void **items, uint32_t *capacity, uint64_t wanted, size_t item_size, uint64_t max)
{
	void *moved;

	if (wanted > max)
		return -EOVERFLOW;
	if (wanted <= *capacity)
		return 0;
	moved = realloc(*items, wanted * item_size);
	if (!moved)
		return -ENOMEM;
	*items = moved;
	*capacity = (uint32_t)wanted;
	return 0;
}

int table_reserve(struct table *table, uint64_t rows, uint32_t names_bytes)
{
	int r = reserve_exactly((void **)&table->rows, &table->rows_capacity, rows, sizeof(table->rows[0]),
				TABLE_ROWS_MAX);

	if (!r)
		r = reserve_exactly((void **)&table->names, &table->names_capacity, names_bytes, 1,
				    TABLE_NAMES_BYTES_MAX);
	return r;
}

struct table_mark table_mark(const struct table *table)
{
	return (struct table_mark){
		.rows = table->rows_count,
		.recipes = table->recipes_count,
		.names_bytes = table->names_bytes,
		.chunks = table->chunks_count,
	};
}

void table_rewind(struct table *table, const struct table_mark *mark)
{
	struct table_directory *last = &table->directories[table->directories_count - 1];

	CHECK(table->directories_count > 0);
	CHECK(mark->rows >= last->first);
	last->count = mark->rows - last->first;
	table->rows_count = mark->rows;
	table->recipes_count = mark->recipes;
	table->names_bytes = mark->names_bytes;
	table->chunks_count = mark->chunks;
}

int table_add_bytes(struct table *table, struct span bytes, uint32_t *offset)
{
	uint32_t none = table->names_bytes == 0; /* offset 0 means that there is nothing */
	int r;

	if (bytes.size > TABLE_NAMES_BYTES_MAX / 2)
		return -EOVERFLOW;
	r = reserve32((void **)&table->names, &table->names_capacity, table->names_bytes, (uint32_t)bytes.size + none,
		      1, TABLE_NAMES_BYTES_MAX);
	if (r)
		return r;
	if (none)
		table->names[table->names_bytes++] = 0;
	*offset = table->names_bytes;
	if (bytes.size)
		memcpy(table->names + table->names_bytes, bytes.data, bytes.size);
	table->names_bytes += (uint32_t)bytes.size;
	return 0;
}

int table_add_row(struct table *table, struct span name, uint32_t *row)
{
	uint32_t offset;
	int r;

	CHECK(name.size <= TREE_NAME_MAX);
	r = reserve32((void **)&table->rows, &table->rows_capacity, table->rows_count, 1, sizeof(table->rows[0]),
	              TABLE_ROWS_MAX);
	if (r)
		return r;
	r = table_add_bytes(table, name, &offset);
	if (r)
		return r;
	*row = table->rows_count++;
	if (table->directories_count)
		table->directories[table->directories_count - 1].count++;
	table->rows[*row] = (struct table_row){ .name = offset, .name_size = (uint8_t)name.size, .link = TABLE_NONE };
	return 0;
}

void table_drop_row(struct table *table)
{
	CHECK(table->directories_count && table->directories[table->directories_count - 1].count > 0);
	table->rows_count--;
	table->directories[table->directories_count - 1].count--;
}

int table_add_directory(struct table *table, uint32_t parent, uint32_t row, uint32_t *directory)
{
	int r = reserve32((void **)&table->directories, &table->directories_capacity, table->directories_count, 1,
	                  sizeof(table->directories[0]), TABLE_ROWS_MAX);

	if (r)
		return r;
	*directory = table->directories_count++;
	table->directories[*directory] = (struct table_directory){
		.first = table->rows_count,
		.parent = parent,
		.row = row,
		.depth = *directory ? table->directories[parent].depth + 1 : 0,
	};
	table->rows[row].link = *directory;
	return 0;
}

int table_add_recipe(struct table *table, const struct table_recipe *recipe, uint32_t *number)
{
	int r = reserve32((void **)&table->recipes, &table->recipes_capacity, table->recipes_count, 1,
	                  sizeof(table->recipes[0]), TABLE_ROWS_MAX);

	if (r)
		return r;
	*number = table->recipes_count++;
	table->recipes[*number] = *recipe;
	return 0;
}

int table_add_chunk(struct table *table, const struct table_chunk *chunk)
{
	int r = reserve((void **)&table->chunks, &table->chunks_capacity, table->chunks_count, 1,
			sizeof(table->chunks[0]), TABLE_CHUNKS_MAX);

	if (r)
		return r;
	table->chunks[table->chunks_count++] = *chunk;
	return 0;
}

struct span table_hardlink(const struct table *table, const struct table_row *row)
{
	uint16_t size;

	if (row->hardlink == 0)
		return (struct span){ 0 };
	memcpy(&size, table->names + row->hardlink, sizeof(size));
	return span_make(table->names + row->hardlink + sizeof(size), size);
}

int table_set_hardlink(struct table *table, uint32_t row, struct span path)
{
	uint16_t size = (uint16_t)path.size;
	uint32_t offset, unused;
	int r;

	CHECK(path.size <= TREE_PATH_MAX);
	table->rows[row].hardlink = 0;
	if (path.size == 0)
		return 0;
	r = table_add_bytes(table, span_make(&size, sizeof(size)), &offset);
	if (r)
		return r;
	r = table_add_bytes(table, path, &unused);
	if (r)
		return r;
	table->rows[row].hardlink = offset;
	return 0;
}

bool table_included(const struct table *table, const struct table_row *row)
{
	if (row->flags & TABLE_ROW_IGNORED)
		return false;
	if (S_ISDIR(row->mode))
		return row->link != TABLE_NONE && !(table->directories[row->link].flags & TABLE_DIRECTORY_OMITTED);
	return !(row->flags & TABLE_ROW_EXCLUDED);
}

struct digest table_row_digest(const struct table *table, const struct table_row *row)
{
	struct digest digest = { .size = row->flags & TABLE_ROW_RECIPE ? table->recipes[row->link].size : row->size };

	memcpy(digest.hash, row->hash, sizeof(digest.hash));
	return digest;
}

struct digest table_directory_digest(const struct table_directory *directory)
{
	struct digest digest = { .size = directory->size };

	memcpy(digest.hash, directory->hash, sizeof(digest.hash));
	return digest;
}

const struct table_chunk *table_chunks(const struct table *table, const struct table_recipe *recipe)
{
	return (recipe->borrowed ? table->former->chunks : table->chunks) + recipe->first;
}

struct digest table_chunk_digest(const struct table *table, const struct table_recipe *recipe, uint32_t index)
{
	const struct table_chunk *chunks = table_chunks(table, recipe);
	uint64_t end = index + 1 < recipe->count ? chunks[index + 1].offset : recipe->file_size;
	struct digest digest = { .size = end - chunks[index].offset };

	memcpy(digest.hash, chunks[index].hash, sizeof(digest.hash));
	return digest;
}

/*
 * The blocks of rows lie in the order of the directories' numbers: the last directory that begins at or before `row`.
 */
uint32_t table_directory_of(const struct table *table, uint32_t row)
{
	uint32_t low = 0, high = table->directories_count;

	CHECK(row > 0 && row < table->rows_count);
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (table->directories[middle].first <= row)
			low = middle;
		else
			high = middle;
	}
	CHECK(row - table->directories[low].first < table->directories[low].count);
	return low;
}

void table_path(const struct table *table, uint32_t row, struct buffer *out)
{
	uint32_t chain[TREE_DEPTH_MAX + 1], count = 0;

	while (row) {
		CHECK(count < TREE_DEPTH_MAX + 1);
		chain[count++] = row;
		row = table->directories[table_directory_of(table, row)].row;
	}
	while (count) {
		struct span name = table_name(table, &table->rows[chain[--count]]);

		buffer_put(out, name.data, name.size);
		if (count)
			buffer_put(out, "/", 1);
	}
}

struct xattr_head {
	uint16_t name_size;
	uint16_t value_size_high, value_size_low;
};

int table_add_xattrs(struct table *table, const struct tree_xattr *xattrs, size_t count, uint32_t *offset)
{
	uint16_t header = (uint16_t)count;
	uint32_t unused;
	int r;

	CHECK(count <= TREE_XATTRS_MAX);
	*offset = 0;
	if (count == 0)
		return 0;
	r = table_add_bytes(table, span_make(&header, sizeof(header)), offset);
	for (size_t i = 0; !r && i < count; i++) {
		struct xattr_head head = { (uint16_t)xattrs[i].name.size, (uint16_t)(xattrs[i].value.size >> 16),
			(uint16_t)xattrs[i].value.size };

		r = table_add_bytes(table, span_make(&head, sizeof(head)), &unused);
		if (!r)
			r = table_add_bytes(table, xattrs[i].name, &unused);
		if (!r)
			r = table_add_bytes(table, xattrs[i].value, &unused);
	}
	return r;
}

static bool take(struct span *rest, void *out, size_t size)
{
	if (rest->size < size)
		return false;
	memcpy(out, rest->data, size);
	*rest = span_make(rest->data + size, rest->size - size);
	return true;
}

static bool take_span(struct span *rest, struct span *out, size_t size)
{
	if (rest->size < size)
		return false;
	*out = span_make(rest->data, size);
	*rest = span_make(rest->data + size, rest->size - size);
	return true;
}

size_t table_xattrs(const struct table *table, const struct table_row *row,
		    struct tree_xattr xattrs[static TREE_XATTRS_MAX])
{
	struct span rest;
	uint16_t count;

	if (row->xattrs == 0)
		return 0;
	if (row->xattrs >= table->names_bytes)
		return SIZE_MAX;
	rest = span_make(table->names + row->xattrs, table->names_bytes - row->xattrs);
	if (!take(&rest, &count, sizeof(count)) || count > TREE_XATTRS_MAX)
		return SIZE_MAX;
	for (uint16_t i = 0; i < count; i++) {
		struct xattr_head head;

		if (!take(&rest, &head, sizeof(head)) || !take_span(&rest, &xattrs[i].name, head.name_size) ||
		    !take_span(&rest, &xattrs[i].value, (size_t)head.value_size_high << 16 | head.value_size_low))
			return SIZE_MAX;
	}
	return count;
}
