/*
 * Shows that a row cache gives back what was put last, and nothing that was forgotten; that of two rows which meet in a place the one
 * that is asked for stays; and that it never grows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gateway/store/row_cache.h"

#define ROWS 1024u

/* Names with one `place` meet in a cache of ROWS. */
static void make_hash(uint8_t hash[static DIGEST_HASH_BYTES], uint64_t place, uint64_t number)
{
	memset(hash, 0, DIGEST_HASH_BYTES);
	memcpy(hash, &number, sizeof(number));
	memcpy(hash + DIGEST_HASH_BYTES / 2, &place, sizeof(place));
}

static void put(struct row_cache *cache, uint64_t place, uint64_t number, uint8_t value)
{
	uint8_t hash[DIGEST_HASH_BYTES], row[ROW_BLOB_BYTES];

	make_hash(hash, place, number);
	memset(row, value, sizeof(row));
	row_cache_prefetch(cache, hash);
	row_cache_put(cache, hash, row);
}

/* -1: not known. */
static int find(struct row_cache *cache, uint64_t place, uint64_t number)
{
	uint8_t hash[DIGEST_HASH_BYTES];
	const uint8_t *row;

	make_hash(hash, place, number);
	row = row_cache_find(cache, hash);
	if (!row)
		return -1;
	for (size_t i = 1; i < ROW_BLOB_BYTES; i++)
		assert_int_equal(row[i], row[0]);
	return row[0];
}

static void forget(struct row_cache *cache, uint64_t place, uint64_t number)
{
	uint8_t hash[DIGEST_HASH_BYTES];

	make_hash(hash, place, number);
	row_cache_forget(cache, hash);
}

static void what_was_put_last_is_found(void **state)
{
	struct row_cache cache;

	assert_int_equal(row_cache_init(&cache, ROWS), 0);
	assert_int_equal(find(&cache, 0, 0), -1);        /* an empty line is nobody's, not that of a name of zeros */
	for (uint64_t i = 0; i < ROWS; i++)
		put(&cache, i, i, (uint8_t)i);
	for (uint64_t i = 0; i < ROWS; i++)
		assert_int_equal(find(&cache, i, i), (uint8_t)i);
	for (uint64_t i = 0; i < ROWS; i++)
		put(&cache, i, i, (uint8_t)(i + 1));
	for (uint64_t i = 0; i < ROWS; i++)
		assert_int_equal(find(&cache, i, i), (uint8_t)(i + 1));
	assert_int_equal(find(&cache, 5, 6), -1);
	row_cache_fini(&cache);
}

static void what_was_forgotten_is_not(void **state)
{
	struct row_cache cache;

	assert_int_equal(row_cache_init(&cache, ROWS), 0);
	for (uint64_t i = 0; i < ROWS; i++)
		put(&cache, i, i, 1);
	forget(&cache, 7, 7);
	forget(&cache, 8, 9);
	assert_int_equal(find(&cache, 7, 7), -1);
	assert_int_equal(find(&cache, 8, 8), 1);
	row_cache_forget_all(&cache);
	for (uint64_t i = 0; i < ROWS; i++)
		assert_int_equal(find(&cache, i, i), -1);
	put(&cache, 3, 3, 3);
	assert_int_equal(find(&cache, 3, 3), 3);
	row_cache_fini(&cache);
}

static void a_row_that_is_asked_for_stays(void **state)
{
	struct row_cache cache;

	assert_int_equal(row_cache_init(&cache, ROWS), 0);
	for (uint64_t number = 1; number <= 100; number++) {
		put(&cache, 4, 0, 7);
		assert_int_equal(find(&cache, 4, 0), 7);
		put(&cache, 4, number, 1);
		assert_int_equal(find(&cache, 4, number), 1);
		put(&cache, 5, 1000 + number, 2);
		assert_int_equal(find(&cache, 5, 1000 + number), 2);
	}
	put(&cache, 8, 0, 7);
	for (uint64_t number = 1; number <= 100; number++) {
		assert_int_equal(find(&cache, 8, 0), 7);
		put(&cache, 8, number, 1);       /* nobody asks for these */
	}
	assert_int_equal(find(&cache, 8, 0), 7);
	/* Two that are asked for give way to a third in the end. */
	put(&cache, 10, 1, 1);
	put(&cache, 10, 2, 2);
	assert_int_equal(find(&cache, 10, 1), 1);
	assert_int_equal(find(&cache, 10, 2), 2);
	put(&cache, 10, 3, 3);
	assert_int_equal(find(&cache, 10, 3), 3);
	assert_int_equal((find(&cache, 10, 1) == 1) + (find(&cache, 10, 2) == 2), 1);
	row_cache_fini(&cache);
}

static void a_forgotten_place_is_filled_first(void **state)
{
	struct row_cache cache;

	assert_int_equal(row_cache_init(&cache, ROWS), 0);
	put(&cache, 6, 1, 1);
	put(&cache, 6, 2, 2);
	forget(&cache, 6, 1);
	put(&cache, 6, 3, 3);
	assert_int_equal(find(&cache, 6, 2), 2);
	assert_int_equal(find(&cache, 6, 3), 3);
	row_cache_fini(&cache);
}

static void one_without_memory_keeps_nothing(void **state)
{
	struct row_cache cache = { 0 };

	put(&cache, 1, 1, 1);
	assert_int_equal(find(&cache, 1, 1), -1);
	forget(&cache, 1, 1);
	row_cache_forget_all(&cache);
	row_cache_fini(&cache);
}

static void it_is_bounded(void **state)
{
	struct row_cache cache;

	assert_int_equal(row_cache_init(&cache, UINT64_MAX), 0);
	assert_int_equal(cache.mask + 1, ROW_CACHE_ROWS_MAX);
	row_cache_fini(&cache);
	assert_int_equal(row_cache_init(&cache, 0), 0);
	put(&cache, 12345, 1, 1);
	assert_int_equal(find(&cache, 12345, 1), 1);
	row_cache_fini(&cache);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_put_last_is_found),
		cmocka_unit_test(what_was_forgotten_is_not),
		cmocka_unit_test(a_row_that_is_asked_for_stays),
		cmocka_unit_test(a_forgotten_place_is_filled_first),
		cmocka_unit_test(one_without_memory_keeps_nothing),
		cmocka_unit_test(it_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
