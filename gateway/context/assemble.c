/* From rows to Directory messages. */
#include "gateway/context/assemble.h"

#include "gateway/base/check.h"
#include "gateway/base/err.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#define BATCH_DIRECTORIES 256
#define BATCH_BYTES       (4u << 20)

struct assembler {
	struct table *table;
	const struct sha256 *hasher;
	struct why why;
	struct tree_node *nodes;                 /* of the directory at hand */
	size_t nodes_capacity;
	struct tree_xattr *xattrs;               /* of its nodes */
	size_t xattrs_capacity;
	struct buffer batch;                     /* messages of directories of one depth, waiting to be hashed */
	uint32_t directories[BATCH_DIRECTORIES];
	size_t starts[BATCH_DIRECTORIES + 1];
	size_t count;
};

struct assembler *assembler_create(struct table *table, const struct sha256 *hasher, struct why why)
{
	struct assembler *assembler = calloc(1, sizeof(*assembler));

	if (!assembler)
		return NULL;
	assembler->table = table;
	assembler->hasher = hasher;
	assembler->why = why;
	assembler->batch = buffer_heap(BATCH_BYTES + 2 * TREE_DIRECTORY_BYTES_MAX);
	return assembler;
}

void assembler_destroy(struct assembler *assembler)
{
	if (!assembler)
		return;
	free(assembler->nodes);
	free(assembler->xattrs);
	buffer_fini(&assembler->batch);
	free(assembler);
}

static int refuse(struct assembler *assembler, uint32_t directory, int r)
{
	struct buffer path = buffer_heap(TABLE_PATH_BYTES_MAX + 1);
	const char *text = r == -EFBIG  ? "the directory has too many entries" :
	                   r == -EEXIST ? "the directory changes while it is read" :
	                                  err_text(r);

	table_path(assembler->table, assembler->table->directories[directory].row, &path);
	buffer_put(&path, "", 1);
	why_write(assembler->why, path.failed ? "" : (const char *)path.data, "%s", text);
	buffer_fini(&path);
	return ERR_RAISE(r);
}

static int reserve(void **items, size_t *capacity, size_t wanted, size_t item_size)
{
	void *moved;

	if (wanted <= *capacity)
		return 0;
	wanted += wanted / 2 + 16;
	moved = realloc(*items, wanted * item_size);
	if (!moved)
		return -ENOMEM;
	*items = moved;
	*capacity = wanted;
	return 0;
}

static void fill_file(const struct table *table, const struct table_row *row, struct tree_node *node)
{
	node->kind = TREE_FILE;
	node->digest = table_row_digest(table, row);
	node->recipe = row->flags & TABLE_ROW_RECIPE;
	node->file_size = row->size;
	node->hardlink = table_hardlink(table, row);
}

static void fill_node(const struct table *table, const struct table_row *row, struct tree_node *node)
{
	*node = (struct tree_node){ .name = table_name(table, row), .mode = row->mode & 07777 };
	switch (row->mode & S_IFMT) {
	case S_IFREG:
		fill_file(table, row, node);
		return;
	case S_IFDIR:
		CHECK(!(table->directories[row->link].flags & TABLE_DIRECTORY_DIRTY));
		node->kind = TREE_DIRECTORY;
		node->digest = table_directory_digest(&table->directories[row->link]);
		return;
	case S_IFLNK:
		node->kind = TREE_SYMLINK;
		node->target = table_target(table, row);
		return;
	}
	CHECK(S_ISFIFO(row->mode));
	node->kind = TREE_FIFO;
}

/* Nodes point at xattrs only when all of them are there: the array may move while it grows. */
static int fill_xattrs(struct assembler *assembler, const struct table_row *row, size_t *total, size_t *count)
{
	struct tree_xattr xattrs[TREE_XATTRS_MAX];
	int r;

	*count = table_xattrs(assembler->table, row, xattrs);
	CHECK(*count != SIZE_MAX);
	r = reserve((void **)&assembler->xattrs, &assembler->xattrs_capacity, *total + *count, sizeof(xattrs[0]));
	if (r)
		return r;
	if (*count)
		memcpy(assembler->xattrs + *total, xattrs, *count * sizeof(xattrs[0]));
	*total += *count;
	return 0;
}

static int fill_nodes(struct assembler *assembler, const struct table_directory *directory, size_t *nodes_count,
                      size_t *xattrs_count)
{
	const struct table *table = assembler->table;
	size_t count = 0, total = 0;
	int r =
	    reserve((void **)&assembler->nodes, &assembler->nodes_capacity, directory->count, sizeof(struct tree_node));

	for (uint32_t i = 0; !r && i < directory->count; i++) {
		const struct table_row *row = &table->rows[directory->first + i];
		struct tree_node *node = &assembler->nodes[count];

		if (!table_included(table, row))
			continue;
		fill_node(table, row, node);
		if (node->kind == TREE_FILE)     /* a directory's xattrs are in its own message */
			r = fill_xattrs(assembler, row, &total, &node->xattrs_count);
		count++;
	}
	*nodes_count = count;
	*xattrs_count = total;
	return r;
}

int assembler_encode(struct assembler *assembler, uint32_t number, struct buffer *out)
{
	const struct table_directory *directory = &assembler->table->directories[number];
	const struct table_row *row = &assembler->table->rows[directory->row];
	struct tree_xattr own[TREE_XATTRS_MAX];
	struct tree_directory head = { .mode = row->mode & 07777, .xattrs = own };
	size_t count, xattrs = 0, unused;
	int r = fill_nodes(assembler, directory, &count, &unused);

	for (size_t i = 0; !r && i < count; i++) {
		if (!assembler->nodes[i].xattrs_count)
			continue;
		assembler->nodes[i].xattrs = assembler->xattrs + xattrs;
		xattrs += assembler->nodes[i].xattrs_count;
	}
	head.xattrs_count = table_xattrs(assembler->table, row, own);
	CHECK(head.xattrs_count != SIZE_MAX);
	if (!r)
		r = tree_encode(out, &head, assembler->nodes, count);
	return r ? refuse(assembler, number, r) : 0;
}

/* Excluded, and nothing in it is not. The root always is. */
static bool is_omitted(const struct table *table, uint32_t number)
{
	const struct table_directory *directory = &table->directories[number];

	if (number == 0 || !(table->rows[directory->row].flags & TABLE_ROW_EXCLUDED))
		return false;
	for (uint32_t i = 0; i < directory->count; i++) {
		if (table_included(table, &table->rows[directory->first + i]))
			return false;
	}
	return true;
}

static void settle(struct assembler *assembler, uint32_t number, const uint8_t *hash, uint64_t size)
{
	struct table *table = assembler->table;
	struct table_directory *directory = &table->directories[number];
	uint32_t flags = is_omitted(table, number) ? TABLE_DIRECTORY_OMITTED : 0;

	if (directory->size != size || memcmp(directory->hash, hash, sizeof(directory->hash)) != 0 ||
	    (directory->flags & TABLE_DIRECTORY_OMITTED) != flags)
		table->directories[directory->parent].flags |= TABLE_DIRECTORY_DIRTY;
	memcpy(directory->hash, hash, sizeof(directory->hash));
	directory->size = size;
	directory->flags = flags;
}

static void hash_batch(struct assembler *assembler)
{
	struct sha256_job jobs[BATCH_DIRECTORIES];

	for (size_t i = 0; i < assembler->count; i++) {
		jobs[i] = (struct sha256_job){ .size = assembler->starts[i + 1] - assembler->starts[i] };
		if (jobs[i].size)                /* an empty directory may be all there is: no bytes, no array */
			jobs[i].data = assembler->batch.data + assembler->starts[i];
	}
	sha256_batch(assembler->hasher, jobs, assembler->count);
	for (size_t i = 0; i < assembler->count; i++)
		settle(assembler, assembler->directories[i], jobs[i].digest, jobs[i].size);
	assembler->count = 0;
	buffer_clear(&assembler->batch);
}

static int add_to_batch(struct assembler *assembler, uint32_t number)
{
	int r;

	if (assembler->count == BATCH_DIRECTORIES || assembler->batch.size >= BATCH_BYTES)
		hash_batch(assembler);
	r = assembler_encode(assembler, number, &assembler->batch);
	if (r)
		return r;
	assembler->starts[0] = 0;
	assembler->directories[assembler->count++] = number;
	assembler->starts[assembler->count] = assembler->batch.size;
	return 0;
}

/* Directories by depth, so that those of one depth can be hashed together. */
static uint32_t *by_depth(const struct table *table, uint32_t starts[static TREE_DEPTH_MAX + 1])
{
	uint32_t *order = malloc(((size_t)table->directories_count + 1) * sizeof(*order));
	uint32_t next[TREE_DEPTH_MAX];

	if (!order)
		return NULL;
	memset(starts, 0, (TREE_DEPTH_MAX + 1) * sizeof(starts[0]));
	for (uint32_t i = 0; i < table->directories_count; i++) {
		CHECK(table->directories[i].depth < TREE_DEPTH_MAX);
		starts[table->directories[i].depth + 1]++;
	}
	for (uint32_t depth = 0; depth < TREE_DEPTH_MAX; depth++) {
		starts[depth + 1] += starts[depth];
		next[depth] = starts[depth];
	}
	for (uint32_t i = 0; i < table->directories_count; i++)
		order[next[table->directories[i].depth]++] = i;
	return order;
}

int assembler_run(struct assembler *assembler)
{
	struct table *table = assembler->table;
	uint32_t starts[TREE_DEPTH_MAX + 1];
	uint32_t *order = by_depth(table, starts);
	int r = 0;

	if (!order)
		return ERR_RAISE(-ENOMEM);
	for (uint32_t depth = TREE_DEPTH_MAX; !r && depth-- > 0;) {
		for (uint32_t i = starts[depth]; !r && i < starts[depth + 1]; i++) {
			if (table->directories[order[i]].flags & TABLE_DIRECTORY_DIRTY)
				r = add_to_batch(assembler, order[i]);
		}
		hash_batch(assembler);
	}
	free(order);
	return r;
}
