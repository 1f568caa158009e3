/*
 * Shows what the shells' scripts make of texts that hold what has a meaning there: each part is quoted as that part is read. The
 * table of commands is this test's; that a shell takes the scripts of the real one shows tests/e2e/test_cli.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/cmd/command.h"
#include "gateway/cmd/completion.h"

static const struct option options_table[] = {
	{ .name = "env", .letter = 'e', .kind = OPTION_LIST, .argument = "NAME[=VALUE]", .help = "it's NAME[=VALUE]: or \\" },
	{ .name = "at", .kind = OPTION_TEXT, .argument = "HOST:PORT", .help = "where" },
};
static const struct option_group group = OPTION_GROUP("Options", options_table);
static const struct option_group *const groups[] = { &group, NULL };
static const struct command command_try = { .name = "try", .summary = "a [b]: c", .operands = "ca|issue DIR", .groups = groups };
const struct command *const command_table[] = { &command_try, NULL };

static void holds(const char *script, const char *text)
{
	if (!strstr(script, text))
		fail_msg("\"%s\" is not in:\n%s", text, script);
}

/* zsh takes a backslash out of an explanation wherever it stands, and out of a message only where it is before a colon. */
static void zsh_is_told_as_it_reads(void **state)
{
	char *script = NULL;
	size_t size = 0;
	FILE *file = open_memstream(&script, &size);

	completion_print_zsh(file);
	fclose(file);
	holds(script, "'try:a \\[b\\]\\: c'");
	holds(script, "'*'{-e+,--env=}'[it'\\''s NAME\\[=VALUE\\]\\: or \\\\]:NAME[=VALUE]: '");
	holds(script, "'--at=[where]:HOST\\:PORT: '");
	holds(script, "'1:ca|issue:(ca issue)'");
	free(script);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zsh_is_told_as_it_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
