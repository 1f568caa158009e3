/* ring: the front of both engines: the life of an op, timers, workers, posts and the order of a turn. */
#include "gateway/ring/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/ring/engine.h"
#include "gateway/ring/probe.h"
#include "gateway/ring/workers.h"

enum { OP_BYTES_MAX = 1 << 30 };         /* results are int32_t */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static struct ring_config config_full(const struct ring_config *config)
{
	struct ring_config full = *config;

	full.entries = full.entries ? full.entries : 512;
	full.workers_max = full.workers_max ? full.workers_max : 2;
	full.receive_buffer_bytes = full.receive_buffer_bytes ? full.receive_buffer_bytes : 64 << 10;
	full.receive_buffers = full.receive_buffers ? full.receive_buffers : 32;
	full.sockets_max = full.sockets_max ? full.sockets_max : 1024;
	return full;
}

/* Ends a wait that is going on or about to begin. */
static void ring_wake(struct ring *ring)
{
	uint64_t one = 1;
	ssize_t n = write(ring->wake_fd, &one, sizeof(one));

	CHECK(n == sizeof(one));
}

/* On a worker's thread. */
static void ring_on_worked(void *context, struct op *op)
{
	struct ring *ring = context;
	bool wake;

	pthread_mutex_lock(&ring->inbox.mutex);
	list_append(&ring->inbox.finished, &op->link);
	wake = !ring->inbox.woken;
	ring->inbox.woken = true;
	pthread_mutex_unlock(&ring->inbox.mutex);
	if (wake)
		ring_wake(ring);
}

static int front_init(struct ring *ring, const struct ring_config *config)
{
	list_init(&ring->ready);
	list_init(&ring->inbox.finished);
	ring->inbox.last = &ring->inbox.first;
	pthread_mutex_init(&ring->inbox.mutex, NULL);
	ring->thread = pthread_self();
	return workers_create(&ring->workers, config->workers_max, ring_on_worked, ring);
}

static void warn_refused(int error)
{
	enum ring_refusal refusal = ring_refusal(error);

	log_event(LOG_WARNING, "io_uring refused", LOG_TEXT("error", err_report(error)), LOG_TEXT("engine", "epoll"),
	          LOG_TEXT("remedy", ring_refusal_remedy(refusal)));
}

int ring_create(struct ring **out, const struct ring_config *config)
{
	struct ring_config full = config_full(config);
	struct ring *ring = NULL;
	int r = 0, wake_fd;

	wake_fd = eventfd(0, EFD_CLOEXEC);
	if (wake_fd < 0)
		return ERR_RAISE(-errno);
	if (full.engine != RING_ENGINE_EPOLL)
		r = uring_engine_create(&ring, &full, wake_fd);
	if (r < 0 && full.engine == RING_ENGINE_AUTO)
		warn_refused(r);
	if (full.engine == RING_ENGINE_EPOLL || (r < 0 && full.engine == RING_ENGINE_AUTO))
		r = epoll_engine_create(&ring, &full, wake_fd);
	if (r < 0) {
		close(wake_fd);
		return ERR_RAISE(r);
	}
	ring->wake_fd = wake_fd;
	r = front_init(ring, &full);
	if (r < 0) {
		ring_destroy(ring);
		return ERR_RAISE(r);
	}
	*out = ring;
	return 0;
}

void ring_destroy(struct ring *ring)
{
	void *slots;
	size_t slots_bytes;
	int wake_fd;

	if (!ring)
		return;
	CHECK(list_empty(&ring->ready));
	CHECK(timers_next_ns(&ring->timers) == UINT64_MAX);
	CHECK(ring->inbox.first == NULL && list_empty(&ring->inbox.finished));
	workers_destroy(ring->workers);
	pthread_mutex_destroy(&ring->inbox.mutex);
	wake_fd = ring->wake_fd;
	slots = ring->slots;
	slots_bytes = ring->slots_bytes;
	ring->engine->destroy(ring);
	close(wake_fd);
	if (slots)
		munmap(slots, slots_bytes);
}

const char *ring_engine_name(const struct ring *ring)
{
	return ring->engine->name;
}

const struct ring_counters *ring_counters(const struct ring *ring)
{
	return &ring->counters;
}

uint64_t ring_now_ns(const struct ring *ring)
{
	return clock_now_ns();
}

uint64_t ring_wall_ns(const struct ring *ring)
{
	return clock_ns(CLOCK_REALTIME);
}

void ring_random(struct ring *ring, void *out, size_t size)
{
	uint8_t *at = out;

	while (size > 0) {
		ssize_t n = getrandom(at, size, 0);

		if (n < 0) {
			CHECK(errno == EINTR);
			continue;
		}
		at += n;
		size -= (size_t)n;
	}
}

void op_finish(struct op *op, int32_t res)
{
	op->state = OP_IDLE;
	op->in_flight = false;
	op->more = false;
	op->fn(op, res);
}

void op_deliver(struct op *op, int32_t res)
{
	op->more = true;
	op->fn(op, res);
}

void ring_complete(struct ring *ring, struct op *op, int32_t res)
{
	op->state = OP_READY;
	op->res = res;
	list_append(&ring->ready, &op->link);
}

bool ring_in_slots(const struct ring *ring, const struct op *op)
{
	return ring->slots && op->data >= ring->slots && op->data + op->size <= ring->slots + ring->slots_bytes;
}

/* The turn. */

static unsigned run_ready(struct ring *ring)
{
	struct list now, *link;
	unsigned ran = 0;

	/* What handlers complete from here on belongs to the next turn. */
	list_init(&now);
	while ((link = list_take(&ring->ready)))
		list_append(&now, link);
	while ((link = list_take(&now))) {
		struct op *op = container_of(link, struct op, link);

		op_finish(op, op->res);
		ran++;
	}
	return ran;
}

static void expire_timers(struct ring *ring)
{
	struct op *op;

	if (timers_next_ns(&ring->timers) == UINT64_MAX)
		return;
	while ((op = timers_take(&ring->timers, clock_now_ns())))
		ring_complete(ring, op, 0);
}

static unsigned run_inbox(struct ring *ring)
{
	struct post *post, *next;
	struct list *link;
	unsigned ran = 0;

	pthread_mutex_lock(&ring->inbox.mutex);
	post = ring->inbox.first;
	ring->inbox.first = NULL;
	ring->inbox.last = &ring->inbox.first;
	while ((link = list_take(&ring->inbox.finished))) {
		struct op *op = container_of(link, struct op, link);

		ring_complete(ring, op, op->res);
	}
	ring->inbox.woken = false;
	pthread_mutex_unlock(&ring->inbox.mutex);
	for (; post; post = next, ran++) {
		next = post->next;
		post->fn(post);
	}
	ring->counters.posts += ran;
	return ran;
}

static bool inbox_waits(struct ring *ring)
{
	bool waits;

	pthread_mutex_lock(&ring->inbox.mutex);
	waits = ring->inbox.first || !list_empty(&ring->inbox.finished);
	pthread_mutex_unlock(&ring->inbox.mutex);
	return waits;
}

/* How long this turn may sleep. */
static uint64_t patience_ns(struct ring *ring, uint64_t timeout_ns)
{
	uint64_t deadline_ns = timers_next_ns(&ring->timers), now_ns;

	if (timeout_ns == 0 || !list_empty(&ring->ready) || inbox_waits(ring))
		return 0;
	if (deadline_ns == UINT64_MAX)
		return timeout_ns;
	now_ns = clock_now_ns();
	if (deadline_ns <= now_ns)
		return 0;
	return deadline_ns - now_ns < timeout_ns ? deadline_ns - now_ns : timeout_ns;
}

unsigned ring_run(struct ring *ring, uint64_t timeout_ns)
{
	unsigned ran;

	CHECK(pthread_equal(ring->thread, pthread_self()));
	ring->counters.turns++;
	ring->engine->wait(ring, patience_ns(ring, timeout_ns));
	expire_timers(ring);
	ran = ring->engine->dispatch(ring);
	ran += run_inbox(ring);
	ran += run_ready(ring);
	ring->counters.completions += ran;
	return ran;
}

void ring_post(struct ring *ring, struct post *post)
{
	bool wake;

	post->next = NULL;
	pthread_mutex_lock(&ring->inbox.mutex);
	*ring->inbox.last = post;
	ring->inbox.last = &post->next;
	/* The ring's own thread is awake, and looks before it sleeps. */
	wake = !ring->inbox.woken && !pthread_equal(ring->thread, pthread_self());
	ring->inbox.woken |= wake;
	/* Inside the lock: what is posted may be the ring's end, and then it is gone right behind it. */
	if (wake)
		ring_wake(ring);
	pthread_mutex_unlock(&ring->inbox.mutex);
}

/* Starts. */

static void op_begin(struct ring *ring, struct op *op, enum op_kind kind, int fd)
{
	CHECK(pthread_equal(ring->thread, pthread_self()));
	CHECK(op->fn);
	CHECK(!op->in_flight);
	op->in_flight = true;
	op->cancelled = false;
	op->more = false;
	op->slow = false;
	op->kind = (uint8_t)kind;
	op->state = OP_ENGINE;
	op->fd = fd;
	op->generation++;
	op->done = 0;
	op->link = (struct list){ 0 };
}

static void op_start(struct ring *ring, struct op *op, enum op_kind kind, int fd)
{
	op_begin(ring, op, kind, fd);
	ring->engine->start(ring, op);
}

void ring_accept(struct ring *ring, struct op *op, int listener)
{
	op_start(ring, op, OP_ACCEPT, listener);
}

void ring_connect(struct ring *ring, struct op *op, int fd, const struct sockaddr *address, socklen_t size)
{
	CHECK(size <= sizeof(op->u.address));
	memcpy(&op->u.address, address, size);
	op->address_size = size;
	op_start(ring, op, OP_CONNECT, fd);
}

void ring_recv(struct ring *ring, struct op *op, int handle)
{
	op_start(ring, op, OP_RECV, handle);
}

void ring_send(struct ring *ring, struct op *op, int handle, struct span data)
{
	CHECK(data.size > 0 && data.size <= OP_BYTES_MAX);
	op->data = (uint8_t *)(uintptr_t)data.data;
	op->size = data.size;
	ring->counters.sends++;
	op_start(ring, op, OP_SEND, handle);
}

void ring_close(struct ring *ring, struct op *op, int handle)
{
	CHECK(handle >= 0);
	if (op)
		op_begin(ring, op, OP_CLOSE, handle);
	ring->engine->close(ring, op, handle);
}

int ring_handle_fd(const struct ring *ring, int handle)
{
	return ring->engine->handle_fd(ring, handle);
}

void ring_peer(struct ring *ring, struct op *op, int handle)
{
	int fd = ring_handle_fd(ring, handle);

	op->address_size = sizeof(op->u.address);
	if (fd < 0) {
		op_start(ring, op, OP_PEER, handle);
		return;
	}
	op_begin(ring, op, OP_PEER, handle);
	ring_complete(ring, op, getpeername(fd, (struct sockaddr *)&op->u.address, &op->address_size) < 0 ? -errno : 0);
}

void ring_open(struct ring *ring, struct op *op, int dir_fd, const char *path, int flags, uint32_t mode)
{
	op->data = (uint8_t *)(uintptr_t)path;
	op->size = (uint32_t)(flags | O_CLOEXEC);
	op->offset = mode;
	op_start(ring, op, OP_OPEN, dir_fd);
}

static void op_extent(struct op *op, const void *data, size_t size, uint64_t offset)
{
	CHECK(size <= OP_BYTES_MAX);
	op->data = (uint8_t *)(uintptr_t)data;
	op->size = size;
	op->offset = offset;
}

void ring_read(struct ring *ring, struct op *op, int fd, void *data, size_t size, uint64_t offset)
{
	op_extent(op, data, size, offset);
	ring->counters.reads++;
	op_start(ring, op, OP_READ, fd);
}

void ring_write(struct ring *ring, struct op *op, int fd, const void *data, size_t size, uint64_t offset)
{
	op_extent(op, data, size, offset);
	ring->counters.writes++;
	op_start(ring, op, OP_WRITE, fd);
}

void ring_fdatasync(struct ring *ring, struct op *op, int fd)
{
	ring->counters.syncs++;
	op_start(ring, op, OP_FDATASYNC, fd);
}

void ring_poll(struct ring *ring, struct op *op, int fd)
{
	CHECK(fd >= 0);
	op_start(ring, op, OP_POLL, fd);
}

void *ring_slots_create(struct ring *ring, size_t bytes)
{
	void *slots;

	CHECK(!ring->slots && bytes > 0);
	slots = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (slots == MAP_FAILED)
		return NULL;
	ring->slots = slots;
	ring->slots_bytes = bytes;
	ring->engine->slots(ring);
	return slots;
}

void ring_timer(struct ring *ring, struct op *op, uint64_t delay_ns)
{
	uint64_t now_ns = clock_now_ns();

	op_begin(ring, op, OP_TIMER, -1);
	op->state = OP_TIMER_SET;
	op->deadline_ns = delay_ns < UINT64_MAX - now_ns ? now_ns + delay_ns : UINT64_MAX - 1;
	timers_insert(&ring->timers, op);
}

void ring_to_workers(struct ring *ring, struct op *op)
{
	int r;

	op->state = OP_WORKER;
	r = workers_give(ring->workers, op);
	if (r < 0)
		ring_complete(ring, op, r);
}

static void work_start(struct ring *ring, struct op *op, op_work_fn *work, bool slow)
{
	op_begin(ring, op, OP_WORK, -1);
	op->work = work;
	op->slow = slow;
	ring->counters.works++;
	ring_to_workers(ring, op);
}

void ring_work(struct ring *ring, struct op *op, op_work_fn *work)
{
	work_start(ring, op, work, false);
}

void ring_work_slow(struct ring *ring, struct op *op, op_work_fn *work)
{
	work_start(ring, op, work, true);
}

void ring_cancel(struct ring *ring, struct op *op)
{
	CHECK(pthread_equal(ring->thread, pthread_self()));
	if (!op->in_flight || op->cancelled || op->kind == OP_CLOSE)
		return;
	op->cancelled = true;
	switch ((enum op_state)op->state) {
	case OP_READY:                   /* has its result already */
		return;
	case OP_TIMER_SET:
		timers_remove(&ring->timers, op);
		ring_complete(ring, op, -ECANCELED);
		return;
	case OP_WORKER:
		if (workers_take_back(ring->workers, op))
			ring_complete(ring, op, -ECANCELED);
		return;
	default:
		ring->engine->cancel(ring, op);
	}
}
