/*
 * target_tree: the tree that a target is made of: what a scanned directory holds at the paths of the target and of all that
 * it needs. So the same inputs have the same root, whatever changes beside them. Contents are the scanned tree's; the
 * Directory messages that are not are handed out to be uploaded.
 */
#pragma once

#include "gateway/cmd/targets.h"
#include "gateway/context/manifest.h"

struct target_tree {
	struct manifest *manifest;
	struct targets *targets;
	size_t index;
	/* Of each Directory that the scanned tree does not have; borrowed. 0 or -errno. */
	int (*emit)(void *context, const struct digest *digest, struct span directory);
	void *context;
};

/* 0; -ENOENT: none of its paths is there; else -errno. `why` gets one sentence. */
int target_tree_make(const struct target_tree *tree, struct digest *root, char *why, size_t why_size);
