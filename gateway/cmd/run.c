/* sluice run: a command on a tree, in a container of the gateway's; or its result from the cache. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/cleanup.h"
#include "gateway/base/clock.h"
#include "gateway/base/units.h"
#include "gateway/cmd/action.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/executing.h"
#include "gateway/cmd/json.h"
#include "gateway/cmd/outputs.h"
#include "gateway/cmd/pushing.h"
#include "gateway/cmd/root_argument.h"
#include "gateway/cmd/run_targets.h"
#include "gateway/cmd/session.h"
#include "gateway/upload/level.h"

#define RUN_MEMORY_LEAST (6u << 20)       /* runc itself takes 2.8 MB before the command is there; docker's least */

struct run_options {
	const char *root, *working_directory, *image, *output_directory, *metadata_file, *ignore_file, *targets, *since, *junit;
	struct option_list environment, outputs;
	bool network, no_cache, json, no_ignore;
	uint64_t timeout_ns, memory_bytes, cpu_millis, pids, jobs;
};

#define MEMBER(name) offsetof(struct run_options, name)
static const struct option run_options[] = {
	{ .name = "root", .kind = OPTION_TEXT, .offset = MEMBER(root), .argument = "ROOT", .help = "run on this tree; nothing is scanned or pushed" },
	{ .name = "env", .letter = 'e', .kind = OPTION_LIST, .offset = MEMBER(environment), .argument = "NAME[=VALUE]",
	  .help = "a variable that the command sees; with NAME alone our value. No other ones are passed on" },
	{ .name = "output", .letter = 'o', .kind = OPTION_LIST, .offset = MEMBER(outputs), .argument = "PATH",
	  .help = "a file or directory that the command makes: pulled back to the same path; may be given several times" },
	{ .name = "output-dir", .kind = OPTION_TEXT, .offset = MEMBER(output_directory), .argument = "DIR",
	  .help = "pull outputs below DIR instead" },
	{ .name = "workdir", .letter = 'w', .kind = OPTION_TEXT, .offset = MEMBER(working_directory), .argument = "PATH",
	  .help = "directory of the tree to run in: relative to DIR, and in it" },
	{ .name = "image", .kind = OPTION_TEXT, .offset = MEMBER(image), .argument = "DIR",
	  .help = "run in this OCI layout directory below the executor's --images; default: the executor's own /usr, if it allows it" },
	{ .name = "timeout", .kind = OPTION_DURATION, .offset = MEMBER(timeout_ns), .argument = "TIME", .least = 1,
	  .help = "kill it after this long" },
	{ .name = "memory", .kind = OPTION_BYTES, .offset = MEMBER(memory_bytes), .argument = "SIZE", .help = "the most that it may use; 6MiB at least" },
	{ .name = "cpu", .kind = OPTION_NUMBER, .offset = MEMBER(cpu_millis), .argument = "MILLIS", .least = 1,
	  .most = 1000000, .help = "thousandths of a CPU that it may use" },
	{ .name = "pids", .kind = OPTION_NUMBER, .offset = MEMBER(pids), .argument = "N", .least = 1, .most = 100000,
	  .help = "the most processes" },
	{ .name = "network", .kind = OPTION_FLAG, .offset = MEMBER(network),
	  .help = "let it reach the network, where the gateway's operator allows it; part of what the cache goes by" },
	{ .name = "no-cache", .kind = OPTION_FLAG, .offset = MEMBER(no_cache), .help = "run it even if the result is known, and do not keep the result" },
	{ .name = "ignore-file", .kind = OPTION_TEXT, .offset = MEMBER(ignore_file), .argument = "FILE",
	  .help = "patterns of what to leave out of the push, instead of DIR/.dockerignore" },
	{ .name = "no-ignore", .kind = OPTION_FLAG, .offset = MEMBER(no_ignore), .help = "push everything, whatever .dockerignore says" },
	{ .name = "targets", .kind = OPTION_TEXT, .offset = MEMBER(targets), .argument = "FILE",
	  .help = "run what the targets in FILE say, many at a time, each on the tree that it is made of; no COMMAND then" },
	{ .name = "since", .kind = OPTION_TEXT, .offset = MEMBER(since), .argument = "ROOT",
	  .help = "with --targets: say which ones `sluice affected --since ROOT` would name" },
	{ .name = "jobs", .letter = 'j', .kind = OPTION_NUMBER, .offset = MEMBER(jobs), .argument = "N", .least = 1,
	  .most = RUN_TARGETS_JOBS_MAX, .fallback = "32", .help = "with --targets: how many are asked for at a time" },
	{ .name = "junit", .kind = OPTION_TEXT, .offset = MEMBER(junit), .argument = "FILE",
	  .help = "with --targets: write a JUnit report to FILE" },
	{ .name = "json", .kind = OPTION_FLAG, .offset = MEMBER(json),
	  .help = "print one JSON object at the end: on stderr; with --targets on stdout, instead of the table" },
	{ .name = "metadata-file", .kind = OPTION_TEXT, .offset = MEMBER(metadata_file), .argument = "FILE",
	  .help = "write that object to FILE, also when something goes wrong" },
};
#undef MEMBER
static const struct option_group run_group = OPTION_GROUP("Options", run_options);
static const struct option_group *const run_groups[] = { &run_group, &progress_options_group, &client_options_group, NULL };

struct run {
	struct run_options options;
	struct client *client;
	struct progress *progress;
	struct progress_vertex *vertex;
	const char *directory;           /* NULL with --root */
	struct digest root, action;
	struct client_call *call;
	bool finished, cached;           /* `finished`: the command ran to its end, or the cache knew how it ended */
	int exit_code;
	struct digest changes;           /* size 0: nothing changed */
	bool changed;
	uint64_t run_ns;
};

/* ---- before ---- */

static int run_push(struct run *run, const struct client_options *client_options)
{
	struct pushing pushing = {
		.command = &command_run, .client = run->client, .gateway = client_options->gateway, .directory = run->directory,
		.ignore_path = run->options.ignore_file, .no_ignore = run->options.no_ignore, .level = LEVEL_AUTO, .progress = run->progress,
	};
	int status = pushing_run(&pushing);

	run->root = pushing.root;
	return status;
}

static struct action_wish run_wish(const struct run_options *options)
{
	return (struct action_wish){
		.environment = &options->environment, .outputs = &options->outputs, .working_directory = options->working_directory,
		.image = options->image, .network = options->network, .no_cache = options->no_cache, .timeout_ns = options->timeout_ns,
		.memory_bytes = options->memory_bytes, .cpu_millis = options->cpu_millis, .pids = options->pids,
	};
}

static int run_upload_action(struct run *run, char *const *arguments, size_t count)
{
	struct action_wish wish = run_wish(&run->options);

	wish.arguments = arguments;
	wish.arguments_count = count;
	wish.root = run->root;
	return executing_upload(run->client, &command_run, &wish, &run->action);
}

/* ---- while it runs ---- */

static void run_on_output(struct run *run, const struct execute_output *output)
{
	char detail[48];

	if (output->queue_position) {
		snprintf(detail, sizeof(detail), "waiting for a slot, %u in the queue", output->queue_position);
		progress_update(run->vertex, 0, 0, PROGRESS_NONE, detail);
	}
	if (output->data.size)
		progress_log(run->vertex, (int)output->stream, output->data);
}

static void print_stdout(void *context, struct span blob)
{
	progress_log(((struct run *)context)->vertex, 1, blob);
}

static void print_stderr(void *context, struct span blob)
{
	progress_log(((struct run *)context)->vertex, 2, blob);
}

static int run_print_cached(struct run *run, const struct reapi_action_result *result)
{
	const struct digest digests[2] = { result->stdout_digest, result->stderr_digest };
	const struct span raws[2] = { result->stdout_raw, result->stderr_raw };

	for (int i = 0; i < 2; i++) {
		int status;

		if (raws[i].size)
			progress_log(run->vertex, i + 1, raws[i]);
		if (raws[i].size || !digests[i].size)
			continue;
		status = outputs_print(run->client, &command_run, &digests[i], i ? print_stderr : print_stdout, run);
		if (status)
			return status;
	}
	return STATUS_OK;
}

static int run_on_operation(struct run *run, struct span message)
{
	struct executing_news news;
	char why[1024];

	if (!executing_read(&news, message))
		return session_failed(&command_run, 0, GRPC_INTERNAL, "the gateway sent a malformed operation");
	run_on_output(run, &news.output);
	if (!news.done)
		return STATUS_OK;
	if (news.status != GRPC_OK) {
		snprintf(why, sizeof(why), "%.*s", (int)news.why.size, (const char *)news.why.data);
		return session_failed(&command_run, 0, news.status, why);
	}
	run->finished = true;
	run->cached = news.cached;
	run->exit_code = news.result.exit_code;
	run->changed = news.changed;
	run->changes = news.changes;
	return run->cached ? run_print_cached(run, &news.result) : STATUS_OK;
}

static int run_execute(struct run *run)
{
	struct executing_wish wish = { .action = run->action, .skip_cache = run->options.no_cache, .stream = true };
	char directory[PATH_MAX];
	int r = CLIENT_OK, status;

	if (run->directory && realpath(run->directory, directory))
		wish.directory = directory;
	status = executing_open(&run->call, run->client, &command_run, &wish);
	while (status == STATUS_OK && r == CLIENT_OK) {
		struct span message;
		uint64_t tick = progress_tick(run->progress);

		r = client_receive(run->call, &message, tick ? tick : 1);
		if (r == CLIENT_OK)
			status = run_on_operation(run, message);
		else if (r == CLIENT_AGAIN)
			r = CLIENT_OK;
	}
	if (r == CLIENT_INTERRUPTED)
		return STATUS_INTERRUPTED;
	if (status == STATUS_OK && !run->finished) {
		const char *text;
		enum grpc_status code = client_call_status(run->call, &text);

		return session_failed(&command_run, 0, code ? code : GRPC_INTERNAL, text);
	}
	return status;
}

/* ---- after ---- */

/* As far as it came: only a command that ended has an exit_code. */
static json_t *run_json(const struct run *run)
{
	static const struct digest none;
	json_t *object = json_object();
	char text[DIGEST_TEXT_MAX];

	json_set_text(object, "root", digest_equal(&run->root, &none) ? NULL : digest_text(&run->root, text));
	json_set_text(object, "action", digest_equal(&run->action, &none) ? NULL : digest_text(&run->action, text));
	if (run->finished)
		json_object_set_new(object, "exit_code", json_integer(run->exit_code));
	json_object_set_new(object, "cached", json_boolean(run->cached));
	json_set_text(object, "changes", run->changed ? digest_text(&run->changes, text) : NULL);
	json_set_seconds(object, "seconds", run->run_ns);
	return object;
}

static int run_report(struct run *run, enum progress_mode mode)
{
	char text[DIGEST_TEXT_MAX], seconds[24];
	json_t *object = run_json(run);
	int status = STATUS_OK;

	if (run->options.json)
		json_dumpf(object, stderr, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15));
	if (run->options.json)
		fputc('\n', stderr);
	errno = 0;
	if (run->options.metadata_file && json_dump_file(object, run->options.metadata_file, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) < 0) {
		status = command_status_errno(errno ? errno : EIO);
		command_fail(&command_run, "%s cannot be written: %s", run->options.metadata_file, strerror(errno ? errno : EIO));
	}
	json_decref(object);
	if (!run->finished || !progress_for_people(mode) || run->options.json)
		return status;
	fprintf(stderr, "exit %d %s in %s", run->exit_code, run->cached ? "from the cache" : "run",
	        units_format_duration(run->run_ns, seconds));
	if (run->changed)
		fprintf(stderr, ", changes %s", digest_text(&run->changes, text));
	fputc('\n', stderr);
	return status;
}

static int run_pull_outputs(struct run *run)
{
	const struct outputs outputs = {
		.changes = run->changed ? &run->changes : NULL, .pushed = &run->root, .paths = &run->options.outputs,
		.below = run->options.output_directory ? run->options.output_directory : run->directory ? run->directory : ".",
	};
	char why[5000];
	int status = STATUS_OK;

	if (run->options.outputs.count)
		status = outputs_pull(run->client, &outputs, why, sizeof(why));
	if (status && status != STATUS_INTERRUPTED)
		command_fail(&command_run, "%s", why);
	return status;
}

/* Half of an output must not pass for all of it. */
static int run_check_output(const struct run *run)
{
	int r = progress_log_error(run->progress);

	if (r == 0)
		return STATUS_OK;
	command_fail(&command_run, "the command's output cannot be written: %s", strerror(-r));
	return command_status_errno(r);
}

static int run_action(struct run *run, struct options *parsed, const struct client_options *client_options)
{
	char *const *arguments = parsed->operands + parsed->separator;
	size_t count = parsed->operand_count - parsed->separator;
	uint64_t begin;
	int status;

	status = run->directory ? run_push(run, client_options) : STATUS_OK;
	begin = clock_now_ns();
	if (status == STATUS_OK)
		status = run_upload_action(run, arguments, count);
	if (status)
		return status;
	run->vertex = progress_begin(run->progress, arguments[0]);
	status = run_execute(run);
	run->run_ns = clock_now_ns() - begin;
	progress_end(run->vertex, status ? PROGRESS_ERROR : run->cached ? PROGRESS_CACHED : PROGRESS_DONE,
	             status == STATUS_INTERRUPTED ? "interrupted" : NULL);
	if (status == STATUS_OK) {
		int pulled = run_pull_outputs(run);

		status = run_check_output(run);
		status = status ? status : pulled;
	}
	return status;
}

/* What no gateway could do well is refused before anything is pushed. */
static int run_check(const struct run_options *options)
{
	for (size_t i = 0; i < options->environment.count; i++)
		if (!action_variable_valid(options->environment.items[i]))
			return command_usage(&command_run, "--env \"%s\": a variable is NAME=VALUE or NAME",
			                     options->environment.items[i]);
	if (options->working_directory && !action_directory_valid(options->working_directory))
		return command_usage(&command_run, "--workdir \"%s\" is not a path in the tree, such as src/app",
		                     options->working_directory);
	for (size_t i = 0; i < options->outputs.count; i++)
		if (!outputs_path_valid(options->outputs.items[i]))
			return command_usage(&command_run, "--output \"%s\" is not a path below the tree, such as build/app",
			                     options->outputs.items[i]);
	if (options->memory_bytes && options->memory_bytes < RUN_MEMORY_LEAST)
		return command_usage(&command_run, "--memory is too small: a container does not start with less than 6MiB");
	return STATUS_OK;
}

static int run_all_targets(struct run *run, struct options *parsed, struct client_options *client_options, int progress)
{
	struct run_targets wish = {
		.command = &command_run, .file = run->options.targets, .since = run->options.since,
		.ignore_file = run->options.ignore_file, .no_ignore = run->options.no_ignore,
		.directory = parsed->operand_count ? parsed->operands[0] : ".", .output_directory = run->options.output_directory,
		.junit = run->options.junit, .jobs = run->options.jobs, .json = run->options.json,
		.quiet = progress == PROGRESS_QUIET, .defaults = run_wish(&run->options),
	};
	int status;

	if (parsed->operand_count > 1 || parsed->separator < parsed->operand_count || run->options.root || run->options.outputs.count ||
	    run->options.metadata_file)
		return command_usage(&command_run, "with --targets come a directory at most, and neither a command, --root, --output nor "
		                     "--metadata-file: --json and --junit tell of all");
	status = session_open(&run->client, &command_run, client_options);
	if (status)
		return status;
	wish.client = run->client;
	wish.gateway = client_options->gateway;
	wish.progress = progress_create(&(struct progress_config){ .mode = (enum progress_mode)progress, .title = "sluice run" });
	status = run_targets(&wish);
	session_close(run->client);
	return status;
}

/* As a process can have it: of a gateway's 256 the kernel would make a 0. */
static int run_exit_status(int exit_code)
{
	return exit_code > 0 && exit_code <= UINT8_MAX ? exit_code : UINT8_MAX;
}

/* The report is made whatever goes wrong: one of a former run, in the same file, must not pass for ours. */
static int run_one(struct run *run, struct options *options, struct client_options *client_options, enum progress_mode mode)
{
	int status = session_open(&run->client, &command_run, client_options), reported;

	if (status == STATUS_OK) {
		run->progress = progress_create(&(struct progress_config){ .mode = mode, .title = "sluice run" });
		status = run_action(run, options, client_options);
		progress_destroy(run->progress);
	}
	reported = run_report(run, mode);
	client_call_close(run->call);
	session_close(run->client);
	return status ? status : reported;
}

static int run_run(int argc, char **argv)
{
	CLEANUP(options_fini) struct options options;
	struct progress_options progress;
	struct client_options client_options;
	struct run run = { 0 };
	void *const values[] = { &run.options, &progress, &client_options };
	int status;

	if (!options_parse(&options, &command_run, values, argc, argv, &status))
		return status;
	status = run_check(&run.options);
	if (status)
		return status;
	if (run.options.targets)
		return run_all_targets(&run, &options, &client_options, progress.mode);
	if (run.options.since || run.options.junit)
		return command_usage(&command_run, "--since and --junit are for --targets");
	if (options.separator == options.operand_count)
		return command_usage(&command_run, "no command: it comes after `--`, as in `sluice run -- make test`");
	if (options.separator > (run.options.root ? 0 : 1))
		return command_usage(&command_run, run.options.root ? "with --root no directory is pushed" : "one directory at a time");
	if (!run.options.root)
		run.directory = options.separator ? options.operands[0] : ".";
	else if ((status = root_argument(&command_run, run.options.root, &run.root)))
		return status;
	status = run_one(&run, &options, &client_options, (enum progress_mode)progress.mode);
	/* What the command ended with says more than what it led to: of a failed one an output is seldom there. */
	return run.exit_code ? run_exit_status(run.exit_code) : status;
}

const struct command command_run = {
	.name = "run",
	.summary = "run a command on a tree, in a container at the gateway, or take its result from the cache",
	.help = "Pushes DIR (default: the current directory; with --root nothing), then runs COMMAND in a container whose /work\n"
	        "is that tree. It sees the tree, the variables named with --env, and nothing else. Output is streamed, the exit\n"
	        "status is the command's. What it changes below /work is kept as a tree whose root is printed; --output\n"
	        "also pulls a path back: files one by one over what is there, so that what COMMAND left alone stays, as does what it\n"
	        "deleted. What is pulled into DIR belongs into its .dockerignore: else the next run begins with it made.\n"
	        "A command that ended with 0 answers from the cache the next time, for everybody of the\n"
	        "tenant, while tree, command, variables and environment stay the same.\n\n"
	        "With --targets it runs what a file says instead (see `sluice help affected`): each target that has `run:`, on\n"
	        "the tree of its own paths and of those of all that it needs, and nothing else. So a target whose inputs did\n"
	        "not change answers from the cache. Ends with a table, and with 1 when a target did not pass.\n\n"
	        "Exits with the status of COMMAND: 128 + N when signal N ended it, 126 when it cannot be executed, 127 when there\n"
	        "is none of that name; when that is 0, with 1 if it did not make or change an --output, and with 102 or 1 if the output\n"
	        "cannot be written here. When COMMAND did not run to its end:\n\n"
	        "    1  the gateway cannot be reached or refuses, or --timeout was over\n"
	        "    2  sluice was called wrongly\n"
	        "  100  a bug, here or at the gateway\n"
	        "  102  --memory, the store, a disk, the queue or a quota is too small\n"
	        "  130  interrupted, by SIGINT or SIGTERM\n\n"
	        "--json and --metadata-file tell 1 from 1: their object has an exit_code if COMMAND ran to its end.\n\n"
	        "  sluice run -- make test\n"
	        "  sluice run --env CC=gcc --output build/app . -- make -j8 build/app\n"
	        "  sluice run --root sha256:HEX/SIZE -- sh -c 'cc -o t t.c && ./t'\n"
	        "  sluice run --targets targets.yaml --junit report.xml",
	.run = run_run,
	.operands = "[DIR] -- COMMAND [ARG]...",
	.groups = run_groups,
};
