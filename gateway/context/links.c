/* Finds groups of hard links and their first names. */
#include "gateway/context/links.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct linked {
	uint64_t inode;
	uint32_t device;
	uint32_t row;
};

static int compare_linked(const void *a, const void *b)
{
	const struct linked *x = a, *y = b;

	if (x->device != y->device)
		return x->device < y->device ? -1 : 1;
	if (x->inode != y->inode)
		return x->inode < y->inode ? -1 : 1;
	return (x->row > y->row) - (x->row < y->row);
}

/* All rows that could be of a group, those of one group together. */
static int collect(const struct table *table, struct linked **linked, uint32_t *count)
{
	struct linked *found;
	uint32_t total = 0;

	for (uint32_t i = 0; i < table->rows_count; i++)
		total += (table->rows[i].flags & TABLE_ROW_LINKED) != 0;
	found = malloc(((size_t)total + 1) * sizeof(*found));
	if (!found)
		return -ENOMEM;
	total = 0;
	for (uint32_t i = 0; i < table->rows_count; i++) {
		const struct table_row *row = &table->rows[i];

		if (row->flags & TABLE_ROW_LINKED && table_included(table, row))
			found[total++] = (struct linked){ .inode = row->inode, .device = row->device, .row = i };
	}
	qsort(found, total, sizeof(*found), compare_linked);
	*linked = found;
	*count = total;
	return 0;
}

/* In the order of a walk: '/' comes before every byte of a name, so that a name's subtree follows the name at once. */
static int compare_paths(struct span a, struct span b)
{
	size_t common = a.size < b.size ? a.size : b.size;

	for (size_t i = 0; i < common; i++) {
		int x = a.data[i] == '/' ? 0 : a.data[i], y = b.data[i] == '/' ? 0 : b.data[i];

		if (x != y)
			return x - y;
	}
	return (a.size > b.size) - (a.size < b.size);
}

static int set_hardlink(struct table *table, uint32_t row, struct span path)
{
	if (span_equal(table_hardlink(table, &table->rows[row]), path))
		return 0;
	table->directories[table_directory_of(table, row)].flags |= TABLE_DIRECTORY_DIRTY;
	return table_set_hardlink(table, row, path);
}

/* Finds the first name; `paths` are two buffers that take turns. */
static int first_of(const struct table *table, const struct linked *group, uint32_t count,
		    struct buffer paths[static 2], uint32_t *first, struct span *path)
{
	uint32_t best = 0, other = 1;

	for (uint32_t i = 0; i < count; i++) {
		buffer_clear(&paths[other]);
		table_path(table, group[i].row, &paths[other]);
		if (paths[other].failed)
			return -ENOMEM;
		if (i && compare_paths(buffer_span(&paths[other]), buffer_span(&paths[best])) >= 0)
			continue;
		*first = i;
		best = other;
		other = 1 - best;
	}
	*path = buffer_span(&paths[best]);
	return 0;
}

/* False: it was written between the visits of two of its names, which are two contents then, and may not be made one file. */
static bool group_agrees(const struct table *table, const struct linked *group, uint32_t count)
{
	const struct table_row *first = &table->rows[group[0].row];

	for (uint32_t i = 1; i < count; i++) {
		const struct table_row *row = &table->rows[group[i].row];

		if (row->ctime_ns != first->ctime_ns || row->mtime_ns != first->mtime_ns || row->size != first->size ||
		    memcmp(row->hash, first->hash, sizeof(row->hash)) != 0)
			return false;
	}
	return true;
}

static int resolve_group(struct table *table, const struct linked *group, uint32_t count, struct buffer paths[static 2])
{
	struct span path = { 0 };
	uint32_t first = 0;
	int r = 0;

	if (count > 1 && group_agrees(table, group, count))
		r = first_of(table, group, count, paths, &first, &path);
	if (path.size > TREE_PATH_MAX)
		path.size = 0;
	for (uint32_t i = 0; !r && i < count; i++)
		r = set_hardlink(table, group[i].row, i == first ? (struct span){ 0 } : path);
	return r;
}

int links_resolve(struct table *table)
{
	struct buffer paths[2] = { buffer_heap(TABLE_PATH_BYTES_MAX), buffer_heap(TABLE_PATH_BYTES_MAX) };
	struct linked *linked = NULL;
	uint32_t count = 0;
	int r = collect(table, &linked, &count);

	for (uint32_t i = 0, end; !r && i < count; i = end) {
		for (end = i + 1; end < count; end++) {
			if (linked[end].inode != linked[i].inode || linked[end].device != linked[i].device)
				break;
		}
		r = resolve_group(table, linked + i, end - i, paths);
	}
	free(linked);
	buffer_fini(&paths[0]);
	buffer_fini(&paths[1]);
	return r;
}
