/*
 * walk_directory: one directory of a tree, taken apart and put into fsutil's order. Pure.
 */
#pragma once

#include "gateway/play/walk.h"

struct walk_node {
	uint64_t size;                   /* of the file; of the directory's blob */
	uint32_t recipe_bytes;           /* of a file's recipe; 0: named by its own digest */
	uint32_t xattrs_bytes;
	uint16_t mode, link_bytes;       /* the target, or the first name of a hardlink */
	uint8_t name_bytes, kind;
	bool hardlink;
	uint8_t xattrs;                  /* how many */
	uint8_t hash[DIGEST_HASH_BYTES];
	uint8_t bytes[];                 /* name, link, xattrs as fsutil_stat.xattrs has them */
};

struct walk_directory {
	struct buffer arena;             /* of nodes, each at a multiple of 8; first what the directory says of itself */
	uint32_t *order;                 /* where each node is */
	uint32_t count, capacity;
};

/* NULL: done. Else what is wrong with it (static text), also for want of memory; then it is as all-zero. */
const char *walk_directory_read(struct walk_directory *directory, struct span blob);
/* All-zero is accepted. */
void walk_directory_fini(struct walk_directory *directory);
size_t walk_directory_bytes(const struct walk_directory *directory);

static inline const struct walk_node *walk_directory_node(const struct walk_directory *directory, uint32_t i)
{
	return (const struct walk_node *)(const void *)(directory->arena.data + directory->order[i]);
}

/* Its own mode and xattrs. */
static inline const struct walk_node *walk_directory_self(const struct walk_directory *directory)
{
	return (const struct walk_node *)(const void *)directory->arena.data;
}

static inline struct span walk_node_name(const struct walk_node *node)
{
	return span_make(node->bytes, node->name_bytes);
}

/*
 * The node as an entry at `path`; of a directory, `self` is what it says of itself, else NULL. Borrowed from both.
 */
void walk_node_entry(const struct walk_node *node, const struct walk_node *self, struct span path, struct walk_entry *entry);
