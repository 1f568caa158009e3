/*
 * Shows what a connection thinks of its line: samples that its two ends limited only raise it, one burst or three bad moments
 * do not decide, a line that did get slow is seen after four samples. The rates are those of a loopback whose reader slowed.
 */
#include "gateway/net/line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MB 1000000ull

/* After a MiB more, in `busy_us` of which the reader was shut for `shut_us`. */
static uint64_t take(struct line *line, uint64_t rate, bool idle, uint64_t busy_us, uint64_t shut_us)
{
	struct line_counts now = line->counts;

	now.acked += 1 << 20;
	now.busy_us += busy_us;
	now.shut_us += shut_us;
	line_sample(line, rate, idle, &now);
	return line_rate(line);
}

static void test_nothing_is_known_of_one(void **state)
{
	struct line line = { 0 };

	assert_int_equal(line_rate(&line), 0);
	assert_int_equal(take(&line, 4000 * MB, false, 4000, 0), 0);
	assert_int_equal(take(&line, 9000 * MB, false, 4000, 0), 4000 * MB);
}

static void test_slow_ends(void **state)
{
	struct line line = { 0 };

	take(&line, 4000 * MB, false, 4000, 0);
	take(&line, 23000 * MB, true, 4000, 0);
	/* The first burst after the reader slows. */
	assert_int_equal(take(&line, 39 * MB, false, 4000, 0), 4000 * MB);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(take(&line, 600 * MB, false, 8000, 6000), 4000 * MB);
		assert_int_equal(take(&line, 50 * MB, true, 4000, 0), 4000 * MB);
		assert_int_equal(take(&line, 50 * MB, false, 0, 0), 4000 * MB);
	}
}

static void test_limited_ones_raise(void **state)
{
	struct line line = { 0 };

	take(&line, 10 * MB, false, 4000, 0);
	take(&line, 10 * MB, false, 4000, 0);
	take(&line, 500 * MB, true, 4000, 0);
	assert_int_equal(take(&line, 700 * MB, true, 4000, 0), 500 * MB);
}

static void test_a_slow_line_is_seen(void **state)
{
	struct line line = { 0 };

	for (int i = 0; i < LINE_SAMPLES; i++)
		take(&line, 1000 * MB, false, 4000, 0);
	for (int i = 0; i < LINE_SAMPLES - 2; i++)
		assert_int_equal(take(&line, 12 * MB, false, 80000, 0), 1000 * MB);
	assert_int_equal(take(&line, 12 * MB, false, 80000, 0), 12 * MB);
	/* And one burst does not undo it. */
	assert_int_equal(take(&line, 900 * MB, false, 80000, 0), 12 * MB);
}

static void test_little_says_nothing(void **state)
{
	struct line line = { 0 };
	struct line_counts now = { .acked = LINE_LEAST_BYTES - 1, .busy_us = 4000 };

	take(&line, 10 * MB, false, 4000, 0);
	now.acked += line.counts.acked;
	now.busy_us += line.counts.busy_us;
	line_sample(&line, 900 * MB, false, &now);
	assert_int_equal(line_rate(&line), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_known_of_one),
		cmocka_unit_test(test_slow_ends),
		cmocka_unit_test(test_limited_ones_raise),
		cmocka_unit_test(test_a_slow_line_is_seen),
		cmocka_unit_test(test_little_says_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
