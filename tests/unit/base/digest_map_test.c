/*
 * Shows that a map gives back what was put under a digest, through growing and among keys that begin alike; that a second
 * one does not replace the first; that a digest of another size is another key, and an empty map has nothing; and that no choice of
 * names makes it slow.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <time.h>

#include "gateway/base/digest_map.h"
#include "gateway/base/digest_set.h"

#define KEYS    5000
#define HOSTILE 131072                   /* in a table by their first bits, each would be looked for among all before it: 12 s */
#define SECONDS 3                        /* a twentieth of one is enough */

struct entry {
	struct digest digest;
	int value;
};

/* A few begin alike. */
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

/* They differ in `word` of the hash, or, when that is none of it, in size. */
static void add_hostile(size_t word)
{
	struct digest_set set = { 0 };
	clock_t began = clock();

	for (uint64_t i = 1; i <= HOSTILE; i++) {
		struct digest digest = { .size = word == 4 ? i : 1 };

		if (word < 4)
			memcpy(digest.hash + 8 * word, &i, sizeof(i));
		assert_int_equal(digest_set_add(&set, &digest), 1);
	}
	assert_true(clock() - began < SECONDS * CLOCKS_PER_SEC);
	digest_set_fini(&set);
}

/* A peer names what it likes, whether there is such a blob or not. */
static void hostile_names_cost_no_more_than_others(void **state)
{
	for (size_t word = 1; word <= 4; word++)
		add_hostile(word);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_is_found),
		cmocka_unit_test(a_set_has_what_was_added),
		cmocka_unit_test(hostile_names_cost_no_more_than_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
