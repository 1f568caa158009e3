/*
 * Shows that a map gives back what was put under a digest, through growing and among keys that fall on one place; that a second
 * one does not replace the first; that a digest of another size is another key, and an empty map has nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "gateway/base/digest_map.h"
#include "gateway/base/digest_set.h"

#define KEYS 5000

struct entry {
	struct digest digest;
	int value;
};

/* A few begin alike, and so fall on one place whatever the capacity is. */
static struct digest key(int i)
{
	struct digest digest = { .size = 1 + i % 3 };

	memset(digest.hash, i % 7 ? i % 251 : 0, 8);
	memcpy(digest.hash + 8, &i, sizeof(i));
	return digest;
}

static void what_is_put_is_found(void **state)
{
	struct digest_map map = { .entry_size = sizeof(struct entry) };
	struct digest other = key(1);

	assert_null(digest_map_find(&map, &other));
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < KEYS; i++) {
			struct digest digest = key(i);
			bool added = false;
			struct entry *entry = digest_map_add(&map, &digest, &added);

			assert_non_null(entry);
			assert_int_equal(added, round == 0);
			assert_int_equal(entry->value, round == 0 ? 0 : i + 1);
			entry->value = i + 1;
		}
		assert_int_equal(map.count, KEYS);
	}
	for (int i = 0; i < KEYS; i++) {
		struct digest digest = key(i);
		struct entry *entry = digest_map_find(&map, &digest);

		assert_non_null(entry);
		assert_int_equal(entry->value, i + 1);
		digest.size += 3;
		assert_null(digest_map_find(&map, &digest));
	}
	digest_map_fini(&map);
	assert_null(digest_map_find(&map, &other));
	assert_int_equal(map.entry_size, sizeof(struct entry));
}

static void a_set_has_what_was_added(void **state)
{
	struct digest_set set = { 0 };
	struct digest first = key(1), second = key(2);

	assert_false(digest_set_has(&set, &first));
	assert_int_equal(digest_set_add(&set, &first), 1);
	assert_int_equal(digest_set_add(&set, &first), 0);
	assert_true(digest_set_has(&set, &first));
	assert_false(digest_set_has(&set, &second));
	assert_int_equal(digest_set_count(&set), 1);
	digest_set_fini(&set);
	assert_int_equal(digest_set_count(&set), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_is_found),
		cmocka_unit_test(a_set_has_what_was_added),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
