/* Shows that recipes come back as written, what is refused and why it must be, and the vector of docs/tree.md. */
#include "proto/recipe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static struct digest digest_of(char fill, uint64_t size)
{
	struct digest digest = { .size = size };

	memset(digest.hash, fill, sizeof(digest.hash));
	return digest;
}

static struct buffer make(uint32_t level, uint64_t file_size, const uint64_t *sizes, size_t count)
{
	struct buffer out = buffer_heap(RECIPE_BYTES_MAX * 2);

	recipe_begin(&out, &(struct recipe_head){ .profile = 1, .level = level, .file_size = file_size });
	for (size_t i = 0; i < count; i++) {
		struct digest entry = digest_of((char)i, sizes[i]);

		recipe_add(&out, &entry);
	}
	assert_false(out.failed);
	return out;
}

/* Reads to the end from a copy that is exactly as long; the count of entries, or -1 when refused. */
static int count_entries(struct span blob)
{
	uint8_t *exact = malloc(blob.size ? blob.size : 1);
	struct recipe_reader reader;
	struct digest entry;
	int count = 0;

	memcpy(exact, blob.data, blob.size);
	recipe_open(&reader, span_make(exact, blob.size));
	while (recipe_next(&reader, &entry))
		count++;
	free(exact);
	return reader.failed ? -1 : count;
}

static void test_round_trip(void **state)
{
	static const uint64_t sizes[] = { 1, 127, 128, 262144, 70000 };
	struct buffer blob = make(0, 332400, sizes, 5);
	struct recipe_reader reader;
	struct digest entry;

	assert_true(recipe_open(&reader, buffer_span(&blob)));
	assert_int_equal(reader.head.profile, 1);
	assert_int_equal(reader.head.level, 0);
	assert_int_equal(reader.head.file_size, 332400);
	for (size_t i = 0; i < 5; i++) {
		struct digest expected = digest_of((char)i, sizes[i]);

		assert_true(recipe_next(&reader, &entry));
		assert_true(digest_equal(&entry, &expected));
	}
	assert_false(recipe_next(&reader, &entry));
	assert_false(reader.failed);
	assert_false(recipe_next(&reader, &entry));
	buffer_fini(&blob);
}

static void test_vector(void **state)
{
	static const uint8_t expected[] = {
	    1, 1, 0, 0xc0, 0x9a, 0x0c, 0, 0, 0, 0, 0, 0, 0,    0,    0,	   0, 0, 0, 0, 0, 0, 0,	   0,	 0,   0, 0,
	    0, 0, 0, 0,	   0,	 0,    0, 0, 0, 0, 0, 0, 0xa0, 0x8d, 0x06, 1, 1, 1, 1, 1, 1, 1,	   1,	 1,   1, 1,
	    1, 1, 1, 1,	   1,	 1,    1, 1, 1, 1, 1, 1, 1,    1,    1,	   1, 1, 1, 1, 1, 1, 0xa0, 0x8d, 0x06};
	static const uint64_t sizes[] = { 100000, 100000 };
	struct buffer blob = make(0, 200000, sizes, 2);

	assert_int_equal(blob.size, sizeof(expected));
	assert_memory_equal(blob.data, expected, sizeof(expected));
	buffer_fini(&blob);
}

static void test_refused(void **state)
{
	static const uint64_t sizes[] = { 1000, 2000 };
	struct buffer blob = make(0, 3000, sizes, 2);

	assert_int_equal(count_entries(buffer_span(&blob)), 2);
	for (size_t size = 0; size < blob.size; size++)
		assert_int_equal(count_entries(span_make(blob.data, size)), -1);
	blob.data[0] = 2;
	assert_int_equal(count_entries(buffer_span(&blob)), -1);        /* version */
	blob.data[0] = 1;
	blob.data[2] = 2;
	assert_int_equal(count_entries(buffer_span(&blob)), -1);        /* level */
	blob.data[2] = 0;
	buffer_put(&blob, "", 1);
	assert_int_equal(count_entries(buffer_span(&blob)), -1);        /* a byte too many */
	buffer_fini(&blob);
	blob = make(0, 3001, sizes, 2);
	assert_int_equal(count_entries(buffer_span(&blob)), -1);        /* sizes do not sum up */
	buffer_fini(&blob);
	blob = make(0, 2999, sizes, 2);
	assert_int_equal(count_entries(buffer_span(&blob)), -1);
	buffer_fini(&blob);
	blob = make(0, 3000, sizes, 0);
	assert_int_equal(count_entries(buffer_span(&blob)), -1);        /* no entries */
	buffer_fini(&blob);
}

static void test_varints_are_minimal(void **state)
{
	uint8_t blob[3 + 2 + 32 + 2] = { 1, 1, 0, 0x85, 0x00 };

	blob[37] = 0x85;
	blob[38] = 0x00;
	assert_int_equal(count_entries(span_make(blob, sizeof(blob))), -1);
	blob[3] = 5;
	memmove(blob + 4, blob + 5, 34);
	assert_int_equal(count_entries(span_make(blob, sizeof(blob) - 1)), -1);
	blob[36] = 5;
	assert_int_equal(count_entries(span_make(blob, sizeof(blob) - 2)), 1);
	blob[36] = 0;
	assert_int_equal(count_entries(span_make(blob, sizeof(blob) - 2)), -1);         /* an empty chunk */
}

static void test_overflow(void **state)
{
	static const uint64_t sizes[] = { UINT64_MAX, 3001 };
	struct buffer blob = make(0, 3000, sizes, 2);

	assert_int_equal(count_entries(buffer_span(&blob)), -1);
	buffer_fini(&blob);
}

static void test_level_one(void **state)
{
	static const uint64_t sizes[] = { RECIPE_BYTES_MAX, 50 }, too_large[] = { RECIPE_BYTES_MAX + 1 };
	struct buffer blob = make(1, UINT64_C(1) << 40, sizes, 2);

	assert_int_equal(count_entries(buffer_span(&blob)), 2);
	buffer_fini(&blob);
	blob = make(1, UINT64_C(1) << 40, too_large, 1);
	assert_int_equal(count_entries(buffer_span(&blob)), -1);
	buffer_fini(&blob);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_vector),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_varints_are_minimal),
		cmocka_unit_test(test_overflow),
		cmocka_unit_test(test_level_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
