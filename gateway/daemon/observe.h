/* observe: what the daemon shows of itself: counters once a second to the admin port. */
#pragma once

#include <stddef.h>

struct daemon;

int observe_start(struct daemon *daemon, char *why, size_t why_size);
/* All listeners are open; no more builds are to come: /readyz says so at once. And within a second that the store failed. */
void observe_ready(struct daemon *daemon);
void observe_draining(struct daemon *daemon);
void observe_stop(struct daemon *daemon);
