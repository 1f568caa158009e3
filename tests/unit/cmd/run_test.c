/*
 * Shows that `run` refuses what could not end well before it asks a gateway. What is taken fails here for want of one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include "gateway/cmd/commands.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

const struct command *const command_table[] = { &command_run, NULL };

static void ends_with(int status, const char *option)
{
	const char *const argv[] = { "run", "--gateway", "unix:///nonexistent/sock", option, "/", "--", "true", NULL };

	assert_int_equal(command_run.run(7, (char **)argv), status);
}

static void outputs_lie_below_the_tree(void **state)
{
	static const char *const good[] = { "--output=a", "--output=./a//b/", "--output=..a/...", "--output=a/./.b" };
	static const char *const bad[] = { "--output=", "--output=.", "--output=./", "--output=..", "--output=a/../b", "--output=/a" };

	for (size_t i = 0; i < COUNT(good); i++)
		ends_with(STATUS_FAILURE, good[i]);
	for (size_t i = 0; i < COUNT(bad); i++)
		ends_with(STATUS_USAGE, bad[i]);
}

static void the_others_are_what_they_are_called(void **state)
{
	static const char *const bad[] = { "--env==x", "--workdir=/a", "--workdir=a/..", "--memory=5MiB", "--timeout=0", "--cpu=0", "--pids=0" };

	for (size_t i = 0; i < COUNT(bad); i++)
		ends_with(STATUS_USAGE, bad[i]);
	ends_with(STATUS_FAILURE, "--workdir=a/..b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(outputs_lie_below_the_tree),
		cmocka_unit_test(the_others_are_what_they_are_called),
	};

	setenv("HOME", "/nonexistent", 1);
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("SLUICE_CONFIG");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
