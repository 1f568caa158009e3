/* browse: looks into a tree by path, one Directory message at a time. Blocking; `ls`, `cat` and outputs of an action. */
#pragma once

#include "gateway/context/source.h"
#include "proto/tree.h"

/*
 * The node at `path` ("" or "." is the root: kind directory, digest `root`). Names, targets and xattrs in `node` are
 * not set. 0; -ENOENT: no such path; -ENOTDIR; or the source's error. `why` gets one sentence.
 */
int browse_find(struct source *source, const struct digest *root, const char *path, struct tree_node *node, char *why,
                size_t why_size);

/* Calls `visit` for each entry of a directory, in canonical order; `node` is borrowed. Non-zero ends it. */
int browse_list(struct source *source, const struct digest *directory,
                int (*visit)(void *context, const struct tree_node *node), void *context, char *why, size_t why_size);

/*
 * Calls `visit` with the bytes of a file, in order. Those of a long file without a recipe are checked when all have been visited,
 * all others before. 0; what `visit` ended it with; or the source's error, with `why`.
 */
int browse_read(struct source *source, const struct tree_node *file,
                int (*visit)(void *context, struct span data), void *context, char *why, size_t why_size);
