/*
 * base: sizes and durations in every spelling and every refusal; log lines read back from a pipe in both formats, with
 * hostile values and a line too long; the trace of an error's path; lists; CHECK ends the process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/base/list.h"
#include "gateway/base/log.h"
#include "gateway/base/units.h"

static void test_parse_bytes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "0", 0 },
		{ "4096", 4096 },
		{ "812B", 812 },
		{ "41kB", 41000 },
		{ "512MB", 512000000 },
		{ "512MiB", UINT64_C(512) << 20 },
		{ "512mib", UINT64_C(512) << 20 },
		{ "1.5GB", 1500000000 },
		{ "1.5 GB", 1500000000 },
		{ "1.1GB", 1100000000 },
		{ "0.5KiB", 512 },
		{ "2TiB", UINT64_C(2) << 40 },
		{ "10%", 1000 },
		{ "12.5%", 1250 },
		{ "100%", 10000 },
		{ "18446744073709551615", UINT64_MAX },
	};
	static const char *const bad[] = {
		"", "MB", "-1", "+1", " 1", "1 ", "1.", ".5GB", "1..5GB", "1.5.5", "12 cats", "1e3", "512M", "101%",
		"100.1%", "18446744073709551616", "18446744073709552kB", "99999999TiB", "1.1234567890GB", "1  GB", "0x10",
	};
	uint64_t bytes;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		bytes = ~good[i].bytes;
		if (!units_parse_bytes(good[i].text, 10000, &bytes) || bytes != good[i].bytes)
			fail_msg("%s: %llu", good[i].text, (unsigned long long)bytes);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (units_parse_bytes(bad[i], 10000, &bytes))
			fail_msg("\"%s\" was taken for %llu", bad[i], (unsigned long long)bytes);
	assert_false(units_parse_bytes("10%", 0, &bytes));
	assert_true(units_parse_bytes("100%", UINT64_MAX, &bytes));
	assert_true(bytes == UINT64_MAX);
}

static void test_parse_duration(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} good[] = {
		{ "150ms", 150000000 },
		{ "30s", 30000000000 },
		{ "30", 30000000000 },
		{ "1.5s", 1500000000 },
		{ "5m", 300000000000 },
		{ "48h", 172800000000000 },
		{ "7d", 604800000000000 },
		{ "20us", 20000 },
		{ "3ns", 3 },
	};
	static const char *const bad[] = { "", "s", "-1s", "5 minutes", "1h30m", "1000000d", "5mm" };
	uint64_t ns;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_true(units_parse_duration(good[i].text, &ns));
		assert_true(ns == good[i].ns);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (units_parse_duration(bad[i], &ns))
			fail_msg("\"%s\" was taken for %llu", bad[i], (unsigned long long)ns);
}

static void test_format(void **state)
{
	char text[24];

	assert_string_equal(units_format_bytes(0, text), "0 B");
	assert_string_equal(units_format_bytes(812, text), "812 B");
	assert_string_equal(units_format_bytes(999, text), "999 B");
	assert_string_equal(units_format_bytes(1000, text), "1 kB");
	assert_string_equal(units_format_bytes(1100000000, text), "1.1 GB");
	assert_string_equal(units_format_bytes(9949, text), "9.9 kB");
	assert_string_equal(units_format_bytes(9950, text), "10 kB");
	assert_string_equal(units_format_bytes(41234, text), "41 kB");
	assert_string_equal(units_format_bytes(41500, text), "42 kB");
	assert_string_equal(units_format_bytes(999499, text), "999 kB");
	assert_string_equal(units_format_bytes(999500, text), "1 MB");
	assert_string_equal(units_format_bytes(UINT64_MAX, text), "18 EB");
	assert_string_equal(units_format_duration(0, text), "0.00s");
	assert_string_equal(units_format_duration(420000000, text), "0.42s");
	assert_string_equal(units_format_duration(999000000, text), "1.0s");
	assert_string_equal(units_format_duration(3140000000, text), "3.1s");
	assert_string_equal(units_format_duration(59960000000, text), "1m 0s");
	assert_string_equal(units_format_duration(125000000000, text), "2m 5s");
	assert_string_equal(units_format_duration(7260000000000, text), "2h 1m");
	units_format_duration(UINT64_MAX, text);
}

/* What was logged by `log`, read from a pipe. */
static char *logged(bool json, enum log_level least, void (*log)(void))
{
	static char text[1 << 16];
	int pair[2];
	ssize_t n;

	assert_int_equal(pipe2(pair, O_NONBLOCK), 0);
	log_setup(pair[1], least, json);
	log();
	log_setup(STDERR_FILENO, LOG_INFO, false);
	n = read(pair[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	close(pair[0]);
	close(pair[1]);
	return text;
}

static void log_plain(void)
{
	log_event(LOG_WARNING, "stream reset", LOG_U64("conn", 17), LOG_I64("r", -5), LOG_TEXT("code", "FLOW_CONTROL"));
	log_event(LOG_DEBUG, "not wanted");
	log_event(LOG_INFO, "nothing to add");
}

static void log_hostile(void)
{
	log_event(LOG_ERROR, "path refused", LOG_SPAN("path", span_make("a b\"\\\n\0\xff\xc3\xa9\xed\xa0\x80", 13)),
	          LOG_TEXT("empty", ""), LOG_TEXT("forged", "x level=info"));
}

/* U+009B begins an escape sequence, U+2028 a line, U+202E and U+2066 turn what follows. U+00A0 is only a blank. */
static void log_unseen(void)
{
	log_event(LOG_ERROR, "path refused", LOG_TEXT("escape", "a\xc2\x9b" "2Jb"), LOG_TEXT("line", "a\xe2\x80\xa8level=info"),
	          LOG_TEXT("turn", "\xe2\x80\xae\xe2\x81\xa6x"), LOG_TEXT("blank", "a\xc2\xa0z\xe2\x80\xa7"));
}

static void log_long(void)
{
	static char text[12000];

	memset(text, 'x', sizeof(text) - 1);
	log_event(LOG_ERROR, "long", LOG_TEXT("first", text), LOG_TEXT("second", text), LOG_U64("third", 3));
}

static void test_log_text(void **state)
{
	char *text = logged(false, LOG_INFO, log_plain);
	char *second = strchr(text, '\n');

	assert_non_null(strstr(text, "Z warning stream reset conn=17 r=-5 code=FLOW_CONTROL\n"));
	assert_non_null(second);
	assert_non_null(strstr(second, "Z info    nothing to add\n"));
	assert_null(strstr(text, "not wanted"));
	text = logged(false, LOG_INFO, log_hostile);
	assert_non_null(strstr(text, "path=\"a b\\\"\\\\\\x0a\\x00\\xff\xc3\xa9\\xed\\xa0\\x80\" empty=\"\" forged=\"x level=info\"\n"));
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	text = logged(false, LOG_INFO, log_unseen);
	assert_non_null(strstr(text, " escape=\"a\\xc2\\x9b2Jb\" line=\"a\\xe2\\x80\\xa8level=info\" "
	                             "turn=\"\\xe2\\x80\\xae\\xe2\\x81\\xa6x\" blank=\"a\xc2\xa0z\xe2\x80\xa7\"\n"));
}

static void test_log_json(void **state)
{
	json_error_t error;
	json_t *line = json_loads(logged(true, LOG_INFO, log_hostile), 0, &error);

	assert_non_null(line);
	assert_string_equal(json_string_value(json_object_get(line, "event")), "path refused");
	assert_string_equal(json_string_value(json_object_get(line, "level")), "error");
	assert_string_equal(json_string_value(json_object_get(line, "path")), "a b\"\\\\x0a\\x00\\xff\xc3\xa9\\xed\\xa0\\x80");
	json_decref(line);
	line = json_loads(logged(true, LOG_INFO, log_unseen), 0, &error);
	assert_non_null(line);
	assert_string_equal(json_string_value(json_object_get(line, "escape")), "a\\xc2\\x9b" "2Jb");
	assert_string_equal(json_string_value(json_object_get(line, "line")), "a\\xe2\\x80\\xa8level=info");
	assert_string_equal(json_string_value(json_object_get(line, "blank")), "a\xc2\xa0z\xe2\x80\xa7");
	json_decref(line);
	line = json_loads(logged(true, LOG_INFO, log_long), 0, &error);
	assert_non_null(line);
	assert_int_equal(strlen(json_string_value(json_object_get(line, "first"))), 11999);
	assert_null(json_object_get(line, "second"));
	assert_int_equal(json_integer_value(json_object_get(line, "cut")), 1);
	json_decref(line);
}

static int inner(int r)
{
	return ERR_RAISE(r);
}

static int outer(int r)
{
	int inner_r = inner(r);

	return ERR_RAISE(inner_r);
}

static int recursive(int depth)
{
	return depth ? recursive(depth - 1) : ERR_RAISE(-EIO);
}

static void test_err(void **state)
{
	const char *report;
	int line_inner, line_outer, n = 0;

	assert_int_equal(outer(-ENOENT), -ENOENT);
	assert_int_equal(outer(-ENOSPC), -ENOSPC);      /* the first was dealt with: only the newest is told */
	report = err_report(-ENOSPC);
	assert_int_equal(sscanf(report, "ENOSPC (No space left on device) from base_test.c:%d < base_test.c:%d%n", &line_inner, &line_outer, &n), 2);
	assert_int_equal((size_t)n, strlen(report));
	assert_true(line_inner < line_outer);
	assert_string_equal(err_report(-ENOSPC), "ENOSPC (No space left on device)");
	assert_int_equal(recursive(20), -EIO);
	assert_non_null(strstr(err_report(-EIO), "from base_test.c:"));
	assert_int_equal(outer(-ENOENT), -ENOENT);      /* dealt with; what is told came from elsewhere, another thread say */
	assert_string_equal(err_report(-EIO), "EIO (Input/output error)");
	assert_string_equal(err_text(-ENOSPC), "ENOSPC (No space left on device)");
	assert_string_equal(err_text(ENOSPC), "ENOSPC (No space left on device)");
	assert_string_equal(err_text(-99999), "error 99999");
}

static void test_list(void **state)
{
	struct item {
		int number;
		struct list link;
	} items[3] = { { 1 }, { 2 }, { 3 } };
	struct list head;
	int sum = 0;

	list_init(&head);
	assert_true(list_empty(&head));
	assert_null(list_take(&head));
	for (int i = 0; i < 3; i++)
		list_append(&head, &items[i].link);
	list_remove(&items[1].link);
	list_remove(&items[1].link);
	assert_false(list_linked(&items[1].link));
	list_for_each(link, &head)
		sum = sum * 10 + container_of(link, struct item, link)->number;
	assert_int_equal(sum, 13);
	list_for_each_safe(link, after, &head)
		list_remove(link);
	assert_true(list_empty(&head));
}

static void test_check_aborts(void **state)
{
	int status, null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		dup2(null, STDERR_FILENO);
		CHECK(pid != 0);
		_exit(0);
	}
	close(null);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_bytes), cmocka_unit_test(test_parse_duration), cmocka_unit_test(test_format),
		cmocka_unit_test(test_log_text),    cmocka_unit_test(test_log_json),       cmocka_unit_test(test_err),
		cmocka_unit_test(test_list),        cmocka_unit_test(test_check_aborts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
