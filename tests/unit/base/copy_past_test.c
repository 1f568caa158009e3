/*
 * copy_past() is memcpy: for each size around its limits, each place of the target and of the source in a cache line, the bytes
 * arrive and their neighbours stay.
 */
#include "gateway/base/copy_past.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define LINE_BYTES  64
#define SIZE_MOST   (COPY_PAST_LEAST_BYTES + 3 * LINE_BYTES)
#define AREA_BYTES  (SIZE_MOST + 3 * LINE_BYTES)

static uint8_t source[AREA_BYTES];
static _Alignas(LINE_BYTES) uint8_t target[AREA_BYTES], expected[AREA_BYTES];

static void copy_once(size_t to, size_t from, size_t size)
{
	memset(target, 0xee, sizeof(target));
	memset(expected, 0xee, sizeof(expected));
	memcpy(expected + to, source + from, size);
	copy_past(target + to, source + from, size);
	assert_memory_equal(target, expected, sizeof(target));
}

static void test_places(void **state)
{
	static const size_t sizes[] = { 0, 1, 63, COPY_PAST_LEAST_BYTES - 1, COPY_PAST_LEAST_BYTES, COPY_PAST_LEAST_BYTES + 1,
	                                SIZE_MOST - 1, SIZE_MOST };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (size_t to = 0; to <= LINE_BYTES; to++)
			for (size_t from = 0; from <= LINE_BYTES; from += 7)
				copy_once(to, from, sizes[i]);
}

static void test_sizes(void **state)
{
	(void)state;
	for (size_t size = COPY_PAST_LEAST_BYTES - LINE_BYTES; size <= SIZE_MOST; size++) {
		copy_once(1, 0, size);
		copy_once(LINE_BYTES, 3, size);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_sizes),
	};

	for (size_t i = 0; i < sizeof(source); i++)
		source[i] = (uint8_t)(i * 2654435761u >> 13);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
