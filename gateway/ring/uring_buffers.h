/*
 * uring_buffers: the receive buffers that all connections of a ring share. The kernel takes them from a ring of its own
 * as data comes; we give them back once a turn, in the order they were consumed: so the positions of a completion that
 * is not yet handled are never written over, and neighbours stay neighbours. Private to gateway/ring.
 */
#pragma once

#include "gateway/ring/uring_compat.h"
#include "proto/span.h"

struct uring_buffers {
	struct io_uring_buf_ring *shared;
	uint8_t *memory;                 /* `count` buffers of `bytes` */
	uint32_t count, bytes;           /* count is a power of two */
	uint16_t tail;
	uint16_t *order;                 /* position modulo count -> buffer */
	uint16_t *position;              /* buffer -> the position it was last given at */
	uint16_t *returned;              /* consumed and handled, to be given back */
	uint32_t returned_count;
};

enum { URING_BUFFER_GROUP = 0 };

/* `count` is rounded up to a power of two. On an error, to be released with _fini all the same. */
int uring_buffers_init(struct uring_buffers *buffers, struct io_uring *kernel, uint32_t count, uint32_t bytes);
/* The kernel has no receive in flight. Accepts an all-zero one. */
void uring_buffers_fini(struct uring_buffers *buffers, struct io_uring *kernel);

/*
 * A completion of `*left` bytes began in the buffer at `*position`: the next bytes of it that lie side by side in
 * memory. Moves `*position` and `*left` on; the buffers count as handled.
 */
struct span uring_buffers_take(struct uring_buffers *buffers, uint16_t *position, size_t *left);
/* A buffer that came without data. */
void uring_buffers_return(struct uring_buffers *buffers, uint16_t buffer);
/* Gives all that were handled back to the kernel. */
void uring_buffers_give_back(struct uring_buffers *buffers);
