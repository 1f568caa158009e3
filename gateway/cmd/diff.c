/* sluice diff: what differs between two trees, or between a tree and a directory. */
#include <stdio.h>
#include <sys/stat.h>

#include "gateway/base/cleanup.h"
#include "gateway/cmd/clean.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/json.h"
#include "gateway/cmd/root_argument.h"
#include "gateway/cmd/session.h"
#include "gateway/cmd/two_trees.h"

#define DIFF_TROUBLE 2                   /* as diff(1) has it: 1 says that something differs */

struct diff_options {
	bool json, quiet, no_ignore;
	const char *ignore_file;
};

#define MEMBER(name) offsetof(struct diff_options, name)
static const struct option diff_options[] = {
	{ .name = "json", .kind = OPTION_FLAG, .offset = MEMBER(json), .help = "print one JSON object a change" },
	{ .name = "quiet", .letter = 'q', .kind = OPTION_FLAG, .offset = MEMBER(quiet), .help = "print nothing; the exit status tells" },
	{ .name = "ignore-file", .kind = OPTION_TEXT, .offset = MEMBER(ignore_file), .argument = "FILE",
	  .help = "patterns of what to leave out of DIR, instead of DIR/.dockerignore: as for the push of ROOT" },
	{ .name = "no-ignore", .kind = OPTION_FLAG, .offset = MEMBER(no_ignore), .help = "take everything, whatever .dockerignore says" },
};
#undef MEMBER
static const struct option_group diff_group = OPTION_GROUP("Options", diff_options);
static const struct option_group *const diff_groups[] = { &diff_group, &client_options_group, NULL };

struct changes {
	const struct diff_options *options;
	uint64_t count;
};

static int print_change(void *context, const struct difference_change *change)
{
	struct changes *changes = context;
	const char *word = two_trees_word(change->kinds);

	if (!word)
		return 0;
	changes->count++;
	if (changes->options->quiet)
		return 0;
	if (changes->options->json) {
		json_t *object = json_object();

		json_set_text(object, "change", word);
		json_object_set_new(object, "path", json_path(span_text(change->path)));
		return json_print(object);
	}
	printf("%-8s ", word);
	clean_print(stdout, span_text(*change->path ? change->path : "."));
	putchar('\n');
	return 0;
}

static int diff_run(int argc, char **argv)
{
	CLEANUP(options_fini) struct options options;
	struct diff_options diff;
	struct client_options client_options;
	void *const values[] = { &diff, &client_options };
	struct manifest *manifest = NULL;
	struct client *client = NULL;
	struct digest before, after;
	struct changes changes = { .options = &diff };
	struct stat st;
	int status;

	if (!options_parse(&options, &command_diff, values, argc, argv, &status))
		return status;
	if (options.operand_count != 2)
		return command_usage(&command_diff, "two roots, or a root and a directory, are needed");
	status = root_argument(&command_diff, options.operands[0], &before);
	if (status == STATUS_OK && stat(options.operands[1], &st) == 0 && S_ISDIR(st.st_mode)) {
		status = two_trees_scan(&command_diff, options.operands[1], diff.ignore_file, diff.no_ignore, &manifest);
		if (status == STATUS_OK)
			after = *manifest_root(manifest);
	} else if (status == STATUS_OK && (diff.ignore_file || diff.no_ignore)) {
		return command_usage(&command_diff, "--ignore-file and --no-ignore are for a directory, and %s is none", options.operands[1]);
	} else if (status == STATUS_OK && !digest_from_text(&after, span_text(options.operands[1]))) {
		return command_usage(&command_diff, "%s is neither a directory nor a root, like sha256:HEX/SIZE", options.operands[1]);
	}
	if (status == STATUS_OK)
		status = session_open(&client, &command_diff, &client_options);
	if (status == STATUS_OK)
		status = two_trees_walk(&(struct two_trees){
			.command = &command_diff, .client = client, .before = &before, .after = &after,
			.manifest = manifest, .visit = print_change, .context = &changes,
		});
	session_close(client);
	manifest_destroy(manifest);
	if (status == STATUS_OK && (fflush(stdout) != 0 || ferror(stdout)))
		return DIFF_TROUBLE;
	if (status == STATUS_OK)
		return changes.count ? STATUS_FAILURE : STATUS_OK;
	return status == STATUS_FAILURE ? DIFF_TROUBLE : status;
}

const struct command command_diff = {
	.name = "diff",
	.summary = "show what differs between two trees, or a tree and a directory",
	.help = "Prints one line a change: added, removed, changed, mode, xattrs, hardlink, retyped. Exits with 0 when nothing differs, 1\n"
	        "when something does, 2 or more when it could not find out. Only directories that differ are looked at.\n"
	        "DIR is taken as `sluice push` would: with the same --ignore-file or --no-ignore as ROOT was, or all that these left\n"
	        "in or out differs.\n\n"
	        "  sluice diff sha256:HEX/SIZE sha256:HEX/SIZE\n"
	        "  sluice diff sha256:HEX/SIZE .",
	.run = diff_run,
	.operands = "ROOT ROOT|DIR",
	.groups = diff_groups,
};
