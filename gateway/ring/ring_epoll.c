/*
 * ring_epoll: the engine for where io_uring is refused. Sockets by readiness (edge-triggered, both directions at once,
 * so that a socket costs one epoll_ctl), files by the workers. Every operation is tried first and waits only after
 * EAGAIN; so an edge that was reported while nobody waited is never missed.
 */
#include "gateway/ring/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"

enum {
	EVENTS_MAX = 256,
	SOCKETS_MIN = 64,                /* the table grows by doubling, up to the largest descriptor, so RLIMIT_NOFILE */
	ACCEPT_BURST = 64,               /* of one operation in one turn, so that others have their turn as well */
	RECEIVE_BURST = 4,
	SEND_BURST = 16,
};

/* One slot each way: the op that is started and not completed. */
struct socket {
	struct op *reader, *writer;
	bool armed;                      /* epoll reports its edges; forgotten when no op is left, as the owner may close it */
};

struct epoll_ring {
	struct ring ring;
	int epoll_fd, wake_fd;
	bool coarse;                     /* no epoll_pwait2: milliseconds */
	struct socket *sockets;
	size_t sockets_size;
	struct list runnable;            /* ops to try, in state OP_QUEUED */
	uint8_t *buffer;
	size_t buffer_bytes;
	int event_count;
	struct epoll_event events[EVENTS_MAX];
};

static struct epoll_ring *epoll_of(struct ring *ring)
{
	return container_of(ring, struct epoll_ring, ring);
}

/* Files, on a worker's thread. */

static int32_t file_open(struct op *op)
{
	int fd = openat(op->fd, (const char *)op->data, (int)op->size, (mode_t)op->offset);

	return fd < 0 ? -errno : fd;
}

/* Short only at the end of the file. */
static int32_t file_read(struct op *op)
{
	size_t done = 0;

	while (done < op->size) {
		ssize_t n = pread(op->fd, op->data + done, op->size - done, (off_t)(op->offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EINVAL && done > 0)
			break;          /* O_DIRECT at the end of a file: the rest is not aligned */
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (int32_t)done;
}

static int32_t file_write(struct op *op)
{
	size_t done = 0;

	while (done < op->size) {
		ssize_t n = pwrite(op->fd, op->data + done, op->size - done, (off_t)(op->offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return (int32_t)done;
}

static int32_t file_fdatasync(struct op *op)
{
	return fdatasync(op->fd) < 0 ? -errno : 0;
}

static op_work_fn *file_work(const struct op *op)
{
	switch ((enum op_kind)op->kind) {
	case OP_OPEN:
		return file_open;
	case OP_READ:
		return file_read;
	case OP_WRITE:
		return file_write;
	case OP_FDATASYNC:
		return file_fdatasync;
	default:
		return NULL;
	}
}

/* The table of sockets. */

static bool op_reads(const struct op *op)
{
	return op->kind == OP_ACCEPT || op->kind == OP_RECV || op->kind == OP_POLL;
}

static int reserve_socket(struct epoll_ring *epoll, int fd)
{
	size_t size = epoll->sockets_size ? epoll->sockets_size : SOCKETS_MIN;
	struct socket *sockets;

	CHECK(fd >= 0);
	if ((size_t)fd < epoll->sockets_size)
		return 0;
	while (size <= (size_t)fd)
		size *= 2;
	sockets = realloc(epoll->sockets, size * sizeof(*sockets));
	if (!sockets)
		return -ENOMEM;
	memset(sockets + epoll->sockets_size, 0, (size - epoll->sockets_size) * sizeof(*sockets));
	epoll->sockets = sockets;
	epoll->sockets_size = size;
	return 0;
}

static struct op **socket_slot(struct epoll_ring *epoll, const struct op *op)
{
	struct socket *socket = &epoll->sockets[op->fd];

	return op_reads(op) ? &socket->reader : &socket->writer;
}

/* `op` is about to complete: its slot is free for the next. */
static void leave_socket(struct epoll_ring *epoll, struct op *op)
{
	struct socket *socket = &epoll->sockets[op->fd];

	CHECK(*socket_slot(epoll, op) == op);
	*socket_slot(epoll, op) = NULL;
	if (socket->reader || socket->writer)
		return;
	/* A pipe may live on in other processes after its owner here has closed it: no edges of it then. */
	if (socket->armed && op->kind == OP_POLL)
		epoll_ctl(epoll->epoll_fd, EPOLL_CTL_DEL, op->fd, NULL);
	socket->armed = false;
}

static unsigned finish(struct epoll_ring *epoll, struct op *op, int32_t res)
{
	leave_socket(epoll, op);
	op_finish(op, res);
	return 1;
}

static void run_later(struct epoll_ring *epoll, struct op *op)
{
	op->state = OP_QUEUED;
	list_append(&epoll->runnable, &op->link);
}

/* After EAGAIN. Arming reports what is ready by now, so nothing is lost in between. */
static unsigned wait_for_edge(struct epoll_ring *epoll, struct op *op)
{
	struct socket *socket = &epoll->sockets[op->fd];
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = op->fd };

	op->state = OP_ENGINE;
	if (socket->armed)
		return 0;
	if (epoll_ctl(epoll->epoll_fd, EPOLL_CTL_MOD, op->fd, &event) < 0 &&
	    (errno != ENOENT || epoll_ctl(epoll->epoll_fd, EPOLL_CTL_ADD, op->fd, &event) < 0))
		return finish(epoll, op, -errno);
	socket->armed = true;
	return 0;
}

/* After a handler of a multishot: its owner may have cancelled it. */
static bool still_wanted(struct epoll_ring *epoll, struct op *op)
{
	if (!op->cancelled)
		return true;
	leave_socket(epoll, op);
	ring_complete(&epoll->ring, op, -ECANCELED);
	return false;
}

/* Steps: try the operation of a socket. The op is in state OP_HELD. Each returns how many handlers ran. */

static unsigned step_accept(struct epoll_ring *epoll, struct op *op)
{
	unsigned ran = 0;

	for (unsigned i = 0; i < ACCEPT_BURST; i++) {
		int fd = accept4(op->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && errno == EAGAIN)
			return ran + wait_for_edge(epoll, op);
		if (fd < 0 && (errno == ECONNABORTED || errno == EINTR))
			continue;
		if (fd < 0)
			return ran + finish(epoll, op, -errno);
		op_deliver(op, fd);
		ran++;
		if (!still_wanted(epoll, op))
			return ran;
	}
	run_later(epoll, op);
	return ran;
}

/* op->done: the connection is under way. */
static unsigned step_connect(struct epoll_ring *epoll, struct op *op)
{
	struct sockaddr_storage peer;
	socklen_t size = sizeof(int), peer_size = sizeof(peer);
	int error = 0;

	if (!op->done) {
		if (connect(op->fd, (struct sockaddr *)&op->u.address, op->address_size) == 0)
			return finish(epoll, op, 0);
		if (errno != EINPROGRESS && errno != EINTR)
			return finish(epoll, op, -errno);
		op->done = 1;
		return wait_for_edge(epoll, op);
	}
	if (getsockopt(op->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		error = errno;
	if (error == 0 && getpeername(op->fd, (struct sockaddr *)&peer, &peer_size) < 0)
		return wait_for_edge(epoll, op);
	return finish(epoll, op, -error);
}

static unsigned step_recv(struct epoll_ring *epoll, struct op *op)
{
	unsigned ran = 0;

	for (unsigned i = 0; i < RECEIVE_BURST; i++) {
		ssize_t n = recv(op->fd, epoll->buffer, epoll->buffer_bytes, MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			return ran + wait_for_edge(epoll, op);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return ran + finish(epoll, op, n < 0 ? -errno : 0);
		epoll->ring.counters.receives++;
		op->received = span_make(epoll->buffer, (size_t)n);
		op_deliver(op, (int32_t)n);
		ran++;
		if (!still_wanted(epoll, op))
			return ran;
	}
	run_later(epoll, op);
	return ran;
}

static unsigned step_send(struct epoll_ring *epoll, struct op *op)
{
	for (unsigned i = 0; i < SEND_BURST; i++) {
		ssize_t n = send(op->fd, op->data + op->done, op->size - op->done, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			return wait_for_edge(epoll, op);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return finish(epoll, op, -errno);
		op->done += (size_t)n;
		if (op->done == op->size)
			return finish(epoll, op, (int32_t)op->size);
		epoll->ring.counters.short_sends++;
	}
	run_later(epoll, op);
	return 0;
}

static unsigned step_poll(struct epoll_ring *epoll, struct op *op)
{
	struct pollfd polled = { .fd = op->fd, .events = POLLIN };
	int r = poll(&polled, 1, 0);

	if (r == 0)
		return wait_for_edge(epoll, op);
	if (r < 0 && errno == EINTR) {
		run_later(epoll, op);
		return 0;
	}
	if (r > 0)
		r = polled.revents & POLLNVAL ? -EBADF : polled.revents;
	else
		r = -errno;
	return finish(epoll, op, r);
}

static unsigned step(struct epoll_ring *epoll, struct op *op)
{
	switch ((enum op_kind)op->kind) {
	case OP_ACCEPT:
		return step_accept(epoll, op);
	case OP_CONNECT:
		return step_connect(epoll, op);
	case OP_RECV:
		return step_recv(epoll, op);
	case OP_SEND:
		return step_send(epoll, op);
	case OP_POLL:
		return step_poll(epoll, op);
	default:
		CHECK(!"an op of a socket");
		return 0;
	}
}

/* The engine's operations. */

static void epoll_start(struct ring *ring, struct op *op)
{
	struct epoll_ring *epoll = epoll_of(ring);
	op_work_fn *work = file_work(op);

	if (work) {
		op->work = work;
		ring_to_workers(ring, op);
		return;
	}
	if (reserve_socket(epoll, op->fd) < 0) {
		ring_complete(ring, op, -ENOMEM);
		return;
	}
	CHECK(!*socket_slot(epoll, op));
	*socket_slot(epoll, op) = op;
	/* accept4 has no MSG_DONTWAIT. */
	if (op->kind == OP_ACCEPT)
		fcntl(op->fd, F_SETFL, fcntl(op->fd, F_GETFL) | O_NONBLOCK);
	run_later(epoll, op);
}

static void epoll_cancel(struct ring *ring, struct op *op)
{
	struct epoll_ring *epoll = epoll_of(ring);

	if (op->state == OP_HELD)
		return;
	CHECK(op->state == OP_QUEUED || op->state == OP_ENGINE);
	list_remove(&op->link);
	leave_socket(epoll, op);
	ring_complete(ring, op, -ECANCELED);
}

static void epoll_close_handle(struct ring *ring, struct op *op, int handle)
{
	struct epoll_ring *epoll = epoll_of(ring);

	if ((size_t)handle < epoll->sockets_size)
		CHECK(!epoll->sockets[handle].reader && !epoll->sockets[handle].writer);
	epoll_ctl(epoll->epoll_fd, EPOLL_CTL_DEL, handle, NULL);
	shutdown(handle, SHUT_RDWR);
	close(handle);
	if (op)
		ring_complete(ring, op, 0);
}

static int epoll_handle_fd(const struct ring *ring, int handle)
{
	return handle;
}

static int wait_events(struct epoll_ring *epoll, uint64_t timeout_ns)
{
	struct timespec timeout = {
		.tv_sec = (time_t)(timeout_ns / 1000000000),
		.tv_nsec = (long)(timeout_ns % 1000000000),
	};
	uint64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 > 0);
	int n;

	if (!epoll->coarse) {
		n = epoll_pwait2(epoll->epoll_fd, epoll->events, EVENTS_MAX, timeout_ns == UINT64_MAX ? NULL : &timeout,
		                 NULL);
		/* Before Linux 5.11, or behind a filter that knows no better. */
		if (n >= 0 || (errno != ENOSYS && errno != EPERM))
			return n;
		epoll->coarse = true;
	}
	return epoll_wait(epoll->epoll_fd, epoll->events, EVENTS_MAX, ms > INT32_MAX ? -1 : (int)ms);
}

static void epoll_wait_turn(struct ring *ring, uint64_t timeout_ns)
{
	struct epoll_ring *epoll = epoll_of(ring);

	epoll->event_count = wait_events(epoll, list_empty(&epoll->runnable) ? timeout_ns : 0);
	CHECK(epoll->event_count >= 0 || errno == EINTR);
}

static void take_event(struct epoll_ring *epoll, const struct epoll_event *event)
{
	struct socket *socket = &epoll->sockets[event->data.fd];

	if (socket->reader && socket->reader->state == OP_ENGINE &&
	    event->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		run_later(epoll, socket->reader);
	if (socket->writer && socket->writer->state == OP_ENGINE && event->events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		run_later(epoll, socket->writer);
}

static unsigned epoll_dispatch(struct ring *ring)
{
	struct epoll_ring *epoll = epoll_of(ring);
	struct list now, *link;
	unsigned ran = 0;
	uint64_t wakes;

	for (int i = 0; i < epoll->event_count; i++) {
		if (epoll->events[i].data.fd != epoll->wake_fd)
			take_event(epoll, &epoll->events[i]);
		else if (read(epoll->wake_fd, &wakes, sizeof(wakes)) < 0)
			CHECK(errno == EINTR);
	}
	/* What handlers start from here on belongs to the next turn. */
	list_init(&now);
	while ((link = list_take(&epoll->runnable)))
		list_append(&now, link);
	while ((link = list_take(&now))) {
		struct op *op = container_of(link, struct op, link);

		op->state = OP_HELD;
		ran += step(epoll, op);
	}
	return ran;
}

static void epoll_slots(struct ring *ring)
{
}

static void epoll_destroy(struct ring *ring)
{
	struct epoll_ring *epoll = epoll_of(ring);

	CHECK(list_empty(&epoll->runnable));
	if (epoll->epoll_fd >= 0)
		close(epoll->epoll_fd);
	free(epoll->sockets);
	free(epoll->buffer);
	free(epoll);
}

int epoll_engine_create(struct ring **ring, const struct ring_config *config, int wake_fd)
{
	static const struct engine engine = {
		.name = "epoll",
		.start = epoll_start,
		.cancel = epoll_cancel,
		.close = epoll_close_handle,
		.handle_fd = epoll_handle_fd,
		.wait = epoll_wait_turn,
		.dispatch = epoll_dispatch,
		.slots = epoll_slots,
		.destroy = epoll_destroy,
	};
	struct epoll_event wake = { .events = EPOLLIN, .data.fd = wake_fd };
	struct epoll_ring *epoll = calloc(1, sizeof(*epoll));
	int r;

	if (!epoll)
		return ERR_RAISE(-ENOMEM);
	epoll->ring.engine = &engine;
	epoll->wake_fd = wake_fd;
	list_init(&epoll->runnable);
	epoll->buffer_bytes = config->receive_buffer_bytes;
	epoll->buffer = malloc(epoll->buffer_bytes);
	epoll->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (!epoll->buffer || epoll->epoll_fd < 0 || epoll_ctl(epoll->epoll_fd, EPOLL_CTL_ADD, wake_fd, &wake) < 0) {
		r = epoll->buffer ? -errno : -ENOMEM;
		epoll_destroy(&epoll->ring);
		return ERR_RAISE(r);
	}
	*ring = &epoll->ring;
	return 0;
}
