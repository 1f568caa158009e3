/*
 * workers: a few threads that run blocking functions for one ring. Threads start when there is work for them, up to a
 * maximum, and stay.
 *
 * Work whose op says `slow` waits for something outside this machine (a name server). It takes all threads but one at most, and
 * others overtake it, so that what is behind it is not as slow.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct op;
struct workers;

/* `done(context, op)` is called on the worker's thread after op->work(op) returned; op->res has the result. */
typedef void workers_done_fn(void *context, struct op *op);

int workers_create(struct workers **workers, uint32_t threads_max, workers_done_fn *done, void *context);
/* Everything that was given has been done or taken back. NULL is accepted. */
void workers_destroy(struct workers *workers);

/* 0, or -EAGAIN when not even one thread can be started; then op was not taken. */
int workers_give(struct workers *workers, struct op *op);
/* True: op had not begun and is the caller's again. */
bool workers_take_back(struct workers *workers, struct op *op);
