/* Shows what of a text a terminal gets to see: nothing that moves its cursor, ends the line, or turns its direction. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/cmd/clean.h"
#include "gateway/cmd/command.h"

const struct command *const command_table[] = { NULL };

/* Both ways give the same. */
static void shows(const char *text, const char *expected)
{
	char copy[64], *printed = NULL;
	size_t size;
	FILE *file = open_memstream(&printed, &size);

	assert_non_null(file);
	snprintf(copy, sizeof(copy), "%s", text);
	clean_text(copy);
	assert_string_equal(copy, expected);
	clean_print(file, span_text(text));
	fclose(file);
	assert_string_equal(printed, expected);
	free(printed);
}

static void plain_text_stays(void **state)
{
	shows("", "");
	shows("src/main.c", "src/main.c");
	shows("ünïcödé 名前 🦀", "ünïcödé 名前 🦀");
	shows("a\xc2\xa0z", "a\xc2\xa0z");              /* the first one behind the C1 controls */
	shows("a\xe2\x80\xa7\xe2\x80\xafz", "a\xe2\x80\xa7\xe2\x80\xafz");      /* U+2027, U+202F */
}

static void controls_are_hidden(void **state)
{
	shows("\x1b[2J", "?[2J");
	shows("a\nb\rc\td\x7f", "a?b?c?d?");
	shows("a\xc2\x80\xc2\x9b" "1m\xc2\x9d" "0;t\xc2\x9fz", "a??1m?0;t?z");
}

static void directions_are_hidden(void **state)
{
	shows("a\xe2\x80\xaa\xe2\x80\xaez", "a??z");     /* U+202A, U+202E */
	shows("a\xe2\x81\xa6\xe2\x81\xa9z", "a??z");     /* U+2066, U+2069 */
	shows("a\xe2\x80\xa8\xe2\x80\xa9z", "a??z");     /* separators of lines and of paragraphs */
}

static void what_is_no_text_is_hidden(void **state)
{
	shows("\x9b" "1m", "?1m");
	shows("a\xff\xfez", "a??z");
	shows("\xc3", "?");
	shows("\xe5\x90", "??");
	shows("\xc0\x9b\xed\xa0\x80", "?????");          /* over-long, a surrogate */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_text_stays),
		cmocka_unit_test(controls_are_hidden),
		cmocka_unit_test(directions_are_hidden),
		cmocka_unit_test(what_is_no_text_is_hidden),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
