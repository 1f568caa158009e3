/*
 * Shows that what was told of a file is found by its path, however many there are and whenever it is looked for, and that what
 * nobody looks for costs no table.
 */
#include "gateway/play/firsts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

/* Far more than stay in memory. */
#define MANY 300000u

static struct claim_hash path_of(const struct claims *claims, uint32_t number)
{
	return claims_path(claims, span_text("context"), span_make(&number, sizeof(number)));
}

static void what_was_told_is_found(void **state)
{
	struct claims claims;
	struct firsts firsts;
	struct claim_hash path;
	int64_t mtime_ns = -1;

	claims_init(&claims, 7, NULL);
	firsts_init(&firsts, "/tmp");
	path = path_of(&claims, 0);
	assert_int_equal(firsts_find(&firsts, &path, &mtime_ns), FIRSTS_NONE);
	for (uint32_t i = 0; i < MANY; i++) {
		path = path_of(&claims, i);
		assert_int_equal(firsts_note(&firsts, &path, 5 + (int64_t)i), 0);
		/* While they come, each time after a few more. */
		if (i % 777 == 0) {
			assert_int_equal(firsts_find(&firsts, &path, &mtime_ns), FIRSTS_FOUND);
			assert_int_equal(mtime_ns, 5 + i);
		}
	}
	assert_true(firsts.told.mapped && firsts.table.mapped);
	for (uint32_t i = 0; i < MANY; i++) {
		path = path_of(&claims, i);
		assert_int_equal(firsts_find(&firsts, &path, &mtime_ns), FIRSTS_FOUND);
		assert_int_equal(mtime_ns, 5 + i);
	}
	path = path_of(&claims, MANY);
	assert_int_equal(firsts_find(&firsts, &path, &mtime_ns), FIRSTS_NONE);
	firsts_fini(&firsts);
	claims_fini(&claims);
}

static void what_nobody_looks_for_has_no_table(void **state)
{
	struct firsts firsts;

	firsts_init(&firsts, NULL);
	for (uint32_t i = 0; i < MANY; i++) {
		struct claim_hash path = { .bytes = { (uint8_t)i, (uint8_t)(i >> 8), (uint8_t)(i >> 16) } };

		assert_int_equal(firsts_note(&firsts, &path, i), 0);
	}
	assert_null(firsts.table.data);
	firsts_fini(&firsts);
}

/* A daemon refuses such a list, but whoever sends it does not make the search long: the last one counts. */
static void one_path_again_and_again(void **state)
{
	const struct claim_hash path = { .bytes = { 1 } };
	struct firsts firsts;
	int64_t mtime_ns;

	firsts_init(&firsts, NULL);
	for (uint32_t i = 0; i < MANY; i++) {
		assert_int_equal(firsts_note(&firsts, &path, i), 0);
		assert_int_equal(firsts_find(&firsts, &path, &mtime_ns), FIRSTS_FOUND);
		assert_int_equal(mtime_ns, i);
	}
	firsts_fini(&firsts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_told_is_found),
		cmocka_unit_test(what_nobody_looks_for_has_no_table),
		cmocka_unit_test(one_path_again_and_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
