/* Targets: push, cut a tree for each, upload the actions, run them all, report. */
#include "gateway/cmd/run_targets.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/clock.h"
#include "gateway/cmd/executing.h"
#include "gateway/cmd/json.h"
#include "gateway/cmd/outputs.h"
#include "gateway/cmd/pushing.h"
#include "gateway/cmd/root_argument.h"
#include "gateway/cmd/session.h"
#include "gateway/cmd/target_report.h"
#include "gateway/cmd/target_tree.h"
#include "gateway/cmd/two_trees.h"
#include "gateway/context/upload.h"
#include "gateway/upload/level.h"
#include "proto/sluice_v1.h"

#define OUTPUT_KEPT_BYTES (64u << 10)    /* of each stream, in reports: its end */
#define DIRECTORIES_BATCH 1024

struct job {
	size_t index;                    /* of the target */
	struct digest action;
	struct client_call *call;        /* while it is asked */
	uint64_t began_ns;
	bool over;
};

/* Directory messages on their way up, together. */
struct box {
	struct run *run;
	struct buffer bytes;             /* SLUICE_PACK_BYTES at most */
	size_t places[DIRECTORIES_BATCH];
	struct digest digests[DIRECTORIES_BATCH];
	size_t count;
	int status;
};

struct run {
	const struct run_targets *wish;
	struct targets *targets;
	struct manifest *manifest;
	struct digest root;
	struct progress_vertex *vertex;
	struct job *jobs;
	struct target_outcome *outcomes; /* parallel to jobs */
	size_t count, begun, done;
	size_t open;
	struct box box;
};

/* ---- the trees ---- */

static int box_flush(struct box *box)
{
	struct span blobs[DIRECTORIES_BATCH];
	enum grpc_status code;
	char why[1024];
	int r;

	if (box->count == 0)
		return 0;
	for (size_t i = 0; i < box->count; i++)
		blobs[i] = span_make(box->bytes.data + box->places[i], box->digests[i].size);
	r = upload_hashed_blobs(box->run->wish->client, blobs, box->digests, box->count, &code, why, sizeof(why));
	box->count = 0;
	buffer_clear(&box->bytes);
	if (r == UPLOAD_INTERRUPTED)
		box->status = STATUS_INTERRUPTED;
	else if (r)
		box->status = session_failed(box->run->wish->command, r < 0 ? r : 0, code, why);
	return r ? -EREMOTEIO : 0;
}

static int box_put(void *context, const struct digest *digest, struct span directory)
{
	struct box *box = context;
	int r = 0;

	if (box->count == DIRECTORIES_BATCH || box->bytes.size + directory.size > SLUICE_PACK_BYTES)
		r = box_flush(box);
	if (r)
		return r;
	box->places[box->count] = box->bytes.size;
	box->digests[box->count++] = *digest;
	buffer_put(&box->bytes, directory.data, directory.size);
	return box->bytes.failed ? -ENOMEM : 0;
}

/* An option of the command line, then those of the target: of a name given twice the last counts. */
static int join_lists(const struct option_list *first, const struct option_list *second, struct option_list *both)
{
	both->items = calloc(first->count + second->count + 1, sizeof(*both->items));
	both->count = first->count + second->count;
	if (!both->items)
		return STATUS_EXHAUSTED;
	for (size_t i = 0; i < both->count; i++)
		both->items[i] = i < first->count ? first->items[i] : second->items[i - first->count];
	return STATUS_OK;
}

static int make_action(struct run *run, struct job *job, const struct digest *root)
{
	const struct target_command *command = targets_command(run->targets, job->index);
	struct action_wish wish = run->wish->defaults;
	const char *shell[3] = { "/bin/sh", "-c", command->arguments.items[0] };
	struct option_list environment;
	int status = join_lists(run->wish->defaults.environment, &command->environment, &environment);

	if (status)
		return status;
	wish.arguments = (char *const *)(command->shell ? shell : command->arguments.items);
	wish.arguments_count = command->shell ? 3 : command->arguments.count;
	wish.environment = &environment;
	wish.outputs = &command->outputs;
	wish.root = *root;
	if (command->image)
		wish.image = command->image;
	if (command->working_directory)
		wish.working_directory = command->working_directory;
	if (command->timeout_ns)
		wish.timeout_ns = command->timeout_ns;
	status = executing_upload(run->wish->client, run->wish->command, &wish, &job->action);
	free(environment.items);
	return status;
}

/* A target of whose paths nothing is there does not run, and the others do. */
static int prepare_job(struct run *run, size_t at)
{
	struct job *job = &run->jobs[at];
	struct target_outcome *outcome = &run->outcomes[at];
	struct target_tree tree = {
		.manifest = run->manifest, .targets = run->targets, .index = job->index, .emit = box_put, .context = &run->box,
	};
	struct digest root;
	int r = target_tree_make(&tree, &root, outcome->why, sizeof(outcome->why));

	if (r == -ENOENT) {
		outcome->result = TARGET_ERROR;
		job->over = true;
		run->done++;
		return STATUS_OK;
	}
	if (r == 0)
		r = box_flush(&run->box);
	if (run->box.status)
		return run->box.status;
	if (r)
		return command_fail(run->wish->command, "%s: %s", outcome->name, outcome->why);
	return make_action(run, job, &root);
}

/* ---- running ---- */

static void job_end(struct run *run, struct job *job)
{
	struct target_outcome *outcome = &run->outcomes[job - run->jobs];

	outcome->ns = clock_now_ns() - job->began_ns;
	job->over = true;
	run->done++;
	run->open--;
	progress_update(run->vertex, run->done, run->count, PROGRESS_NONE, outcome->name);
}

static void keep_end(struct buffer *kept, struct span bytes)
{
	size_t skip = bytes.size > OUTPUT_KEPT_BYTES ? bytes.size - OUTPUT_KEPT_BYTES : 0;

	if (bytes.size)
		buffer_put(kept, bytes.data + skip, bytes.size - skip);
}

static void keep_blob(void *context, struct span blob)
{
	keep_end(context, blob);
}

/* What long output was is fetched only where somebody will want to read it. */
static int take_output(struct run *run, struct target_outcome *outcome, const struct reapi_action_result *result)
{
	const struct digest digests[2] = { result->stdout_digest, result->stderr_digest };
	const struct span raws[2] = { result->stdout_raw, result->stderr_raw };
	int status = STATUS_OK;

	for (int i = 0; i < 2 && status == STATUS_OK; i++) {
		outcome->output[i] = buffer_heap(OUTPUT_KEPT_BYTES);
		keep_end(&outcome->output[i], raws[i]);
		if (!raws[i].size && digests[i].size && outcome->result != TARGET_PASSED)
			status = outputs_print(run->wish->client, run->wish->command, &digests[i], keep_blob, &outcome->output[i]);
	}
	return status;
}

/* Whole lines: another target's, and the next stream's, do not begin behind them. */
static void show_stream(struct run *run, struct span output)
{
	if (output.size == 0)
		return;
	progress_log(run->vertex, 2, output);
	if (output.data[output.size - 1] != '\n')
		progress_log(run->vertex, 2, span_text("\n"));
}

static void show_output(struct run *run, const struct target_outcome *outcome)
{
	char line[400];

	snprintf(line, sizeof(line), "---- %.300s: exit %d\n", outcome->name, outcome->exit_code);
	progress_log(run->vertex, 2, span_text(line));
	for (int i = 0; i < 2; i++)
		show_stream(run, buffer_span(&outcome->output[i]));
}

static int job_on_end(struct run *run, struct job *job, const struct executing_news *news)
{
	struct target_outcome *outcome = &run->outcomes[job - run->jobs];
	int status = STATUS_OK;

	outcome->cached = news->cached;
	if (news->status != GRPC_OK) {
		outcome->result = TARGET_ERROR;
		snprintf(outcome->why, sizeof(outcome->why), "%s: %.*s", grpc_status_name(news->status), (int)news->why.size,
		         (const char *)news->why.data);
	} else {
		outcome->exit_code = news->result.exit_code;
		outcome->result = outcome->exit_code ? TARGET_FAILED : TARGET_PASSED;
		outcome->changed = news->changed;
		outcome->changes = news->changes;
	}
	/* What it printed is not to be had: said, and no reason to stop. */
	if (news->has_result && take_output(run, outcome, &news->result) == STATUS_INTERRUPTED)
		status = STATUS_INTERRUPTED;
	if (outcome->result == TARGET_FAILED && !run->wish->quiet)
		show_output(run, outcome);
	job_end(run, job);
	return status;
}

/* All that has come for one. */
static int job_receive(struct run *run, struct job *job)
{
	struct target_outcome *outcome = &run->outcomes[job - run->jobs];
	struct executing_news news;
	int r, status = STATUS_OK;
	struct span message;
	const char *text;

	while (!job->over && status == STATUS_OK && (r = client_receive(job->call, &message, 0)) != CLIENT_AGAIN) {
		if (r == CLIENT_INTERRUPTED)
			return STATUS_INTERRUPTED;
		if (r == CLIENT_END) {
			outcome->result = TARGET_ERROR;
			client_call_status(job->call, &text);
			snprintf(outcome->why, sizeof(outcome->why), "%s", text);
			job_end(run, job);
		} else if (!executing_read(&news, message)) {
			status = session_failed(run->wish->command, 0, GRPC_INTERNAL, "the gateway sent a malformed operation");
		} else if (news.done) {
			status = job_on_end(run, job, &news);
		}
	}
	if (job->over) {
		client_call_close(job->call);
		job->call = NULL;
	}
	return status;
}

static int begin_jobs(struct run *run, const char *directory)
{
	int status = STATUS_OK;

	for (; run->begun < run->count && run->open < run->wish->jobs && status == STATUS_OK; run->begun++) {
		struct job *job = &run->jobs[run->begun];
		struct executing_wish wish = {
			.action = job->action, .skip_cache = run->wish->defaults.no_cache, .directory = directory,
		};

		if (job->over)
			continue;
		job->began_ns = clock_now_ns();
		run->open++;
		status = executing_open(&job->call, run->wish->client, run->wish->command, &wish);
	}
	return status;
}

static int run_jobs(struct run *run)
{
	char path[PATH_MAX];
	const char *directory = realpath(run->wish->directory, path);
	int status = STATUS_OK;

	run->vertex = progress_begin(run->wish->progress, "run targets");
	while (run->done < run->count && status == STATUS_OK) {
		uint64_t tick;

		status = begin_jobs(run, directory);
		for (size_t i = 0; i < run->begun && status == STATUS_OK; i++)
			if (run->jobs[i].call)
				status = job_receive(run, &run->jobs[i]);
		tick = progress_tick(run->wish->progress);
		if (status == STATUS_OK && run->open && (run->open == run->wish->jobs || run->begun == run->count) &&
		    client_wait(run->wish->client, NULL, 0, NULL, tick ? tick : 1) == CLIENT_INTERRUPTED)
			status = STATUS_INTERRUPTED;
	}
	progress_end(run->vertex, status ? PROGRESS_ERROR : PROGRESS_DONE, status == STATUS_INTERRUPTED ? "interrupted" : NULL);
	return status;
}

/* ---- before and after ---- */

static int take_change(void *context, const struct difference_change *change)
{
	struct run *run = context;

	return *change->path && two_trees_word(change->kinds) ? targets_touch(run->targets, change->path) : 0;
}

static int find_affected(struct run *run)
{
	struct digest before;
	int status = root_argument(run->wish->command, run->wish->since, &before);
	struct two_trees trees = {
		.command = run->wish->command, .client = run->wish->client, .before = &before, .after = &run->root,
		.manifest = run->manifest, .inside_removed = true, .visit = take_change, .context = run,
	};

	if (status == STATUS_OK && !digest_equal(&before, &run->root))
		status = two_trees_walk(&trees);
	if (status == STATUS_OK)
		targets_settle(run->targets);
	return status;
}

static int list_jobs(struct run *run)
{
	size_t count = targets_count(run->targets);

	run->jobs = calloc(count + 1, sizeof(*run->jobs));
	run->outcomes = calloc(count + 1, sizeof(*run->outcomes));
	if (!run->jobs || !run->outcomes)
		return STATUS_EXHAUSTED;
	for (size_t i = 0; i < count; i++) {
		if (targets_command(run->targets, i)->arguments.count == 0)
			continue;
		run->jobs[run->count].index = i;
		run->outcomes[run->count].name = targets_name(run->targets, i);
		run->outcomes[run->count++].affected = targets_affected(run->targets, i);
	}
	if (run->count == 0)
		return command_fail(run->wish->command, "no target in %s has `run:`", run->wish->file);
	return STATUS_OK;
}

static int prepare(struct run *run)
{
	struct pushing pushing = {
		.command = run->wish->command, .client = run->wish->client, .gateway = run->wish->gateway,
		.directory = run->wish->directory, .ignore_path = run->wish->ignore_file, .no_ignore = run->wish->no_ignore,
		.level = LEVEL_AUTO, .keep = true,
		.progress = run->wish->progress,
	};
	char why[2048];
	int status, r = targets_read(&run->targets, run->wish->file, why, sizeof(why));

	if (r < 0)
		return command_fail(run->wish->command, "%s", why);
	status = pushing_run(&pushing);
	if (status)
		return status;
	run->manifest = pushing.manifest;
	run->root = pushing.root;
	if (run->wish->since)
		status = find_affected(run);
	if (status == STATUS_OK)
		status = list_jobs(run);
	for (size_t i = 0; i < run->count && status == STATUS_OK; i++)
		status = prepare_job(run, i);
	return status;
}

static int pull_outputs_of(const struct run *run, size_t at)
{
	struct target_outcome *outcome = &run->outcomes[at];
	const struct outputs outputs = {
		.changes = outcome->changed ? &outcome->changes : NULL, .pushed = &run->root,
		.paths = &targets_command(run->targets, run->jobs[at].index)->outputs, .below = run->wish->output_directory,
	};
	int status;

	if (outcome->result != TARGET_PASSED || outputs.paths->count == 0)
		return STATUS_OK;
	status = outputs_pull(run->wish->client, &outputs, outcome->why, sizeof(outcome->why));
	if (status)
		outcome->result = TARGET_ERROR;
	return status;
}

/* An output that is missing is its target's error; the others' are pulled all the same. */
static int pull_outputs(const struct run *run)
{
	int status = STATUS_OK;

	for (size_t i = 0; run->wish->output_directory && i < run->count && status != STATUS_INTERRUPTED; i++) {
		int pulled = pull_outputs_of(run, i);

		if (status == STATUS_OK || pulled == STATUS_INTERRUPTED)
			status = pulled;
	}
	return status;
}

/* After an interrupt, or when the gateway is gone. */
static void mark_unfinished(const struct run *run)
{
	for (size_t i = 0; i < run->count; i++) {
		if (run->jobs[i].over)
			continue;
		run->outcomes[i].result = TARGET_ERROR;
		snprintf(run->outcomes[i].why, sizeof(run->outcomes[i].why), "it had not ended when the run did");
	}
}

static int report_all(const struct run *run, uint64_t ns)
{
	struct target_report report = {
		.file = run->wish->file, .root = run->root, .outcomes = run->outcomes, .count = run->count,
		.since = run->wish->since, .ns = ns,
	};
	int r, status = STATUS_OK;

	if (run->wish->json)
		status = json_print(target_report_json(&report));
	else if (!run->wish->quiet)
		target_report_print(stdout, &report);
	if (!run->wish->junit)
		return status;
	r = target_report_junit(run->wish->junit, &report);
	return r < 0 ? command_fail(run->wish->command, "%s cannot be written: %s", run->wish->junit, strerror(-r)) : status;
}

static int verdict(const struct run *run)
{
	for (size_t i = 0; i < run->count; i++)
		if (run->outcomes[i].result != TARGET_PASSED)
			return STATUS_FAILURE;
	return STATUS_OK;
}

static void run_fini(struct run *run)
{
	for (size_t i = 0; i < run->count; i++) {
		client_call_close(run->jobs[i].call);
		buffer_fini(&run->outcomes[i].output[0]);
		buffer_fini(&run->outcomes[i].output[1]);
	}
	free(run->jobs);
	free(run->outcomes);
	buffer_fini(&run->box.bytes);
	manifest_destroy(run->manifest);
	targets_destroy(run->targets);
	free(run);
}

/* Whatever ended it: what was found out so far is told. */
static int run_prepared(struct run *run, uint64_t begin)
{
	int status = run_jobs(run), reported;

	progress_destroy(run->wish->progress);
	if (status == STATUS_OK)
		status = pull_outputs(run);
	mark_unfinished(run);
	reported = report_all(run, clock_now_ns() - begin);
	status = status ? status : reported;
	return status ? status : verdict(run);
}

int run_targets(const struct run_targets *wish)
{
	struct run *run = calloc(1, sizeof(*run));
	uint64_t begin = clock_now_ns();
	int status;

	if (!run)
		return STATUS_EXHAUSTED;
	run->wish = wish;
	run->box = (struct box){ .run = run, .bytes = buffer_heap(SLUICE_PACK_BYTES) };
	status = prepare(run);
	if (status == STATUS_OK)
		status = run_prepared(run, begin);
	else
		progress_destroy(wish->progress);
	run_fini(run);
	return status;
}
