/*
 * Shows that what was learned is found, also while a table grows, in memory and into a mapped file; of a path whose time is set, what
 * was seen last; and that a table at its bound forgets what no build saw lately, and nothing else. Both ring engines.
 */
#include "tests/unit/broker/stat_rig.h"

#include <string.h>

#include "proto/recipe.h"

static void a_key_tells_path_size_and_time_apart(void **state)
{
	struct stat_entry_key key = stat_entry_key(span_text("a/b"), 1, 2);
	struct stat_entry_key same = stat_entry_key(span_text("a/b"), 1, 2);
	struct stat_entry_key others[] = {
		stat_entry_key(span_text("a/c"), 1, 2), stat_entry_key(span_text("a/b"), 2, 2),
		stat_entry_key(span_text("a/b"), 1, 3), stat_entry_key(span_text("a/b"), 1, -2),
		stat_entry_key(span_text("a/b\0"), 2, 1), stat_entry_key(span_text(""), 1, 2),
	};

	assert_memory_equal(&key, &same, sizeof(key));
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_memory_not_equal(&key, &others[i], sizeof(key));
}

static void what_is_learned_is_found(void **state)
{
	struct stat_table *table = rig_get(1);
	struct stat_entry_key key = rig_entry_key(5);
	struct content_name name = rig_name_of(8), found, bad = rig_name_of(3);

	assert_false(rig_knows(table, 5));
	assert_false(stat_table_touch(table, &key));
	rig_learn(table, 0, 5000);
	assert_int_equal(stat_table_count(table), 5000);
	rig_assert_knows(table, 0, 5000);
	assert_false(rig_knows(table, 5000));
	/* A later content takes the place. */
	stat_table_learn(table, &key, &name);
	assert_true(stat_table_find(table, &key, &found));
	assert_true(digest_equal(&found.digest, &name.digest));
	assert_true(stat_table_touch(table, &key));
	assert_int_equal(stat_table_count(table), 5000);
	stat_table_forget(table, &key);
	stat_table_forget(table, &key);
	assert_false(stat_table_find(table, &key, &found));
	assert_int_equal(stat_table_count(table), 4999);
	stat_table_learn(table, &key, &name);
	assert_true(stat_table_find(table, &key, &found));
	assert_int_equal(stat_table_count(table), 5000);
	/* What no ingest names is not learned. */
	key = rig_entry_key(9999);
	bad.digest.size = RECIPE_BYTES_MAX + 1;
	stat_table_learn(table, &key, &bad);
	bad.digest.size = 0;
	stat_table_learn(table, &key, &bad);
	bad = rig_name_of(4);
	bad.digest.size++;
	stat_table_learn(table, &key, &bad);
	assert_false(stat_table_find(table, &key, &found));
	stat_table_unref(table);
}

/* Where the time is a whole second there is one entry a path: the last that was learned, and none once another was seen. */
static void a_time_that_is_set_has_one_entry(void **state)
{
	const struct span path = span_text("dir/version");
	const int64_t set_ns = 1700000000000000000;
	struct stat_entry_key first = stat_entry_key(path, 3, set_ns), second = stat_entry_key(path, 4, set_ns),
	                      third = stat_entry_key(path, 3, -set_ns), clock = stat_entry_key(path, 3, set_ns + 1);
	struct content_name three = rig_name_of(3), four = rig_name_of(4), found;
	struct stat_table *table = rig_get(1);

	stat_table_learn(table, &clock, &three);
	stat_table_learn(table, &first, &three);
	assert_true(stat_table_find(table, &first, &found));
	stat_table_learn(table, &second, &four);
	assert_int_equal(stat_table_count(table), 2);
	stat_table_forget(table, &first);
	assert_true(stat_table_find(table, &second, &found));
	assert_int_equal(found.size, 4);
	assert_false(stat_table_touch(table, &third));
	assert_false(stat_table_touch(table, &second));
	assert_int_equal(stat_table_count(table), 1);
	assert_true(stat_table_touch(table, &clock));
	stat_table_learn(table, &third, &three);
	stat_table_unref(table);
	rig_close_memory();
	rig_open_memory();
	table = rig_get(1);
	assert_int_equal(stat_table_count(table), 2);
	assert_true(stat_table_touch(table, &third));
	assert_false(stat_table_find(table, &first, &found));
	stat_table_unref(table);
}

/* Learns and forgets at random beside a plain array. */
static void a_table_is_what_a_plain_model_is(void **state)
{
	enum { KEYS = 3000, STEPS = 60000 };
	static bool model[KEYS];
	struct stat_table *table = rig_get(1);
	uint64_t random = 1;
	size_t count = 0;

	memset(model, 0, sizeof(model));
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned which;
		struct stat_entry_key key;
		struct content_name name;

		random = random * 6364136223846793005ull + 1442695040888963407ull;
		which = (unsigned)(random >> 33) % (1 + step % KEYS);
		key = rig_entry_key(which);
		name = rig_name_of(which);
		assert_int_equal(rig_knows(table, which), model[which]);
		if (random >> 62) {
			stat_table_learn(table, &key, &name);
			model[which] = true;
		} else {
			stat_table_forget(table, &key);
			model[which] = false;
		}
	}
	for (unsigned i = 0; i < KEYS; i++) {
		assert_int_equal(rig_knows(table, i), model[i]);
		count += model[i];
	}
	assert_int_equal(stat_table_count(table), count);
	stat_table_unref(table);
}

static void a_large_table_is_a_mapped_file(void **state)
{
	struct stat_table *table = rig_get(1);
	unsigned count = 2 * STAT_TABLE_MAPPED_ENTRIES;

	rig_learn(table, 0, 60000);
	assert_int_equal(rig_status().mapped_bytes, 0);
	rig_learn(table, 60000, count);
	assert_true(rig_status().mapped_bytes >= count * 64ull);
	assert_true(rig_status().memory_bytes < 1 << 20);
	assert_int_equal(stat_table_count(table), count);
	for (unsigned i = 0; i < count; i++)
		assert_true(rig_knows(table, i));
	stat_table_unref(table);
	rig_close_memory();
	rig_open_memory();
	table = rig_get(1);
	assert_true(rig_status().mapped_bytes >= count * 64ull);
	assert_int_equal(stat_table_count(table), count);
	stat_table_unref(table);
}

/* As far as there is room. */
static void try_to_learn(struct stat_table *table, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++)
		rig_learn_one(table, i);
}

static void a_full_table_forgets_what_was_not_seen(void **state)
{
	struct stat_table *table = rig_get(1);
	unsigned kept = 1000;

	rig_learn(table, 0, STAT_TABLE_ENTRIES_MAX);
	while (stat_table_count(table) < STAT_TABLE_ENTRIES_MAX) {
		ring_run(rig_ring, 1000000);
		rig_learn(table, 0, STAT_TABLE_ENTRIES_MAX);
	}
	try_to_learn(table, STAT_TABLE_ENTRIES_MAX, STAT_TABLE_ENTRIES_MAX + 100);
	assert_int_equal(stat_table_count(table), STAT_TABLE_ENTRIES_MAX);
	assert_false(rig_knows(table, STAT_TABLE_ENTRIES_MAX));
	/* Builds go by; only the first entries are seen. */
	for (unsigned build = 0; build <= STAT_TABLE_BUILDS_KEPT + 1; build++) {
		stat_table_unref(rig_get(1));
		rig_assert_knows(table, 0, kept);
	}
	for (unsigned i = 0; i < 100 && stat_table_count(table) > 2 * kept; i++)
		rig_learn(table, STAT_TABLE_ENTRIES_MAX, STAT_TABLE_ENTRIES_MAX + 1000);
	for (unsigned i = 0; i < 100; i++)
		rig_learn(table, STAT_TABLE_ENTRIES_MAX, STAT_TABLE_ENTRIES_MAX + 1000);
	rig_assert_knows(table, 0, kept);
	rig_assert_knows(table, STAT_TABLE_ENTRIES_MAX, STAT_TABLE_ENTRIES_MAX + 1000);
	assert_false(rig_knows(table, kept));
	assert_int_equal(stat_table_count(table), kept + 1000);
	stat_table_unref(table);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(a_key_tells_path_size_and_time_apart),
		RIG_TEST(what_is_learned_is_found),
		RIG_TEST(a_time_that_is_set_has_one_entry),
		RIG_TEST(a_table_is_what_a_plain_model_is),
		RIG_TEST(a_large_table_is_a_mapped_file),
		RIG_TEST(a_full_table_forgets_what_was_not_seen),
	};

	return rig_run(argc, argv, tests);
}
