/*
 * engine: what ring.c (the front: life of an op, timers, workers, posts, counters) and an engine (io_uring, epoll) agree
 * on. Private to gateway/ring.
 *
 * The front starts an op by `start`, after which it is the engine's until the engine calls op_finish(), or hands it to
 * ring_complete() for this or the next turn. A turn is: wait (submit, sleep, reap), then dispatch (run the handlers of
 * what was reaped), then the front's own posts, timers and finished work.
 */
#pragma once

#include <pthread.h>
#include "gateway/ring/ring.h"
#include "gateway/ring/timers.h"

enum op_kind {
	OP_NONE,
	OP_ACCEPT,
	OP_CONNECT,
	OP_RECV,
	OP_SEND,
	OP_CLOSE,
	OP_OPEN,
	OP_READ,
	OP_WRITE,
	OP_FDATASYNC,
	OP_POLL,
	OP_PEER,                         /* of a handle without a descriptor */
	OP_TIMER,
	OP_WORK,
	OP_WAKE,                         /* the io_uring engine's own read of the event descriptor */
};

/*
 *	IDLE -> ENGINE -> [HELD | QUEUED | STARVED -> ENGINE]... -> [READY ->] IDLE
 *	IDLE -> TIMER | WORKER -> READY -> IDLE
 */
enum op_state {
	OP_IDLE,
	OP_ENGINE,                       /* with the kernel (io_uring), or waiting for an event (epoll) */
	OP_QUEUED,                       /* waits for its turn to be given to the kernel; in the engine's queue by `link` */
	OP_STARVED,                      /* a receive that found no buffer; in the engine's list by `link` */
	OP_HELD,                         /* a multishot in its handler that nobody else knows of */
	OP_TIMER_SET,                    /* in the heap of timers */
	OP_WORKER,                       /* with the workers */
	OP_READY,                        /* in ring->ready with its result */
};

struct workers;

struct engine {
	const char *name;
	void (*start)(struct ring *ring, struct op *op);
	/* `op` is in one of the engine's states and is marked cancelled for the first time. */
	void (*cancel)(struct ring *ring, struct op *op);
	void (*close)(struct ring *ring, struct op *op, int handle);
	int (*handle_fd)(const struct ring *ring, int handle);
	void (*wait)(struct ring *ring, uint64_t timeout_ns);
	unsigned (*dispatch)(struct ring *ring);
	/* The memory for writes is there: register it. A refusal is not an error. */
	void (*slots)(struct ring *ring);
	void (*destroy)(struct ring *ring);
};

struct ring {
	const struct engine *engine;
	struct ring_counters counters;
	struct list ready;               /* completed without the kernel's help; handlers run in this or the next turn */
	struct timers timers;
	struct workers *workers;
	pthread_t thread;
	int wake_fd;                     /* an eventfd that ends a wait */
	uint8_t *slots;
	size_t slots_bytes;
	struct {
		pthread_mutex_t mutex;
		struct post *first, **last;
		struct list finished;        /* ops whose work is done */
		bool woken;                  /* wake_fd was written since the last look */
	} inbox;
};

/*
 * Engines embed `struct ring` first, and set `engine`; the front does the rest after. `config` has its defaults put in.
 * `wake_fd` stays the front's.
 */
int uring_engine_create(struct ring **ring, const struct ring_config *config, int wake_fd);
int epoll_engine_create(struct ring **ring, const struct ring_config *config, int wake_fd);

/* Lets `op` complete with `res` by the front; at the latest in the next turn, which then does not wait. */
void ring_complete(struct ring *ring, struct op *op, int32_t res);
/* Gives op->work to the workers; its return value becomes the result. */
void ring_to_workers(struct ring *ring, struct op *op);
/* The last completion: from here on the op is its owner's. */
void op_finish(struct op *op, int32_t res);
/* One of several completions. */
void op_deliver(struct op *op, int32_t res);

/* True when `op` writes from inside the registered memory. */
bool ring_in_slots(const struct ring *ring, const struct op *op);
