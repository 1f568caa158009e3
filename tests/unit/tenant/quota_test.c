/*
 * Shows that a tenant that has all it may leaves the others their room, that what nobody has is not bounded, and that who leaves
 * makes room.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gateway/tenant/quota.h"

#define MAX 3

static void each_tenant_has_its_own(void **state)
{
	const uint64_t acme = quota_key("acme"), other = quota_key("other");
	struct quota_place places[MAX] = { 0 }, more = { 0 }, nobodys[2 * MAX] = { 0 };
	struct quota quota;

	quota_init(&quota, MAX);
	for (int i = 0; i < MAX; i++) {
		assert_true(quota_has_room(&quota, acme));
		quota_enter(&quota, acme, &places[i]);
	}
	assert_false(quota_has_room(&quota, acme));
	assert_true(quota_has_room(&quota, other));
	quota_enter(&quota, other, &more);
	for (int i = 0; i < 2 * MAX; i++)
		quota_enter(&quota, 0, &nobodys[i]);
	assert_true(quota_has_room(&quota, 0));
	quota_leave(&places[1]);
	assert_true(quota_has_room(&quota, acme));
	quota_leave(&places[1]);                 /* no more than once */
	quota_enter(&quota, acme, &places[1]);
	assert_false(quota_has_room(&quota, acme));
	for (int i = 0; i < MAX; i++)
		quota_leave(&places[i]);
	for (int i = 0; i < 2 * MAX; i++)
		quota_leave(&nobodys[i]);
	quota_leave(&more);
	assert_true(list_empty(&quota.tenants));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_tenant_has_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
