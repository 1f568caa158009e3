/*
 * two_trees: the differences between two trees, each at the gateway, or the newer one a directory on the disk, of which
 * nothing is sent. What `sluice diff` and `sluice affected` do.
 */
#pragma once

#include "gateway/client/client.h"
#include "gateway/cmd/command.h"
#include "gateway/context/difference.h"
#include "gateway/context/manifest.h"

/* A directory as it would be pushed. `ignore_path` NULL: its .dockerignore, unless `no_ignore`. STATUS_OK, or the exit status after saying why. */
int two_trees_scan(const struct command *command, const char *directory, const char *ignore_path, bool no_ignore,
                   struct manifest **manifest);

struct two_trees {
	const struct command *command;
	struct client *client;
	const struct digest *before, *after;     /* `before` NULL: the empty tree */
	struct manifest *manifest;       /* of `after`; NULL: both are at the gateway */
	bool inside_removed;             /* tell each entry of a removed directory */
	/* A -errno ends the walk, and so does an exit status, of which nothing more is said. */
	int (*visit)(void *context, const struct difference_change *change);
	void *context;
};

/* STATUS_OK, or the exit status after saying why, or the visit's. */
int two_trees_walk(const struct two_trees *trees);

/* What a change is called; NULL: nothing is to be told (only something inside differs, or the addition tells it). */
const char *two_trees_word(uint32_t kinds);
