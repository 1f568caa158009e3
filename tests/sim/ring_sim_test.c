/*
 * The simulated ring itself, as every other test in this folder leans on it: the same seed gives the same run; over
 * many seeds a write without a sync is seen lost, torn and whole, and one with a sync always whole; a sync covers only
 * what had completed when it was started; a sync that lies or fails makes nothing durable; overlapping writes come out
 * in order; errors are injected; the clock is virtual.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include "tests/sim/ring_sim.h"

enum { SEEDS = 200, BLOCK = 4096, BLOCKS = 4, BYTES = BLOCK * BLOCKS };

struct call {
	struct op op;
	int32_t res;
	bool done;
	unsigned order;
};

static unsigned completed;

static void call_on_completion(struct op *op, int32_t res)
{
	struct call *call = container_of(op, struct call, op);

	call->res = res;
	call->done = true;
	call->order = ++completed;
}

/* Handlers of their own, so that their syncs are sites of their own. */
static void first_on_sync(struct op *op, int32_t res)
{
	call_on_completion(op, res);
}

static void second_on_sync(struct op *op, int32_t res)
{
	call_on_completion(op, res);
}

static struct call *call_init(struct call *call, op_fn *fn)
{
	*call = (struct call){ .op.fn = fn };
	return call;
}

static int32_t call_wait(struct ring *ring, struct call *call)
{
	while (!call->done)
		ring_run(ring, UINT64_MAX);
	return call->res;
}

static struct ring *ring_of_seed(uint64_t seed)
{
	struct ring *ring;

	assert_int_equal(ring_sim_create(&ring, &(struct ring_sim_config){ .seed = seed }), 0);
	return ring;
}

static int temporary_file(void)
{
	char path[] = "/tmp/ring-sim-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	assert_true(fd >= 0);
	unlink(path);
	return fd;
}

static int32_t write_bytes(struct ring *ring, int fd, char byte, uint64_t offset, size_t size)
{
	uint8_t *data = malloc(size);
	struct call call;
	int32_t res;

	memset(data, byte, size);
	ring_write(ring, &call_init(&call, call_on_completion)->op, fd, data, size, offset);
	res = call_wait(ring, &call);
	free(data);
	return res;
}

static int32_t sync_file(struct ring *ring, int fd, op_fn *fn)
{
	struct call call;

	ring_fdatasync(ring, &call_init(&call, fn)->op, fd);
	return call_wait(ring, &call);
}

enum outcome { LOST, TORN, WHOLE, OUTCOMES };

/* Which blocks of the file's `size` bytes are `byte`, the others being 0 or missing. */
static enum outcome outcome_of(int fd, char byte, size_t size)
{
	size_t blocks = 0;
	uint8_t block[BLOCK];

	for (size_t at = 0; at < size; at += BLOCK) {
		ssize_t n = pread(fd, block, BLOCK, (off_t)at);

		if (n == 0 || block[0] == 0)
			continue;
		assert_int_equal(n, BLOCK);
		for (int i = 0; i < BLOCK; i++)
			assert_int_equal(block[i], byte);
		blocks++;
	}
	return blocks == 0 ? LOST : blocks == size / BLOCK ? WHOLE : TORN;
}

static void test_unsynced_write(void **state)
{
	unsigned seen[OUTCOMES] = { 0 };

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct ring *ring = ring_of_seed(seed);
		int fd = temporary_file();

		assert_int_equal(write_bytes(ring, fd, 'a', 0, BYTES), BYTES);
		assert_int_equal(outcome_of(fd, 'a', BYTES), WHOLE);    /* whoever reads sees it */
		assert_int_equal(ring_sim_writes_volatile(ring), 1);
		ring_sim_crash(ring);
		seen[outcome_of(fd, 'a', BYTES)]++;
		ring_destroy(ring);
		close(fd);
	}
	assert_true(seen[LOST] > SEEDS / 10 && seen[TORN] > SEEDS / 10 && seen[WHOLE] > SEEDS / 10);
}

static void test_synced_write(void **state)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct ring *ring = ring_of_seed(seed);
		int fd = temporary_file();

		write_bytes(ring, fd, 'a', 0, BYTES);
		assert_int_equal(sync_file(ring, fd, call_on_completion), 0);
		assert_int_equal(ring_sim_writes_volatile(ring), 0);
		write_bytes(ring, fd, 'b', BYTES, BYTES);               /* must not pull the first one down */
		ring_sim_crash(ring);
		assert_int_equal(outcome_of(fd, 'a', BYTES), WHOLE);
		ring_destroy(ring);
		close(fd);
	}
}

/* Both in flight together: the sync does not cover the write, even where it completes after it. */
static void test_sync_started_before(void **state)
{
	unsigned seen[OUTCOMES] = { 0 }, sync_last = 0;
	uint8_t *data = malloc(BYTES);

	memset(data, 'a', BYTES);
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct ring *ring = ring_of_seed(seed);
		struct call written, synced;
		int fd = temporary_file();

		ring_write(ring, &call_init(&written, call_on_completion)->op, fd, data, BYTES, 0);
		ring_fdatasync(ring, &call_init(&synced, call_on_completion)->op, fd);
		assert_int_equal(call_wait(ring, &synced), 0);
		assert_int_equal(call_wait(ring, &written), BYTES);
		ring_sim_crash(ring);
		if (synced.order > written.order) {
			seen[outcome_of(fd, 'a', BYTES)]++;
			sync_last++;
		}
		ring_destroy(ring);
		close(fd);
	}
	assert_true(seen[LOST] > 0 && seen[TORN] > 0 && seen[WHOLE] > 0);
	assert_true(sync_last > SEEDS / 4 && sync_last < SEEDS * 3 / 4);
	free(data);
}

/* A write in flight when the power goes is whole, torn or nothing, too; its handler hears -EIO, and nothing else runs. */
static int32_t work_never(struct op *op)
{
	fail_msg("work ran after the power was gone");
	return 0;
}

static void test_in_flight_at_crash(void **state)
{
	unsigned seen[OUTCOMES] = { 0 };
	uint8_t *data = malloc(BYTES);

	memset(data, 'a', BYTES);
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct ring *ring = ring_of_seed(seed);
		struct call written, worked, timed;
		int fd = temporary_file();

		ring_write(ring, &call_init(&written, call_on_completion)->op, fd, data, BYTES, 0);
		ring_timer(ring, &call_init(&timed, call_on_completion)->op, 1000000000);
		ring_sim_crash(ring);
		seen[outcome_of(fd, 'a', BYTES)]++;
		ring_work(ring, &call_init(&worked, call_on_completion)->op, work_never);
		assert_int_equal(call_wait(ring, &written), -EIO);
		assert_int_equal(call_wait(ring, &worked), -EIO);
		assert_int_equal(call_wait(ring, &timed), -ECANCELED);
		assert_int_equal(write_bytes(ring, fd, 'b', 0, BYTES), -EIO);
		ring_destroy(ring);
		close(fd);
	}
	assert_true(seen[LOST] > 0 && seen[TORN] > 0 && seen[WHOLE] > 0);
	free(data);
}

/* a durable, then b and c over it without a sync: each block is a, b or c, and where b won over c, c was lost there. */
static void test_overlap(void **state)
{
	unsigned seen[3] = { 0 };

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct ring *ring = ring_of_seed(seed);
		int fd = temporary_file();
		char byte;

		write_bytes(ring, fd, 'a', 0, BYTES);
		sync_file(ring, fd, call_on_completion);
		write_bytes(ring, fd, 'b', 0, BYTES);
		write_bytes(ring, fd, 'c', BLOCK, BYTES - BLOCK);
		ring_sim_crash(ring);
		assert_int_equal(lseek(fd, 0, SEEK_END), BYTES);
		for (int block = 0; block < BLOCKS; block++) {
			assert_int_equal(pread(fd, &byte, 1, block * BLOCK), 1);
			assert_true(byte >= 'a' && byte <= 'c' && (block > 0 || byte != 'c'));
			seen[byte - 'a'] += block > 0;
		}
		ring_destroy(ring);
		close(fd);
	}
	assert_true(seen[0] > 0 && seen[1] > 0 && seen[2] > 0);
}

/* A doomed write below a durable one: the durable one stays on top. */
static void test_failed_sync_dooms(void **state)
{
	unsigned seen[OUTCOMES] = { 0 };

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct ring_sim_config config = { .seed = seed, .sync_errors_one_in = 1 };
		struct ring *ring;
		int fd = temporary_file();
		char byte;

		ring_sim_create(&ring, &config);
		write_bytes(ring, fd, 'a', 0, BYTES);
		assert_int_equal(sync_file(ring, fd, call_on_completion), -EIO);
		ring_sim_fail(ring, &(struct ring_sim_config){ 0 });
		assert_int_equal(sync_file(ring, fd, call_on_completion), 0);
		assert_int_equal(ring_sim_writes_volatile(ring), 1);
		write_bytes(ring, fd, 'a', 2 * BLOCK, BLOCK);
		assert_int_equal(sync_file(ring, fd, call_on_completion), 0);
		assert_int_equal(ring_sim_writes_volatile(ring), 1);
		ring_sim_crash(ring);
		assert_int_equal(pread(fd, &byte, 1, 2 * BLOCK), 1);
		assert_int_equal(byte, 'a');
		seen[outcome_of(fd, 'a', BYTES)]++;
		ring_destroy(ring);
		close(fd);
	}
	assert_int_equal(seen[LOST], 0);
	assert_true(seen[TORN] > 0 && seen[WHOLE] > 0);
}

/* Two sites; the one that lies loses its write in some seeds, the other never. */
static void test_lying_sync(void **state)
{
	struct ring *ring = ring_of_seed(1);
	uint32_t first, sites = ring_sim_sync_sites();
	unsigned lost[2] = { 0 };
	int fd = temporary_file();

	sync_file(ring, fd, first_on_sync);
	first = ring_sim_sync_sites();
	assert_int_equal(first, sites + 1);
	sync_file(ring, fd, second_on_sync);
	sync_file(ring, fd, first_on_sync);
	assert_int_equal(ring_sim_sync_sites(), first + 1);
	ring_destroy(ring);
	close(fd);
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		int other = temporary_file();

		fd = temporary_file();
		ring_sim_create(&ring, &(struct ring_sim_config){ .seed = seed, .lying_sync = first });
		write_bytes(ring, fd, 'a', 0, BYTES);
		assert_int_equal(sync_file(ring, fd, first_on_sync), 0);
		write_bytes(ring, other, 'a', 0, BYTES);
		assert_int_equal(sync_file(ring, other, second_on_sync), 0);
		ring_sim_crash(ring);
		lost[0] += outcome_of(fd, 'a', BYTES) != WHOLE;
		lost[1] += outcome_of(other, 'a', BYTES) != WHOLE;
		ring_destroy(ring);
		close(fd);
		close(other);
	}
	assert_true(lost[0] > 0);
	assert_int_equal(lost[1], 0);
}

static int32_t work_seven(struct op *op)
{
	return 7;
}

struct run {
	unsigned order[6];
	uint64_t now_ns, random;
};

/* Six ops together; in which order they complete, and when. */
static struct run run_of(uint64_t seed)
{
	struct ring *ring = ring_of_seed(seed);
	struct call calls[6];
	struct run run;
	int fd = temporary_file();

	completed = 0;
	for (int i = 0; i < 4; i++)
		ring_write(ring, &call_init(&calls[i], call_on_completion)->op, fd, "x", 1, (uint64_t)i);
	ring_work(ring, &call_init(&calls[4], call_on_completion)->op, work_seven);
	ring_timer(ring, &call_init(&calls[5], call_on_completion)->op, 100000);
	for (int i = 0; i < 6; i++) {
		call_wait(ring, &calls[i]);
		run.order[i] = calls[i].order;
	}
	assert_int_equal(calls[4].res, 7);
	run.now_ns = ring_now_ns(ring);
	run.random = ring_sim_random(ring);
	ring_destroy(ring);
	close(fd);
	return run;
}

static void test_same_seed_same_run(void **state)
{
	struct run first = run_of(1);
	unsigned differ = 0;

	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct run a = run_of(seed), b = run_of(seed);

		assert_memory_equal(a.order, b.order, sizeof(a.order));
		assert_true(a.now_ns == b.now_ns && a.random == b.random);
		differ += memcmp(a.order, first.order, sizeof(a.order)) != 0;
	}
	assert_true(differ > 10);
}

static void test_errors(void **state)
{
	struct ring_sim_config config = { .seed = 7, .write_errors_one_in = 4, .error = -ENOSPC };
	unsigned failed = 0;
	struct ring *ring;
	int fd = temporary_file();

	ring_sim_create(&ring, &config);
	for (int i = 0; i < 200; i++) {
		int32_t res = write_bytes(ring, fd, 'a', 0, BYTES);

		assert_true(res == BYTES || res == -ENOSPC);
		failed += res < 0;
	}
	assert_true(failed > 20 && failed < 100);
	ring_sim_fail(ring, &(struct ring_sim_config){ 0 });
	assert_int_equal(write_bytes(ring, fd, 'a', 0, BYTES), BYTES);
	assert_int_equal(write_bytes(ring, 9999, 'a', 0, 1), -EBADF);
	ring_destroy(ring);
	close(fd);
}

/* An hour passes at once; a turn with an end comes back at its end; a cancelled timer says so. */
static void test_clock(void **state)
{
	struct ring *ring = ring_of_seed(3);
	uint64_t start_ns = ring_now_ns(ring), wall_ns = ring_wall_ns(ring);
	struct call hour, never;

	assert_int_equal(ring_run(ring, 5000), 0);
	assert_int_equal(ring_now_ns(ring), start_ns + 5000);
	ring_timer(ring, &call_init(&hour, call_on_completion)->op, UINT64_C(3600) * 1000000000);
	ring_timer(ring, &call_init(&never, call_on_completion)->op, UINT64_MAX);
	assert_int_equal(call_wait(ring, &hour), 0);
	assert_true(ring_now_ns(ring) - start_ns >= UINT64_C(3600) * 1000000000);
	assert_int_equal(ring_wall_ns(ring) - wall_ns, ring_now_ns(ring) - start_ns);
	ring_cancel(ring, &never.op);
	assert_false(never.done);
	assert_int_equal(call_wait(ring, &never), -ECANCELED);
	ring_destroy(ring);
}

static void test_stop_at_completion(void **state)
{
	struct call calls[10];
	struct ring *ring = ring_of_seed(5);
	unsigned done = 0;

	for (int i = 0; i < 10; i++)
		ring_work(ring, &call_init(&calls[i], call_on_completion)->op, work_seven);
	assert_true(ring_sim_run_until(ring, 4));
	for (int i = 0; i < 10; i++)
		done += calls[i].done;
	assert_int_equal(done, 4);
	assert_false(ring_sim_stopped(ring));
	assert_false(ring_sim_run_until(ring, 1000));
	assert_int_equal(ring_counters(ring)->completions, 10);
	ring_destroy(ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unsynced_write),      cmocka_unit_test(test_synced_write),
		cmocka_unit_test(test_sync_started_before), cmocka_unit_test(test_in_flight_at_crash),
		cmocka_unit_test(test_overlap),             cmocka_unit_test(test_failed_sync_dooms),
		cmocka_unit_test(test_lying_sync),          cmocka_unit_test(test_same_seed_same_run),
		cmocka_unit_test(test_errors),              cmocka_unit_test(test_clock),
		cmocka_unit_test(test_stop_at_completion),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
