/* Shows that a digest has exactly one text, that both forms are read, and that each other spelling is refused. */
#include "proto/digest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define EMPTY_HEX "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void test_text_round_trip(void **state)
{
	static const uint64_t sizes[] = { 0, 1, 9, 10, 4096, UINT32_MAX, UINT64_MAX };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct digest digest = digest_empty, read;
		char text[DIGEST_TEXT_MAX];

		digest.size = sizes[i];
		memset(&read, 0xff, sizeof(read));
		assert_true(digest_from_text(&read, span_text(digest_text(&digest, text))));
		assert_true(digest_equal(&digest, &read));
	}
}

static void test_forms(void **state)
{
	struct digest digest;
	char text[DIGEST_TEXT_MAX];
	char hex[DIGEST_HEX_BYTES];

	assert_string_equal(digest_text(&digest_empty, text), "sha256:" EMPTY_HEX "/0");
	digest_hex(&digest_empty, hex);
	assert_memory_equal(hex, EMPTY_HEX, DIGEST_HEX_BYTES);
	assert_true(digest_from_text(&digest, span_text(EMPTY_HEX "/12")));
	assert_int_equal(digest.size, 12);
	assert_true(digest_from_hex(&digest, span_text(EMPTY_HEX)));
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"", "/", "sha256:", "sha256:/0", EMPTY_HEX, EMPTY_HEX "/", EMPTY_HEX "/-1", EMPTY_HEX "/+1", EMPTY_HEX "/01",
		EMPTY_HEX "/1 ", EMPTY_HEX " /1", EMPTY_HEX "/0x1", EMPTY_HEX "/18446744073709551616",
		EMPTY_HEX "/99999999999999999999999", "sha512:" EMPTY_HEX "/1", "SHA256:" EMPTY_HEX "/1",
		"sha256:sha256:" EMPTY_HEX "/1", EMPTY_HEX "0/1",
		"E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/1",
		"g3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/1",
		"3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/1",
	};
	struct digest digest = { .size = 77 };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (digest_from_text(&digest, span_text(bad[i])))
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(digest.size, 77);              /* untouched */
	}
	assert_false(digest_from_hex(&digest, span_make(EMPTY_HEX, 63)));
}

/* Each digit wherever it may be, and each other byte there. */
static void test_every_digit(void **state)
{
	char hex[DIGEST_HEX_BYTES], again[DIGEST_HEX_BYTES];
	struct digest digest = { 0 };

	for (size_t at = 0; at < DIGEST_HEX_BYTES; at++) {
		for (unsigned byte = 0; byte < 256; byte++) {
			bool number = byte >= '0' && byte <= '9', letter = byte >= 'a' && byte <= 'f';
			unsigned value = number ? byte - '0' : byte - 'a' + 10;

			memcpy(hex, EMPTY_HEX, sizeof(hex));
			hex[at] = (char)byte;
			assert_int_equal(digest_from_hex(&digest, span_make(hex, sizeof(hex))), number || letter);
			if (!number && !letter)
				continue;
			assert_int_equal(at % 2 ? digest.hash[at / 2] & 15 : digest.hash[at / 2] >> 4, value);
			digest_hex(&digest, again);
			assert_memory_equal(hex, again, sizeof(hex));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_round_trip),
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_every_digit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
