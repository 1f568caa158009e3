/*
 * Shows that memory that was freed stays with a process that works, and goes back to the system within the seconds after its work has
 * ended. Not for sanitized builds, whose allocator has rules of its own.
 */
#include "gateway/daemon/rest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "gateway/base/heap.h"

#define BLOCKS      1024u
#define BLOCK_BYTES 16384u
#define FREED_BYTES (BLOCKS * BLOCK_BYTES)
#define TICK_NS     2000000u             /* five hundred a second: work */

struct work {
	struct ring *ring;
	struct op op;
	unsigned ticks_left;
};

static size_t resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	size_t all, resident;

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%zu %zu", &all, &resident), 2);
	fclose(file);
	return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void work_on_tick(struct op *op, int32_t res)
{
	struct work *work = container_of(op, struct work, op);

	if (res >= 0 && --work->ticks_left)
		ring_timer(work->ring, op, TICK_NS);
}

/* Touched, freed, and below what is still used: glibc's rules leave it with the process. */
static void *use_and_free(void)
{
	void *blocks[BLOCKS], *last;

	for (size_t i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc(BLOCK_BYTES);
		assert_non_null(blocks[i]);
		memset(blocks[i], 1, BLOCK_BYTES);
	}
	last = malloc(BLOCK_BYTES);
	assert_non_null(last);
	for (size_t i = 0; i < BLOCKS; i++)
		free(blocks[i]);
	return last;
}

static void freed_memory_goes_back_at_rest(void **state)
{
	struct ring *ring;
	struct rest rest = { 0 };
	struct work work = { .op.fn = work_on_tick, .ticks_left = 1500 };
	size_t before, busy;
	uint64_t end_ns;
	void *last;

	heap_keep();
	assert_int_equal(ring_create(&ring, &(struct ring_config){ 0 }), 0);
	rest_start(&rest, ring);
	before = resident_bytes();
	last = use_and_free();
	work.ring = ring;
	ring_timer(ring, &work.op, TICK_NS);
	while (work.ticks_left > 1)
		ring_run(ring, UINT64_MAX);
	busy = resident_bytes();
	assert_true(busy > before + FREED_BYTES / 2);
	while (op_in_flight(&work.op))
		ring_run(ring, UINT64_MAX);
	for (end_ns = ring_now_ns(ring) + 20000000000u; resident_bytes() > busy - FREED_BYTES / 2 && ring_now_ns(ring) < end_ns;)
		ring_run(ring, 100000000u);
	assert_true(resident_bytes() <= busy - FREED_BYTES / 2);
	free(last);
	rest_stop(&rest);
	rest_stop(&rest);
	ring_destroy(ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(freed_memory_goes_back_at_rest) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
