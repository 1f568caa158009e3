/* sluice run: a command on a tree, in a container of the gateway's; or its result from the cache. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chunker/sha256.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/clock.h"
#include "gateway/base/units.h"
#include "gateway/cmd/action.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/json.h"
#include "gateway/cmd/outputs.h"
#include "gateway/cmd/pushing.h"
#include "gateway/cmd/root_argument.h"
#include "gateway/cmd/session.h"
#include "proto/reapi.h"
#include "proto/sluice_v1.h"

#define RUN_ACTION_BYTES_MAX (1u << 20)

struct run_options {
	const char *root, *working_directory, *image, *output_directory, *metadata_file, *ignore_file;
	struct option_list environment, outputs;
	bool network, no_cache, json;
	uint64_t timeout_ns, memory_bytes, cpu_millis, pids;
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
	  .help = "directory in the tree to run in" },
	{ .name = "image", .kind = OPTION_TEXT, .offset = MEMBER(image), .argument = "DIR",
	  .help = "run in this OCI layout directory below the executor's --images; default: the executor's own /usr, if it allows it" },
	{ .name = "timeout", .kind = OPTION_DURATION, .offset = MEMBER(timeout_ns), .argument = "TIME", .help = "kill it after this long" },
	{ .name = "memory", .kind = OPTION_BYTES, .offset = MEMBER(memory_bytes), .argument = "SIZE", .help = "the most that it may use" },
	{ .name = "cpu", .kind = OPTION_NUMBER, .offset = MEMBER(cpu_millis), .argument = "MILLIS", .most = 1000000,
	  .help = "thousandths of a CPU that it may use" },
	{ .name = "pids", .kind = OPTION_NUMBER, .offset = MEMBER(pids), .argument = "N", .most = 100000, .help = "the most processes" },
	{ .name = "network", .kind = OPTION_FLAG, .offset = MEMBER(network),
	  .help = "let it reach the network, where the gateway's operator allows it; part of what the cache goes by" },
	{ .name = "no-cache", .kind = OPTION_FLAG, .offset = MEMBER(no_cache), .help = "run it even if the result is known, and do not keep the result" },
	{ .name = "ignore-file", .kind = OPTION_TEXT, .offset = MEMBER(ignore_file), .argument = "FILE",
	  .help = "patterns of what to leave out of the push, instead of DIR/.dockerignore" },
	{ .name = "json", .kind = OPTION_FLAG, .offset = MEMBER(json), .help = "print one JSON object on stderr at the end" },
	{ .name = "metadata-file", .kind = OPTION_TEXT, .offset = MEMBER(metadata_file), .argument = "FILE", .help = "write that object to FILE" },
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
	bool finished, cached;
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
		.ignore_path = run->options.ignore_file, .level = 3, .progress = run->progress,
	};
	int status = pushing_run(&pushing);

	run->root = pushing.root;
	return status;
}

static int run_upload_action(struct run *run, char *const *arguments, size_t count)
{
	struct buffer command = buffer_heap(RUN_ACTION_BYTES_MAX), action = buffer_heap(RUN_ACTION_BYTES_MAX);
	struct action_wish wish = {
		.arguments = arguments, .arguments_count = count, .environment = &run->options.environment,
		.outputs = &run->options.outputs, .working_directory = run->options.working_directory, .image = run->options.image,
		.network = run->options.network, .no_cache = run->options.no_cache, .timeout_ns = run->options.timeout_ns,
		.memory_bytes = run->options.memory_bytes, .cpu_millis = run->options.cpu_millis, .pids = run->options.pids,
		.root = run->root,
	};
	struct digest command_digest = { 0 }, digests[2];
	enum grpc_status code = GRPC_OK;
	int status = STATUS_OK, r = -E2BIG;
	struct span blobs[2];
	char why[1024] = "the command and its variables are longer than 1 MiB";

	if (action_command(&wish, &command)) {
		command_digest.size = command.size;
		sha256_once(command.data, command.size, command_digest.hash);
		if (action_encode(&wish, &command_digest, &action)) {
			blobs[0] = buffer_span(&command);
			blobs[1] = buffer_span(&action);
			r = upload_blobs(run->client, blobs, digests, 2, &code, why, sizeof(why));
		}
	}
	if (r == UPLOAD_INTERRUPTED)
		status = STATUS_INTERRUPTED;
	else if (r)
		status = session_failed(&command_run, r, code, why);
	else
		run->action = digests[1];
	buffer_fini(&command);
	buffer_fini(&action);
	return status;
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
		if (!digests[i].size)
			continue;
		status = outputs_print(run->client, &command_run, &digests[i], i ? print_stderr : print_stdout, run);
		if (status)
			return status;
	}
	return STATUS_OK;
}

static int run_on_response(struct run *run, struct span bytes)
{
	struct reapi_execute_response response;
	struct reapi_action_result result;
	struct reapi_output_directory directory;
	struct message_cursor cursor = { 0 };
	struct reapi_status status = { 0 };
	struct span element;
	char why[1024];

	if (!message_decode(&reapi_execute_response_type, bytes, &response) ||
	    !message_decode(&reapi_action_result_type, response.result, &result))
		return session_failed(&command_run, 0, GRPC_INTERNAL, "the gateway sent a malformed result");
	if (response.status.data && message_decode(&reapi_status_type, response.status, &status) && status.code) {
		snprintf(why, sizeof(why), "%.*s", (int)status.message.size, (const char *)status.message.data);
		return session_failed(&command_run, 0, (enum grpc_status)status.code, why);
	}
	run->finished = true;
	run->cached = response.cached_result;
	run->exit_code = result.exit_code;
	while (message_list_next(&result.output_directories, &cursor, &element))
		if (message_decode(&reapi_output_directory_type, element, &directory) && directory.path.size == 0) {
			run->changes = directory.root_directory_digest;
			run->changed = true;
		}
	return run->cached ? run_print_cached(run, &result) : STATUS_OK;
}

static int run_on_operation(struct run *run, struct span message)
{
	struct reapi_execute_metadata metadata;
	struct reapi_operation operation;
	struct execute_output output;
	struct reapi_any any;

	if (!message_decode(&reapi_operation_type, message, &operation))
		return session_failed(&command_run, 0, GRPC_INTERNAL, "the gateway sent a malformed operation");
	if (operation.metadata.data && message_decode(&reapi_any_type, operation.metadata, &any) &&
	    message_decode(&reapi_execute_metadata_type, any.value, &metadata) && metadata.sluice_output.data &&
	    message_decode(&execute_output_type, metadata.sluice_output, &output))
		run_on_output(run, &output);
	if (operation.done && message_decode(&reapi_any_type, operation.response, &any))
		return run_on_response(run, any.value);
	return STATUS_OK;
}

static int run_execute(struct run *run)
{
	struct reapi_execute_request request = { .action_digest = run->action, .skip_cache_lookup = run->options.no_cache };
	struct header metadata[2] = { { .name = span_text("sluice-output"), .value = span_text("stream") } };
	char directory[PATH_MAX];
	uint8_t storage[256];
	struct buffer bytes = buffer_over(storage, sizeof(storage));
	int r, status = STATUS_OK;

	if (!run->directory || !realpath(run->directory, directory))
		*directory = 0;
	message_encode(&reapi_execute_request_type, &bytes, &request);
	metadata[1] = (struct header){ .name = span_text("sluice-directory"), .value = span_text(directory) };
	r = client_call_open(&run->call, run->client, REAPI_EXECUTE, metadata, *directory ? 2 : 1);
	if (r < 0)
		return session_failed(&command_run, r, GRPC_OK, client_error(run->client));
	r = client_send(run->call, buffer_span(&bytes), 0);
	if (r == CLIENT_OK)
		client_send_end(run->call);
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

		return session_failed(&command_run, 0, code ? code : GRPC_INTERNAL, *text ? text : "the gateway ended the call without a result");
	}
	return status;
}

/* ---- after ---- */

static json_t *run_json(const struct run *run)
{
	json_t *object = json_object();
	char text[DIGEST_TEXT_MAX];

	json_set_text(object, "root", digest_text(&run->root, text));
	json_set_text(object, "action", digest_text(&run->action, text));
	json_object_set_new(object, "exit_code", json_integer(run->exit_code));
	json_object_set_new(object, "cached", json_boolean(run->cached));
	json_set_text(object, "changes", run->changed ? digest_text(&run->changes, text) : NULL);
	json_set_seconds(object, "seconds", run->run_ns);
	return object;
}

static int run_report(struct run *run, int mode)
{
	char text[DIGEST_TEXT_MAX], seconds[24];
	json_t *object = run_json(run);
	int status = STATUS_OK;

	if (run->options.json)
		json_dumpf(object, stderr, JSON_COMPACT);
	if (run->options.json)
		fputc('\n', stderr);
	if (run->options.metadata_file && json_dump_file(object, run->options.metadata_file, JSON_INDENT(2)) < 0)
		status = command_fail(&command_run, "%s cannot be written", run->options.metadata_file);
	json_decref(object);
	if (mode == PROGRESS_QUIET || run->options.json)
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
	const char *below = run->options.output_directory ? run->options.output_directory : run->directory ? run->directory : ".";

	if (!run->options.outputs.count)
		return STATUS_OK;
	return outputs_pull(run->client, &command_run, run->changed ? &run->changes : NULL, &run->options.outputs, below);
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
	progress_end(run->vertex, status ? PROGRESS_ERROR : run->cached ? PROGRESS_CACHED : PROGRESS_DONE, NULL);
	if (status == STATUS_OK)
		status = run_pull_outputs(run);
	return status;
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
	if (options.separator == options.operand_count)
		return command_usage(&command_run, "no command: it comes after `--`, as in `sluice run -- make test`");
	if (options.separator > (run.options.root ? 0 : 1))
		return command_usage(&command_run, run.options.root ? "with --root no directory is pushed" : "one directory at a time");
	if (!run.options.root)
		run.directory = options.separator ? options.operands[0] : ".";
	else if ((status = root_argument(&command_run, run.options.root, &run.root)))
		return status;
	status = session_open(&run.client, &command_run, &client_options);
	if (status)
		return status;
	run.progress = progress_create(&(struct progress_config){ .mode = (enum progress_mode)progress.mode, .title = "sluice run" });
	status = run_action(&run, &options, &client_options);
	progress_destroy(run.progress);
	if (status == STATUS_OK)
		status = run_report(&run, progress.mode);
	client_call_close(run.call);
	session_close(run.client);
	return status ? status : run.exit_code;
}

const struct command command_run = {
	.name = "run",
	.summary = "run a command on a tree, in a container at the gateway, or take its result from the cache",
	.help = "Pushes DIR (default: the current directory; with --root nothing), then runs COMMAND in a container whose /work\n"
	        "is that tree. It sees the tree, the variables named with --env, and nothing else. Output is streamed, the exit\n"
	        "status is the command's. What it changes below /work is kept as a tree whose root is printed; --output\n"
	        "also pulls a path back. A command that ended with 0 answers from the cache the next time, for everybody of the\n"
	        "tenant, while tree, command, variables and environment stay the same.\n\n"
	        "  sluice run -- make test\n"
	        "  sluice run --env CC=gcc --output build/app . -- make -j8 build/app\n"
	        "  sluice run --root sha256:HEX/SIZE -- sh -c 'cc -o t t.c && ./t'",
	.run = run_run,
	.operands = "[DIR] -- COMMAND [ARG]...",
	.groups = run_groups,
};
