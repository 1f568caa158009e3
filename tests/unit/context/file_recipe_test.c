/*
 * Shows that a list of chunks becomes one recipe for as long as it fits, and parts beyond; that reading them gives the
 * chunks again; and that lookup finds each blob of a table, parts included, and nothing else.
 */
#include "chunker/sha256.h"
#include "gateway/context/file_recipe.h"
#include "gateway/context/lookup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <cmocka.h>

/* A table with one file of `count` chunks of 70,000 bytes, the last shorter. */
static void make(struct table *table, uint32_t count)
{
	uint32_t row, directory;
	struct table_recipe recipe = { .count = count, .profile = 1, .file_size = (uint64_t)count * 70000 - 5 };

	*table = table_make(NULL);
	assert_int_equal(table_add_row(table, span_text(""), &row), 0);
	table->rows[row].mode = S_IFDIR;
	assert_int_equal(table_add_directory(table, 0, row, &directory), 0);
	assert_int_equal(table_add_row(table, span_text("f"), &row), 0);
	table->rows[row].mode = S_IFREG;
	table->rows[row].size = recipe.file_size;
	table->rows[row].flags = TABLE_ROW_RECIPE;
	for (uint32_t i = 0; i < count; i++) {
		struct table_chunk chunk = { .offset = (uint64_t)i * 70000 };

		sha256_once((const uint8_t *)&i, sizeof(i), chunk.hash);
		assert_int_equal(table_add_chunk(table, &chunk), 0);
	}
	assert_int_equal(table_add_recipe(table, &recipe, &table->rows[row].link), 0);
}

static void check_chunks(const struct table *table, struct span blob, uint32_t *next)
{
	const struct table_recipe *recipe = &table->recipes[0];
	struct recipe_reader reader;
	struct digest entry;

	assert_true(recipe_open(&reader, blob));
	assert_int_equal(reader.head.level, 0);
	while (recipe_next(&reader, &entry)) {
		struct digest chunk = table_chunk_digest(table, recipe, (*next)++);

		assert_true(digest_equal(&chunk, &entry));
	}
	assert_false(reader.failed);
}

static void check(uint32_t count, uint32_t parts)
{
	struct buffer blob = buffer_heap(2 * RECIPE_BYTES_MAX), part = buffer_heap(RECIPE_BYTES_MAX);
	struct recipe_reader reader;
	uint32_t next = 0, at = 0;
	struct digest entry;
	struct table table;

	make(&table, count);
	assert_int_equal(file_recipe_parts(&table, &table.recipes[0]), parts);
	assert_int_equal(file_recipe_put(&table, &table.recipes[0], &blob), 0);
	assert_true(blob.size <= RECIPE_BYTES_MAX);
	if (parts == 0) {
		check_chunks(&table, buffer_span(&blob), &next);
	} else {
		assert_true(recipe_open(&reader, buffer_span(&blob)));
		assert_int_equal(reader.head.level, 1);
		assert_int_equal(reader.head.file_size, table.recipes[0].file_size);
		while (recipe_next(&reader, &entry)) {
			uint8_t hash[SHA256_BYTES];

			buffer_clear(&part);
			file_recipe_put_part(&table, &table.recipes[0], at++, &part);
			sha256_once(part.data, part.size, hash);
			assert_memory_equal(entry.hash, hash, sizeof(hash));
			assert_int_equal(entry.size, part.size);
			check_chunks(&table, buffer_span(&part), &next);
		}
		assert_false(reader.failed);
		assert_int_equal(at, parts);
	}
	assert_int_equal(next, count);
	buffer_fini(&blob);
	buffer_fini(&part);
	table_fini(&table);
}

/* 35 bytes a chunk and 8 before them: 29,959 chunks fit. */
static void test_sizes(void **state)
{
	check(2, 0);
	check(16384, 0);
	check(29958, 0);
	check(29959, 0);
	check(29960, 2);
	check(32768, 2);
	check(32769, 3);
}

static void assert_found(const struct lookup *lookup, const struct digest *digest, enum lookup_kind kind,
			 uint32_t index)
{
	struct lookup_place place;

	assert_true(lookup_find(lookup, digest, &place));
	assert_int_equal(place.kind, kind);
	assert_int_equal(place.index, index);
}

static void test_lookup(void **state)
{
	struct buffer blob = buffer_heap(2 * RECIPE_BYTES_MAX);
	struct lookup_place place;
	struct lookup *lookup;
	struct digest digest;
	struct table table;

	make(&table, 40000);
	assert_int_equal(file_recipe_put(&table, &table.recipes[0], &blob), 0);
	sha256_once(blob.data, blob.size, table.rows[1].hash);
	table.recipes[0].size = blob.size;
	assert_int_equal(lookup_create(&lookup, &table, LOOKUP_CONTENTS), 0);
	digest = table_row_digest(&table, &table.rows[1]);
	assert_found(lookup, &digest, LOOKUP_RECIPE, 0);
	for (uint32_t part = 0; part < 3; part++) {
		assert_int_equal(file_recipe_part_digest(&table, &table.recipes[0], part, &blob, &digest), 0);
		assert_found(lookup, &digest, LOOKUP_PART, part);
	}
	for (uint32_t i = 0; i < 40000; i += 999) {
		digest = table_chunk_digest(&table, &table.recipes[0], i);
		assert_found(lookup, &digest, LOOKUP_CHUNK, i);
		digest.size++;
		assert_false(lookup_find(lookup, &digest, &place));
	}
	lookup_destroy(lookup);
	buffer_fini(&blob);
	table_fini(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_lookup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
