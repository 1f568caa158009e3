/* Shows that the table of affinities remembers the latest ones, forgets the oldest and an executor that went, and is bounded. */
#include "gateway/buildkitd/affinity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static const struct executor *executor(uintptr_t number)
{
	return (const struct executor *)(number * 16);
}

static void the_oldest_are_forgotten(void **state)
{
	struct affinities *affinities = calloc(1, sizeof(*affinities));

	affinities_init(affinities);
	assert_null(affinities_get(affinities, 1));
	for (uint64_t key = 1; key <= AFFINITIES_MAX; key++)
		affinities_set(affinities, key, executor(key % 7 + 1));
	for (uint64_t key = 1; key <= AFFINITIES_MAX; key++)
		assert_ptr_equal(affinities_get(affinities, key), executor(key % 7 + 1));
	/* Used again, it is not the oldest any more. */
	affinities_set(affinities, 1, executor(9));
	affinities_set(affinities, 1000000, executor(1));
	assert_ptr_equal(affinities_get(affinities, 1), executor(9));
	assert_null(affinities_get(affinities, 2));
	assert_non_null(affinities_get(affinities, 3));
	for (uint64_t key = 0; key < 3 * AFFINITIES_MAX; key++)
		affinities_set(affinities, key << 32, executor(2));
	assert_null(affinities_get(affinities, 1));
	assert_ptr_equal(affinities_get(affinities, (3ull * AFFINITIES_MAX - 1) << 32), executor(2));
	assert_int_equal(affinities->count, AFFINITIES_MAX);
	free(affinities);
}

static void an_executor_that_went_is_forgotten(void **state)
{
	struct affinities *affinities = calloc(1, sizeof(*affinities));

	affinities_init(affinities);
	for (uint64_t key = 0; key < 100; key++)
		affinities_set(affinities, key, executor(key % 2 + 1));
	affinities_forget(affinities, executor(1));
	for (uint64_t key = 0; key < 100; key++)
		assert_ptr_equal(affinities_get(affinities, key), key % 2 ? executor(2) : NULL);
	free(affinities);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_oldest_are_forgotten),
		cmocka_unit_test(an_executor_that_went_is_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
