/* Shows how long a doubted executor has, from when it is lost anew, and that what is given up stays so until it is another's. */
#include "gateway/buildkit/doubt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void it_has_a_while(void **state)
{
	struct doubt doubt = { 0 };

	(void)state;
	assert_false(doubt_judge(&doubt, UINT64_MAX, false));
	doubt_raise(&doubt, 5);
	assert_int_equal(doubt.deadline_ns, 5 + DOUBT_GRACE_NS);
	assert_false(doubt_judge(&doubt, 4 + DOUBT_GRACE_NS, false));
	/* Reachable before its time is over: it may be lost again until then, and has to be reachable at the end. */
	assert_false(doubt_judge(&doubt, 4 + DOUBT_GRACE_NS, true));
	assert_int_equal(doubt.state, DOUBT_HELD);
	assert_false(doubt_judge(&doubt, 5 + DOUBT_GRACE_NS, true));
	assert_int_equal(doubt.state, DOUBT_NONE);
	assert_int_equal(doubt.deadline_ns, 0);
	assert_false(doubt_judge(&doubt, UINT64_MAX, false));
}

static void it_is_raised_anew(void **state)
{
	struct doubt doubt = { 0 };

	(void)state;
	doubt_raise(&doubt, 5);
	doubt_raise(&doubt, 50);
	assert_false(doubt_judge(&doubt, 5 + DOUBT_GRACE_NS, false));
	assert_true(doubt_judge(&doubt, 50 + DOUBT_GRACE_NS, false));
}

static void it_is_given_up_once(void **state)
{
	struct doubt doubt = { 0 };

	(void)state;
	doubt_raise(&doubt, 5);
	assert_true(doubt_judge(&doubt, 5 + DOUBT_GRACE_NS, false));
	assert_int_equal(doubt.state, DOUBT_GIVEN_UP);
	assert_int_equal(doubt.deadline_ns, 0);
	doubt_raise(&doubt, 7);
	assert_int_equal(doubt.state, DOUBT_GIVEN_UP);
	assert_int_equal(doubt.deadline_ns, 0);
	assert_false(doubt_judge(&doubt, UINT64_MAX, true));
	assert_int_equal(doubt.state, DOUBT_GIVEN_UP);
	doubt_drop(&doubt);
	assert_int_equal(doubt.state, DOUBT_NONE);
}

static void it_is_dropped(void **state)
{
	struct doubt doubt = { 0 };

	(void)state;
	doubt_raise(&doubt, 5);
	doubt_drop(&doubt);
	assert_int_equal(doubt.deadline_ns, 0);
	assert_false(doubt_judge(&doubt, UINT64_MAX, false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_has_a_while),
		cmocka_unit_test(it_is_raised_anew),
		cmocka_unit_test(it_is_given_up_once),
		cmocka_unit_test(it_is_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
