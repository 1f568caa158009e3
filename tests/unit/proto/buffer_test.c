/*
 * Shows that a buffer takes what fits, drops whole what does not, says so, and stays failed until it is cleared; over
 * lent storage (never grows) and on the heap (grows to its bound and not beyond).
 */
#include "proto/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void test_lent_storage(void **state)
{
	uint8_t storage[8];
	struct buffer buffer = buffer_over(storage, sizeof(storage));

	buffer_put_text(&buffer, "12345");
	assert_int_equal(buffer.size, 5);
	buffer_put_text(&buffer, "6789");
	assert_true(buffer.failed);
	assert_int_equal(buffer.size, 5);
	buffer_put_text(&buffer, "6");                  /* would fit, but a failed buffer takes nothing */
	assert_int_equal(buffer.size, 5);
	buffer_clear(&buffer);
	buffer_put_text(&buffer, "12345678");
	assert_false(buffer.failed);
	assert_true(span_is(buffer_span(&buffer), "12345678"));
	assert_ptr_equal(buffer.data, storage);
	buffer_fini(&buffer);                           /* does not free what was lent */
}

static void test_heap_grows_to_its_bound(void **state)
{
	struct buffer buffer = buffer_heap(1000);
	uint8_t piece[100];

	memset(piece, 'x', sizeof(piece));
	for (int i = 0; i < 10; i++)
		buffer_put(&buffer, piece, sizeof(piece));
	assert_false(buffer.failed);
	assert_int_equal(buffer.size, 1000);
	assert_true(buffer.capacity <= 1000);
	buffer_put(&buffer, piece, 1);
	assert_true(buffer.failed);
	assert_int_equal(buffer.size, 1000);
	buffer_fini(&buffer);
	assert_null(buffer.data);
	buffer_fini(&buffer);
}

static void test_reserve(void **state)
{
	struct buffer buffer = buffer_heap(64);
	uint8_t *room;

	assert_non_null(buffer_reserve(&buffer, 0));    /* a place, even though nothing is there yet */
	room = buffer_reserve(&buffer, 64);
	assert_non_null(room);
	memset(room, 'y', 64);
	buffer.size += 64;
	assert_null(buffer_reserve(&buffer, SIZE_MAX)); /* a sum that would wrap round */
	assert_true(buffer.failed);
	buffer_fini(&buffer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lent_storage),
		cmocka_unit_test(test_heap_grows_to_its_bound),
		cmocka_unit_test(test_reserve),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
