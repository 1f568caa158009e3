/*
 * Shows of a file of targets: what is read, in which order targets come; each fault with its line; which path is whose
 * input, with the meaning that .dockerignore gives to patterns; that what is affected spreads along needs; what a target runs,
 * and what it is made of.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "gateway/cmd/targets.h"

/* main.c's, which is not linked here. */
#include "gateway/cmd/command.h"
const struct command *const command_table[] = { NULL };

static struct targets *parse(const char *text)
{
	struct targets *targets = NULL;
	char why[1024];

	if (targets_parse(&targets, span_text(text), "t.yaml", why, sizeof(why)))
		fail_msg("%s", why);
	return targets;
}

static void expect_fault(const char *text, const char *fault)
{
	struct targets *targets = NULL;
	char why[1024];

	assert_int_equal(targets_parse(&targets, span_text(text), "t.yaml", why, sizeof(why)), -EINVAL);
	assert_null(targets);
	if (strcmp(why, fault) != 0)
		fail_msg("wanted: %s\n   got: %s", fault, why);
}

static size_t place(const struct targets *targets, const char *name)
{
	for (size_t i = 0; i < targets_count(targets); i++)
		if (strcmp(targets_name(targets, i), name) == 0)
			return i;
	fail_msg("no target %s", name);
	return 0;
}

static bool affects(const char *text, const char *path, const char *name)
{
	struct targets *targets = parse(text);
	bool affected;

	assert_int_equal(targets_touch(targets, path), 0);
	targets_settle(targets);
	affected = targets_affected(targets, place(targets, name));
	targets_destroy(targets);
	return affected;
}

static void targets_come_after_what_they_need(void **state)
{
	struct targets *targets = parse(
		"# a comment\n"
		"targets:\n"
		"  app: { paths: [app], needs: [web, \"//lib:a.b\"] }\n"
		"  web:\n"
		"    needs: [//lib:a.b]\n"
		"  alone: { paths: one }\n"
		"  //lib:a.b:\n"
		"    paths:\n"
		"      - lib\n"
		"  empty: {}\n");
	const char *const order[] = { "//lib:a.b", "web", "app", "alone", "empty" };

	assert_int_equal(targets_count(targets), 5);
	for (size_t i = 0; i < 5; i++) {
		assert_string_equal(targets_name(targets, i), order[i]);
		assert_false(targets_affected(targets, i));
	}
	targets_destroy(targets);
}

/* Else a file that was emptied by mistake would keep a CI green that builds nothing. */
static void a_file_without_targets_is_refused(void **state)
{
	expect_fault("", "t.yaml: there is no target in it; it begins with `targets:`, and names below that");
	expect_fault("# targets:\n", "t.yaml: there is no target in it; it begins with `targets:`, and names below that");
	expect_fault("targets: {}\n", "t.yaml: there is no target in it; it begins with `targets:`, and names below that");
}

static void each_fault_has_its_line(void **state)
{
	expect_fault("a: b\n", "t.yaml:1: unknown key `a`; the file begins with `targets:`");
	expect_fault("targets: x\n", "t.yaml:1: `targets` is a mapping, of names to what they are made of");
	expect_fault("targets:\n  a: x\n", "t.yaml:2: target `a` is to have `paths:`, `needs:` or both below it");
	expect_fault("targets:\n  a:\n    path: x\n", "t.yaml:3: unknown key `path` of target `a`: it has `paths`, `needs`, `run`, `outputs`, `env`, `image`, `workdir` and "
	             "`timeout`");
	expect_fault("targets:\n  a:\n    paths:\n      x: y\n",
	             "t.yaml:4: unknown key `paths` of target `a`: it has `paths` and `needs`, each a list, and what it runs");
	expect_fault("targets:\n  a: {paths: x}\n  a: {paths: y}\n", "t.yaml:3: `a` is there twice");
	expect_fault("targets:\n  a:\n    paths:\n      - x\n      - '[b'\n", "t.yaml:5: `[b`: the pattern has a '[' without a ']'");
	expect_fault("targets:\n  a:\n    paths:\n      - '#x'\n", "t.yaml:4: a pattern is empty, begins with # or holds a line feed");
	expect_fault("targets:\n  a:\n    paths: [x, \"x\\n\"]\n", "t.yaml:3: a pattern is empty, begins with # or holds a line feed");
	expect_fault("targets:\n  a:\n    needs: ['']\n", "t.yaml:3: the name of a target is empty");
	expect_fault("targets:\n  \"a\\tb\": {paths: x}\n", "t.yaml:2: the name of a target holds a control character or is no UTF-8");
	expect_fault("targets:\n  \"a\\x9b2J\": {paths: x}\n", "t.yaml:2: the name of a target holds a control character or is no UTF-8");
	expect_fault("targets:\n  \"a\\nb\": {paths: x}\n", "t.yaml:2: a key holds a character that has no place there");
	expect_fault("targets:\n  a:\n    needs: [zzz]\n", "t.yaml:3: target `a` needs `zzz`, which is not there");
	expect_fault("targets:\n  a:\n    needs:\n      - servre\n  server: {paths: s}\n",
	             "t.yaml:4: target `a` needs `servre`, which is not there; did you mean `server`?");
	expect_fault("targets:\n  a:\n    workdir: /work\n", "t.yaml:3: `workdir` is a path in the tree, without a slash before it");
	expect_fault("targets:\n  a:\n    workdir: a/../..\n", "t.yaml:3: `workdir` is a path in the tree, without a slash before it");
	expect_fault("targets:\n  a:\n    outputs: [b, ../c]\n", "t.yaml:3: an output is a path below the tree, such as build/app");
	expect_fault("targets:\n  a:\n    env: [A=1, =x]\n", "t.yaml:3: a variable is NAME=VALUE or NAME");
	expect_fault("targets:\n  server:\n    needs: [servre]\n", "t.yaml:3: target `server` needs `servre`, which is not there");
	expect_fault("targets:\n  a: {needs: a}\n", "t.yaml:2: targets that need each other: `a` needs `a`");
	expect_fault("targets:\n  x: {needs: a}\n  a: {needs: b}\n  b: {needs: c}\n  c: {needs: [d, a]}\n  d: {paths: d}\n",
	             "t.yaml:5: targets that need each other: `a` needs `b` needs `c` needs `a`");
}

static void what_is_no_yaml_is_told(void **state)
{
	struct targets *targets = NULL;
	char why[1024];

	assert_int_equal(targets_parse(&targets, span_text("targets:\n\tx\n"), "t.yaml", why, sizeof(why)), -EINVAL);
	assert_memory_equal(why, "t.yaml:2: ", 10);
	assert_int_equal(targets_parse(&targets, span_text("targets: {a: &x {paths: p}, b: *x}\n"), "t.yaml", why, sizeof(why)), -EINVAL);
	assert_string_equal(why, "t.yaml:1: aliases are not supported");
	assert_int_equal(targets_read(&targets, "/nonexistent/targets.yaml", why, sizeof(why)), -ENOENT);
	assert_string_equal(why, "/nonexistent/targets.yaml: No such file or directory");
}

static void a_long_chain_is_no_trouble(void **state)
{
	enum { CHAIN = 15000 };
	struct buffer text = buffer_heap(4 << 20);
	struct targets *targets;
	char line[64], why[1024];

	buffer_put(&text, "targets:\n", 9);
	for (int i = 0; i < CHAIN; i++)
		buffer_put(&text, line, (size_t)snprintf(line, sizeof(line), " t%d: {needs: t%d}\n", i, i + 1));
	buffer_put(&text, line, (size_t)snprintf(line, sizeof(line), " t%d: {paths: x}\n", CHAIN));
	assert_int_equal(targets_parse(&targets, buffer_span(&text), "t.yaml", why, sizeof(why)), 0);
	assert_int_equal(targets_touch(targets, "x/y"), 0);
	targets_settle(targets);
	assert_int_equal(place(targets, "t0"), CHAIN);
	assert_true(targets_affected(targets, CHAIN));
	targets_destroy(targets);
	for (int i = 0; i < 2000; i++)
		buffer_put(&text, line, (size_t)snprintf(line, sizeof(line), " u%d: {paths: x}\n", i));
	assert_int_equal(targets_parse(&targets, buffer_span(&text), "t.yaml", why, sizeof(why)), -EINVAL);
	assert_string_equal(why, "t.yaml:16386: one target too many");
	buffer_fini(&text);
}

static void patterns_mean_what_dockerignore_means(void **state)
{
	const char *text = "targets:\n  a: {paths: [src, '!src/doc', /top.c, '**/*.proto', 'x/*/y', src/doc/keep]}\n";

	assert_true(affects(text, "src", "a"));
	assert_true(affects(text, "src/x/y.c", "a"));
	assert_false(affects(text, "srcs/x", "a"));
	assert_false(affects(text, "src/doc/x", "a"));
	assert_true(affects(text, "src/doc/keep", "a"));
	assert_true(affects(text, "top.c", "a"));
	assert_false(affects(text, "sub/top.c", "a"));
	assert_true(affects(text, "a.proto", "a"));
	assert_true(affects(text, "deep/er/a.proto", "a"));
	assert_true(affects(text, "x/1/y", "a"));
	assert_true(affects(text, "x/1/y/z", "a"));
	assert_false(affects(text, "x/1/2/y", "a"));
	assert_false(affects("targets: {a: {needs: []}}", "src", "a"));
}

static void what_is_affected_spreads(void **state)
{
	struct targets *targets = parse("targets:\n"
		"  top: {needs: [left, right]}\n"
		"  left: {paths: l, needs: base}\n"
		"  right: {paths: r}\n"
		"  base: {paths: b}\n"
		"  other: {paths: [o, b/only]}\n");
	struct target_reason reason;
	char path[16];

	assert_int_equal(targets_touch(targets, "b"), 0);
	for (int i = 0; i < 20; i++) {
		snprintf(path, sizeof(path), "b/%d", i);
		assert_int_equal(targets_touch(targets, path), 0);
	}
	targets_settle(targets);
	assert_true(targets_affected(targets, place(targets, "base")));
	assert_true(targets_affected(targets, place(targets, "left")));
	assert_true(targets_affected(targets, place(targets, "top")));
	assert_false(targets_affected(targets, place(targets, "right")));
	assert_false(targets_affected(targets, place(targets, "other")));
	reason = targets_reason(targets, place(targets, "base"));
	assert_int_equal(reason.paths_count, TARGETS_REASONS_MAX);
	assert_string_equal(reason.paths[1], "b/0");
	assert_true(reason.more);
	assert_int_equal(reason.needs_count, 0);
	reason = targets_reason(targets, place(targets, "top"));
	assert_int_equal(reason.paths_count, 0);
	assert_int_equal(reason.needs_count, 1);
	assert_string_equal(reason.needs[0], "left");
	targets_destroy(targets);
}

static void what_a_target_runs(void **state)
{
	struct targets *targets = parse("targets:\n"
	                                "  line: { run: make all, outputs: [a, b], env: X=1, image: i, workdir: w, timeout: 90s }\n"
	                                "  list: { run: [make, all], env: [A, B=2] }\n"
	                                "  none: { paths: x }\n");
	const struct target_command *command = targets_command(targets, place(targets, "line"));

	assert_true(command->shell);
	assert_int_equal(command->arguments.count, 1);
	assert_string_equal(command->arguments.items[0], "make all");
	assert_int_equal(command->outputs.count, 2);
	assert_string_equal(command->outputs.items[1], "b");
	assert_string_equal(command->environment.items[0], "X=1");
	assert_string_equal(command->image, "i");
	assert_string_equal(command->working_directory, "w");
	assert_int_equal(command->timeout_ns, 90000000000u);
	command = targets_command(targets, place(targets, "list"));
	assert_false(command->shell);
	assert_int_equal(command->arguments.count, 2);
	assert_int_equal(command->environment.count, 2);
	assert_null(command->image);
	assert_int_equal(targets_command(targets, place(targets, "none"))->arguments.count, 0);
	targets_destroy(targets);
	expect_fault("targets:\n  a:\n    run: \"\"\n", "t.yaml:3: `run` is a command: a line for the shell, or a list of arguments");
	expect_fault("targets:\n  a:\n    timeout: soon\n", "t.yaml:3: `timeout` is a time, such as 10m");
	expect_fault("targets:\n  a:\n    image: [a]\n", "t.yaml:3: one value is wanted, not none and no list");
}

static void what_a_target_is_made_of(void **state)
{
	static const struct {
		const char *path;
		enum target_part part;
	} parts[] = {
		{ "server", TARGETS_PART }, { "server/a", TARGETS_WHOLE }, { "server/doc", TARGETS_NO_PART },
		{ "proto", TARGETS_WHOLE }, { "proto/x", TARGETS_WHOLE },        /* needed by what it needs */
		{ "deep", TARGETS_MAY_HOLD }, { "deep/er", TARGETS_MAY_HOLD }, { "deep/er/x.c", TARGETS_WHOLE }, { "deep/x.c", TARGETS_NO_PART },
		{ "deeper", TARGETS_NO_PART }, { "tools", TARGETS_NO_PART }, { "any", TARGETS_MAY_HOLD },
	};
	struct targets *targets = parse("targets:\n"
	                                "  server: { paths: [server, \"!server/doc\", deep/er/x.c], needs: middle }\n"
	                                "  middle: { needs: proto }\n"
	                                "  proto: { paths: [proto, /any/*/y] }\n"
	                                "  tools: { paths: [\"**/tools\"] }\n");
	size_t server = place(targets, "server"), tools = place(targets, "tools");

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (targets_part(targets, server, parts[i].path) != parts[i].part)
			fail_msg("%s: %d", parts[i].path, targets_part(targets, server, parts[i].path));
	assert_int_equal(targets_part(targets, tools, "a"), TARGETS_MAY_HOLD);
	assert_int_equal(targets_part(targets, tools, "a/tools"), TARGETS_WHOLE);
	targets_destroy(targets);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_target_runs),
		cmocka_unit_test(what_a_target_is_made_of),
		cmocka_unit_test(targets_come_after_what_they_need),
		cmocka_unit_test(a_file_without_targets_is_refused),
		cmocka_unit_test(each_fault_has_its_line),
		cmocka_unit_test(what_is_no_yaml_is_told),
		cmocka_unit_test(a_long_chain_is_no_trouble),
		cmocka_unit_test(patterns_mean_what_dockerignore_means),
		cmocka_unit_test(what_is_affected_spreads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
