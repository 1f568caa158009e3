/*
 * Shows that paths are judged as Docker's builders judge them, row by row: the rows were checked against
 * moby/patternmatcher 0.6.1 (ignorefile.ReadAll, then MatchesUsingParentResults down from the top); and that what is
 * pruned never hides something that an exception takes back.
 */
#include "gateway/context/ignore.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct ignore *make(const char *text)
{
	struct ignore *ignore;
	char why[200] = "";

	if (ignore_create(&ignore, span_text(text), why, sizeof(why)))
		fail_msg("\"%s\" is refused: %s", text, why);
	return ignore;
}

/* As a walk does: from the top down, until something is pruned. */
static enum ignore_verdict judge(const struct ignore *ignore, const char *path)
{
	size_t size = ignore_state_bytes(ignore);
	uint8_t *states = calloc(2, size), *state = states, *parent = NULL;
	enum ignore_verdict verdict = IGNORE_INCLUDED;

	for (size_t i = 1; i <= strlen(path) && verdict != IGNORE_PRUNED; i++) {
		if (path[i] != '/' && path[i] != 0)
			continue;
		verdict = ignore_judge(ignore, span_make(path, i), parent, state);
		parent = state;
		state = state == states ? states + size : states;
	}
	free(states);
	return verdict;
}

static const struct {
	const char *file, *path;
	bool excluded;
} rows[] = {
    /* names are rooted, and take what is below along */
    {"a", "a", true},
    {"a", "a/b", true},
    {"a", "a/b/c", true},
    {"a", "b/a", false},
    {"a", "ab", false},
    {"a/b", "a/b", true},
    {"a/b", "a/b/c", true},
    {"a/b", "a", false},
    {"a/b", "a/bc", false},
    /* slashes, dots, spaces, comments, line ends */
    {"/a", "a", true},
    {"a/", "a", true},
    {"./a", "a", true},
    {"a//b", "a/b", true},
    {"a/./b/", "a/b", true},
    {"a/../b", "b", true},
    {"a/../b", "a/b", false},
    {"../a", "a", false},
    {"/../a", "a", true},
    {"/", "a", false},
    {".", "a", false},
    {"", "a", false},
    {"\n\n", "a", false},
    {"  a  ", "a", true},
    {"\ta\t", "a", true},
    {"a\r\nb\r\n", "a", true},
    {"a\r\nb\r\n", "b", true},
    {"\xc2\xa0"
     "a"
     "\xe3\x80\x80",
     "a", true},
    {"# a\nb", "a", false},
    {"#a", "#a", false},
    {" #a", "#a", true},
    {"\\#a", "#a", true},
    {"\xef\xbb\xbf"
     "a",
     "a", true},
    {"\xef\xbb\xbf#a", "#a", false},
    {"x\n\xef\xbb\xbf"
     "a",
     "a", false},
    {"a b", "a b", true},
    /* "*" and "?" stay within a name */
    {"*", "a", true},
    {"*", "a/b", true},
    {"*.c", "x.c", true},
    {"*.c", ".c", true},
    {"*.c", "d/x.c", false},
    {"*/x.c", "d/x.c", true},
    {"*/x.c", "x.c", false},
    {"*/*/x.c", "d/e/x.c", true},
    {"a*", "abc", true},
    {"a*", "a/bc", true},
    {"a*c", "abbc", true},
    {"a*c", "ab/c", false},
    {"a*b*c", "a-b-b-c", true},
    {"a*b*c", "a-c-b", false},
    {"?", "a", true},
    {"?", "ab", false},
    {"a?c", "a/c", false},
    {"?", "\xc3\xa9", true},
    {"??", "\xc3\xa9", false},
    {"?", "\xff", true},
    {"??", "\xff\xfe", true},
    {"a?.c", "ab.c", true},
    {"temp?", "tempa", true},
    {"*/temp*", "somedir/temporary.txt", true},
    {"*/*/temp*", "somedir/subdir/temporary.txt", true},
    {"*/*/temp*", "somedir/temporary.txt", false},
    /* "**" goes over directories */
    {"**", "a", true},
    {"**", "a/b/c", true},
    {"**/a", "a", true},
    {"**/a", "b/a", true},
    {"**/a", "b/c/a", true},
    {"**/a", "ba", false},
    {"**/a", "b/a/c", true},
    {"**a", "ba", true},
    {"**a", "c/ba", true},
    {"a/**", "a", false},
    {"a/**", "a/b", true},
    {"a/**", "a/b/c", true},
    {"a/**", "ab", false},
    {"a**", "a", true},
    {"a**", "abc/d", true},
    {"a**", "b", false},
    {"a/**/b", "a/b", true},
    {"a/**/b", "a/x/b", true},
    {"a/**/b", "a/x/y/b", true},
    {"a/**/b", "a/xb", false},
    {"a**b", "ab", true},
    {"a**b", "ax/b", true},
    {"a**b", "axb", false},
    {"**/*.c", "x.c", true},
    {"**/*.c", "d/e/x.c", true},
    {"**/*.c", "x.h", false},
    {"*.c/**", "x.c", false},
    {"*.c/**", "x.c/y", true},
    {"**/a/**", "a/b", true},
    {"**/a/**", "x/a/b", true},
    {"**/a/**", "x/a", false},
    {"**/**", "a", true},
    {"***", "a/b", true},
    {"**/dir2/*", "dir/dir2/file", true},
    {"**/dir2/*", "dir/dir2/dir2/file", true},
    {"**/.*", "x/.git", true},
    {"**/node_modules", "a/node_modules/b/c", true},
    {"a/**/*.o", "a/b.o", true},
    {"a/**/*.o", "b.o", false},
    /* classes */
    {"[ab]", "a", true},
    {"[ab]", "c", false},
    {"[a-c]x", "bx", true},
    {"[^a]", "b", true},
    {"[^a]", "a", false},
    {"a[^b]c", "a/c", true},
    {"[a-c0-9]", "7", true},
    {"[\\]a]", "]", true},
    {"[\\^a]", "^", true},
    {"[\\-x]", "-", true},
    {"[.+]", "+", true},
    {"[.+]", "a", false},
    {"[\xc3\xa9]", "\xc3\xa9", true},
    {"a]", "a]", true},
    {"[!a]", "!", true},
    {"[!a]", "b", false},
    {"x[|]y*", "x|y", true},
    /* escapes, and characters of regular expressions */
    {"\\*", "*", true},
    {"\\*", "a", false},
    {"a\\?", "a?", true},
    {"a\\?", "ab", false},
    {"\\!a", "!a", true},
    {"\\\\", "\\", true},
    {"\\[a]", "[a]", true},
    {"a.b", "a.b", true},
    {"a.b", "axb", false},
    {"*.b", "axb", false},
    {"a+*", "a+b", true},
    {"a+*", "aab", false},
    {"(a)*", "(a)b", true},
    {"$*", "$x", true},
    {"a$*", "a$", true},
    {"{a}*", "{a}b", true},
    {"{a,b}*", "a", false},
    {"a|b", "a|b", true},
    {"a|b", "a", false},
    {"^a", "^a", true},
    {"^a*", "ab", true},
    {"^a*", "^ab", false},
    {"a^*", "a^b", false},
    {"a{2}", "a{2}", true},
    /* exceptions: the last that matches decides */
    {"*\n!a", "a", false},
    {"*\n!a", "b", true},
    {"!a\n*", "a", true},
    {"a\n!a", "a", false},
    {"a\n!a\na", "a", true},
    {"a\n!a/b", "a/b", false},
    {"a\n!a/b", "a/c", true},
    {"a\n!a/b", "a/b/c", false},
    {"a\n!b", "a", true},
    {"*\n!*.md", "x.md", false},
    {"*\n!*.md\nR*.md", "R.md", true},
    {"*.md\n!R*.md", "R.md", false},
    {"**\n!**/*.go", "a/b/x.go", false},
    {"**\n!**/*.go", "a/b", true},
    {"a\n!**/keep", "a/b/keep", false},
    {"a\n!**/keep", "a/b/keep/x", false},
    {"!a", "a", false},
    {"! a\na", "a", true},
    {"a\n! a", "a", false},
    {"a\n!/a", "a", false},
    {"a\n!a/", "a", false},
    {"a\n!./a", "a", false},
    {"!!a\n", "!a", false},
    {"*\n!!a", "!a", false},
    {"*\n!a\na/b", "a/b", true},
    {"*\n!a\na/b", "a/c", false},
    {"a\n!a/*/c", "a/b/c", false},
    {"a\n!a/*/c", "a/b/d", true},
    {"docs\n!docs/README.md", "docs/README.md", false},
    {"docs\n!docs/README.md", "docs/x", true},
    /* a pattern that could change nothing at the parent is not remembered there */
    {"foo\n!foo/x\nfo*", "foo/x", false},
};

static void test_rows(void **state)
{
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct ignore *ignore = make(rows[i].file);

		if ((judge(ignore, rows[i].path) != IGNORE_INCLUDED) != rows[i].excluded)
			fail_msg("row %zu: \"%s\" with \"%s\"", i, rows[i].file, rows[i].path);
		ignore_destroy(ignore);
	}
}

/* What is judged only for the walk's sake: may something below come back? */
static void test_pruning(void **state)
{
	static const struct {
		const char *file, *path;
		enum ignore_verdict verdict;
	} verdicts[] = {
		{ "a", "a", IGNORE_PRUNED },
		{ "a\n!b", "a", IGNORE_PRUNED },
		{ "a\n!a/b", "a", IGNORE_EXCLUDED },
		{ "a\n!a/b/c", "a", IGNORE_EXCLUDED },
		{ "a\n!a/b/c", "a/b", IGNORE_EXCLUDED },
		{ "a\n!a/b/c", "a/x", IGNORE_PRUNED },
		{ "a\n!ab", "a", IGNORE_PRUNED },
		{ "a\n!a*", "a", IGNORE_INCLUDED },
		{ "a\n!a/*", "a", IGNORE_EXCLUDED },
		{ "a\n!**/x", "a", IGNORE_EXCLUDED },
		{ "a\n!*/x", "a", IGNORE_EXCLUDED },
		{ "a\n!b/**", "a", IGNORE_PRUNED },
		{ "a\n!a/**", "a", IGNORE_EXCLUDED },
		{ "*\n!\xff*", "a", IGNORE_EXCLUDED },
	};

	for (size_t i = 0; i < COUNT(verdicts); i++) {
		struct ignore *ignore = make(verdicts[i].file);

		if (judge(ignore, verdicts[i].path) != verdicts[i].verdict)
			fail_msg("row %zu: \"%s\" with \"%s\"", i, verdicts[i].file, verdicts[i].path);
		ignore_destroy(ignore);
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *file, *why;
	} bad[] = {
		{ "!", "line 1: the pattern is an exception of nothing" },
		{ "a\n!/\n", "line 2: the pattern is an exception of nothing" },
		{ "a\\", "line 1: the pattern ends in a backslash" },
		{ "a\n\n[a", "line 3: the pattern has a '[' without a ']'" },
		{ "[", "line 1: the pattern has a '[' without a ']'" },
		{ "[]a]", "line 1: the pattern has a malformed class in brackets" },
		{ "[a-]", "line 1: the pattern has a malformed class in brackets" },
		{ "[-a]", "line 1: the pattern has a malformed class in brackets" },
		{ "[z-a]", "line 1: the pattern has a range that is upside down" },
		{ "[*]", "line 1: the pattern has '*' or '?' in brackets" },
		{ "[[:alpha:]]", "line 1: the pattern has '[:' in brackets" },
		{ "\\d", "line 1: the pattern has a backslash before something that needs none" },
		{ "a|b*", "line 1: the pattern has both '|' and wildcards" },
		{ "a*{2}", "line 1: the pattern has both a count in braces and wildcards" },
		{ "a*{2,}", "line 1: the pattern has both a count in braces and wildcards" },
	};
	struct ignore *ignore;
	char why[200];

	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_int_equal(ignore_create(&ignore, span_text(bad[i].file), why, sizeof(why)), -EINVAL);
		assert_string_equal(why, bad[i].why);
	}
}

static void test_bounds(void **state)
{
	char *many = malloc((IGNORE_PATTERNS_MAX + 1) * 2 + 1), *deep = malloc(4097), *path = malloc(60001);
	struct ignore *ignore;
	char why[200];

	for (int i = 0; i < IGNORE_PATTERNS_MAX + 1; i++)
		memcpy(many + 2 * i, "a\n", 2);
	many[2 * IGNORE_PATTERNS_MAX] = 0;
	ignore_destroy(make(many));
	memcpy(many + 2 * IGNORE_PATTERNS_MAX, "a\n", 3);
	assert_int_equal(ignore_create(&ignore, span_text(many), why, sizeof(why)), -E2BIG);
	/* Stars that backtracking would take for ever over. */
	for (int i = 0; i < 100; i++)
		memcpy(deep + 2 * i, "a*", 2);
	memcpy(deep + 200, "b", 2);
	memset(path, 'a', 60000);
	path[60000] = 0;
	ignore = make(deep);
	assert_int_equal(judge(ignore, path), IGNORE_INCLUDED);
	ignore_destroy(ignore);
	free(many);
	free(deep);
	free(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_pruning),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
