/* signals: SIGTERM, SIGINT and SIGCHLD as posts to a ring: a thread waits for them, so that no handler runs anywhere. */
#pragma once

#include "gateway/ring/ring.h"

struct signals;

/* Blocks the signals in the calling thread and all that it starts later: call it before threads are made. */
void signals_block(void);
/* `fn` is called on the ring's thread, once a signal. 0 or -errno. */
int signals_create(struct signals **signals, struct ring *ring, void (*fn)(void *context, int signal), void *context);
/* NULL is accepted. Runs the ring until it has let go of our post; not from inside a handler. `fn` is not called again. */
void signals_destroy(struct signals *signals);
