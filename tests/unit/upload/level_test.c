/*
 * Shows how hard packs are compressed when that is left to us: a line that is always waiting for the next pack gets them at the
 * fast level from the third on; one that is behind gets them small, also after it was fast for long; the first packs say
 * nothing; a line that the kernel saw carry more than a core compresses gets them as they are, until packs show in a row that
 * something behind it does not. What was asked for is what is done.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gateway/upload/level.h"

#define PACK (4u << 20)

static void a_link_that_waits_gets_fast_packs(void **state)
{
	struct level level = { .wanted = LEVEL_AUTO };

	assert_int_equal(level_now(&level, 0), LEVEL_MOST);
	level_sent(&level, PACK, 0);
	assert_int_equal(level_now(&level, 0), LEVEL_MOST);          /* the first one finds any link idle */
	level_sent(&level, PACK, 0);
	assert_int_equal(level_now(&level, 0), LEVEL_FAST);
	for (int i = 0; i < 1000; i++)
		level_sent(&level, PACK, 0);
	assert_int_equal(level_now(&level, 0), LEVEL_FAST);
	/* One unanswered request is the usual: nobody waits for long. */
	level_sent(&level, PACK, 1);
	assert_int_equal(level_now(&level, 0), LEVEL_FAST);
	/* It becomes slow. */
	for (int i = 0; i < LEVEL_SCORE_MAX; i++)
		level_sent(&level, PACK, 2);
	assert_int_equal(level_now(&level, 0), LEVEL_MOST);
}

static void a_link_that_is_behind_gets_small_packs(void **state)
{
	struct level level = { .wanted = LEVEL_AUTO };

	level_sent(&level, PACK, 0);
	for (unsigned i = 0; i < 100; i++) {
		level_sent(&level, PACK, 1 + i % 3);
		assert_int_equal(level_now(&level, 0), LEVEL_MOST);
	}
}

static void a_line_that_outruns_the_core_gets_packs_as_they_are(void **state)
{
	struct level level = { .wanted = LEVEL_AUTO };

	/* Not from the beginning. */
	for (uint64_t sent = 0; sent < LEVEL_RAW_AFTER; sent += PACK) {
		assert_int_not_equal(level_now(&level, UINT64_MAX), 0);
		level_sent(&level, PACK, 2);
	}
	/* A gigabit is not enough, and nor is one byte less than enough. */
	assert_int_equal(level_now(&level, 118000000), LEVEL_MOST);
	assert_int_equal(level_now(&level, LEVEL_RAW_LINE - 1), LEVEL_MOST);
	assert_int_equal(level_now(&level, LEVEL_RAW_LINE), 0);
	/* Those that wait for each other on a busy machine are no reason, nor is one that was slow alone. */
	for (int i = 0; i < 100; i++)
		level_sent(&level, PACK, 2);
	for (int i = 0; i < 100; i++) {
		level_raw_answered(&level, PACK, (uint64_t)PACK * 1000000000 / LEVEL_RAW_LEAST * (i % 2 ? 2 : 1));
		assert_int_equal(level_now(&level, LEVEL_RAW_LINE), 0);
	}
	/* It becomes slow: it is a line again like any other. */
	assert_int_equal(level_now(&level, 1000000), LEVEL_MOST);
}

static void a_slow_line_behind_a_fast_one_is_found_out(void **state)
{
	struct level level = { .wanted = LEVEL_AUTO, .bytes = LEVEL_RAW_AFTER };

	/* Short ones take as long as their answers, whatever the line. */
	for (int i = 0; i < 100; i++)
		level_raw_answered(&level, LEVEL_RAW_BYTES - 1, 80000000);
	assert_int_equal(level_now(&level, UINT64_MAX), 0);
	/* 4 MiB at 100 Mbit/s. */
	for (int i = 0; i < LEVEL_RAW_VAIN; i++)
		level_raw_answered(&level, PACK, 335000000);
	assert_int_equal(level_now(&level, UINT64_MAX), LEVEL_MOST);
	/* It is not tried again. */
	for (int i = 0; i < 100; i++)
		level_raw_answered(&level, PACK, 1000000);
	assert_int_equal(level_now(&level, UINT64_MAX), LEVEL_MOST);
	level_sent(&level, PACK, 0);
	level_sent(&level, PACK, 0);
	assert_int_equal(level_now(&level, UINT64_MAX), LEVEL_FAST);
}

static void what_is_asked_for_is_done(void **state)
{
	for (int wanted = 0; wanted <= 19; wanted++) {
		struct level level = { .wanted = wanted };

		for (int i = 0; i < 10; i++)
			level_sent(&level, PACK, 0);
		assert_int_equal(level_now(&level, UINT64_MAX), wanted);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_link_that_waits_gets_fast_packs),
		cmocka_unit_test(a_link_that_is_behind_gets_small_packs),
		cmocka_unit_test(a_line_that_outruns_the_core_gets_packs_as_they_are),
		cmocka_unit_test(a_slow_line_behind_a_fast_one_is_found_out),
		cmocka_unit_test(what_is_asked_for_is_done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
