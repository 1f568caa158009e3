/* pulling: a tree into a directory, with progress: what `sluice pull` does. */
#pragma once

#include "gateway/client/client.h"
#include "gateway/cmd/command.h"
#include "gateway/cmd/progress.h"
#include "gateway/context/materialise.h"

struct pulling {
	const struct command *command;
	struct client *client;
	struct digest root;
	const char *directory;           /* made when missing */
	bool replace;                    /* what it holds, once the tree is whole (context/replace.h) */
	bool special_modes;
	struct progress *progress;
	/* out */
	struct materialise_totals totals;
	uint64_t elapsed_ns;
};

/* STATUS_OK, or the exit status after saying why. */
int pulling_run(struct pulling *pulling);
