/* Shows which resource names are taken, what they say, and what is said of each kind that is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "proto/reapi_resource.h"

#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void names_say_what_they_say(void **state)
{
	struct reapi_resource resource;

	assert_null(reapi_resource_parse(&resource, span_text("blobs/" HASH "/5"), false));
	assert_true(resource.instance.size == 0 && resource.uuid.size == 0 && !resource.zstd);
	assert_int_equal(resource.digest.size, 5);
	assert_int_equal(resource.digest.hash[1], 0x23);
	assert_null(reapi_resource_parse(&resource, span_text("a/b/compressed-blobs/zstd/" HASH "/0"), false));
	assert_true(span_is(resource.instance, "a/b") && resource.zstd);
	assert_null(reapi_resource_parse(&resource, span_text("uploads/u-1/blobs/" HASH "/9223372036854775807/any/thing"), true));
	assert_true(span_is(resource.uuid, "u-1") && resource.digest.size == INT64_MAX);
	assert_null(reapi_resource_parse(&resource, span_text("main/uploads/u/compressed-blobs/zstd/" HASH "/1"), true));
	assert_true(span_is(resource.instance, "main") && resource.zstd);
	assert_null(reapi_resource_parse(&resource, span_text("a/b/operations/0f/stderr"), false));
	assert_true(span_is(resource.instance, "a/b") && span_is(resource.operation, "a/b/operations/0f") && resource.stream == 1);
	assert_null(reapi_resource_parse(&resource, span_text("operations/0f/stdout"), false));
	assert_true(resource.instance.size == 0 && span_is(resource.operation, "operations/0f") && resource.stream == 0);
}

static void others_are_refused_with_a_reason(void **state)
{
	static const struct {
		const char *name;
		bool upload;
		const char *says;
	} rows[] = {
		{ "", false, "is not" }, { "", true, "is not" }, { "blobs", false, "before the hash" },
		{ "blobs/" HASH, false, "size" }, { "blobs/" HASH "/", false, "size" }, { "blobs/" HASH "/-1", false, "size" },
		{ "blobs/" HASH "/9223372036854775808", false, "size" }, { "blobs/" HASH "/1x", false, "size" },
		{ "blobs/" HASH "/5/more", false, "goes on" }, { "blobs/blake3/" HASH "/5", false, "SHA-256" },
		{ "blobs/0123456789abcdef0123456789abcdef/5", false, "SHA-256" }, { "blobs/" HASH "00/5", false, "SHA-256" },
		{ "compressed-blobs/brotli/" HASH "/5", false, "zstd" }, { "actions/blobs/" HASH "/5", false, "is not" },
		{ "uploads/u/blobs/" HASH "/5", false, "is not" }, { "blobs/" HASH "/5", true, "is not" },
		{ "uploads/u", true, "before the blob" }, { "uploads//blobs/" HASH "/5", true, "before the blob" },
		{ "uploads/u/actions/" HASH "/5", true, "neither" }, { "operations/0f/stdout", true, "is not" },
		{ "uploads/u/operations/0f/stdout", true, "neither" },
		{ "operations/0f", false, "operation's output" }, { "operations//stdout", false, "operation's output" },
		{ "operations/0f/stdin", false, "operation's output" }, { "operations/0f/stdout/", false, "operation's output" },
		{ "operations/0f/stdout/x", false, "operation's output" },
	};
	struct reapi_resource resource;
	char longer[REAPI_RESOURCE_BYTES_MAX + 2];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *fault = reapi_resource_parse(&resource, span_text(rows[i].name), rows[i].upload);

		if (!fault || !strstr(fault, rows[i].says))
			fail_msg("%s: %s", rows[i].name, fault ? fault : "taken");
	}
	memset(longer, 'a', sizeof(longer));
	assert_non_null(reapi_resource_parse(&resource, span_make(longer, sizeof(longer)), false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_say_what_they_say),
		cmocka_unit_test(others_are_refused_with_a_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
