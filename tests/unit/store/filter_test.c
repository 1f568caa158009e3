/* Shows that a filter never forgets, seldom says "may" of what was not added, and says when it is full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gateway/store/filter.h"
#include "tests/unit/store/blobs.h"

#define KEYS       8192u

static void a_filter_never_forgets(void **state)
{
	uint8_t key[DIGEST_HASH_BYTES];
	struct filter filter;
	unsigned wrong = 0;

	assert_int_equal(filter_init(&filter, KEYS), 0);
	for (uint64_t i = 0; i < KEYS; i++) {
		blob_name(key, i);
		filter_prefetch(&filter, key);
		filter_add(&filter, key);
		assert_true(filter_may(&filter, key));
	}
	for (uint64_t i = 0; i < 2 * KEYS; i++) {
		blob_name(key, i);
		if (i < KEYS)
			assert_true(filter_may(&filter, key));
		else
			wrong += filter_may(&filter, key);
	}
	assert_in_range(wrong, 1, KEYS / 20);
	assert_false(filter_full(&filter));
	/* Adding the same again fills nothing. */
	for (uint64_t i = 0; i < 3 * KEYS; i++) {
		blob_name(key, i % KEYS);
		filter_add(&filter, key);
	}
	assert_false(filter_full(&filter));
	for (uint64_t i = KEYS; i < 4 * KEYS; i++) {
		blob_name(key, i);
		filter_add(&filter, key);
	}
	assert_true(filter_full(&filter));
	filter_fini(&filter);
}

static void one_that_knows_nothing_says_may(void **state)
{
	struct filter filter = { 0 };
	uint8_t key[DIGEST_HASH_BYTES] = { 0 };

	assert_true(filter_may(&filter, key));
	filter_add(&filter, key);
	filter_prefetch(&filter, key);
	assert_false(filter_full(&filter));
	filter_fini(&filter);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_filter_never_forgets),
		cmocka_unit_test(one_that_knows_nothing_says_may),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
