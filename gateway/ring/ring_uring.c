/*
 * ring_uring: the io_uring engine. One ring a thread (SINGLE_ISSUER, DEFER_TASKRUN): nothing completes unless wait()
 * enters the kernel, so all completions of a turn are copied out first and their handlers run after.
 */
#include "gateway/ring/uring.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/ring/selftest.h"

enum {
	CQ_FACTOR = 16,                  /* completions for each submission entry: room for every armed multishot */
	IOWQ_BOUNDED_MAX = 2,            /* kernel threads for files of one ring: buffered writes, opens, syncs */
	IOWQ_UNBOUNDED_MAX = 4,          /* for the rest */
	GATHER_BYTES_MIN = 4 << 10,      /* a turn that received less had words, which must not wait */
	GATHER_BYTES_MAX = 1 << 20,      /* one that received more had enough to do as it was */
	GATHER_COMPLETIONS = 64,         /* that end the wait early */
	GATHER_REST_TURNS = 16,          /* after a wait in vain: peers wait for us, not we for them */
};

/* Waiting and reaping. */

static void enter(struct uring *uring, unsigned completions, uint64_t timeout_ns)
{
	struct __kernel_timespec timeout = {
		.tv_sec = (int64_t)(timeout_ns / 1000000000),
		.tv_nsec = (int64_t)(timeout_ns % 1000000000),
	};
	struct io_uring_cqe *cqe;
	int r;

	if (timeout_ns == 0)
		r = io_uring_submit_and_get_events(&uring->kernel);
	else
		r = io_uring_submit_and_wait_timeout(&uring->kernel, &cqe, completions,
		                                     timeout_ns == UINT64_MAX ? NULL : &timeout, NULL);
	CHECK(r >= 0 || r == -ETIME || r == -EINTR || r == -EAGAIN || r == -EBUSY || r == -ENOMEM);
}

/*
 * Peers that send many small pieces wake us for each, and are woken by each of our answers. When the last turn was like that, the
 * next one begins a little later, with what has come by then.
 */
static bool should_gather(const struct uring *uring, uint64_t timeout_ns)
{
	return uring->gather && !uring->gather_rest && timeout_ns > RING_GATHER_NS &&
	       uring->received >= GATHER_BYTES_MIN && uring->received <= GATHER_BYTES_MAX;
}

/* Did the last turn wait in vain? */
static void gather_look_back(struct uring *uring)
{
	if (uring->gather_rest)
		uring->gather_rest--;
	if (uring->gathered && !uring->received)
		uring->gather_rest = GATHER_REST_TURNS;
	uring->gathered = false;
}

/* Turns that do not wait belong to the one before: what that one received is what they work on. */
static void wait_for_completions(struct uring *uring, uint64_t timeout_ns)
{
	bool gather;

	if (timeout_ns == 0 || io_uring_cq_ready(&uring->kernel) || !list_empty(&uring->overflow)) {
		enter(uring, 1, 0);
		return;
	}
	gather_look_back(uring);
	gather = should_gather(uring, timeout_ns);
	uring->received = 0;
	if (gather) {
		uring->gathered = true;
		uring->ring.counters.gathered++;
		enter(uring, GATHER_COMPLETIONS, RING_GATHER_NS);
		if (io_uring_cq_ready(&uring->kernel))
			return;
	}
	enter(uring, 1, timeout_ns);
}

static void reap(struct uring *uring)
{
	struct io_uring_cqe *cqe;
	unsigned head, count = 0;

	io_uring_for_each_cqe(&uring->kernel, head, cqe) {
		CHECK(count < uring->reaped_max);
		uring->reaped[count++] =
			(struct completion){ .user_data = cqe->user_data, .res = cqe->res, .flags = cqe->flags };
	}
	io_uring_cq_advance(&uring->kernel, count);
	uring->reaped_count = count;
}

static void uring_wait(struct ring *ring, uint64_t timeout_ns)
{
	struct uring *uring = uring_of(ring);

	uring_drain_overflow(uring);
	wait_for_completions(uring, timeout_ns);
	if (IO_URING_READ_ONCE(*uring->kernel.sq.kflags) & IORING_SQ_CQ_OVERFLOW)
		ring->counters.cq_overflows++;
	reap(uring);
}

/* Completions. */

/* The kernel ended a multishot that its owner has not. */
static void rearm(struct uring *uring, struct op *op)
{
	if (op->cancelled)
		ring_complete(&uring->ring, op, -ECANCELED);
	else
		uring_start(&uring->ring, op);
}

static unsigned finish(struct op *op, int32_t res)
{
	op_finish(op, op->cancelled && res == -EINTR ? -ECANCELED : res);
	return 1;
}

static int accepted_handle(struct uring *uring, const struct op *op, int32_t res)
{
	if (!op->size)
		return res;
	uring->ring.counters.direct_accepts++;
	return uring_direct_handle(uring, res);
}

static unsigned uring_on_accept(struct uring *uring, struct op *op, int32_t res, bool last)
{
	if (last)
		op->state = OP_HELD;
	if (res >= 0)
		op_deliver(op, accepted_handle(uring, op, res));
	else if (res == -ENFILE && op->size)
		op->done = 1;           /* that connection is lost; the next ones get real descriptors */
	else if (res != -ECONNABORTED && res != -EINTR)
		return finish(op, res);
	if (last)
		rearm(uring, op);
	return res >= 0;
}

static unsigned deliver_received(struct uring *uring, struct op *op, size_t size, uint16_t buffer)
{
	uint16_t position = uring->buffers.position[buffer];
	unsigned ran = 0;

	uring->received += size;
	uring->ring.counters.receives++;
	uring->ring.counters.receive_multishot++;
	uring->ring.counters.receive_bundle += size > uring->buffers.bytes;
	while (size > 0) {
		op->received = uring_buffers_take(&uring->buffers, &position, &size);
		op_deliver(op, (int32_t)op->received.size);
		ran++;
	}
	return ran;
}

static unsigned uring_on_recv(struct uring *uring, struct op *op, int32_t res, uint32_t flags, bool last)
{
	unsigned ran;

	if (res > 0) {
		CHECK(flags & IORING_CQE_F_BUFFER);
		if (last)
			op->state = OP_HELD;
		ran = deliver_received(uring, op, (size_t)res, (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT));
		if (last)
			rearm(uring, op);
		return ran;
	}
	if (flags & IORING_CQE_F_BUFFER)
		uring_buffers_return(&uring->buffers, (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT));
	if (res == -ENOBUFS && !op->cancelled) {
		uring->ring.counters.receive_no_buffers++;
		op->state = OP_STARVED;
		list_append(&uring->starved, &op->link);
		return 0;
	}
	return finish(op, res == -ENOBUFS ? -ECANCELED : res);
}

static unsigned uring_on_transfer(struct uring *uring, struct op *op, int32_t res)
{
	size_t left = op->size - op->done;

	if (res > 0 && (size_t)res < left) {
		op->done += (size_t)res;
		uring->ring.counters.short_sends += op->kind == OP_SEND;
		rearm(uring, op);
		return 0;
	}
	if (res == -EINTR && !op->cancelled) {
		rearm(uring, op);
		return 0;
	}
	if (op->kind == OP_READ && res == -EINVAL && op->done > 0)
		res = 0;                /* O_DIRECT at the end of a file: the rest is not aligned */
	if (op->kind == OP_WRITE && res == 0 && left > 0)
		res = -EIO;
	return finish(op, res < 0 ? res : (int32_t)op->done + res);
}

static unsigned uring_on_peer(struct uring *uring, struct op *op, int32_t res)
{
	if (res > 0 && !op->done && op->u.address.ss_family == AF_INET6) {
		op->done = 1;
		rearm(uring, op);
		return 0;
	}
	return finish(op, res < 0 ? res : 0);
}

static unsigned complete(struct uring *uring, struct op *op, int32_t res, uint32_t flags)
{
	bool last = !(flags & IORING_CQE_F_MORE);

	if (last) {
		uring->in_kernel--;
		list_remove(&op->link); /* a request to cancel it that is still queued */
	}
	switch ((enum op_kind)op->kind) {
	case OP_ACCEPT:
		return uring_on_accept(uring, op, res, last);
	case OP_RECV:
		return uring_on_recv(uring, op, res, flags, last);
	case OP_SEND:
	case OP_READ:
	case OP_WRITE:
		return uring_on_transfer(uring, op, res);
	case OP_PEER:
		return uring_on_peer(uring, op, res);
	case OP_WAKE:
		if (!op->cancelled)
			uring_start(&uring->ring, op);
		return 0;
	default:
		return finish(op, res);
	}
}

/* All buffers are back, so receives that found none may try again. */
static void feed_starved(struct uring *uring)
{
	struct list *link;

	uring_buffers_give_back(&uring->buffers);
	while ((link = list_take(&uring->starved)))
		uring_start(&uring->ring, container_of(link, struct op, link));
}

static unsigned uring_dispatch(struct ring *ring)
{
	struct uring *uring = uring_of(ring);
	unsigned ran = 0;

	for (uint32_t i = 0; i < uring->reaped_count; i++) {
		const struct completion *c = &uring->reaped[i];
		struct op *op = (struct op *)(uintptr_t)(c->user_data & (UINT64_MAX >> 16));

		if (c->user_data == TAG_IGNORE)
			continue;
		if (c->user_data == TAG_CLOSED) {
			uring->closes--;
			continue;
		}
		CHECK(op->in_flight && op_tag(op) == c->user_data);
		ran += complete(uring, op, c->res, c->flags);
	}
	uring->reaped_count = 0;
	feed_starved(uring);
	return ran;
}

/* Life. */

static void uring_free(struct uring *uring)
{
	uring_buffers_fini(&uring->buffers, &uring->kernel);
	if (uring->kernel.ring_fd >= 0)
		io_uring_queue_exit(&uring->kernel);
	free(uring->direct_generation);
	free(uring->reaped);
	free(uring);
}

/* The kernel must have let go of our memory, and of every socket, before the ring goes. */
static void uring_destroy(struct ring *ring)
{
	struct uring *uring = uring_of(ring);

	CHECK(list_empty(&uring->starved));
	uring->wake.cancelled = true;
	uring_cancel(ring, &uring->wake);
	while (uring->in_kernel > 0 || uring->closes > 0) {
		uring_wait(ring, UINT64_MAX);
		CHECK(uring_dispatch(ring) == 0);
	}
	uring_free(uring);
}

/* What is good to have: a refusal leaves the plain way. */
static int optional_init(struct uring *uring, const struct ring_config *config)
{
	unsigned iowq[2] = { IOWQ_BOUNDED_MAX, IOWQ_UNBOUNDED_MAX };

	io_uring_register_ring_fd(&uring->kernel);
	io_uring_register_iowq_max_workers(&uring->kernel, iowq);
	uring->bundle = selftest_bundle_once() == 0;
	CHECK(config->sockets_max <= URING_SLOTS_MAX);
	if (selftest_direct_once() < 0 || io_uring_register_files_sparse(&uring->kernel, config->sockets_max) < 0)
		return 0;
	uring->direct_generation = calloc(config->sockets_max, sizeof(uint16_t));
	if (!uring->direct_generation)
		return ERR_RAISE(-ENOMEM);
	uring->direct_slots = config->sockets_max;
	return 0;
}

static void wake_init(struct uring *uring, int wake_fd)
{
	uring->wake.kind = OP_WAKE;
	uring->wake.fd = wake_fd;
	uring->wake.in_flight = true;
	uring_start(&uring->ring, &uring->wake);
}

static void uring_slots(struct ring *ring)
{
	struct uring *uring = uring_of(ring);
	struct iovec slots = { .iov_base = ring->slots, .iov_len = ring->slots_bytes };
	int r = io_uring_register_buffers(&uring->kernel, &slots, 1);

	uring->slots_registered = r == 0;
	if (r < 0)
		log_event(LOG_WARNING, "write memory not registered", LOG_TEXT("error", err_report(r)),
		          LOG_U64("bytes", ring->slots_bytes),
		          LOG_TEXT("remedy", r == -ENOMEM ? "raise RLIMIT_MEMLOCK (LimitMEMLOCK=)" : ""));
}

int uring_engine_create(struct ring **ring, const struct ring_config *config, int wake_fd)
{
	static const struct engine engine = {
		.name = "io_uring",
		.start = uring_start,
		.cancel = uring_cancel,
		.close = uring_close,
		.handle_fd = uring_handle_fd,
		.wait = uring_wait,
		.dispatch = uring_dispatch,
		.slots = uring_slots,
		.destroy = uring_destroy,
	};
	struct io_uring_params params = {
		.flags = SELFTEST_RING_FLAGS | IORING_SETUP_CQSIZE,
		.cq_entries = config->entries * CQ_FACTOR,
	};
	struct uring *uring = calloc(1, sizeof(*uring));
	int r;

	if (!uring)
		return ERR_RAISE(-ENOMEM);
	uring->ring.engine = &engine;
	uring->kernel.ring_fd = -1;
	list_init(&uring->overflow);
	list_init(&uring->starved);
	uring->gather = config->gather;
	r = io_uring_queue_init_params(config->entries, &uring->kernel, &params);
	if (r < 0) {
		uring->kernel.ring_fd = -1;
		goto fail;
	}
	uring->reaped_max = params.cq_entries;
	uring->reaped = calloc(uring->reaped_max, sizeof(*uring->reaped));
	r = -ENOMEM;
	if (uring->reaped)
		r = uring_buffers_init(&uring->buffers, &uring->kernel, config->receive_buffers, config->receive_buffer_bytes);
	if (r == 0)
		r = optional_init(uring, config);
	if (r < 0)
		goto fail;
	wake_init(uring, wake_fd);
	*ring = &uring->ring;
	return 0;
fail:
	uring_free(uring);
	return ERR_RAISE(r);
}
