/* uring_submit: requests to the kernel: entries, handles, one function a kind of op, cancel, close, what had to wait. */
#include "gateway/ring/uring.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>
#include "gateway/base/check.h"

enum {
	HANDLE_DIRECT = 1 << 30,
	HANDLE_GENERATIONS = 1 << 14,
};

/*
 * At least `count` entries that will be submitted together; NULL: the kernel takes no more now, or has completed so much
 * while we submitted that the completion queue would overrun: reap first.
 */
static struct io_uring_sqe *take_sqe(struct uring *uring, unsigned count)
{
	if (io_uring_cq_ready(&uring->kernel) > uring->reaped_max / 2)
		return NULL;
	if (io_uring_sq_space_left(&uring->kernel) < count)
		io_uring_submit(&uring->kernel);
	if (io_uring_sq_space_left(&uring->kernel) < count)
		return NULL;
	return io_uring_get_sqe(&uring->kernel);
}

static bool handle_direct(int handle)
{
	return handle & HANDLE_DIRECT;
}

static uint32_t handle_slot(const struct uring *uring, int handle)
{
	uint32_t slot = (uint32_t)handle & (URING_SLOTS_MAX - 1);

	CHECK(slot < uring->direct_slots);
	CHECK(((uint32_t)handle >> 16 & (HANDLE_GENERATIONS - 1)) == uring->direct_generation[slot]);
	return slot;
}

int uring_direct_handle(const struct uring *uring, int32_t slot)
{
	CHECK((uint32_t)slot < uring->direct_slots);
	return HANDLE_DIRECT | uring->direct_generation[slot] << 16 | slot;
}

/* Call after io_uring_prep_*, which resets the flags. */
static void sqe_set_handle(const struct uring *uring, struct io_uring_sqe *sqe, int handle)
{
	if (!handle_direct(handle))
		return;
	sqe->fd = (int)handle_slot(uring, handle);
	sqe->flags |= IOSQE_FIXED_FILE;
}

static bool listener_is_tcp(int listener)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);

	if (getsockname(listener, (struct sockaddr *)&address, &size) < 0)
		return false;
	return address.ss_family == AF_INET || address.ss_family == AF_INET6;
}

/*
 * A unix socket's owner asks for SO_PEERCRED, so those are real descriptors. op->size: direct; op->done: the table of
 * direct descriptors was full, so not this time.
 */
static void prep_accept(struct uring *uring, struct op *op, struct io_uring_sqe *sqe)
{
	op->size = uring->direct_slots && !op->done && listener_is_tcp(op->fd);
	if (op->size)
		io_uring_prep_multishot_accept_direct(sqe, op->fd, NULL, NULL, 0);
	else
		io_uring_prep_multishot_accept(sqe, op->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static void prep_recv(struct uring *uring, struct op *op, struct io_uring_sqe *sqe)
{
	io_uring_prep_recv_multishot(sqe, op->fd, NULL, 0, 0);
	sqe_set_handle(uring, sqe, op->fd);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = URING_BUFFER_GROUP;
	if (uring->bundle)
		sqe->ioprio |= IORING_RECVSEND_BUNDLE;
}

static void prep_send(struct uring *uring, struct op *op, struct io_uring_sqe *sqe)
{
	io_uring_prep_send(sqe, op->fd, op->data + op->done, op->size - op->done, MSG_NOSIGNAL | MSG_WAITALL);
	sqe_set_handle(uring, sqe, op->fd);
}

/* Direct descriptors are TCP's. op->done: it is IPv6, asked again for the whole of the address. */
static void prep_peer(struct uring *uring, struct op *op, struct io_uring_sqe *sqe)
{
	op->address_size = op->done ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	compat_prep_peer_name(sqe, op->fd, &op->u.address, op->address_size);
	sqe_set_handle(uring, sqe, op->fd);
}

static void prep_write(struct uring *uring, struct op *op, struct io_uring_sqe *sqe)
{
	const void *data = op->data + op->done;
	unsigned size = (unsigned)(op->size - op->done);

	if (!uring->slots_registered || !ring_in_slots(&uring->ring, op)) {
		io_uring_prep_write(sqe, op->fd, data, size, op->offset + op->done);
		return;
	}
	io_uring_prep_write_fixed(sqe, op->fd, data, size, op->offset + op->done, 0);
	uring->ring.counters.writes_fixed++;
}

static void prep(struct uring *uring, struct op *op, struct io_uring_sqe *sqe)
{
	switch ((enum op_kind)op->kind) {
	case OP_ACCEPT:
		prep_accept(uring, op, sqe);
		break;
	case OP_CONNECT:
		io_uring_prep_connect(sqe, op->fd, (struct sockaddr *)&op->u.address, op->address_size);
		break;
	case OP_RECV:
		prep_recv(uring, op, sqe);
		break;
	case OP_PEER:
		prep_peer(uring, op, sqe);
		break;
	case OP_SEND:
		prep_send(uring, op, sqe);
		break;
	case OP_OPEN:
		io_uring_prep_openat(sqe, op->fd, (char *)op->data, (int)op->size, (mode_t)op->offset);
		break;
	case OP_READ:
		io_uring_prep_read(sqe, op->fd, op->data + op->done, (unsigned)(op->size - op->done),
		                   op->offset + op->done);
		break;
	case OP_WRITE:
		prep_write(uring, op, sqe);
		break;
	case OP_FDATASYNC:
		io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC);
		break;
	case OP_POLL:
		io_uring_prep_poll_add(sqe, op->fd, POLLIN);
		break;
	case OP_WAKE:
		io_uring_prep_read(sqe, op->fd, &uring->wake_value, sizeof(uring->wake_value), 0);
		break;
	default:
		CHECK(!"an op of the front");
	}
}

/*
 * shutdown, then close, whatever shutdown says (ENOTCONN breaks a soft link). The handle ends here, the socket when the
 * kernel comes to it.
 */
static bool issue_close(struct uring *uring, struct op *op, int handle)
{
	struct io_uring_sqe *shutdown = take_sqe(uring, 2), *close;
	uint32_t slot;

	if (!shutdown)
		return false;
	io_uring_prep_shutdown(shutdown, handle, SHUT_RDWR);
	sqe_set_handle(uring, shutdown, handle);
	shutdown->flags |= IOSQE_IO_HARDLINK;
	shutdown->user_data = TAG_IGNORE;
	close = io_uring_get_sqe(&uring->kernel);
	CHECK(close);
	if (handle_direct(handle)) {
		slot = handle_slot(uring, handle);
		io_uring_prep_close_direct(close, slot);
		uring->direct_generation[slot] = (uring->direct_generation[slot] + 1) % HANDLE_GENERATIONS;
	} else {
		io_uring_prep_close(close, handle);
	}
	close->user_data = op ? op_tag(op) : TAG_CLOSED;
	if (!op)
		uring->closes++;
	return true;
}

/* False: no entry was free. */
static bool issue(struct uring *uring, struct op *op)
{
	struct io_uring_sqe *sqe;

	if (op->kind == OP_CLOSE) {
		if (!issue_close(uring, op, op->fd))
			return false;
	} else {
		sqe = take_sqe(uring, 1);
		if (!sqe)
			return false;
		prep(uring, op, sqe);
		sqe->user_data = op_tag(op);
	}
	op->state = OP_ENGINE;
	uring->in_kernel++;
	return true;
}

static bool issue_cancel(struct uring *uring, struct op *op)
{
	struct io_uring_sqe *sqe = take_sqe(uring, 1);

	if (!sqe)
		return false;
	io_uring_prep_cancel64(sqe, op_tag(op), 0);
	sqe->user_data = TAG_IGNORE;
	return true;
}

void uring_start(struct ring *ring, struct op *op)
{
	struct uring *uring = uring_of(ring);

	if (list_empty(&uring->overflow) && issue(uring, op))
		return;
	op->state = OP_QUEUED;
	list_append(&uring->overflow, &op->link);
}

void uring_cancel(struct ring *ring, struct op *op)
{
	struct uring *uring = uring_of(ring);

	switch ((enum op_state)op->state) {
	case OP_QUEUED:
	case OP_STARVED:
		list_remove(&op->link);
		ring_complete(ring, op, -ECANCELED);
		return;
	case OP_HELD:                    /* seen when its handler returns */
		return;
	case OP_ENGINE:
		if (!list_empty(&uring->overflow) || !issue_cancel(uring, op))
			list_append(&uring->overflow, &op->link);
		return;
	default:
		CHECK(!"a state of the engine");
	}
}

void uring_close(struct ring *ring, struct op *op, int handle)
{
	struct uring *uring = uring_of(ring);
	int none = -1;

	if (op) {
		uring_start(ring, op);
		return;
	}
	if (issue_close(uring, NULL, handle))
		return;
	if (handle_direct(handle)) {
		uint32_t slot = handle_slot(uring, handle);

		io_uring_register_files_update(&uring->kernel, slot, &none, 1);
		uring->direct_generation[slot] = (uring->direct_generation[slot] + 1) % HANDLE_GENERATIONS;
	} else {
		close(handle);
	}
}

int uring_handle_fd(const struct ring *ring, int handle)
{
	return handle_direct(handle) ? -1 : handle;
}

void uring_drain_overflow(struct uring *uring)
{
	while (!list_empty(&uring->overflow)) {
		struct op *op = container_of(uring->overflow.next, struct op, link);

		if (op->state == OP_QUEUED ? !issue(uring, op) : !issue_cancel(uring, op))
			return;
		list_remove(&op->link);
	}
}
