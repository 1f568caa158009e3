/* root_argument: a root as people give it: sha256:HEX/SIZE, as `sluice push` prints it. */
#pragma once

#include "gateway/cmd/command.h"
#include "proto/digest.h"

/* STATUS_OK, or STATUS_USAGE after saying what is wrong. */
int root_argument(const struct command *command, const char *text, struct digest *root);
