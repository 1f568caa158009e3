/*
 * Shows how lines of the account look: the table to the byte, columns as wide as their content, names cut and made
 * harmless; a malformed line refused before anything is printed; and JSON with every member.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/cmd/builds_table.h"
#include "gateway/cmd/command.h"
#include "proto/pb.h"

const struct command *const command_table[] = { NULL };

#define SECOND UINT64_C(1000000000)
#define NOW    (1000000 * SECOND)

static const struct build_line good = {
	.subject = { (const uint8_t *)"ci", 2 }, .ref = { (const uint8_t *)"r1", 2 }, .directory = { (const uint8_t *)"web", 3 },
	.executor = { (const uint8_t *)"tcp://a:1", 9 }, .queued_unix_ns = NOW - 130 * SECOND,
	.started_unix_ns = NOW - 129 * SECOND, .ended_unix_ns = NOW - 65 * SECOND, .queue_ns = SECOND / 4, .files = 73128,
	.files_changed = 3, .bytes_from_client = 41000, .bytes_from_store = 1100000000, .bytes_to_executor = 1100041000,
	.steps_cached = 9, .steps_executed = 2,
};

static char *text;
static size_t text_size;

/* The table of some lines; NULL when it is refused. */
static const char *print(const struct build_line *lines, size_t count)
{
	struct buffer builds = buffer_heap(1 << 20);
	struct buffer out = buffer_heap(1 << 20);
	struct builds_response response = { .now_unix_ns = NOW }, decoded;
	FILE *file;
	bool printed;

	for (size_t i = 0; i < count; i++)
		message_nest(&build_line_type, &builds, 2, &lines[i]);
	response.builds.message = buffer_span(&builds);
	message_encode(&builds_response_type, &out, &response);
	assert_true(message_decode(&builds_response_type, buffer_span(&out), &decoded));
	free(text);
	file = open_memstream(&text, &text_size);
	assert_non_null(file);
	printed = builds_table_print(file, &decoded);
	fclose(file);
	buffer_fini(&builds);
	buffer_fini(&out);
	return printed ? text : NULL;
}

static int release(void **state)
{
	free(text);
	text = NULL;
	return 0;
}

static void a_table_is_as_wide_as_its_content(void **state)
{
	struct build_line lines[3] = { good, good, good };

	assert_string_equal(print(&good, 1),
	                    "ENDED   DIRECTORY  RESULT  DURATION  QUEUE  EXECUTOR   FROM YOU  FROM STORE  CACHED/RUN\n"
	                    "1m ago  web        ok      1m 4s     0.25s  tcp://a:1  41 kB     1.1 GB      9/2\n");
	lines[1].directory = span_text("Straße");
	lines[1].ended_unix_ns = NOW - 7200 * SECOND;
	lines[1].result = 1;
	lines[1].fault = 1;
	lines[1].error = span_text("exit code: 2");
	lines[2] = (struct build_line){ .ended_unix_ns = NOW + SECOND, .queue_ns = 3 * SECOND, .result = 2, .fault = 3 };
	assert_string_equal(print(lines, 3),
	                    "ENDED   DIRECTORY  RESULT                   DURATION  QUEUE  EXECUTOR   FROM YOU  FROM STORE  "
	                    "CACHED/RUN  ERROR\n"
	                    "1m ago  web        ok                       1m 4s     0.25s  tcp://a:1  41 kB     1.1 GB      "
	                    "9/2         -\n"
	                    "2h ago  Straße     failed (user)            -         0.25s  tcp://a:1  41 kB     1.1 GB      "
	                    "9/2         exit code: 2\n"
	                    "0s ago  -          cancelled (client-gone)  -         3.0s   -          0 B       0 B         "
	                    "0/0         -\n");
	assert_string_equal(print(NULL, 0),
	                    "ENDED  DIRECTORY  RESULT  DURATION  QUEUE  EXECUTOR  FROM YOU  FROM STORE  CACHED/RUN\n");
}

static void ago(uint64_t seconds, const char *says)
{
	struct build_line line = good;
	const char *row;

	line.ended_unix_ns = NOW - seconds * SECOND;
	row = strchr(print(&line, 1), '\n') + 1;
	if (strncmp(row, says, strlen(says)) != 0)
		fail_msg("%s: %s", says, row);
}

static void time_ago_has_one_unit(void **state)
{
	ago(0, "0s ago ");
	ago(59, "59s ago ");
	ago(60, "1m ago ");
	ago(3599, "59m ago ");
	ago(3600, "1h ago ");
	ago(86399, "23h ago ");
	ago(86400, "1d ago ");
	ago(864000, "10d ago ");
}

/* The table's cell of a directory with that name. */
static void directory(const char *name, size_t size, const char *shown)
{
	struct build_line line = good;
	const char *row;

	line.directory = span_make(name, size);
	row = strstr(strchr(print(&line, 1), '\n'), "ago  ") + 5;
	if (strncmp(row, shown, strlen(shown)) != 0 || strncmp(row + strlen(shown), "  ", 2) != 0)
		fail_msg("\"%s\" is not \"%s\"", row, shown);
}

#define TEN "0123456789"

static void names_are_cut_and_harmless(void **state)
{
	char bytes[1000];

	directory("\x1b[2J\n\x7f", 6, "?[2J??");
	directory(TEN TEN TEN TEN, 40, TEN TEN TEN TEN);
	directory(TEN TEN TEN TEN "x", 41, TEN TEN TEN "012345678…");
	directory(TEN TEN TEN "012345678é", 41, TEN TEN TEN "012345678é");
	directory(TEN TEN TEN "012345678éx", 42, TEN TEN TEN "012345678…");
	directory("a\x80\x80\x80\x80\x80z", 7, "a?????z");
	memset(bytes, 0x80, sizeof(bytes));      /* begins no character, however long */
	directory(bytes, sizeof(bytes), "???????????????????????????????????????…");
}

static void unknown_numbers_are_told_as_such(void **state)
{
	struct build_line line = good;

	line.result = 77;
	line.fault = UINT32_MAX;
	assert_non_null(strstr(print(&line, 1), "unknown (unknown)"));
}

static void a_malformed_line_prints_nothing(void **state)
{
	struct buffer bytes = buffer_heap(1 << 10);
	struct builds_response response;
	FILE *file;

	message_nest(&build_line_type, &bytes, 2, &good);
	pb_put_bytes_always(&bytes, 2, span_text("\x08\x01"));           /* subject as a number */
	assert_true(message_decode(&builds_response_type, buffer_span(&bytes), &response));
	free(text);
	file = open_memstream(&text, &text_size);
	assert_false(builds_table_print(file, &response));
	fclose(file);
	assert_int_equal(text_size, 0);
	buffer_fini(&bytes);
}

static void json_has_every_member(void **state)
{
	json_t *object = builds_json(&good);
	struct build_line line = good;
	char *dumped = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(15));

	assert_string_equal(dumped,
	                    "{\"subject\":\"ci\",\"ref\":\"r1\",\"directory\":\"web\",\"executor\":\"tcp://a:1\","
	                    "\"queued_unix_seconds\":999870.0,\"started_unix_seconds\":999871.0,\"ended_unix_seconds\":999935.0,"
	                    "\"duration_seconds\":64.0,\"queue_seconds\":0.25,\"result\":\"ok\",\"fault\":\"none\",\"status\":0,"
	                    "\"error\":\"\",\"files\":73128,\"files_changed\":3,\"bytes_from_client\":41000,"
	                    "\"bytes_from_store\":1100000000,\"bytes_to_executor\":1100041000,\"steps_cached\":9,"
	                    "\"steps_executed\":2,\"replays\":0}");
	free(dumped);
	json_decref(object);
	line.started_unix_ns = 0;
	line.directory = span_text("\xff");
	object = builds_json(&line);
	assert_true(json_is_null(json_object_get(object, "started_unix_seconds")));
	assert_true(json_real_value(json_object_get(object, "duration_seconds")) == 0);
	assert_string_equal(json_string_value(json_object_get(object, "directory")), "\xef\xbf\xbd");
	json_decref(object);
}

/* A row takes much more than a line: how many there are is not the answer's to say. */
static void more_lines_than_asked_for_are_malformed(void **state)
{
	for (size_t count = SLUICE_BUILDS_MAX; count <= SLUICE_BUILDS_MAX + 1; count++) {
		struct buffer bytes = buffer_heap(1 << 20);
		struct builds_response response;
		FILE *file;

		for (size_t i = 0; i < count; i++)
			pb_put_bytes_always(&bytes, 2, (struct span){ 0 });
		assert_true(message_decode(&builds_response_type, buffer_span(&bytes), &response));
		free(text);
		file = open_memstream(&text, &text_size);
		assert_non_null(file);
		assert_int_equal(builds_table_print(file, &response), count == SLUICE_BUILDS_MAX);
		fclose(file);
		assert_int_equal(text_size > 0, count == SLUICE_BUILDS_MAX);
		buffer_fini(&bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_table_is_as_wide_as_its_content),
		cmocka_unit_test(time_ago_has_one_unit),
		cmocka_unit_test(names_are_cut_and_harmless),
		cmocka_unit_test(unknown_numbers_are_told_as_such),
		cmocka_unit_test(a_malformed_line_prints_nothing),
		cmocka_unit_test(more_lines_than_asked_for_are_malformed),
		cmocka_unit_test(json_has_every_member),
	};

	return cmocka_run_group_tests(tests, NULL, release);
}
