/*
 * Shows that a budget lets in what fits, in the order of asking, and nobody past a waiting one; that what is given back, or not
 * waited for any more, lets the next ones in; and that growing takes only what is free.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gateway/reapi/budget.h"

struct user {
	struct budget_share share;
	unsigned entered;
};

static void on_entered(struct budget_share *share)
{
	container_of(share, struct user, share)->entered++;
}

static void first_come_first_served(void **state)
{
	struct user users[4] = { 0 };
	struct budget budget;

	budget_init(&budget, 100);
	for (int i = 0; i < 4; i++)
		users[i].share.fn = on_entered;
	budget_enter(&budget, &users[0].share, 60);
	assert_int_equal(users[0].entered, 1);
	budget_enter(&budget, &users[1].share, 50);
	budget_enter(&budget, &users[2].share, 10);      /* would fit, but is not the first */
	assert_true(!users[1].entered && !users[2].entered);
	assert_false(budget_has(&budget, 1));
	budget_leave(&budget, &users[1].share);          /* does not wait any more */
	assert_int_equal(users[2].entered, 1);
	budget_enter(&budget, &users[3].share, 1000);    /* all that there is */
	budget_leave(&budget, &users[0].share);
	assert_false(users[3].entered);
	budget_leave(&budget, &users[2].share);
	assert_int_equal(users[3].entered, 1);
	assert_int_equal(budget.used, 100);
	budget_leave(&budget, &users[3].share);
	assert_int_equal(budget.used, 0);
	assert_true(budget_has(&budget, 100));
}

static void growing_takes_what_is_free(void **state)
{
	struct user a = { .share.fn = on_entered }, b = { .share.fn = on_entered };
	struct budget budget;

	budget_init(&budget, 100);
	budget_enter(&budget, &a.share, 10);
	budget_enter(&budget, &b.share, 50);
	assert_false(budget_grow(&budget, &a.share, 51));
	assert_true(budget_grow(&budget, &a.share, 50));
	assert_int_equal(budget.used, 100);
	budget_leave(&budget, &a.share);
	assert_int_equal(budget.used, 50);
	budget_leave(&budget, &b.share);
	budget_leave(&budget, &b.share);         /* again: nothing */
	assert_int_equal(budget.used, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_come_first_served),
		cmocka_unit_test(growing_takes_what_is_free),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
