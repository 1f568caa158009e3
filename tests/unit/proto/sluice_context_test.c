/*
 * Shows that the messages of Context/Give tell which of their parts came, also an empty one, and that its lists write known
 * bytes, read them back, and refuse what is cut short, does not ascend, or leaves the range.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/sluice_context.h"

static void parts(void **state)
{
	const uint8_t expected[] = { 0x1a, 0 };
	struct context_response in = { .entries = span_text("") }, out;
	struct buffer bytes = buffer_heap(4096);

	message_encode(&context_response_type, &bytes, &in);
	assert_int_equal(bytes.size, sizeof(expected));
	assert_memory_equal(bytes.data, expected, sizeof(expected));
	assert_true(message_decode(&context_response_type, buffer_span(&bytes), &out));
	assert_non_null(out.entries.data);
	assert_null(out.root.data);
	assert_null(out.unfit.data);
	buffer_fini(&bytes);
}

static void numbers(void **state)
{
	static const uint64_t wanted[] = { 0, 1, 130, ENTRY_NUMBER_MAX };
	const uint8_t expected[] = { 1, 1, 0x81, 0x01, 0xfd, 0xfe, 0xff, 0xff, 0x0f };
	struct buffer bytes = buffer_heap(4096);
	uint64_t previous = ENTRY_NUMBER_BEFORE;
	struct span rest;

	for (size_t i = 0; i < 4; i++)
		number_list_put(&bytes, &previous, wanted[i]);
	assert_int_equal(bytes.size, sizeof(expected));
	assert_memory_equal(bytes.data, expected, sizeof(expected));
	rest = buffer_span(&bytes);
	previous = ENTRY_NUMBER_BEFORE;
	for (size_t i = 0; i < 4; i++) {
		assert_true(number_list_next(&rest, &previous));
		assert_int_equal(previous, wanted[i]);
	}
	assert_false(number_list_next(&rest, &previous));
	assert_int_equal(rest.size, 0);
	buffer_fini(&bytes);
}

static void numbers_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t size, good;
	} cases[] = {
		{ "\x01\x00", 2, 1 },                            /* twice the same */
		{ "\x00", 1, 0 },
		{ "\x01\x80", 2, 1 },                            /* cut short */
		{ "\x81\x80\x80\x80\x10", 5, 0 },                /* 2^32 */
		{ "\x80\x80\x80\x80\x10\x01", 6, 1 },            /* beyond the last one */
		{ "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct span rest = span_make(cases[i].bytes, cases[i].size);
		uint64_t previous = ENTRY_NUMBER_BEFORE;
		size_t good = 0;

		while (number_list_next(&rest, &previous))
			good++;
		assert_int_equal(good, cases[i].good);
		assert_true(rest.size > 0);
	}
}

static void times(void **state)
{
	static const struct {
		int64_t times[5];
		uint64_t unit_ns;
		uint8_t begins[8];       /* the list's bytes */
	} cases[] = {
		{ { 1, -1, INT64_MAX, INT64_MIN, 0 }, 1, { 1, 2, 3 } },
		{ { -3000, 0, 5000, 1000000, 2000 }, 1000, { 0xe8, 7, 5, 6, 10 } },
		{ { 4000000, 7000000000, -1000000, 0, 0 }, 1000000, { 0xc0, 0x84, 0x3d, 8 } },
		{ { 2000000000, 1000000000, 0, 9000000000, -1000000000 }, 1000000000, { 0x80, 0x94, 0xeb, 0xdc, 3, 4, 1, 1 } },
		{ { 0, 0, 0, 0, 0 }, 1000000000, { 0x80, 0x94, 0xeb, 0xdc, 3, 0, 0, 0 } },
	};
	struct buffer bytes = buffer_heap(4096);
	struct time_list list;
	struct span rest;
	int64_t time;

	for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
		uint64_t unit_ns = TIME_UNIT_MOST_NS;
		size_t begins = c == 0 ? 3 : c == 1 ? 5 : c == 2 ? 4 : 8;

		for (size_t i = 0; i < 5; i++)
			unit_ns = time_list_unit(unit_ns, cases[c].times[i]);
		assert_int_equal(unit_ns, cases[c].unit_ns);
		buffer_clear(&bytes);
		time_list_begin(&bytes, &list, unit_ns);
		for (size_t i = 0; i < 5; i++)
			time_list_put(&bytes, &list, cases[c].times[i]);
		assert_memory_equal(bytes.data, cases[c].begins, begins);
		rest = buffer_span(&bytes);
		list = (struct time_list){ 0 };
		for (size_t i = 0; i < 5; i++) {
			assert_true(time_list_next(&rest, &list, &time));
			assert_true(time == cases[c].times[i]);
		}
		assert_false(time_list_next(&rest, &list, &time));
		assert_int_equal(rest.size, 0);
	}
	buffer_fini(&bytes);
}

static void malformed_times(void **state)
{
	static const struct {
		const char *bytes;
		size_t size, good;
	} cases[] = { { "\x80", 1, 0 }, { "\0\2", 2, 0 }, { "\1\2\x80", 3, 1 } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct span rest = span_make(cases[i].bytes, cases[i].size);
		struct time_list list = { 0 };
		size_t good = 0;
		int64_t time;

		while (time_list_next(&rest, &list, &time))
			good++;
		assert_int_equal(good, cases[i].good);
		assert_true(rest.size > 0);
	}
}

static void entries(void **state)
{
	struct buffer bytes = buffer_heap(4096);
	struct span rest, stat;

	entry_list_put(&bytes, span_text("one"));
	entry_list_put(&bytes, span_text(""));
	rest = buffer_span(&bytes);
	assert_true(entry_list_next(&rest, &stat));
	assert_true(span_is(stat, "one"));
	assert_true(entry_list_next(&rest, &stat));
	assert_int_equal(stat.size, 0);
	assert_false(entry_list_next(&rest, &stat));
	assert_int_equal(rest.size, 0);
	rest = span_make(bytes.data, 3);
	assert_false(entry_list_next(&rest, &stat));
	assert_int_equal(rest.size, 3);
	buffer_fini(&bytes);
}

static void names(void **state)
{
	struct named_entry in[] = {
		{ .number = 7, .digest = { .hash = { 1 }, .size = 5 }, .file_size = 5 },
		{ .number = 2, .digest = { .hash = { 2 }, .size = 90 }, .recipe = true, .file_size = 100000 },
		{ .number = 3, .digest = { .hash = { 3 }, .size = 40 }, .recipe = true, .file_size = 0 },
	}, out;
	struct buffer bytes = buffer_heap(4096);
	uint64_t previous = 0;
	struct span rest;

	for (size_t i = 0; i < 3; i++)
		name_list_put(&bytes, &previous, &in[i]);
	rest = buffer_span(&bytes);
	previous = 0;
	for (size_t i = 0; i < 3; i++) {
		assert_true(name_list_next(&rest, &previous, &out));
		assert_int_equal(out.number, in[i].number);
		assert_true(digest_equal(&out.digest, &in[i].digest));
		assert_int_equal(out.recipe, in[i].recipe);
		assert_int_equal(out.file_size, in[i].file_size);
	}
	assert_int_equal(rest.size, 0);
	for (size_t size = 1; size < 35; size++) {               /* the first entry, cut short */
		rest = span_make(bytes.data, size);
		previous = 0;
		assert_false(name_list_next(&rest, &previous, &out));
		assert_int_equal(rest.size, size);
	}
	rest = span_make(bytes.data, bytes.size);
	previous = ENTRY_NUMBER_MAX;
	assert_false(name_list_next(&rest, &previous, &out));
	buffer_fini(&bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts), cmocka_unit_test(numbers), cmocka_unit_test(numbers_refused), cmocka_unit_test(times),
		cmocka_unit_test(malformed_times),
		cmocka_unit_test(entries), cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
