/* sluice affected: which targets of a repository have other inputs than they had in a former tree. */
#include <stdio.h>

#include "gateway/base/cleanup.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/explain_table.h"
#include "gateway/cmd/json.h"
#include "gateway/cmd/root_argument.h"
#include "gateway/cmd/session.h"
#include "gateway/cmd/targets.h"
#include "gateway/cmd/two_trees.h"

/* As grep(1) has it, so that `if sluice affected …` reads well. */
#define AFFECTED_NONE    1
#define AFFECTED_TROUBLE 2

#define AFFECTED_SHOWN 4                 /* paths after a name; --json has TARGETS_REASONS_MAX */

struct affected_options {
	bool json, why, quiet, no_ignore;
	const char *since, *root, *ignore_file;
};

#define MEMBER(name) offsetof(struct affected_options, name)
static const struct option affected_options[] = {
	{ .name = "since", .kind = OPTION_TEXT, .offset = MEMBER(since), .argument = "ROOT",
	  .help = "the former tree: a root at the gateway, as `sluice push` printed it" },
	{ .name = "root", .kind = OPTION_TEXT, .offset = MEMBER(root), .argument = "ROOT",
	  .help = "compare this root at the gateway instead of a directory" },
	{ .name = "why", .kind = OPTION_FLAG, .offset = MEMBER(why), .help = "say after each name what it is affected by" },
	{ .name = "json", .kind = OPTION_FLAG, .offset = MEMBER(json), .help = "print one JSON object, with reasons" },
	{ .name = "quiet", .letter = 'q', .kind = OPTION_FLAG, .offset = MEMBER(quiet), .help = "print nothing; the exit status tells" },
	{ .name = "ignore-file", .kind = OPTION_TEXT, .offset = MEMBER(ignore_file), .argument = "FILE",
	  .help = "patterns of what to leave out, instead of DIR/.dockerignore: the same as for the push of the former tree" },
	{ .name = "no-ignore", .kind = OPTION_FLAG, .offset = MEMBER(no_ignore), .help = "take everything, whatever .dockerignore says" },
};
#undef MEMBER
static const struct option_group affected_group = OPTION_GROUP("Options", affected_options);
static const struct option_group *const affected_groups[] = { &affected_group, &client_options_group, NULL };

struct affected {
	struct affected_options options;
	struct client_options client;
	struct targets *targets;
	struct digest before, after;
	struct manifest *manifest;       /* NULL: `after` is at the gateway */
	uint64_t changes;
};

/* The root of the tree itself is nobody's input: its mode is the checkout's, not the content's. */
static int take_change(void *context, const struct difference_change *change)
{
	struct affected *affected = context;

	if (!*change->path || !two_trees_word(change->kinds))
		return 0;
	affected->changes++;
	return targets_touch(affected->targets, change->path);
}

/* ---- output ---- */

static void print_reason(const struct target_reason *reason)
{
	const char *between = "\t";

	for (size_t i = 0; i < reason->paths_count && i < AFFECTED_SHOWN; i++) {
		fputs(between, stdout);
		explain_print_path(stdout, reason->paths[i], false);
		between = ", ";
	}
	if (reason->paths_count > AFFECTED_SHOWN)
		fputs(", …", stdout);
	for (size_t i = 0; i < reason->needs_count; i++) {
		printf("%sneeds %s", between, reason->needs[i]);
		between = ", ";
	}
}

static void print_text(struct affected *affected)
{
	for (size_t i = 0; i < targets_count(affected->targets); i++) {
		struct target_reason reason;

		if (!targets_affected(affected->targets, i))
			continue;
		fputs(targets_name(affected->targets, i), stdout);
		reason = targets_reason(affected->targets, i);
		if (affected->options.why)
			print_reason(&reason);
		putchar('\n');
	}
}

static json_t *paths_json(const struct target_reason *reason)
{
	json_t *array = json_array();

	for (size_t i = 0; i < reason->paths_count; i++)
		json_array_append_new(array, json_path(span_text(reason->paths[i])));
	return array;
}

static json_t *needs_json(const struct target_reason *reason)
{
	json_t *array = json_array();

	for (size_t i = 0; i < reason->needs_count; i++)
		json_array_append_new(array, json_text(reason->needs[i]));
	return array;
}

static json_t *target_json(struct affected *affected, size_t index)
{
	struct target_reason reason = targets_reason(affected->targets, index);
	json_t *object = json_object();

	json_set_text(object, "target", targets_name(affected->targets, index));
	json_object_set_new(object, "paths", paths_json(&reason));
	json_object_set_new(object, "more_paths", json_boolean(reason.more));
	json_object_set_new(object, "needs", needs_json(&reason));
	return object;
}

static int print_json(struct affected *affected)
{
	json_t *object = json_object(), *array = json_array();
	char root[DIGEST_TEXT_MAX];

	for (size_t i = 0; i < targets_count(affected->targets); i++)
		if (targets_affected(affected->targets, i))
			json_array_append_new(array, target_json(affected, i));
	json_set_text(object, "since", digest_text(&affected->before, root));
	json_set_text(object, "root", digest_text(&affected->after, root));
	json_set_u64(object, "targets", targets_count(affected->targets));
	json_set_u64(object, "changes", affected->changes);
	json_object_set_new(object, "affected", array);
	return json_print(object);
}

/* ---- the command ---- */

/* No gateway is asked when both are the same: then nothing is affected. */
static int compare(struct affected *affected)
{
	struct two_trees trees = {
		.command = &command_affected, .before = &affected->before, .after = &affected->after,
		.manifest = affected->manifest, .inside_removed = true, .visit = take_change, .context = affected,
	};
	int status;

	if (digest_equal(&affected->before, &affected->after))
		return STATUS_OK;
	status = session_open(&trees.client, &command_affected, &affected->client);
	if (status == STATUS_OK)
		status = two_trees_walk(&trees);
	session_close(trees.client);
	return status;
}

static int find_after(struct affected *affected, const char *directory)
{
	int status;

	if (affected->options.root)
		return root_argument(&command_affected, affected->options.root, &affected->after);
	status = two_trees_scan(&command_affected, directory, affected->options.ignore_file, affected->options.no_ignore,
	                        &affected->manifest);
	if (status == STATUS_OK)
		affected->after = *manifest_root(affected->manifest);
	return status;
}

static int find_out(struct affected *affected, const char *file, const char *directory)
{
	char why[2048];
	int r, status = root_argument(&command_affected, affected->options.since, &affected->before);

	if (status)
		return status;
	r = targets_read(&affected->targets, file, why, sizeof(why));
	if (r < 0)
		return command_fail(&command_affected, "%s", why);
	status = find_after(affected, directory);
	if (status == STATUS_OK)
		status = compare(affected);
	if (status == STATUS_OK)
		targets_settle(affected->targets);
	return status;
}

static int tell(struct affected *affected)
{
	size_t count = 0;

	for (size_t i = 0; i < targets_count(affected->targets); i++)
		count += targets_affected(affected->targets, i);
	if (affected->options.json && !affected->options.quiet && print_json(affected) != STATUS_OK)
		return AFFECTED_TROUBLE;
	if (!affected->options.json && !affected->options.quiet)
		print_text(affected);
	/* A list that was cut short is not "none". */
	if (fflush(stdout) != 0 || ferror(stdout))
		return AFFECTED_TROUBLE;
	return count ? STATUS_OK : AFFECTED_NONE;
}

static int affected_run(int argc, char **argv)
{
	CLEANUP(options_fini) struct options options;
	struct affected affected = { .targets = NULL };
	void *const values[] = { &affected.options, &affected.client };
	int status;

	if (!options_parse(&options, &command_affected, values, argc, argv, &status))
		return status;
	if (options.operand_count < 1 || options.operand_count > 2)
		return command_usage(&command_affected, "a file of targets, and perhaps a directory, are needed");
	if (affected.options.root && options.operand_count == 2)
		return command_usage(&command_affected, "either --root or a directory, not both");
	if (!affected.options.since)
		return command_usage(&command_affected, "--since is needed: the root of the former tree");
	status = find_out(&affected, options.operands[0], options.operand_count == 2 ? options.operands[1] : ".");
	if (status == STATUS_OK)
		status = tell(&affected);
	else if (status == STATUS_FAILURE)
		status = AFFECTED_TROUBLE;
	targets_destroy(affected.targets);
	manifest_destroy(affected.manifest);
	return status;
}

const struct command command_affected = {
	.name = "affected",
	.summary = "name the targets whose inputs changed since a former tree",
	.help = "TARGETS.yaml says what a repository builds: targets, each with patterns of the paths that it is made of and the names\n"
	        "of the targets that it needs. Prints, one a line and each after those that it needs, the targets whose paths\n"
	        "differ between the tree ROOT at the gateway and DIR (default: the current directory) as it is now, and all\n"
	        "that need one of these. Nothing is pushed; only directories that differ are fetched.\n\n"
	        "Exits with 0 when a target is affected, 1 when none is, 2 or more when it could not find out.\n\n"
	        "  targets:\n"
	        "    proto:  { paths: [proto, \"!proto/**/*.md\"] }\n"
	        "    server: { paths: [server, go.mod], needs: [proto] }\n\n"
	        "  sluice affected --since \"$(cat last-green)\" targets.yaml\n"
	        "  sluice affected --since \"$(cat last-green)\" --why targets.yaml .",
	.run = affected_run,
	.operands = "TARGETS.yaml [DIR]",
	.groups = affected_groups,
};
