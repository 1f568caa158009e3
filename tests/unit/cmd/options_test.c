/*
 * Shows how a setting is found: each kind of value in each spelling, the order command line > environment > file >
 * default, `--`, and that each mistake is refused with a message that names it; and who may do without a file that he may
 * not read. The table of commands is this test's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "gateway/base/cleanup.h"
#include "gateway/cmd/command.h"
#include "gateway/cmd/options.h"

struct values {
	bool json;
	const char *gateway, *ceiling;
	uint64_t bytes, timeout_ns, patience_ns, slots;
	int engine;
	struct option_list outputs;
};

static const char *const engines[] = { "auto", "io_uring", "epoll", NULL };

#define MEMBER(name) offsetof(struct values, name)
static const struct option options_table[] = {
	{ .name = "json", .help = "h", .letter = 'j', .kind = OPTION_FLAG, .offset = MEMBER(json), .environment = "T_JSON", .key = "json" },
	{ .name = "gateway", .help = "h", .letter = 'g', .kind = OPTION_TEXT, .offset = MEMBER(gateway), .environment = "T_GATEWAY",
	  .key = "gateway", .fallback = "default" },
	{ .name = "ceiling", .help = "h", .kind = OPTION_SHARE, .offset = MEMBER(ceiling), .key = "store.ceiling" },
	{ .name = "bytes", .help = "h", .kind = OPTION_BYTES, .offset = MEMBER(bytes), .fallback = "1kB", .environment = "T_BYTES" },
	{ .name = "timeout", .help = "h", .kind = OPTION_DURATION, .offset = MEMBER(timeout_ns), .fallback = "10s" },
	{ .name = "patience", .help = "h", .kind = OPTION_DURATION, .offset = MEMBER(patience_ns), .fallback = "10s", .least = 1 },
	{ .name = "slots", .help = "h", .kind = OPTION_NUMBER, .offset = MEMBER(slots), .least = 1, .most = 64, .key = "slots" },
	{ .name = "engine", .help = "h", .kind = OPTION_CHOICE, .offset = MEMBER(engine), .choices = engines },
	{ .name = "output", .help = "h", .letter = 'o', .kind = OPTION_LIST, .offset = MEMBER(outputs), .key = "outputs",
	  .environment = "T_OUTPUT" },
};
static const struct option_group group = OPTION_GROUP("Options", options_table);
static const struct option_group *const groups[] = { &group, NULL };

static const struct option other_table[] = {
	{ .name = "other", .kind = OPTION_TEXT, .key = "other.key" },
	{ .name = "jsen", .kind = OPTION_TEXT, .key = "jsen" },
};
static const struct option_group other_group = OPTION_GROUP("Options", other_table);
static const struct option_group *const other_groups[] = { &other_group, NULL };

static const struct command command_try = { .name = "try", .help = "help of try", .operands = "[X]...", .groups = groups };
static const struct command command_bare = { .name = "bare", .help = "help of bare", .groups = groups };
static const struct command command_serving = { .name = "serving", .help = "help of serving", .groups = groups, .serves = true };
static const struct command command_other = { .name = "other", .help = "help", .groups = other_groups };
static const struct command command_plain = { .name = "plain", .help = "help", .operands = "[X]..." };
const struct command *const command_table[] = { &command_other, &command_try, &command_bare, NULL };

/* What a parse wrote to stdout or stderr. */
static char said[8192];

struct capture {
	int fd, saved;
	FILE *file;
};

static void capture_begin(struct capture *capture, int fd)
{
	fflush(NULL);
	capture->file = tmpfile();
	assert_non_null(capture->file);
	capture->fd = fd;
	capture->saved = dup(fd);
	dup2(fileno(capture->file), fd);
}

static void capture_end(struct capture *capture)
{
	size_t size;

	fflush(NULL);
	dup2(capture->saved, capture->fd);
	close(capture->saved);
	rewind(capture->file);
	size = fread(said, 1, sizeof(said) - 1, capture->file);
	said[size] = '\0';
	fclose(capture->file);
}

static bool parse(struct options *options, const struct command *command, struct values *values, int *status,
                  char **argv)
{
	void *const all[] = { values };
	struct capture out, err;
	char out_said[sizeof(said)];
	int argc = 0;
	bool parsed;

	while (argv[argc])
		argc++;
	*status = -1;
	capture_begin(&out, STDOUT_FILENO);
	capture_begin(&err, STDERR_FILENO);
	parsed = options_parse(options, command, all, argc, argv, status);
	capture_end(&err);
	memcpy(out_said, said, sizeof(said));
	capture_end(&out);
	strncat(said, out_said, sizeof(said) - strlen(said) - 1);
	return parsed;
}

#define ARGV(...) ((char *[]){ (char *)"try", ##__VA_ARGS__, NULL })
#define A(text)   ((char *)(text))

static void refused(char **argv, const char *message)
{
	CLEANUP(options_fini) struct options options;
	struct values values;
	int status;

	assert_false(parse(&options, &command_try, &values, &status, argv));
	assert_int_equal(status, STATUS_USAGE);
	if (!strstr(said, message))
		fail_msg("wanted \"%s\", got \"%s\"", message, said);
}

static void takes_each_kind(void **state)
{
	CLEANUP(options_fini) struct options options;
	struct values values;
	int status;

	assert_true(parse(&options, &command_try, &values, &status,
	                  ARGV(A("--json"), A("--gateway=grpc://x"), A("--ceiling"), A("10%"), A("--bytes"), A("2MiB"),
	                       A("--timeout"), A("150ms"), A("--patience=1ns"), A("--slots=64"), A("--engine"), A("epoll"), A("-oa"), A("-o"),
	                       A("b"), A("--output=c"))));
	assert_true(values.json);
	assert_string_equal(values.gateway, "grpc://x");
	assert_string_equal(values.ceiling, "10%");
	assert_int_equal(values.bytes, 2 << 20);
	assert_int_equal(values.timeout_ns, 150000000);
	assert_int_equal(values.patience_ns, 1);
	assert_int_equal(values.slots, 64);
	assert_int_equal(values.engine, 2);
	assert_int_equal(values.outputs.count, 3);
	assert_string_equal(values.outputs.items[0], "a");
	assert_string_equal(values.outputs.items[2], "c");
	assert_true(options_given(&options, "slots"));
}

static void the_longest_duration_may_be_added_to_any_time(void **state)
{
	CLEANUP(options_fini) struct options options;
	struct values values;
	int status;

	assert_true(parse(&options, &command_try, &values, &status, ARGV(A("--timeout=36500d"))));
	assert_int_equal(values.timeout_ns, OPTION_DURATION_MAX_NS);
	/* The wall clock counts from 1970; this is its year 2100. */
	assert_true(values.timeout_ns < (UINT64_MAX - UINT64_C(4102444800) * 1000000000) / 4);
}

static void falls_back(void **state)
{
	CLEANUP(options_fini) struct options options;
	struct values values;
	int status;

	memset(&values, 0xff, sizeof(values));
	assert_true(parse(&options, &command_try, &values, &status, ARGV(A("--json=no"))));
	assert_false(values.json);
	assert_string_equal(values.gateway, "default");
	assert_null(values.ceiling);
	assert_int_equal(values.bytes, 1000);
	assert_int_equal(values.timeout_ns, UINT64_C(10000000000));
	assert_int_equal(values.slots, 0);
	assert_int_equal(values.engine, 0);
	assert_int_equal(values.outputs.count, 0);
	assert_false(options_given(&options, "gateway"));
}

static void mixes_operands(void **state)
{
	CLEANUP(options_fini) struct options options;
	struct values values;
	int status;

	assert_true(parse(&options, &command_try, &values, &status,
	                  ARGV(A("dir"), A("-j"), A("-"), A("--"), A("make"), A("-j"), A("--"), A("--nonsense"))));
	assert_true(values.json);
	assert_int_equal(options.operand_count, 6);
	assert_int_equal(options.separator, 2);
	assert_string_equal(options.operands[1], "-");
	assert_string_equal(options.operands[3], "-j");
	assert_string_equal(options.operands[4], "--");
	options_fini(&options);
	assert_true(parse(&options, &command_try, &values, &status, ARGV(A("dir"))));
	assert_int_equal(options.separator, 1);
}

static void refuses_mistakes(void **state)
{
	CLEANUP(options_fini) struct options options;
	struct values values;
	int status;

	refused(ARGV(A("--gatewya=x")), "unknown option --gatewya; did you mean --gateway?");
	refused(ARGV(A("--frobnicate")), "unknown option --frobnicate\n");
	refused(ARGV(A("-x")), "unknown option -x");
	refused(ARGV(A("-jx")), "unknown option -x");
	refused(ARGV(A("--gateway")), "--gateway needs a value");
	refused(ARGV(A("-o")), "--output needs a value");
	refused(ARGV(A("--bytes"), A("12XB")), "--bytes: \"12XB\" is not a size");
	refused(ARGV(A("--bytes"), A("10%")), "--bytes: \"10%\" is not a size");
	refused(ARGV(A("--ceiling"), A("110%")), "--ceiling: \"110%\" is not a size");
	refused(ARGV(A("--timeout="), A("x")), "--timeout: \"\" is not a duration");
	refused(ARGV(A("--patience"), A("0s")), "--patience: \"0s\" is not a duration of more than 0, like 150ms");
	/* Added to the time it is now, it would be in the past. */
	refused(ARGV(A("--timeout"), A("213503d")), "\"213503d\" is not a duration like 150ms, 30s, 5m or 7d, at most 36500d");
	refused(ARGV(A("--timeout"), A("3153600000001ms")), "at most 36500d");
	refused(ARGV(A("--slots"), A("0")), "a number from 1 to 64");
	refused(ARGV(A("--slots"), A("65")), "a number from 1 to 64");
	refused(ARGV(A("--slots"), A("-5")), "a number from 1 to 64");
	refused(ARGV(A("--slots"), A("99999999999999999999999")), "a number from 1 to 64");
	refused(ARGV(A("--engine"), A("kqueue")), "one of auto, io_uring, epoll");
	refused(ARGV(A("--json=perhaps")), "\"perhaps\" is not true or false");
	assert_false(parse(&options, &command_bare, &values, &status, ARGV(A("dir"))));
	assert_int_equal(status, STATUS_USAGE);
	assert_non_null(strstr(said, "unexpected argument \"dir\""));
}

static void helps_even_when_the_rest_is_wrong(void **state)
{
	CLEANUP(options_fini) struct options options;
	struct values values;
	int status;

	assert_false(parse(&options, &command_try, &values, &status, ARGV(A("--slots=0"), A("--help"))));
	assert_int_equal(status, STATUS_OK);
	assert_non_null(strstr(said, "help of try"));
	assert_non_null(strstr(said, "T_GATEWAY"));
	/* Behind `--` it is the action's. */
	options_fini(&options);
	assert_true(parse(&options, &command_try, &values, &status, ARGV(A("--"), A("--help"))));
}

/* ---- files and the environment ---- */

static char config_path[] = "/tmp/sluice-options-XXXXXX";

static void write_config(const char *text)
{
	FILE *file = fopen(config_path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void orders_sources(void **state)
{
	CLEANUP(options_fini) struct options options;
	struct values values;
	int status;

	write_config("gateway: from-file\nstore:\n  ceiling: 5GB\nslots: 3\njson: yes\noutputs: [f1, f2]\nother: {key: x}\n");
	assert_true(parse(&options, &command_try, &values, &status, ARGV(A("--config"), config_path)));
	assert_string_equal(values.gateway, "from-file");
	assert_string_equal(values.ceiling, "5GB");
	assert_int_equal(values.slots, 3);
	assert_true(values.json);
	assert_int_equal(values.outputs.count, 2);
	assert_string_equal(values.outputs.items[1], "f2");
	options_fini(&options);

	setenv("T_GATEWAY", "from-environment", 1);
	setenv("T_OUTPUT", "e1", 1);
	setenv("T_JSON", "", 1);
	assert_true(parse(&options, &command_try, &values, &status, ARGV(A("--config"), config_path)));
	assert_string_equal(values.gateway, "from-environment");
	assert_int_equal(values.outputs.count, 1);
	assert_true(values.json);
	options_fini(&options);

	assert_true(parse(&options, &command_try, &values, &status,
	                  ARGV(A("-g"), A("from-flag"), A("-o"), A("c1"), A("-o"), A("c2"), A("--config"), config_path)));
	assert_string_equal(values.gateway, "from-flag");
	assert_int_equal(values.outputs.count, 2);
	assert_string_equal(values.outputs.items[0], "c1");
	unsetenv("T_GATEWAY");
	unsetenv("T_OUTPUT");
	unsetenv("T_JSON");
}

static void finds_the_users_file(void **state)
{
	CLEANUP(options_fini) struct options options;
	char home[] = "/tmp/sluice-home-XXXXXX", path[128];
	struct values values;
	FILE *file;
	int status;

	assert_non_null(mkdtemp(home));
	snprintf(path, sizeof(path), "mkdir -p %s/.config/sluice", home);
	assert_int_equal(system(path), 0);
	snprintf(path, sizeof(path), "%s/.config/sluice/sluice.yaml", home);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs("gateway: from-home\n", file);
	fclose(file);
	setenv("HOME", home, 1);
	assert_true(parse(&options, &command_try, &values, &status, ARGV()));
	assert_string_equal(values.gateway, "from-home");
	options_fini(&options);
	/* One that may not be read is named, and left out. */
	assert_int_equal(chmod(path, 0), 0);
	assert_int_equal(chmod(home, 0755), 0);
	if (geteuid() == 0)
		assert_int_equal(seteuid(65534), 0);
	assert_true(parse(&options, &command_try, &values, &status, ARGV()));
	assert_int_equal(seteuid(getuid()), 0);
	assert_string_equal(values.gateway, "default");
	assert_non_null(strstr(said, path));
	options_fini(&options);
	/* A file that was named replaces it; it must be there. */
	write_config("slots: 2\n");
	setenv("SLUICE_CONFIG", config_path, 1);
	assert_true(parse(&options, &command_try, &values, &status, ARGV()));
	assert_string_equal(values.gateway, "default");
	unsetenv("SLUICE_CONFIG");
	setenv("HOME", "/nonexistent", 1);
	snprintf(path, sizeof(path), "rm -r %s", home);
	assert_int_equal(system(path), 0);
}

#define MUST(expr) ((expr) ? (void)0 : (fprintf(stderr, "line %d: %s: %s\n", __LINE__, #expr, said), _exit(1)))

/* In a process and a mount namespace of its own: an /etc with nothing but a gateway's settings, which are root's alone. */
static void machine_child(void)
{
	char home[] = "/etc/home-XXXXXX", path[64];
	struct options options;
	struct values values;
	int status;
	FILE *file;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("tmpfs", "/etc", "tmpfs", 0, NULL))
		_exit(77);
	MUST(mkdir("/etc/sluice", 0755) == 0);
	file = fopen("/etc/sluice/sluice.yaml", "w");
	MUST(file && fputs("gateway: from-machine\n", file) >= 0 && fclose(file) == 0);
	MUST(parse(&options, &command_serving, &values, &status, ARGV()) && strcmp(values.gateway, "from-machine") == 0);
	options_fini(&options);
	MUST(mkdtemp(home) && chown(home, 65534, 65534) == 0 && chmod("/etc/sluice/sluice.yaml", 0600) == 0);
	MUST(setresuid(65534, 65534, 65534) == 0);
	setenv("XDG_CONFIG_HOME", home, 1);
	MUST(parse(&options, &command_try, &values, &status, ARGV()) && strcmp(values.gateway, "default") == 0 && !*said);
	options_fini(&options);
	/* Whoever serves is to be what that file says, or nothing. */
	MUST(!parse(&options, &command_serving, &values, &status, ARGV()) && status == STATUS_USAGE);
	MUST(strstr(said, "sluice serving: /etc/sluice/sluice.yaml: Permission denied to the user 65534") && strstr(said, "--config"));
	options_fini(&options);
	/* Or what another file does: one that is named, or one's own. */
	MUST(parse(&options, &command_serving, &values, &status, ARGV(A("--config"), config_path)) && !*said);
	options_fini(&options);
	snprintf(path, sizeof(path), "%s/sluice", home);
	MUST(mkdir(path, 0755) == 0);
	snprintf(path, sizeof(path), "%s/sluice/sluice.yaml", home);
	file = fopen(path, "w");
	MUST(file && fputs("gateway: from-home\n", file) >= 0 && fclose(file) == 0);
	MUST(parse(&options, &command_serving, &values, &status, ARGV()) && strcmp(values.gateway, "from-home") == 0);
	MUST(strstr(said, "going on with ") && strstr(said, path));
	options_fini(&options);
}

static void whoever_serves_must_read_the_machines_file(void **state)
{
	int status;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	write_config("gateway: from-named\n");
	assert_int_equal(chmod(config_path, 0644), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		machine_child();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

static void refused_config(const char *text, const char *message)
{
	char wanted[256];

	write_config(text);
	snprintf(wanted, sizeof(wanted), "%s:%s", config_path, message);
	refused(ARGV(A("--config"), config_path), wanted);
}

static void refuses_bad_files(void **state)
{
	refused_config("slots: 3\ngatewai: x\n", "2: unknown key `gatewai`; did you mean `gateway`?");
	refused_config("# one\nstore:\n  celing: 1\n", "3: unknown key `store.celing`; did you mean `store.ceiling`?");
	refused_config("othr.key: x\n", "1: unknown key `othr.key`; did you mean `other.key`?");
	refused_config("jsin: x\n", "1: unknown key `jsin`; did you mean `json`?");     /* this command's, not another's `jsen` */
	refused_config("zebra: x\n", "1: unknown key `zebra`\n");
	refused_config("slots: 65\n", "1: `slots`: \"65\" is not a number from 1 to 64");
	refused_config("slots: 1\nslots: 2\n", "2: `slots` is there twice");
	refused_config("slots: [1, 2]\n", "1: `slots` takes one value, not a list");
	refused_config("slots: &a 1\ngateway: *a\n", "2: aliases are not supported");
	refused_config("- a\n", "1: a sequence cannot stand here");
	refused_config("outputs: [[a]]\n", "1: a sequence cannot stand here");
	refused_config("outputs: [{a: b}]\n", "1: a mapping cannot stand here");
	refused_config("slots: 1\n---\nslots: 2\n", "2: a second document");
	refused_config("just text\n", "1: expected `key: value` lines");
	refused_config("slots: \"a\\0b\"\n", "1: a value holds a NUL byte");
	refused_config("a: {a: {a: {a: {a: {a: {a: {a: {a: b}}}}}}}}\n", "1: mappings are nested too deeply");
	refused_config("gateway: [\n", "2: ");
	refused(ARGV(A("--config=/nonexistent/sluice.yaml")), "/nonexistent/sluice.yaml: No such file");
	refused(ARGV(A("--config=/tmp")), "/tmp: not a file");
	setenv("T_BYTES", "many", 1);
	refused(ARGV(), "T_BYTES in the environment: \"many\" is not a size");
	unsetenv("T_BYTES");
}

static void is_not_read_where_nothing_is_set(void **state)
{
	CLEANUP(options_fini) struct options options;
	int status;

	write_config("gatewai: x\n");
	assert_true(parse(&options, &command_plain, NULL, &status, ARGV(A("--config"), config_path)));
}

static void accepts_an_empty_file(void **state)
{
	CLEANUP(options_fini) struct options options;
	struct values values;
	int status;

	write_config("");
	assert_true(parse(&options, &command_try, &values, &status, ARGV(A("--config"), config_path)));
	options_fini(&options);
	write_config("# nothing\ngateway:\n");
	assert_true(parse(&options, &command_try, &values, &status, ARGV(A("--config"), config_path)));
	assert_string_equal(values.gateway, "default");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_each_kind),
		cmocka_unit_test(the_longest_duration_may_be_added_to_any_time),
		cmocka_unit_test(falls_back),
		cmocka_unit_test(mixes_operands),
		cmocka_unit_test(refuses_mistakes),
		cmocka_unit_test(helps_even_when_the_rest_is_wrong),
		cmocka_unit_test(orders_sources),
		cmocka_unit_test(finds_the_users_file),
		cmocka_unit_test(whoever_serves_must_read_the_machines_file),
		cmocka_unit_test(refuses_bad_files),
		cmocka_unit_test(is_not_read_where_nothing_is_set),
		cmocka_unit_test(accepts_an_empty_file),
	};
	int fd = mkstemp(config_path), failed;

	setenv("HOME", "/nonexistent", 1);
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("SLUICE_CONFIG");
	close(fd);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(config_path);
	return failed;
}
