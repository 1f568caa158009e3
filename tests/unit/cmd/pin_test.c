/*
 * Shows that `pin` refuses what the gateway would not keep as it was said, before it asks one. What is taken fails here for want of
 * a gateway.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/cmd/commands.h"

#define ROOT "sha256:0000000000000000000000000000000000000000000000000000000000000000/1"

const struct command *const command_table[] = { &command_pin, NULL };

static void ends_with(int status, const char *option, const char *value)
{
	const char *const argv[] = { "pin", "--gateway", "unix:///nonexistent/sock", option, value, ROOT, NULL };

	assert_int_equal(command_pin.run(6, (char **)argv), status);
}

static void a_note_is_kept_whole(void **state)
{
	char note[65] = "";

	memset(note, 'x', 63);
	ends_with(STATUS_FAILURE, "--note", note);
	note[63] = 'x';
	ends_with(STATUS_USAGE, "--note", note);
}

static void a_pin_lasts_as_it_is_told(void **state)
{
	ends_with(STATUS_FAILURE, "--expires", "1s");
	ends_with(STATUS_USAGE, "--expires", "0");
	ends_with(STATUS_USAGE, "--remove", "--expires=1s");
	ends_with(STATUS_USAGE, "--remove", "--note=x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_note_is_kept_whole),
		cmocka_unit_test(a_pin_lasts_as_it_is_told),
	};

	setenv("HOME", "/nonexistent", 1);
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("SLUICE_CONFIG");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
