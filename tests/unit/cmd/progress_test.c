/*
 * Shows what each --progress mode writes, byte for byte, under a clock that the test turns: redraws in place and only
 * ten times a second, plain lines, JSON that parses, no control characters from names, nothing wider than the terminal,
 * and that an action's output comes through unchanged, or is told to be lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "gateway/cmd/command.h"
#include "gateway/cmd/progress.h"

const struct command *const command_table[] = { NULL };

#define MS UINT64_C(1000000)

static uint64_t clock_ns;
static int pipe_fds[2];
static char said[65536];

static uint64_t test_now(void)
{
	return clock_ns;
}

/* What was written since the last time. */
static const char *heard(void)
{
	ssize_t n = read(pipe_fds[0], said, sizeof(said) - 1);

	said[n > 0 ? n : 0] = '\0';
	return said;
}

static struct progress *start(enum progress_mode mode, unsigned columns)
{
	struct progress_config config = { .mode = mode, .title = "sluice push", .steps = 3, .fd = pipe_fds[1],
		                          .columns = columns, .rows = 24, .now = test_now };

	clock_ns = 5000 * MS;
	heard();
	return progress_create(&config);
}

static void draws_plain_lines(void **state)
{
	struct progress *progress = start(PROGRESS_PLAIN, 0);
	struct progress_vertex *scan = progress_begin(progress, "scan"), *send;

	assert_string_equal(heard(), "#1 scan\n");
	clock_ns += 1999 * MS;
	progress_update(scan, 10, 0, PROGRESS_FILES, "src/a.c");
	assert_string_equal(heard(), "");
	clock_ns += 1 * MS;
	progress_update(scan, 12, 0, PROGRESS_FILES, "src/\x1b[2Jb.c");
	assert_string_equal(heard(), "#1 scan 12 files src/?[2Jb.c 2.0s\n");
	progress_end(scan, PROGRESS_DONE, NULL);
	assert_string_equal(heard(), "#1 DONE 12 files 2.0s\n");
	progress_end(scan, PROGRESS_ERROR, "late");
	assert_string_equal(heard(), "");
	send = progress_begin(progress, "send");
	clock_ns += 2000 * MS;
	progress_update(send, 41000, 1100000000, PROGRESS_BYTES, NULL);
	assert_string_equal(heard(), "#2 send\n#2 send 41 kB of 1.1 GB 2.0s\n");
	clock_ns += 2000 * MS;
	progress_update(send, 0, 0, PROGRESS_NONE, "waiting");
	assert_string_equal(heard(), "#2 send waiting 4.0s\n");
	progress_end(send, PROGRESS_ERROR, "connection lost");
	assert_string_equal(heard(), "#2 ERROR: connection lost\n");
	progress_end(progress_begin(progress, "run"), PROGRESS_CACHED, NULL);
	assert_string_equal(heard(), "#3 run\n#3 CACHED 0.00s\n");
	assert_true(progress_tick(progress) == UINT64_MAX);
	progress_destroy(progress);
	assert_string_equal(heard(), "");
}

static void redraws_in_place(void **state)
{
	struct progress *progress = start(PROGRESS_TTY, 50);
	struct progress_vertex *vertex = progress_begin(progress, "send");

	assert_string_equal(heard(), "\x1b[2K[+] sluice push (0/3)                       0.00s\n"
	                             "\x1b[2K => [1/3] send                              0.00s\n");
	clock_ns += 99 * MS;
	progress_update(vertex, 1, 2, PROGRESS_BYTES, NULL);
	assert_string_equal(heard(), "");
	assert_int_equal(progress_tick(progress), 1 * MS);
	clock_ns += 3101 * MS;
	progress_update(vertex, 41000, 1100000000, PROGRESS_BYTES, NULL);
	assert_string_equal(heard(), "\x1b[2A\r\x1b[2K[+] sluice push (0/3)                        3.2s\n"
	                             "\x1b[2K => [1/3] send 41 kB of 1.1 GB               3.2s\n");
	/* The seconds count on when nothing happens. */
	clock_ns += 1000 * MS;
	assert_int_equal(progress_tick(progress), 100 * MS);
	assert_non_null(strstr(heard(), "4.2s"));
	progress_end(vertex, PROGRESS_CACHED, NULL);
	assert_non_null(strstr(heard(), " => CACHED [1/3] send"));
	assert_true(progress_tick(progress) == UINT64_MAX);
	progress_destroy(progress);
}

/* Each line of a frame, without its escape, as many columns as fit. */
static void assert_narrow(const char *frame, size_t columns)
{
	while (*frame) {
		size_t size = strcspn(frame, "\n"), used = 0;
		const char *line = strstr(frame, "\x1b[2K");

		assert_non_null(line);
		for (line += 4; line < frame + size; line++) {
			assert_true((unsigned char)*line >= 0x20);
			used += ((unsigned char)*line & 0xc0) != 0x80;
		}
		if (used >= columns)
			fail_msg("%zu columns: %.*s", used, (int)size, frame);
		frame += size + 1;
	}
}

static void stays_inside_the_terminal(void **state)
{
	struct progress *progress = start(PROGRESS_TTY, 40);
	struct progress_vertex *vertex = progress_begin(progress, "sending to a gateway far away in Zürich, behind the lake");

	assert_narrow(heard(), 40);
	clock_ns += 200 * MS;
	progress_update(vertex, 1, 0, PROGRESS_FILES, "a\nb\rc\x1b[1A/ünïcödé/ünïcödé/ünïcödé");
	assert_narrow(heard(), 40);
	/* More steps than rows: the last ones. */
	for (int i = 0; i < 40; i++)
		progress_begin(progress, "more");
	heard();
	clock_ns += 200 * MS;
	progress_tick(progress);
	assert_narrow(strchr(heard(), '\r') + 1, 40);
	assert_non_null(strstr(said, "\x1b[23A\r"));
	assert_null(strstr(said, "[2/41]"));
	assert_non_null(strstr(said, "[41/41]"));
	progress_destroy(progress);
	heard();
}

static void survives_too_many_steps(void **state)
{
	struct progress *progress = start(PROGRESS_QUIET, 0);
	struct progress_vertex *last = NULL;

	for (int i = 0; i < PROGRESS_VERTICES_MAX + 5; i++)
		last = progress_begin(progress, "step");
	progress_update(last, 1, 2, PROGRESS_FILES, NULL);
	progress_end(last, PROGRESS_DONE, NULL);
	assert_string_equal(heard(), "");
	progress_destroy(progress);
}

static json_t *heard_json(void)
{
	json_error_t error;
	json_t *object = json_loads(heard(), JSON_DISABLE_EOF_CHECK, &error);

	assert_non_null(object);
	return object;
}

static void writes_json(void **state)
{
	struct progress *progress = start(PROGRESS_RAWJSON, 0);
	struct progress_vertex *vertex = progress_begin(progress, "run \xff");
	json_t *object = heard_json(), *entry = json_array_get(json_object_get(object, "vertexes"), 0);

	assert_string_equal(json_string_value(json_object_get(entry, "name")), "run \xef\xbf\xbd");
	assert_string_equal(json_string_value(json_object_get(entry, "digest")), "step:1");
	assert_null(json_object_get(entry, "completed"));
	json_decref(object);
	progress_log(vertex, 1, span_text("hi\n"));
	object = heard_json();
	entry = json_array_get(json_object_get(object, "logs"), 0);
	assert_string_equal(json_string_value(json_object_get(entry, "data")), "aGkK");
	assert_int_equal(json_integer_value(json_object_get(entry, "stream")), 1);
	json_decref(object);
	clock_ns += 100 * MS;
	progress_update(vertex, 3, 4, PROGRESS_FILES, "x");
	object = heard_json();
	entry = json_array_get(json_object_get(object, "statuses"), 0);
	assert_int_equal(json_integer_value(json_object_get(entry, "current")), 3);
	assert_int_equal(json_integer_value(json_object_get(entry, "total")), 4);
	json_decref(object);
	progress_update(vertex, 0, 0, PROGRESS_NONE, NULL);
	progress_end(vertex, PROGRESS_ERROR, NULL);
	object = heard_json();
	entry = json_array_get(json_object_get(object, "vertexes"), 0);
	assert_string_equal(json_string_value(json_object_get(entry, "error")), "failed");
	assert_non_null(json_object_get(entry, "completed"));
	json_decref(object);
	progress_destroy(progress);
}

/* The output goes to our own stdout: a pipe takes its place here. */
static void passes_output_through(void **state)
{
	struct progress *progress = start(PROGRESS_TTY, 50);
	struct progress_vertex *vertex = progress_begin(progress, "run");
	int saved = dup(STDOUT_FILENO), fds[2];
	char output[64] = "";

	heard();
	assert_int_equal(pipe(fds), 0);
	fflush(stdout);
	dup2(fds[1], STDOUT_FILENO);
	progress_log(vertex, 1, span_text("half a line"));
	dup2(saved, STDOUT_FILENO);
	assert_int_equal(read(fds[0], output, sizeof(output)), 11);
	assert_memory_equal(output, "half a line", 11);
	/* Our lines are gone, and do not come back over the half line. */
	assert_string_equal(heard(), "\x1b[2A\r\x1b[J");
	clock_ns += 500 * MS;
	assert_true(progress_tick(progress) == UINT64_MAX);
	assert_string_equal(heard(), "");
	dup2(fds[1], STDOUT_FILENO);
	progress_log(vertex, 1, span_text(" and \x1b[1mits end\n"));
	dup2(saved, STDOUT_FILENO);
	assert_int_equal(read(fds[0], output, sizeof(output)), 17);
	assert_non_null(strstr(heard(), "[+] sluice push"));
	close(saved);
	close(fds[0]);
	close(fds[1]);
	progress_destroy(progress);
}

static void assert_begins(const char *text, const char *with)
{
	assert_ptr_equal(strstr(text, with), text);
}

/* A sentence that is printed while steps stand is not drawn over. */
static void makes_way_for_what_is_said(void **state)
{
	struct progress *progress = start(PROGRESS_TTY, 50);
	struct progress_vertex *vertex = progress_begin(progress, "scan");

	progress_end(vertex, PROGRESS_ERROR, "no such directory");
	heard();
	progress_make_way();
	assert_string_equal(heard(), "\x1b[2A\r\x1b[J");
	progress_make_way();
	assert_string_equal(heard(), "");
	progress_destroy(progress);
	assert_begins(heard(), "\x1b[2K[+] sluice push");
	progress_make_way();
	assert_string_equal(heard(), "");
}

static const char *unfinished(enum progress_mode mode, int into)
{
	struct progress *progress = start(mode, mode == PROGRESS_TTY ? 50 : 0);
	struct progress_vertex *vertex = progress_begin(progress, "run");
	int saved = dup(STDOUT_FILENO);

	fflush(stdout);
	assert_int_equal(dup2(into, STDOUT_FILENO), STDOUT_FILENO);
	heard();
	progress_log(vertex, 1, span_text("x"));
	progress_end(vertex, PROGRESS_DONE, NULL);
	progress_destroy(progress);
	assert_int_equal(dup2(saved, STDOUT_FILENO), STDOUT_FILENO);
	close(saved);
	return heard();
}

static void begins_on_a_line_of_its_own(void **state)
{
	int elsewhere = open("/dev/null", O_WRONLY);

	assert_true(elsewhere >= 0);
	assert_string_equal(unfinished(PROGRESS_PLAIN, pipe_fds[1]), "x\n#1 DONE 0.00s\n");
	assert_string_equal(unfinished(PROGRESS_PLAIN, elsewhere), "#1 DONE 0.00s\n");
	assert_string_equal(unfinished(PROGRESS_QUIET, pipe_fds[1]), "x");
	assert_begins(unfinished(PROGRESS_TTY, pipe_fds[1]), "\x1b[2A\r\x1b[Jx\n\x1b[2K[+] sluice push");
	close(elsewhere);
}

static int log_error(enum progress_mode mode, int fd, const char *text)
{
	struct progress *progress = progress_create(&(struct progress_config){ .mode = mode, .fd = fd, .now = test_now });
	int saved = dup(STDOUT_FILENO), r;

	fflush(stdout);
	assert_int_equal(dup2(fd, STDOUT_FILENO), STDOUT_FILENO);
	progress_log(progress_begin(progress, "run"), 1, span_text(text));
	assert_int_equal(dup2(saved, STDOUT_FILENO), STDOUT_FILENO);
	r = progress_log_error(progress);
	progress_log(progress_begin(progress, "run"), 2, span_text("\r"));
	assert_int_equal(mode == PROGRESS_RAWJSON ? r : progress_log_error(progress), r);
	progress_destroy(progress);
	close(saved);
	return r;
}

static void output_that_is_lost_is_told(void **state)
{
	int full = open("/dev/full", O_WRONLY);

	assert_true(full >= 0);
	assert_int_equal(log_error(PROGRESS_PLAIN, full, "x"), -ENOSPC);
	assert_int_equal(log_error(PROGRESS_QUIET, full, "x"), -ENOSPC);
	assert_int_equal(log_error(PROGRESS_RAWJSON, full, "x"), -ENOSPC);
	close(full);
	heard();
	assert_int_equal(log_error(PROGRESS_QUIET, pipe_fds[1], "x"), 0);
	assert_string_equal(heard(), "x");
}

static void *hear_all(void *context)
{
	size_t *size = context;
	char bytes[4096];
	ssize_t n;

	while (*size && (n = read(pipe_fds[0], bytes, sizeof(bytes))) != 0)
		*size -= n > 0 ? (size_t)n : 0;
	return NULL;
}

/* Somebody may have left us a descriptor that does not block: no output is lost for that. */
static void waits_for_a_reader(void **state)
{
	static char text[1 << 20];
	size_t size = sizeof(text) - 1;
	pthread_t reader;
	int r;

	memset(text, 'x', size);
	assert_int_equal(pthread_create(&reader, NULL, hear_all, &size), 0);
	r = log_error(PROGRESS_QUIET, pipe_fds[1], text);
	if (r)
		pthread_cancel(reader);
	assert_int_equal(pthread_join(reader, NULL), 0);
	assert_int_equal(r, 0);
	assert_int_equal(size, 0);
}

static void colours_only_when_wanted(void **state)
{
	struct progress_config config = { .mode = PROGRESS_TTY, .fd = pipe_fds[1], .columns = 50, .rows = 24,
		                          .color = true, .now = test_now };
	struct progress *progress = progress_create(&config);

	progress_end(progress_begin(progress, "a"), PROGRESS_DONE, NULL);
	assert_non_null(strstr(heard(), "\x1b[34m => [1/1] a"));
	progress_destroy(progress);
	heard();
	setenv("NO_COLOR", "1", 1);
	progress = progress_create(&config);
	progress_end(progress_begin(progress, "a"), PROGRESS_DONE, NULL);
	assert_null(strstr(heard(), "\x1b[34m"));
	progress_destroy(progress);
	unsetenv("NO_COLOR");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(draws_plain_lines),
		cmocka_unit_test(redraws_in_place),
		cmocka_unit_test(stays_inside_the_terminal),
		cmocka_unit_test(survives_too_many_steps),
		cmocka_unit_test(writes_json),
		cmocka_unit_test(passes_output_through),
		cmocka_unit_test(makes_way_for_what_is_said),
		cmocka_unit_test(begins_on_a_line_of_its_own),
		cmocka_unit_test(output_that_is_lost_is_told),
		cmocka_unit_test(waits_for_a_reader),
		cmocka_unit_test(colours_only_when_wanted),
	};

	unsetenv("NO_COLOR");
	if (pipe2(pipe_fds, O_NONBLOCK) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
