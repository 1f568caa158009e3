/*
 * Shows that escaping is injective and undone exactly, that nothing else is taken for an escaped form, and base64's one
 * spelling.
 */
#include "proto/escape.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void test_utf8(void **state)
{
	static const char *const valid[] = {
	    "", "a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf", "\xed\x9f\xbf"};
	static const char *const invalid[] = {"\x80",
					      "\xc0\x80",
					      "\xc1\xbf",
					      "\xe0\x9f\xbf",
					      "\xed\xa0\x80",
					      "\xf0\x8f\xbf\xbf",
					      "\xf4\x90\x80\x80",
					      "\xf5\x80\x80\x80",
					      "\xc3",
					      "\xe2\x82",
					      "\xff",
					      "a\xc3("};

	for (size_t i = 0; i < COUNT(valid); i++)
		assert_true(utf8_valid(span_text(valid[i])));
	for (size_t i = 0; i < COUNT(invalid); i++)
		assert_false(utf8_valid(span_text(invalid[i])));
}

/* What is no UTF-8 is seen to be none, byte by byte; what does not fit ends between two characters. */
static void test_put_utf8(void **state)
{
	static const struct {
		const char *text, *put;
		size_t room;
	} rows[] = {
		{ "", "", 0 }, { "a\xc3\xa9", "a\xc3\xa9", 3 }, { "a\xc3\xa9", "a", 2 }, { "a\xc3\xa9z", "a", 2 },
		{ "\xff", "?", 1 }, { "a\xc3", "a?", 9 }, { "\xe2\x82z", "??z", 9 }, { "\xed\xa0\x80", "???", 9 },
		{ "\xf0\x9f\x98\x80", "", 3 }, { "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80", 4 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		char storage[16];
		struct buffer out = buffer_over(storage, rows[i].room);

		utf8_put(&out, span_text(rows[i].text));
		assert_true(span_is(buffer_span(&out), rows[i].put));
		assert_true(utf8_valid(buffer_span(&out)));
	}
}

static void test_wire_forms(void **state)
{
	static const struct {
		const char *bytes, *wire;
	} rows[] = {
	    {"plain", "plain"},
	    {"100%", "100%"},
	    {"%41", "%41"},
	    {"%7F", "%7F"},
	    {"%ff", "%ff"},
	    {"%FF", "%25FF"},
	    {"%25FF", "%2525FF"},
	    {"%252541", "%252541"},
	    {"x%80y%", "x%2580y%25"},
	    {"\xff", "%FF"},
	    {"\xff%", "%FF%25"},
	    {"\xc3\xa9\xc3", "\xc3\xa9%C3"},
	    {"\xed\xa0\x80", "%ED%A0%80"},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct buffer wire = buffer_heap(1024), back = buffer_heap(1024);

		escape_put(&wire, span_text(rows[i].bytes));
		assert_true(span_is(buffer_span(&wire), rows[i].wire));
		assert_int_equal(escape_needed(span_text(rows[i].bytes)), strcmp(rows[i].bytes, rows[i].wire) != 0);
		assert_true(escape_take(&back, buffer_span(&wire)));
		assert_true(span_is(buffer_span(&back), rows[i].bytes));
		buffer_fini(&wire);
		buffer_fini(&back);
	}
}

static void test_not_wire_forms(void **state)
{
	static const char *const rows[] = {"%C3%A9", "%80%", "%80%2", "%80%GG", "%80%41",
					   "%80%2F", "\xff", "%FF%",  "%FF%ff"};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct buffer back = buffer_heap(1024);

		buffer_put_text(&back, "kept");
		if (escape_take(&back, span_text(rows[i])))
			fail_msg("taken: %s", rows[i]);
		assert_true(span_is(buffer_span(&back), "kept"));
		buffer_fini(&back);
	}
}

/* All strings of up to four letters of a small alphabet: no two share a wire form, each comes back. */
static void test_injective(void **state)
{
	static const char alphabet[] = { '%', '2', '5', 'F', '\xff', '\xc3', '\xa9' };
	enum { BASE = sizeof(alphabet), LENGTH = 5 };

	for (int length = 1; length <= LENGTH; length++) {
		int total = 1;

		for (int i = 0; i < length; i++)
			total *= BASE;
		for (int n = 0; n < total; n++) {
			char bytes[LENGTH];
			uint8_t wire_storage[3 * LENGTH], back_storage[3 * LENGTH];
			struct buffer wire = buffer_over(wire_storage, sizeof(wire_storage));
			struct buffer back = buffer_over(back_storage, sizeof(back_storage));

			for (int i = 0, rest = n; i < length; i++, rest /= BASE)
				bytes[i] = alphabet[rest % BASE];
			escape_put(&wire, span_make(bytes, (size_t)length));
			assert_false(wire.failed);
			assert_true(utf8_valid(buffer_span(&wire)));
			assert_true(escape_take(&back, buffer_span(&wire))); /* a left inverse: hence injective */
			assert_true(span_equal(buffer_span(&back), span_make(bytes, (size_t)length)));
		}
	}
}

static void test_base64(void **state)
{
	static const struct {
		const char *bytes, *text;
	} rows[] = {{"", ""},	     {"f", "Zg=="},	   {"fo", "Zm8="},
		    {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"\xff\xff\xfe", "///+"}};
	static const char *const bad[] = {
	    "Z", "Zg=", "Zg", "Zh==", "Zm9=", "Zg==Zg==", "Z===", "====", "Zm9v\n", "Zm9-", "=m9v"};
	struct buffer out = buffer_heap(1024);

	for (size_t i = 0; i < COUNT(rows); i++) {
		base64_put(&out, span_text(rows[i].bytes));
		assert_true(span_is(buffer_span(&out), rows[i].text));
		buffer_clear(&out);
		assert_true(base64_take(&out, span_text(rows[i].text)));
		assert_true(span_is(buffer_span(&out), rows[i].bytes));
		buffer_clear(&out);
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		if (base64_take(&out, span_text(bad[i])))
			fail_msg("taken: %s", bad[i]);
		assert_int_equal(out.size, 0);
	}
	buffer_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_put_utf8),
		cmocka_unit_test(test_wire_forms),
		cmocka_unit_test(test_not_wire_forms),
		cmocka_unit_test(test_injective),
		cmocka_unit_test(test_base64),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
