/* ring_sim: see the header. All in flight is in one list; a turn picks from it by the seed. */
#include "tests/sim/ring_sim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/ring/timers.h"
#include "tests/sim/undo.h"

enum kind { SIM_OPEN = 1, SIM_READ, SIM_WRITE, SIM_SYNC, SIM_WORK, SIM_TIMER };
enum state { SIM_IDLE, SIM_PENDING, SIM_TIMER_SET };

enum {
	SYNC_SITES_MAX = 64,
	TURN_MAX = 8,                    /* completions a turn */
	SLOW_ONE_IN = 64,                /* completions that take milliseconds */
	NEVER_RUN = 1,                   /* op->done: cancelled before it took effect */
};

struct ring {
	struct ring_sim_config config;
	struct ring_counters counters;
	struct list pending;
	unsigned pending_count;
	struct timers timers;
	struct post *first_post, **last_post;
	struct undo undo;
	uint64_t random, now_ns;
	bool crashed;
	void *slots;
	size_t slots_bytes;
};

static const uint64_t WALL_START_NS = UINT64_C(1700000000000000000);

static struct {
	op_fn *sites[SYNC_SITES_MAX];
	uint32_t count;
} sync_sites;

/* splitmix64 (Steele, Lea, Flood 2014). */
uint64_t ring_sim_random(struct ring *ring)
{
	uint64_t z = ring->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static uint64_t random_of(void *context)
{
	return ring_sim_random(context);
}

static bool one_in(struct ring *ring, uint32_t count)
{
	return count && ring_sim_random(ring) % count == 0;
}

/* Life. */

int ring_sim_create(struct ring **out, const struct ring_sim_config *config)
{
	struct ring *ring = calloc(1, sizeof(*ring));

	if (!ring)
		return ERR_RAISE(-ENOMEM);
	ring->config = *config;
	ring->config.error = config->error ? config->error : -EIO;
	ring->random = config->seed;
	ring->now_ns = 1000000000;
	list_init(&ring->pending);
	ring->last_post = &ring->first_post;
	undo_init(&ring->undo);
	*out = ring;
	return 0;
}

int ring_create(struct ring **ring, const struct ring_config *config)
{
	return ring_sim_create(ring, &(struct ring_sim_config){ .seed = 1 });
}

void ring_sim_fail(struct ring *ring, const struct ring_sim_config *config)
{
	ring->config.write_errors_one_in = config->write_errors_one_in;
	ring->config.read_errors_one_in = config->read_errors_one_in;
	ring->config.sync_errors_one_in = config->sync_errors_one_in;
	ring->config.error = config->error ? config->error : -EIO;
}

void ring_destroy(struct ring *ring)
{
	if (!ring)
		return;
	CHECK(ring->pending_count == 0);
	CHECK(timers_next_ns(&ring->timers) == UINT64_MAX);
	CHECK(!ring->first_post);
	undo_fini(&ring->undo);
	if (ring->slots)
		munmap(ring->slots, ring->slots_bytes);
	free(ring);
}

const char *ring_engine_name(const struct ring *ring)
{
	return "sim";
}

const struct ring_counters *ring_counters(const struct ring *ring)
{
	return &ring->counters;
}

uint64_t ring_now_ns(const struct ring *ring)
{
	return ring->now_ns;
}

uint64_t ring_wall_ns(const struct ring *ring)
{
	return WALL_START_NS + ring->now_ns;
}

void ring_random(struct ring *ring, void *out, size_t size)
{
	for (size_t i = 0; i < size; i++)
		((uint8_t *)out)[i] = (uint8_t)ring_sim_random(ring);
}

void *ring_slots_create(struct ring *ring, size_t bytes)
{
	void *slots = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(!ring->slots);
	if (slots == MAP_FAILED)
		return NULL;
	ring->slots = slots;
	ring->slots_bytes = bytes;
	return slots;
}

/* Effects: what an op does to the world at the moment it completes. */

static int32_t sim_open(struct op *op)
{
	int fd = openat(op->fd, (const char *)op->data, (int)op->size | O_CLOEXEC, (mode_t)op->offset);

	return fd < 0 ? -errno : fd;
}

static int32_t sim_read(struct ring *ring, struct op *op)
{
	size_t done = 0;

	if (one_in(ring, ring->config.read_errors_one_in))
		return ring->config.error;
	while (done < op->size) {
		ssize_t n = pread(op->fd, op->data + done, op->size - done, (off_t)(op->offset + done));

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

static int32_t sim_write(struct ring *ring, struct op *op)
{
	size_t part = op->size / 4096 ? ring_sim_random(ring) % (op->size / 4096) * 4096 : 0;

	if (one_in(ring, ring->config.write_errors_one_in)) {
		if (part)
			undo_write(&ring->undo, op->fd, op->data, part, op->offset);
		return ring->config.error;
	}
	return undo_write(&ring->undo, op->fd, op->data, op->size, op->offset);
}

static uint32_t sync_site(op_fn *fn)
{
	for (uint32_t i = 0; i < sync_sites.count; i++)
		if (sync_sites.sites[i] == fn)
			return i + 1;
	CHECK(sync_sites.count < SYNC_SITES_MAX);
	sync_sites.sites[sync_sites.count++] = fn;
	return sync_sites.count;
}

uint32_t ring_sim_sync_sites(void)
{
	return sync_sites.count;
}

/* op->offset: the newest write that had completed when it was started. */
static int32_t sim_sync(struct ring *ring, struct op *op)
{
	bool failed = one_in(ring, ring->config.sync_errors_one_in);

	if (fcntl(op->fd, F_GETFD) < 0)
		return -errno;
	if (ring->config.lying_sync != sync_site(op->fn))
		undo_sync(&ring->undo, op->fd, op->offset, failed);
	return failed ? ring->config.error : 0;
}

static int32_t take_effect(struct ring *ring, struct op *op)
{
	if (op->done == NEVER_RUN)
		return -ECANCELED;
	if (op->kind == SIM_TIMER)
		return 0;
	if (ring->crashed)
		return -EIO;
	switch ((enum kind)op->kind) {
	case SIM_OPEN:
		return sim_open(op);
	case SIM_READ:
		return sim_read(ring, op);
	case SIM_WRITE:
		return sim_write(ring, op);
	case SIM_SYNC:
		return sim_sync(ring, op);
	case SIM_WORK:
		return op->work(op);
	default:
		CHECK(!"a kind of op");
		return 0;
	}
}

/* The turn. */

bool ring_sim_stopped(const struct ring *ring)
{
	return ring->crashed || (ring->config.completions_max && ring->counters.completions >= ring->config.completions_max);
}

/* After a crash the owner still tears down. */
static bool may_complete(const struct ring *ring)
{
	return ring->crashed || !ring_sim_stopped(ring);
}

static void let_time_pass(struct ring *ring)
{
	ring->now_ns += 1000 + ring_sim_random(ring) % 50000;
	if (one_in(ring, SLOW_ONE_IN))
		ring->now_ns += ring_sim_random(ring) % 10000000;
}

static void make_pending(struct ring *ring, struct op *op)
{
	op->state = SIM_PENDING;
	list_append(&ring->pending, &op->link);
	ring->pending_count++;
}

static struct op *pick(struct ring *ring)
{
	uint64_t index = ring_sim_random(ring) % ring->pending_count;
	struct list *link = ring->pending.next;

	while (index--)
		link = link->next;
	list_remove(link);
	ring->pending_count--;
	return container_of(link, struct op, link);
}

static void complete_one(struct ring *ring)
{
	struct op *op = pick(ring);
	int32_t res = take_effect(ring, op);

	let_time_pass(ring);
	ring->counters.completions++;
	op->state = SIM_IDLE;
	op->in_flight = false;
	op->fn(op, res);
}

static unsigned run_posts(struct ring *ring)
{
	struct post *post = ring->first_post, *next;
	unsigned ran = 0;

	ring->first_post = NULL;
	ring->last_post = &ring->first_post;
	for (; post; post = next, ran++) {
		next = post->next;
		ring->counters.completions++;
		ring->counters.posts++;
		post->fn(post);
	}
	return ran;
}

static void expire_timers(struct ring *ring)
{
	struct op *op;

	while ((op = timers_take(&ring->timers, ring->now_ns)))
		make_pending(ring, op);
}

/* Nothing is in flight: the clock goes on to the next timer, or as far as the caller wants to wait. */
static void sleep_ns(struct ring *ring, uint64_t timeout_ns)
{
	uint64_t next_ns = timers_next_ns(&ring->timers);

	CHECK(timeout_ns != UINT64_MAX || next_ns != UINT64_MAX);
	if (next_ns != UINT64_MAX && (timeout_ns == UINT64_MAX || next_ns - ring->now_ns <= timeout_ns))
		ring->now_ns = next_ns > ring->now_ns ? next_ns : ring->now_ns;
	else
		ring->now_ns += timeout_ns;
}

unsigned ring_run(struct ring *ring, uint64_t timeout_ns)
{
	unsigned ran, wanted;

	if (!may_complete(ring))
		return 0;
	ring->counters.turns++;
	expire_timers(ring);
	if (ring->pending_count == 0 && !ring->first_post) {
		sleep_ns(ring, timeout_ns);
		expire_timers(ring);
	}
	wanted = ring->pending_count ? 1 + (unsigned)(ring_sim_random(ring) % TURN_MAX) : 0;
	ran = run_posts(ring);
	for (; wanted > 0 && ring->pending_count > 0 && may_complete(ring); wanted--, ran++)
		complete_one(ring);
	return ran;
}

bool ring_sim_run_until(struct ring *ring, uint64_t completions)
{
	uint64_t before = ring->config.completions_max;
	bool more = true;

	ring->config.completions_max = completions;
	while (!ring_sim_stopped(ring) && more) {
		more = ring->pending_count > 0 || ring->first_post || timers_next_ns(&ring->timers) != UINT64_MAX;
		if (more)
			ring_run(ring, UINT64_MAX);
	}
	ring->config.completions_max = before;
	return more;
}

void ring_sim_crash(struct ring *ring)
{
	struct op *timer;

	/* What is in flight may be on its way to the disk. */
	list_for_each(link, &ring->pending) {
		struct op *op = container_of(link, struct op, link);

		if (op->kind == SIM_WRITE && op->done != NEVER_RUN && ring_sim_random(ring) % 2)
			undo_write(&ring->undo, op->fd, op->data, op->size, op->offset);
	}
	undo_crash(&ring->undo, random_of, ring);
	ring->crashed = true;
	while ((timer = timers_take(&ring->timers, UINT64_MAX - 1))) {
		timer->done = NEVER_RUN;
		make_pending(ring, timer);
	}
}

unsigned ring_sim_writes_volatile(const struct ring *ring)
{
	return ring->undo.volatile_count;
}

/* Starts. */

static void op_start(struct ring *ring, struct op *op, enum kind kind, int fd)
{
	CHECK(op->fn && !op->in_flight);
	op->in_flight = true;
	op->cancelled = op->more = false;
	op->kind = (uint8_t)kind;
	op->fd = fd;
	op->done = 0;
	op->link = (struct list){ 0 };
	make_pending(ring, op);
}

void ring_post(struct ring *ring, struct post *post)
{
	post->next = NULL;
	*ring->last_post = post;
	ring->last_post = &post->next;
}

void ring_open(struct ring *ring, struct op *op, int dir_fd, const char *path, int flags, uint32_t mode)
{
	op->data = (uint8_t *)(uintptr_t)path;
	op->size = (uint32_t)flags;
	op->offset = mode;
	op_start(ring, op, SIM_OPEN, dir_fd);
}

static void op_extent(struct op *op, const void *data, size_t size, uint64_t offset)
{
	CHECK(size <= 1 << 30);
	op->data = (uint8_t *)(uintptr_t)data;
	op->size = size;
	op->offset = offset;
}

void ring_read(struct ring *ring, struct op *op, int fd, void *data, size_t size, uint64_t offset)
{
	op_extent(op, data, size, offset);
	ring->counters.reads++;
	op_start(ring, op, SIM_READ, fd);
}

void ring_write(struct ring *ring, struct op *op, int fd, const void *data, size_t size, uint64_t offset)
{
	op_extent(op, data, size, offset);
	ring->counters.writes++;
	op_start(ring, op, SIM_WRITE, fd);
}

void ring_fdatasync(struct ring *ring, struct op *op, int fd)
{
	op->offset = ring->undo.sequence;
	ring->counters.syncs++;
	op_start(ring, op, SIM_SYNC, fd);
}

void ring_work(struct ring *ring, struct op *op, op_work_fn *work)
{
	op->work = work;
	ring->counters.works++;
	op_start(ring, op, SIM_WORK, -1);
}

void ring_work_slow(struct ring *ring, struct op *op, op_work_fn *work)
{
	ring_work(ring, op, work);
}

void ring_timer(struct ring *ring, struct op *op, uint64_t delay_ns)
{
	CHECK(op->fn && !op->in_flight);
	op->in_flight = true;
	op->cancelled = op->more = false;
	op->kind = SIM_TIMER;
	op->done = 0;
	op->link = (struct list){ 0 };
	op->deadline_ns = delay_ns < UINT64_MAX - 1 - ring->now_ns ? ring->now_ns + delay_ns : UINT64_MAX - 1;
	op->state = SIM_TIMER_SET;
	timers_insert(&ring->timers, op);
	if (ring->crashed)
		ring_cancel(ring, op);
}

/* Half of them had begun, and run to their end. */
void ring_cancel(struct ring *ring, struct op *op)
{
	if (!op->in_flight || op->cancelled)
		return;
	op->cancelled = true;
	if (op->state == SIM_TIMER_SET) {
		timers_remove(&ring->timers, op);
		op->done = NEVER_RUN;
		make_pending(ring, op);
	} else if (op->kind != SIM_TIMER && ring_sim_random(ring) % 2) {
		op->done = NEVER_RUN;
	}
}

/* Sockets and what else is waited for. */

void ring_accept(struct ring *ring, struct op *op, int listener)
{
	CHECK(!"sockets are not simulated");
}

void ring_connect(struct ring *ring, struct op *op, int fd, const struct sockaddr *address, socklen_t size)
{
	CHECK(!"sockets are not simulated");
}

void ring_recv(struct ring *ring, struct op *op, int handle)
{
	CHECK(!"sockets are not simulated");
}

void ring_send(struct ring *ring, struct op *op, int handle, struct span data)
{
	CHECK(!"sockets are not simulated");
}

void ring_close(struct ring *ring, struct op *op, int handle)
{
	CHECK(!"sockets are not simulated");
}

void ring_peer(struct ring *ring, struct op *op, int handle)
{
	CHECK(!"sockets are not simulated");
}

void ring_poll(struct ring *ring, struct op *op, int fd)
{
	CHECK(!"readiness is not simulated");
}

int ring_handle_fd(const struct ring *ring, int handle)
{
	return handle;
}
