/* buildkitd: the pool of executors that `--buildkit` names. For daemon.c. */
#pragma once

#include <stddef.h>

struct daemon;

/* Nothing when none is named. 0 or -errno with `why`; after a failure buildkitd_stop() is still to be called. */
int buildkitd_start(struct daemon *daemon, char *why, size_t why_size);
/* Runs the loop until the pool has ended; nobody may hold a lease any more. */
void buildkitd_stop(struct daemon *daemon);
