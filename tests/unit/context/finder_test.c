/*
 * Shows that names are found in whatever order they come, those that are not there are not, and each directory has its
 * own.
 */
#include "gateway/context/finder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <cmocka.h>

enum { NAMES = 1000 };

/* Two directories with the same names; directory 1 is listed after the root. */
static void make(struct table *table)
{
	uint32_t row, directory;

	*table = table_make(NULL);
	assert_int_equal(table_add_row(table, span_text(""), &row), 0);
	assert_int_equal(table_add_directory(table, 0, 0, &directory), 0);
	for (int d = 0; d < 2; d++) {
		for (int i = 0; i < NAMES; i++) {
			char name[16];

			snprintf(name, sizeof(name), "name-%d", i);
			assert_int_equal(table_add_row(table, span_text(name), &row), 0);
		}
		if (d == 0)
			assert_int_equal(table_add_directory(table, 0, 1, &directory), 0);
	}
}

static uint32_t find(struct finder *finder, const struct table *table, int number)
{
	uint32_t row = 12345;
	char name[16];

	snprintf(name, sizeof(name), "name-%d", number);
	assert_int_equal(finder_find(finder, table, span_text(name), &row), 0);
	return row;
}

static void test_orders(void **state)
{
	struct finder finder = { 0 };
	struct table table;

	make(&table);
	for (uint32_t d = 0; d < 2; d++) {
		uint32_t first = 1 + d * NAMES;

		finder_begin(&finder, &table, d);
		for (int i = 0; i < NAMES; i++)                  /* as expected */
			assert_int_equal(find(&finder, &table, i), first + (uint32_t)i);
		assert_false(finder.hashed);
		finder_begin(&finder, &table, d);
		for (int i = 0; i < NAMES; i += 3)               /* some are gone */
			assert_int_equal(find(&finder, &table, i), first + (uint32_t)i);
		assert_false(finder.hashed);
		finder_begin(&finder, &table, d);
		for (int i = NAMES - 1; i >= 0; i--)             /* backwards, with new ones in between */
			assert_int_equal(find(&finder, &table, i % 5 ? i : i + NAMES),
			                 i % 5 ? first + (uint32_t)i : TABLE_NONE);
		assert_true(finder.hashed);
	}
	finder_begin(&finder, &table, TABLE_NONE);
	assert_int_equal(find(&finder, &table, 1), TABLE_NONE);
	finder_fini(&finder);
	table_fini(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_orders),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
