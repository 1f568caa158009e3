/* Shows which mistyped words are recognised, and that far ones are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "gateway/cmd/suggest.h"

static void measures_distance(void **state)
{
	assert_int_equal(suggest_distance("", ""), 0);
	assert_int_equal(suggest_distance("push", "push"), 0);
	assert_int_equal(suggest_distance("", "push"), 4);
	assert_int_equal(suggest_distance("push", ""), 4);
	assert_int_equal(suggest_distance("puhs", "push"), 1);
	assert_int_equal(suggest_distance("psh", "push"), 1);
	assert_int_equal(suggest_distance("pussh", "push"), 1);
	assert_int_equal(suggest_distance("bush", "push"), 1);
	assert_int_equal(suggest_distance("kitten", "sitting"), 3);
}

static void keeps_the_nearest(void **state)
{
	size_t best = SIZE_MAX;

	assert_false(suggest_nearer("zzz", "push", &best));
	assert_true(suggest_nearer("pull", "push", &best) || best == SIZE_MAX);
	best = SIZE_MAX;
	assert_true(suggest_nearer("stauts", "status", &best));
	assert_int_equal(best, 1);
	assert_false(suggest_nearer("stauts", "state", &best));
	best = SIZE_MAX;
	assert_true(suggest_nearer("ver", "version", &best));
	best = SIZE_MAX;
	assert_false(suggest_nearer("v", "version", &best));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(measures_distance),
		cmocka_unit_test(keeps_the_nearest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
