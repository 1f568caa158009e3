/*
 * ring: the event loop, and the only door to the kernel's sockets, files, clock and randomness. One thread creates a
 * ring and is the only one to use it; ring_post() alone may be called from anywhere.
 *
 * An operation is a `struct op` embedded in its owner, with a handler. Starting one never calls the handler; handlers
 * run from ring_run() after all completions of a turn were reaped, never inside one another. An op is in flight from
 * its start until its handler runs with `op->more` false; its owner must stay until then. Results are what the system
 * call returns, errors as negative errno.
 *
 * Engines: io_uring; epoll with a small thread pool, when io_uring is refused or asked for (RING_ENGINE_*, chosen in
 * ring_create); tests/sim links a simulated one instead. Same behaviour, seen from here.
 */
#pragma once

#include <sys/socket.h>
#include "gateway/base/list.h"
#include "proto/span.h"

struct ring;
struct op;

typedef void op_fn(struct op *op, int32_t res);
typedef int32_t op_work_fn(struct op *op);

struct op {
	op_fn *fn;                       /* the owner's, set before the start */
	bool more;                       /* in the handler: multishot, still armed, more will come */
	/* What follows is the engine's. All-zero before the first start. */
	bool in_flight;
	bool cancelled;
	bool slow;
	uint8_t kind, state;
	int32_t res;
	int fd;
	uint32_t generation;
	struct list link;
	op_work_fn *work;
	uint8_t *data;
	size_t size, done;
	uint64_t offset;
	uint64_t deadline_ns;
	struct span received;
	union {
		struct sockaddr_storage address;
		struct {
			struct op *child, *next, *previous;
		} heap;
	} u;
	uint32_t address_size;
};

static inline bool op_in_flight(const struct op *op)
{
	return op->in_flight;
}

enum ring_engine { RING_ENGINE_AUTO, RING_ENGINE_URING, RING_ENGINE_EPOLL };

#define RING_SOCKETS_MAX 65536u          /* sockets_max is at most this */

struct ring_config {
	enum ring_engine engine;
	uint32_t entries;                /* SQ entries; 0: 512. CQ is 16 times that */
	uint32_t workers_max;            /* threads for ring_work and, in the epoll engine, files; 0: 2 */
	uint32_t receive_buffer_bytes;   /* 0: 64 KiB */
	uint32_t receive_buffers;        /* 0: 32 */
	uint32_t sockets_max;            /* direct descriptor table; 0: 1,024. Above the owner's limit of connections:
	                                    the one that finds it full is lost, those after get real descriptors */
	bool gather;                     /* io_uring: bytes that come in small pieces, many at a time, may wait up to
	                                    RING_GATHER_NS for those behind them, so that a turn has more to do;
	                                    where that was in vain, it is not tried again for a while */
};

#define RING_GATHER_NS UINT64_C(200000)

/*
 * Counts since ring_create; for metrics and for tests that assert which path ran. receives: completions of ring_recv
 * with data, as the kernel made them; receive_multishot, receive_bundle (over several buffers): those among them;
 * receive_no_buffers: times a receive had to wait for buffers; gathered: turns that waited for more (ring_config.gather);
 * cq_overflows: turns that found the completion queue overrun, which should never happen; the others count starts.
 */
struct ring_counters {
	uint64_t turns, completions, receives, receive_multishot, receive_bundle, receive_no_buffers, gathered, sends,
	         short_sends, writes, writes_fixed, reads, syncs, works, posts, cq_overflows, direct_accepts;
};

/*
 * 0; -EPERM, -ENOSYS, -ENOMEM when io_uring alone was asked for and refused (ring_refusal() says the cause).
 * With AUTO the epoll engine takes over then, and a warning is logged.
 */
int ring_create(struct ring **ring, const struct ring_config *config);
/* No op may be in flight. NULL is accepted. */
void ring_destroy(struct ring *ring);

/* "io_uring" or "epoll" (or "sim"). */
const char *ring_engine_name(const struct ring *ring);
const struct ring_counters *ring_counters(const struct ring *ring);

/*
 * One turn: submit, wait for completions or posts at most `timeout_ns` (0: do not wait; UINT64_MAX: as long as it
 * takes), run their handlers. Returns how many handlers ran. A signal ends the wait.
 */
unsigned ring_run(struct ring *ring, uint64_t timeout_ns);

uint64_t ring_now_ns(const struct ring *ring);           /* monotonic; as of this turn's start or later */
uint64_t ring_wall_ns(const struct ring *ring);          /* since 1970 */
void ring_random(struct ring *ring, void *out, size_t size);

/*
 * A message from any thread: `post->fn` runs on the ring's thread, once. The post is the sender's to keep until then.
 */
struct post {
	void (*fn)(struct post *post);
	struct post *next;
};
void ring_post(struct ring *ring, struct post *post);

/* Sockets. A *handle* is a socket of this ring: a file descriptor, or a direct descriptor made by ring_accept. */

/*
 * Multishot: one completion a connection, res = handle (TCP_NODELAY and the like are inherited from the listener). A
 * negative res is the last one (-EMFILE, -ECANCELED); a connection that was accepted before a cancel took hold is still
 * delivered.
 */
void ring_accept(struct ring *ring, struct op *op, int listener);
/* `fd` is a non-blocking socket of the caller; it is the handle then. */
void ring_connect(struct ring *ring, struct op *op, int fd, const struct sockaddr *address, socklen_t size);
/*
 * Multishot: each completion has res = bytes at `op->received` (any number: neighbouring buffers come as one),
 * borrowed until the handler returns. res 0: the peer ended (more is false); negative: error (more is false).
 * -ENOBUFS never reaches the handler: the engine re-arms. To stop reading, ring_cancel(); what was taken from the
 * socket by then is still delivered (at most the ring's receive buffers), then the last completion is -ECANCELED.
 */
void ring_recv(struct ring *ring, struct op *op, int handle);
/*
 * Completes when all is sent (res = data.size, which is 1 byte to 1 GiB) or on an error. One send in flight a handle;
 * after an error or a cancel it is unknown how much went out.
 */
void ring_send(struct ring *ring, struct op *op, int handle, struct span data);
/*
 * shutdown(2) in both directions, then close. No other op of this handle may be in flight; the handle ends here. `op`
 * may be NULL. A listener goes this way as well.
 */
void ring_close(struct ring *ring, struct op *op, int handle);
/* The file descriptor behind a handle, for getsockopt and the like; -1 for a direct one (SO_* are not readable there). */
int ring_handle_fd(const struct ring *ring, int handle);

/*
 * Who is at the other end: completes with 0 and the address in op->u.address, op->address_size; or with an error, which
 * for a direct descriptor before Linux 6.7 is all that there is to be had.
 */
void ring_peer(struct ring *ring, struct op *op, int handle);

/*
 * Files: plain descriptors (no pipes: ring_poll() waits on those). `path` and `data` stay until the completion. Reads may
 * be short only at the end of the file; a write is whole or an error. ring_open adds O_CLOEXEC.
 */
void ring_open(struct ring *ring, struct op *op, int dir_fd, const char *path, int flags, uint32_t mode);
void ring_read(struct ring *ring, struct op *op, int fd, void *data, size_t size, uint64_t offset);
void ring_write(struct ring *ring, struct op *op, int fd, const void *data, size_t size, uint64_t offset);
void ring_fdatasync(struct ring *ring, struct op *op, int fd);

/*
 * Memory for writes: page-aligned, registered with the kernel where it can be, so that ring_write() from inside it
 * takes the fixed path. Once a ring. NULL: no memory.
 */
void *ring_slots_create(struct ring *ring, size_t bytes);

/*
 * Completes once with res = poll(2) events (POLLIN, POLLHUP, POLLERR: above 0) when `fd` is readable or hung up, at once
 * when it is so already. Any descriptor that poll(2) takes: a pipe, a pidfd, a socket; what is always readable (a
 * regular file) is so here. It stays the caller's, who lets the op land before he closes it. One poll, receive or accept
 * in flight a descriptor.
 */
void ring_poll(struct ring *ring, struct op *op, int fd);

/* Completes with res 0 after `delay_ns`, or -ECANCELED. */
void ring_timer(struct ring *ring, struct op *op, uint64_t delay_ns);

/* Runs `work(op)` on a worker thread; its return value is res. In the simulated engine it runs on this thread, later. */
void ring_work(struct ring *ring, struct op *op, op_work_fn *work);
/* The same for what waits for another machine (a name server): it never has all worker threads. */
void ring_work_slow(struct ring *ring, struct op *op, op_work_fn *work);

/*
 * Ask for the end of an op in flight; its completion still arrives, later, with -ECANCELED or what it came to by then.
 * Work, reads, writes and syncs that have begun run to their end, and a close is never cancelled. Asking again, or
 * about an op that is not in flight, does nothing.
 */
void ring_cancel(struct ring *ring, struct op *op);
