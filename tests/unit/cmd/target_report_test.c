/*
 * Shows of the report of a run: its table's columns and sums, its JSON, and that its JUnit file is well-formed whatever a
 * command has printed: what XML cannot hold becomes U+FFFD.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "gateway/cmd/target_report.h"

#include "gateway/cmd/command.h"
const struct command *const command_table[] = { NULL };

static struct target_outcome outcomes[] = {
	{ .name = "a<b", .result = TARGET_PASSED, .cached = true, .ns = 1500000000, .affected = true },
	{ .name = "long-name", .result = TARGET_FAILED, .exit_code = 3 },
	{ .name = "gone", .result = TARGET_ERROR, .why = "none of \"its\" paths" },
};

static struct target_report report = { .file = "t.yaml", .outcomes = outcomes, .count = 3, .since = true, .ns = 2000000000 };

static char *read_back(FILE *file)
{
	static char text[8192];
	size_t size;

	rewind(file);
	size = fread(text, 1, sizeof(text) - 1, file);
	text[size] = 0;
	return text;
}

static void the_table_has_a_line_each_and_sums(void **state)
{
	FILE *file = tmpfile();

	target_report_print(file, &report);
	assert_string_equal(read_back(file),
	                    "TARGET     RESULT  CACHE      TIME  AFFECTED\n"
	                    "a<b        passed  hit        1.5s  yes     \n"
	                    "long-name  failed  miss      0.00s  no        exit 3\n"
	                    "gone       error             0.00s  no        none of \"its\" paths\n"
	                    "3 targets: 1 passed, 1 failed, 1 errors, 1 from the cache, in 2.0s\n");
	fclose(file);
}

static void the_json_has_them_too(void **state)
{
	json_t *object = target_report_json(&report);

	assert_int_equal(json_integer_value(json_object_get(object, "failed")), 1);
	assert_int_equal(json_array_size(json_object_get(object, "targets")), 3);
	assert_int_equal(json_integer_value(json_object_get(json_array_get(json_object_get(object, "targets"), 1), "exit_code")), 3);
	assert_true(json_is_true(json_object_get(json_array_get(json_object_get(object, "targets"), 0), "affected")));
	json_decref(object);
}

static void junit_is_well_formed(void **state)
{
	static const char out[] = "a&b \x01\xff\xc0\x80 \xed\xa0\x80 \xe2\x82\xac \xf0\x9f\x98\x80 \xef\xbf\xbf ]]>\xe2\x82";
	char path[] = "/tmp/sluice-junit-XXXXXX";
	int fd = mkstemp(path);
	const char *text;
	FILE *file;

	assert_true(fd >= 0);
	outcomes[1].output[0] = buffer_heap(4096);
	buffer_put(&outcomes[1].output[0], out, sizeof(out) - 1);
	assert_int_equal(target_report_junit(path, &report), 0);
	file = fdopen(fd, "r");
	text = read_back(file);
	assert_non_null(strstr(text, "<testsuite name=\"t.yaml\" tests=\"3\" failures=\"1\" errors=\"1\" time=\"2.000\">"));
	assert_non_null(strstr(text, "<testcase name=\"a&lt;b\" classname=\"t.yaml\" time=\"1.500\">"));
	assert_non_null(strstr(text, "<failure message=\"exit 3\"/>"));
	assert_non_null(strstr(text, "<error message=\"none of &quot;its&quot; paths\"/>"));
#define BAD "\xef\xbf\xbd"
	assert_non_null(strstr(text, "<system-out>a&amp;b " BAD BAD BAD BAD " " BAD BAD BAD " \xe2\x82\xac \xf0\x9f\x98\x80 " BAD BAD BAD " ]]&gt;" BAD BAD "</system-out>"));
	fclose(file);
	unlink(path);
	buffer_fini(&outcomes[1].output[0]);
	assert_true(target_report_junit("/nonexistent/x", &report) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_has_a_line_each_and_sums),
		cmocka_unit_test(the_json_has_them_too),
		cmocka_unit_test(junit_is_well_formed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
