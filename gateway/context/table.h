/*
 * table: what a scan knows of a directory tree, in a few plain arrays: one row an entry, one record a directory, the
 * chunks of large files, and an arena of names. The rows of one directory lie together, in the order in which the disk
 * listed them, so that the next scan can walk along them; a directory's number is its place in a walk from the top, so
 * parents come before children. Row 0 and directory 0 are the root.
 *
 * The same arrays are the snapshot file's sections (snapshot.h): a loaded table borrows them from there and never
 * grows. Pure memory, no effects.
 */
#pragma once

#include "proto/buffer.h"
#include "proto/digest.h"
#include "proto/tree.h"

#define TABLE_ROWS_MAX        (1u << 25)
#define TABLE_NAMES_BYTES_MAX UINT32_MAX
#define TABLE_CHUNKS_MAX      (UINT64_C(1) << 32)
#define TABLE_PATH_BYTES_MAX  (TREE_DEPTH_MAX * (TREE_NAME_MAX + 1))
#define TABLE_NONE            UINT32_MAX

enum table_row_flag {
	TABLE_ROW_FRESH = 1,     /* its times were too close to the scan to be trusted at the next one */
	TABLE_ROW_IGNORED = 2,   /* by the ignore file, with all below: nothing but its name is known */
	TABLE_ROW_EXCLUDED = 4,  /* by the ignore file; of a directory something below may be there all the same */
	TABLE_ROW_LINKED = 8,    /* a file with more than one name on the disk */
	TABLE_ROW_RECIPE = 16,   /* `hash` is of the recipe, `link` its number */
	TABLE_ROW_CHANGED = 32,  /* was not taken over from the former scan as it was. Of no meaning in a file */
};

struct table_row {
	uint8_t hash[DIGEST_HASH_BYTES]; /* files: of the content or the recipe */
	uint64_t size;                   /* st_size */
	int64_t mtime_ns, ctime_ns;
	uint64_t inode;
	uint32_t device;
	uint32_t mode;                   /* st_mode */
	uint32_t name;                   /* in the arena */
	uint32_t link; /* directory: its number, or TABLE_NONE; recipe: its number; symlink: target in the arena */
	uint32_t xattrs;                 /* in the arena, see table_xattrs(); 0: none */
	uint32_t hardlink; /* in the arena: two bytes of length, path of the group's first name; 0: none */
	uint16_t target_size;
	uint8_t name_size;
	uint8_t flags;
	uint32_t former;                 /* while scanning: the row of the former table it was found as, + 1; else 0 */
};

enum table_directory_flag {
	TABLE_DIRECTORY_DIRTY = 1,       /* its digest is not known yet */
	TABLE_DIRECTORY_OMITTED = 2,     /* excluded, and nothing below is not: not in the tree */
};

struct table_directory {
	uint8_t hash[DIGEST_HASH_BYTES];
	uint64_t size;
	uint32_t first;                  /* row */
	uint32_t count;
	uint32_t parent;                 /* directory; the root's is itself */
	uint32_t row;
	uint32_t depth;
	uint32_t flags;
};

struct table_recipe {
	uint64_t size;                   /* bytes of the recipe */
	uint64_t file_size;
	uint64_t first;                  /* chunk */
	uint32_t count;
	uint16_t profile;
	uint16_t borrowed;               /* its chunks lie in the table's `former` */
};

struct table_chunk {
	uint8_t hash[DIGEST_HASH_BYTES];
	uint64_t offset;                 /* in the file; the next one's, or the file's end, tells the size */
};

struct table {
	struct table_row *rows;
	struct table_directory *directories;
	struct table_recipe *recipes;
	struct table_chunk *chunks;
	uint8_t *names;
	uint32_t rows_count, directories_count, recipes_count, names_bytes;
	uint64_t chunks_count;
	uint32_t rows_capacity, directories_capacity, recipes_capacity, names_capacity; /* 0 of what is borrowed */
	uint64_t chunks_capacity;
	const struct table *former;      /* where chunks of unchanged files stay; must outlive this table */
};

/* An empty one that grows. */
struct table table_make(const struct table *former);
/* The same rows as those of `former`, in place. Nothing may be added. */
struct table table_borrow(const struct table *former);
void table_fini(struct table *table);            /* leaves what is borrowed */

/*
 * Each returns 0, -ENOMEM, or -EOVERFLOW when a bound above is reached. What is added is zero but for what is given. A
 * row belongs to the directory that was added last; the root's row comes before any.
 */
int table_add_row(struct table *table, struct span name, uint32_t *row);
int table_add_directory(struct table *table, uint32_t parent, uint32_t row, uint32_t *directory);
/* Room for that many in all. */
int table_reserve(struct table *table, uint64_t rows, uint32_t names_bytes);
/* How much there is of everything. Rewinding takes back what came later; no directory did. */
struct table_mark {
	uint32_t rows, recipes, names_bytes;
	uint64_t chunks;
};
struct table_mark table_mark(const struct table *table);
void table_rewind(struct table *table, const struct table_mark *mark);
/* Takes the newest row back; its directory is still the last. */
void table_drop_row(struct table *table);
int table_add_recipe(struct table *table, const struct table_recipe *recipe, uint32_t *number);
int table_add_chunk(struct table *table, const struct table_chunk *chunk);
int table_add_bytes(struct table *table, struct span bytes, uint32_t *offset);

static inline struct span table_name(const struct table *table, const struct table_row *row)
{
	return span_make(table->names + row->name, row->name_size);
}

static inline struct span table_target(const struct table *table, const struct table_row *row)
{
	return span_make(table->names + row->link, row->target_size);
}

struct span table_hardlink(const struct table *table, const struct table_row *row);
int table_set_hardlink(struct table *table, uint32_t row, struct span path);

/* The row is part of the tree that is pushed. */
bool table_included(const struct table *table, const struct table_row *row);

struct digest table_row_digest(const struct table *table, const struct table_row *row);
struct digest table_directory_digest(const struct table_directory *directory);

const struct table_chunk *table_chunks(const struct table *table, const struct table_recipe *recipe);
struct digest table_chunk_digest(const struct table *table, const struct table_recipe *recipe, uint32_t index);

/* The directory that lists `row`; not for row 0. */
uint32_t table_directory_of(const struct table *table, uint32_t row);
/* Appends the root-relative path, nothing for the root. */
void table_path(const struct table *table, uint32_t row, struct buffer *out);

/*
 * Xattrs of one node as bytes in the arena: count (2 bytes), then for each the name's length (2), the value's (4),
 * both. table_xattrs returns how many; SIZE_MAX when the bytes are malformed or reach beyond the arena.
 */
int table_add_xattrs(struct table *table, const struct tree_xattr *xattrs, size_t count, uint32_t *offset);
size_t table_xattrs(const struct table *table, const struct table_row *row,
		    struct tree_xattr xattrs[static TREE_XATTRS_MAX]);
