/* Shows that a queue returns bytes in order through any mix of sizes, keeps to its bound, and is free when empty. */
#include "proto/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* Takes up to `room` of the oldest bytes, in as many pieces as they lie in. */
static size_t take(struct queue *queue, void *to, size_t room)
{
	size_t taken = 0;
	struct span front;

	while (taken < room && (front = queue_front(queue)).size) {
		size_t size = front.size < room - taken ? front.size : room - taken;

		memcpy((uint8_t *)to + taken, front.data, size);
		queue_drop(queue, size);
		taken += size;
	}
	return taken;
}

static void test_order_and_bound(void **state)
{
	struct queue queue = queue_make(5000);
	uint8_t in[7000], out[7000];
	uint8_t next_in = 0, next_out = 0;
	uint32_t seed = 3;

	for (int round = 0; round < 20000; round++) {
		size_t offered, taken, got;

		seed = seed * 1664525 + 1013904223;
		offered = (seed >> 16) % 3000;
		for (size_t i = 0; i < offered; i++)
			in[i] = (uint8_t)(next_in + i);
		taken = queue_write(&queue, span_make(in, offered));
		assert_true(taken == offered || queue.size == 5000);
		next_in = (uint8_t)(next_in + taken);
		got = take(&queue, out, (seed >> 8) % 3500);
		for (size_t i = 0; i < got; i++)
			assert_int_equal(out[i], (uint8_t)(next_out + i));
		next_out = (uint8_t)(next_out + got);
		assert_true(queue.size <= 5000 && queue.capacity <= 5000);
		if (queue.size == 0)
			assert_null(queue.data);
	}
	queue_fini(&queue);
}

static void test_full_and_empty(void **state)
{
	struct queue queue = queue_make(3);
	struct queue zero = { 0 };
	char out[8];

	assert_int_equal(queue_write(&queue, span_text("abcd")), 3);
	assert_int_equal(queue_write(&queue, span_text("e")), 0);
	assert_int_equal(take(&queue, out, 2), 2);
	assert_int_equal(queue_write(&queue, span_text("efg")), 2);
	assert_int_equal(take(&queue, out, 8), 3);
	assert_memory_equal(out, "cef", 3);
	assert_int_equal(take(&queue, out, 8), 0);
	assert_int_equal(queue_write(&zero, span_text("x")), 0);
	queue_fini(&queue);
	queue_fini(&zero);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_and_bound),
		cmocka_unit_test(test_full_and_empty),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
