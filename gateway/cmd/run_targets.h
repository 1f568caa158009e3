/*
 * run_targets: what `sluice run --targets` does: an action for each target that has a command, on the tree that it is made
 * of, many at a time; at the end one table, or one JSON object, and a JUnit file if wanted.
 */
#pragma once

#include "gateway/client/client.h"
#include "gateway/cmd/action.h"
#include "gateway/cmd/progress.h"

#define RUN_TARGETS_JOBS_MAX 128         /* calls at a time; a gateway queues 256 of a tenant's */

struct run_targets {
	const struct command *command;
	struct client *client;
	struct progress *progress;
	const char *gateway;             /* as the user gave it */
	const char *file, *directory, *ignore_file;
	const char *since;               /* a former root: those that it does not affect are marked; NULL: none */
	struct action_wish defaults;     /* for what a target does not say; its environment comes before the target's */
	const char *output_directory;    /* outputs are pulled below it; NULL: none are */
	const char *junit;               /* NULL: none */
	uint64_t jobs;
	bool json, quiet, no_ignore;
};

/*
 * STATUS_OK: all passed; STATUS_FAILURE: one did not; else what went wrong besides. Once the targets run, the report is
 * made whatever ends them, with those that had not ended as errors.
 */
int run_targets(const struct run_targets *wish);
