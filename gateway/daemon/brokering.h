/* brokering: the memory of what clients' directories looked like, and the broker that serves contexts from it. For daemon.c. */
#pragma once

#include <stddef.h>

struct daemon;

/* Blocking, before the loop runs. 0 or -errno with `why`; after a failure brokering_stop() is still to be called. */
int brokering_start(struct daemon *daemon, char *why, size_t why_size);
/* Runs the loop until all that was learned is saved; no session is left. */
void brokering_stop(struct daemon *daemon);
