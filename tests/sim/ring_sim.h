/*
 * ring_sim: gateway/ring/ring.h on one thread, from a seed. Linked in place of the real ring, so that the library under
 * test is the one that ships. A run is its seed: print it first.
 *
 * Simulated: open, read, write, fdatasync, timers, work, posts, cancel. The clock is virtual: it moves by a few
 * microseconds a completion (now and then by milliseconds), and jumps to the next timer when nothing else is to do.
 * Each turn completes a few of what is in flight, in an order that the seed picks; an op takes effect at the moment it
 * completes, right before its handler. Work runs then, too, on this thread. Sockets, polls: CHECK fails.
 * A wait without an end on a ring that has nothing in flight is a bug of the test or the tested, and CHECK fails.
 *
 * Power loss: ring_write() changes the real file at once, so that everybody reads the same, pread(2) in work included;
 * an undo log keeps what was there and what was written. A ring_fdatasync() that completes with 0 makes durable what
 * had completed on that file before it was *started*, nothing else; one that fails dooms those writes (the kernel may
 * have dropped the dirty pages), and no later sync covers them. ring_sim_crash() takes back every write that is not
 * durable and then lets the seed decide for each whether it survives wholly, torn at 4 KiB borders, or not at all;
 * writes in flight are among them.
 * Not modelled: what is written by other means than ring_write() (LMDB, ftruncate, fallocate, rename in work) stays;
 * files and directory entries are never lost.
 */
#pragma once

#include "gateway/ring/ring.h"

struct ring_sim_config {
	uint64_t seed;
	/* Stop after so many completions (handlers and posts): ring_run() then does nothing. 0: never. */
	uint64_t completions_max;
	/*
	 * One call in so many fails with `error` (0: none). A write that fails may have been written in part.
	 */
	uint32_t write_errors_one_in, read_errors_one_in, sync_errors_one_in;
	int32_t error;                   /* -ENOSPC, -EIO; 0: -EIO */
	/*
	 * The fdatasync of this site completes and makes nothing durable; 0: none. A site is a handler (op.fn) that an
	 * fdatasync was started with; they are numbered from 1 as this process first sees them, see ring_sim_sync_sites().
	 */
	uint32_t lying_sync;
};

/* What ring_create() does in this library, with .seed = 1. */
int ring_sim_create(struct ring **ring, const struct ring_sim_config *config);

/* From now on errors are those of `config` (its other fields are not looked at). */
void ring_sim_fail(struct ring *ring, const struct ring_sim_config *config);

/* Turns until `completions` handlers and posts have run since the start, or nothing is left to do (false). */
bool ring_sim_run_until(struct ring *ring, uint64_t completions);
/* completions_max is reached, or the power is gone. */
bool ring_sim_stopped(const struct ring *ring);

/*
 * The power goes. From here on every op completes with -EIO (a timer with -ECANCELED) and changes nothing, and work is
 * not run, so that the owner can tear down; then reopen on another ring.
 */
void ring_sim_crash(struct ring *ring);

/* Writes that a crash now could take back. */
unsigned ring_sim_writes_volatile(const struct ring *ring);
/* How many sites of fdatasync this process has seen. */
uint32_t ring_sim_sync_sites(void);
/* The ring's generator: for choices of the test that shall come from the same seed. */
uint64_t ring_sim_random(struct ring *ring);
