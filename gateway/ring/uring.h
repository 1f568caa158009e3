/*
 * uring: what the two halves of the io_uring engine share: uring_submit.c gives requests to the kernel, ring_uring.c
 * reaps them. Private to gateway/ring.
 *
 * user_data is the op's address, with the low 16 bits of its generation on top: a request to cancel that is late cannot
 * hit the next use of the same op. A *handle* is a descriptor, or for a direct one bit 30, a generation of 14 bits and
 * the slot: a handle that was closed is not mistaken for the next socket in its slot.
 */
#pragma once

#include "gateway/ring/engine.h"
#include "gateway/ring/uring_buffers.h"

enum { URING_SLOTS_MAX = 1 << 16 };

/* user_data that are no ops (which are aligned). */
enum { TAG_IGNORE = 0, TAG_CLOSED = 1 };

struct completion {
	uint64_t user_data;
	int32_t res;
	uint32_t flags;
};

struct uring {
	struct ring ring;
	struct io_uring kernel;
	uint32_t in_kernel;              /* requests of ops that will complete */
	uint32_t closes;                 /* closes without an op that will complete */
	struct list overflow;            /* ops that got no submission entry, and those whose cancel got none; in order */
	struct list starved;             /* receives that found no buffer */
	struct completion *reaped;
	uint32_t reaped_count, reaped_max;
	struct uring_buffers buffers;
	uint64_t received;               /* bytes, in the last turn */
	bool gather, gathered;           /* may a turn wait for more; did the last one */
	uint32_t gather_rest;            /* turns until one may again */
	bool bundle;
	bool slots_registered;
	uint32_t direct_slots;           /* 0: no direct descriptors */
	uint16_t *direct_generation;
	struct op wake;
	uint64_t wake_value;
};

static inline struct uring *uring_of(struct ring *ring)
{
	return container_of(ring, struct uring, ring);
}

static inline uint64_t op_tag(const struct op *op)
{
	return (uint64_t)(uintptr_t)op | (uint64_t)(op->generation & 0xffff) << 48;
}

/* The engine's start, cancel, close and handle_fd. */
void uring_start(struct ring *ring, struct op *op);
void uring_cancel(struct ring *ring, struct op *op);
void uring_close(struct ring *ring, struct op *op, int handle);
int uring_handle_fd(const struct ring *ring, int handle);

/* The handle of the socket that accept put into `slot`. */
int uring_direct_handle(const struct uring *uring, int32_t slot);
/* Gives what had to wait to the kernel, as far as it takes it. */
void uring_drain_overflow(struct uring *uring);
