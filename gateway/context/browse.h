/* browse: looks into a tree by path, one Directory message at a time. Blocking; `ls`, `cat` and outputs of an action. */
#pragma once

#include "gateway/context/source.h"
#include "proto/tree.h"

/* What a symlink points to has to be somewhere. */
struct browse_target {
	uint8_t bytes[TREE_TARGET_MAX];
};

/*
 * The node at `path` ("" or "." is the root: kind directory, digest `root`). Names and xattrs in `node` are not
 * set; `node->target` is in `target` (NULL: not wanted, and not set). 0; -ENOENT: no such path; -ESTALE: a
 * directory on the way is not to be had (any more), so nobody knows; -ENOTDIR; or the source's error. `why` gets one sentence.
 */
int browse_find(struct source *source, const struct digest *root, const char *path, struct tree_node *node,
                struct browse_target *target, char *why, size_t why_size);

/* Calls `visit` for each entry of a directory, in canonical order; `node` is borrowed. Non-zero ends it. */
int browse_list(struct source *source, const struct digest *directory,
                int (*visit)(void *context, const struct tree_node *node), void *context, char *why, size_t why_size);

/*
 * Calls `visit` with the bytes of a file, in order. Those of a long file without a recipe are checked when all have been visited,
 * all others before. 0; what `visit` ended it with; or the source's error, with `why`.
 */
int browse_read(struct source *source, const struct tree_node *file,
                int (*visit)(void *context, struct span data), void *context, char *why, size_t why_size);
