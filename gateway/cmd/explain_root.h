/* explain_root: a tree at the gateway against another one there: what changed, and how much of it is new. */
#pragma once

#include "gateway/client/client.h"
#include "gateway/cmd/command.h"
#include "proto/digest.h"

struct explain_root {
	const struct command *command;
	struct client *client;
	struct digest root, since;
	bool has_since;                  /* else against nothing: all of it is new */
	bool json;
	size_t top;                      /* paths to show */
};

/* STATUS_OK, or the exit status after saying why. */
int explain_root_run(const struct explain_root *options);
