/*
 * watch: a process that runs, until its end: what its two pipes hold is handed on, it is killed when its time is over or
 * somebody says so, and a client's calls go on meanwhile. Its end is what its pidfd says: its pipes may have been closed long
 * before, and somebody else may hold them open after it. Blocking; the client's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/span.h"

#define WATCH_OUTPUT_BYTES (64u << 10)           /* of one read */
#define WATCH_DRAIN_NS     5000000000ull         /* for what the pipes still bring once it has ended */

struct client;

struct watch {
	struct client *client;
	int pipes[2];                    /* of its stdout and stderr, O_NONBLOCK. Closed, and -1, when it returns */
	int end_fd;                      /* readable once the process has ended */
	uint64_t timeout_ns;             /* 0: none */
	/* Asked each turn. True: it is to be killed. */
	bool (*cancelled)(void *context);
	void (*output)(void *context, uint32_t stream /* 1 or 2 */, struct span data);
	void (*kill)(void *context);     /* once at most */
	void *context;
};

/* True: its time was over, and it was killed for that. */
bool watch_run(struct watch *watch);
