/*
 * Shows how hard packs are compressed: a link that is always waiting for the next pack gets them at the fast level from the
 * third on; one that is behind gets them as small as asked for, also after it was fast for long; the first packs say
 * nothing; and nothing is compressed harder, or at all, when less was asked for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gateway/upload/level.h"

static void a_link_that_waits_gets_fast_packs(void **state)
{
	struct level level = { .most = 3 };

	assert_int_equal(level_now(&level), 3);
	level_sent(&level, 0);
	assert_int_equal(level_now(&level), 3);          /* the first one finds any link idle */
	level_sent(&level, 0);
	assert_int_equal(level_now(&level), LEVEL_FAST);
	for (int i = 0; i < 1000; i++)
		level_sent(&level, 0);
	assert_int_equal(level_now(&level), LEVEL_FAST);
	/* One unanswered request is the usual: nobody waits for long. */
	level_sent(&level, 1);
	assert_int_equal(level_now(&level), LEVEL_FAST);
	/* It becomes slow. */
	for (int i = 0; i < LEVEL_SCORE_MAX; i++)
		level_sent(&level, 2);
	assert_int_equal(level_now(&level), 3);
}

static void a_link_that_is_behind_gets_small_packs(void **state)
{
	struct level level = { .most = 3 };

	level_sent(&level, 0);
	for (unsigned i = 0; i < 100; i++) {
		level_sent(&level, 1 + i % 3);
		assert_int_equal(level_now(&level), 3);
	}
}

static void no_harder_than_asked(void **state)
{
	for (int most = 0; most <= LEVEL_FAST; most++) {
		struct level level = { .most = most };

		for (int i = 0; i < 10; i++)
			level_sent(&level, 0);
		assert_int_equal(level_now(&level), most);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_link_that_waits_gets_fast_packs),
		cmocka_unit_test(a_link_that_is_behind_gets_small_packs),
		cmocka_unit_test(no_harder_than_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
