/*
 * Shows that a file's profile follows from its first bytes and from nothing else: each mark at its place, one byte off,
 * and cut short; and that the profiles' numbers, which travel in recipes, lead to their sizes and to nothing beyond.
 */
#include "chunker/profile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct {
	size_t offset;
	const char *bytes;
	size_t size;
} marks[] = {
	{ 0, "SQLite format 3\0", 16 },
	{ 0, "PK\x03\x04", 4 },
	{ 257, "ustar", 5 },
	{ 0, "\x51\x46\x49\xfb", 4 },
};

#define MARKS (sizeof(marks) / sizeof(marks[0]))

/* In an exact allocation, so that a sanitizer sees a look past the head. */
static enum profile profile_of(const uint8_t *head, size_t size)
{
	uint8_t *exact = malloc(size ? size : 1);
	enum profile profile;

	memcpy(exact, head, size);
	profile = profile_for(exact, size);
	free(exact);
	return profile;
}

static void test_marks(void **state)
{
	for (size_t i = 0; i < MARKS; i++) {
		uint8_t head[PROFILE_HEAD_BYTES + 1] = { 0 };
		size_t end = marks[i].offset + marks[i].size;

		memcpy(head + marks[i].offset, marks[i].bytes, marks[i].size);
		assert_int_equal(profile_of(head, sizeof(head)), PROFILE_FINE);
		assert_int_equal(profile_of(head, PROFILE_HEAD_BYTES), PROFILE_FINE);
		assert_int_equal(profile_of(head, end), PROFILE_FINE);
		assert_int_equal(profile_of(head, end - 1), PROFILE_NATIVE);
		for (size_t at = marks[i].offset; at < end; at++) {
			head[at] ^= 1;
			assert_int_equal(profile_of(head, sizeof(head)), PROFILE_NATIVE);
			head[at] ^= 1;
		}
		memmove(head + marks[i].offset + 1, head + marks[i].offset, sizeof(head) - marks[i].offset - 1);
		head[marks[i].offset] = 0;
		assert_int_equal(profile_of(head, sizeof(head)), PROFILE_NATIVE);
	}
}

static void test_native(void **state)
{
	uint8_t head[PROFILE_HEAD_BYTES] = { 0 };

	assert_int_equal(profile_for(NULL, 0), PROFILE_NATIVE);
	assert_int_equal(profile_of(head, sizeof(head)), PROFILE_NATIVE);
	memcpy(head, "\x7f" "ELF", 4);
	assert_int_equal(profile_of(head, sizeof(head)), PROFILE_NATIVE);
	memcpy(head, "PK\5\6", 4); /* an empty zip */
	assert_int_equal(profile_of(head, sizeof(head)), PROFILE_NATIVE);
}

static void test_numbers(void **state)
{
	static const struct {
		uint32_t number;
		uint32_t min, average, max;
		const char *name;
	} profiles[] = {
		{ 1, 16 << 10, 64 << 10, 256 << 10, "native" },
		{ 2, 4 << 10, 16 << 10, 64 << 10, "fine" },
		{ 3, 128 << 10, 512 << 10, 2048 << 10, "reapi" },
	};

	for (size_t i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i++) {
		const struct fastcdc *fastcdc = profile_fastcdc(profiles[i].number);

		assert_non_null(fastcdc);
		assert_int_equal(fastcdc->min, profiles[i].min);
		assert_int_equal(fastcdc->average, profiles[i].average);
		assert_int_equal(fastcdc->max, profiles[i].max);
		assert_true(fastcdc->max <= PROFILE_CHUNK_MAX);
		assert_string_equal(profile_name(profiles[i].number), profiles[i].name);
	}
	assert_null(profile_fastcdc(0));
	assert_null(profile_fastcdc(4));
	assert_null(profile_fastcdc(UINT32_MAX));
	assert_null(profile_name(0));
	assert_null(profile_name(4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_native),
		cmocka_unit_test(test_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
