/*
 * Shows what a client hears of an action whose inputs fail: to ask again when they may be had then, as Bazel does upon
 * UNAVAILABLE and not upon FAILED_PRECONDITION; and what is his to mend.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <cmocka.h>

#include "gateway/executor/inputs_status.h"

static void inputs_that_may_come_are_asked_for_again(void **state)
{
	assert_int_equal(inputs_status(-ENOENT), GRPC_UNAVAILABLE);
	assert_int_equal(inputs_status(-ECONNRESET), GRPC_UNAVAILABLE);
	assert_int_equal(inputs_status(-EREMOTEIO), GRPC_UNAVAILABLE);
	assert_int_equal(inputs_status(-ENOMEM), GRPC_UNAVAILABLE);
	assert_int_equal(inputs_status(-ENOSPC), GRPC_RESOURCE_EXHAUSTED);
}

/* A malformed directory, a device, an entry that nothing can be made of. */
static void a_wrong_tree_stays_wrong(void **state)
{
	assert_int_equal(inputs_status(-EBADMSG), GRPC_FAILED_PRECONDITION);
	assert_int_equal(inputs_status(-EPERM), GRPC_FAILED_PRECONDITION);
	assert_int_equal(inputs_status(-EINVAL), GRPC_FAILED_PRECONDITION);
	assert_int_equal(inputs_status(-E2BIG), GRPC_FAILED_PRECONDITION);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(inputs_that_may_come_are_asked_for_again),
		cmocka_unit_test(a_wrong_tree_stays_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
