/* outputs: what an action left behind, brought home. */
#pragma once

#include "gateway/client/client.h"
#include "gateway/cmd/command.h"
#include "gateway/cmd/options.h"
#include "proto/digest.h"

struct outputs {
	const struct digest *changes;    /* the tree of what the action made and changed; NULL: nothing */
	const struct digest *pushed;     /* the one that it began with, for a better word of what is missing; NULL: not known */
	const struct option_list *paths;
	const char *below;
};

/*
 * Writes each of `paths`, as `changes` has it, below the directory `below` (made when missing). A file replaces what has its
 * name; a directory goes over the one that is there, of which all that `changes` does not have stays; where it meets something
 * of another kind it is in place in part. Nothing is touched before all of a path has come. Below `below` no symlink is
 * followed, whoever made it. What a run that was killed left beside one of `paths` is removed.
 * STATUS_OK; or the exit status of the first that is missing or failed, when all others have been tried, as long as there is a
 * connection: `why` says so of each; or STATUS_INTERRUPTED.
 */
int outputs_pull(struct client *client, const struct outputs *outputs, char *why, size_t why_size);

/* It leads to something below the tree: outputs_pull() refuses any other, but only when the action has run. */
bool outputs_path_valid(const char *path);

/* Fetches one blob and hands it to `print`. */
int outputs_print(struct client *client, const struct command *command, const struct digest *blob,
                  void (*print)(void *context, struct span blob), void *context);
