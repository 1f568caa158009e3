/*
 * uring_compat: what newer kernels have and liburing 2.3 does not name; values of the kernel's UAPI, which never change.
 * Whether the running kernel has them is tried (probe.c), not derived from its version. Private to gateway/ring.
 */
#pragma once

#include <liburing.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* io_uring_params.features (6.10): sends and receives know IORING_RECVSEND_BUNDLE. */
#ifndef IORING_FEAT_RECVSEND_BUNDLE
#define IORING_FEAT_RECVSEND_BUNDLE (1U << 14)
#endif
/* sqe->ioprio (6.10): one completion spans as many provided buffers as the data fills. */
#ifndef IORING_RECVSEND_BUNDLE
#define IORING_RECVSEND_BUNDLE (1U << 4)
#endif
/* cqe->flags (6.12): the buffer is not used up, the next completion goes on in it. */
#ifndef IORING_CQE_F_BUF_MORE
#define IORING_CQE_F_BUF_MORE (1U << 4)
#endif
/* io_uring_buf_reg.flags, which 2.3 calls `pad` (6.12): buffers are consumed byte by byte. */
#define COMPAT_PBUF_RING_INC 2

/* sqe->file_index for accept: the kernel picks a free slot of the direct descriptor table. */
#ifndef IORING_FILE_INDEX_ALLOC
#define IORING_FILE_INDEX_ALLOC (~0U)
#endif

/* sqe->cmd_op of IORING_OP_URING_CMD on a socket (6.7): getsockopt(2), SOL_SOCKET only. */
#define COMPAT_SOCKET_GETSOCKOPT 2

/*
 * getsockopt(SO_PEERNAME), which is getpeername(2) for direct descriptors too. The kernel wants `size` to be no more
 * than the address has (-EINVAL). Level and option name lie where `addr` does, the pointer where `addr3`.
 */
static inline void compat_prep_peer_name(struct io_uring_sqe *sqe, int fd, void *address, uint32_t size)
{
	const uint32_t option[2] = { SOL_SOCKET, SO_PEERNAME };

	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, 0);
	sqe->cmd_op = COMPAT_SOCKET_GETSOCKOPT;
	memcpy(&sqe->addr, option, sizeof(option));
	sqe->file_index = size;
	sqe->addr3 = (uintptr_t)address;
}

/* io_uring_setup_buf_ring() of liburing 2.4. `entries` is a power of two. NULL: the kernel's error is in `*error`. */
static inline struct io_uring_buf_ring *compat_buf_ring_setup(struct io_uring *ring, unsigned entries, int group,
                                                              unsigned flags, int *error)
{
	size_t bytes = entries * sizeof(struct io_uring_buf);
	struct io_uring_buf_ring *buffers;
	struct io_uring_buf_reg reg;

	buffers = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffers == MAP_FAILED) {
		*error = -ENOMEM;
		return NULL;
	}
	memset(&reg, 0, sizeof(reg));
	reg.ring_addr = (unsigned long)buffers;
	reg.ring_entries = entries;
	reg.bgid = (__u16)group;
	reg.pad = (__u16)flags;
	*error = io_uring_register_buf_ring(ring, &reg, 0);
	if (*error) {
		munmap(buffers, bytes);
		return NULL;
	}
	io_uring_buf_ring_init(buffers);
	return buffers;
}

static inline void compat_buf_ring_free(struct io_uring *ring, struct io_uring_buf_ring *buffers, unsigned entries,
                                        int group)
{
	io_uring_unregister_buf_ring(ring, group);
	munmap(buffers, entries * sizeof(struct io_uring_buf));
}
