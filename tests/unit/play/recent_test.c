/*
 * Shows that of the keys used last each has its value, that a look counts as a use, that who has many makes room with his own, and
 * that what is forgotten is gone.
 */
#include "gateway/play/recent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

static const uint8_t *key_of(uint32_t number)
{
	static uint8_t key[RECENT_KEY_BYTES];

	memcpy(key + 7, &number, sizeof(number));
	return key;
}

static void remember(struct recent *recent, uint32_t number, uint64_t value)
{
	recent_remember(recent, number, key_of(number), &value, sizeof(value));
}

static uint64_t value_of(struct recent *recent, uint32_t number)
{
	const uint64_t *value = recent_find(recent, key_of(number));

	return value ? *value : 0;
}

static void those_used_last_stay(void **state)
{
	struct recent recent = { 0 };

	assert_null(recent_find(&recent, key_of(1)));
	for (uint32_t i = 1; i <= RECENT_MAX; i++)
		remember(&recent, i, 10 * i);
	assert_int_equal(value_of(&recent, 1), 10);
	remember(&recent, RECENT_MAX + 1, 5);
	assert_int_equal(value_of(&recent, 1), 10);
	assert_null(recent_find(&recent, key_of(2)));
	assert_int_equal(value_of(&recent, RECENT_MAX + 1), 5);
	remember(&recent, 3, 7);
	assert_int_equal(value_of(&recent, 3), 7);
	recent_fini(&recent);
}

static void who_has_many_makes_room_with_his_own(void **state)
{
	struct recent recent = { 0 };
	uint64_t value = 1;

	for (uint32_t i = 1; i <= 10; i++)
		recent_remember(&recent, 1, key_of(i), &value, sizeof(value));
	for (uint32_t i = 11; i <= 3 * RECENT_MAX; i++)
		recent_remember(&recent, 2, key_of(i), &value, sizeof(value));
	for (uint32_t i = 1; i <= 10; i++)
		assert_int_equal(value_of(&recent, i), 1);
	/* Others take from him, as long as they have less than their share. */
	for (uint32_t i = 1; i <= RECENT_SHARE + 100; i++)
		recent_remember(&recent, 3, key_of(100000 + i), &value, sizeof(value));
	assert_int_equal(value_of(&recent, 100000 + 100), 0);
	assert_int_equal(value_of(&recent, 100000 + 101), 1);
	assert_int_equal(value_of(&recent, 3 * RECENT_MAX), 1);
	recent_fini(&recent);
}

static void what_is_forgotten_is_gone(void **state)
{
	struct recent recent = { 0 };

	for (uint32_t i = 1; i <= 3; i++)
		remember(&recent, i, i);
	recent_forget(&recent, key_of(1));
	recent_forget(&recent, key_of(9));
	assert_null(recent_find(&recent, key_of(1)));
	assert_int_equal(value_of(&recent, 2), 2);
	assert_int_equal(value_of(&recent, 3), 3);
	recent_forget(&recent, key_of(3));
	recent_forget(&recent, key_of(2));
	assert_int_equal(recent.count, 0);
	recent_fini(&recent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(those_used_last_stay),
		cmocka_unit_test(who_has_many_makes_room_with_his_own),
		cmocka_unit_test(what_is_forgotten_is_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
