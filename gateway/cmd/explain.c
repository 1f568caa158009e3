/* sluice explain: what a push costs, path by path, and why. */
#include <stdio.h>

#include "gateway/base/cleanup.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/explain_root.h"
#include "gateway/cmd/explain_table.h"
#include "gateway/cmd/root_argument.h"
#include "gateway/cmd/session.h"

struct explain_options {
	bool json, all, dry_run, no_ignore;
	const char *ignore_file, *root, *since;
	int compression;
	uint64_t top;
};

#define MEMBER(name) offsetof(struct explain_options, name)
static const struct option explain_options[] = {
	{ .name = "dry-run", .kind = OPTION_FLAG, .offset = MEMBER(dry_run), .help = "send no content and commit nothing: only predict" },
	{ .name = "top", .letter = 'n', .kind = OPTION_NUMBER, .offset = MEMBER(top), .argument = "COUNT", .least = 1,
	  .help = "how many paths to show, the costliest first; default: 20, with --json all" },
	{ .name = "all", .letter = 'a', .kind = OPTION_FLAG, .offset = MEMBER(all), .help = "show every path" },
	{ .name = "json", .kind = OPTION_FLAG, .offset = MEMBER(json), .help = "print one JSON object" },
	{ .name = "root", .kind = OPTION_TEXT, .offset = MEMBER(root), .argument = "ROOT",
	  .help = "explain a root at the gateway instead of a directory: what it has that --since has not" },
	{ .name = "since", .kind = OPTION_TEXT, .offset = MEMBER(since), .argument = "ROOT",
	  .help = "with --root: the former root, at the gateway too; without it, all is new" },
	{ .name = "ignore-file", .kind = OPTION_TEXT, .offset = MEMBER(ignore_file), .argument = "FILE",
	  .help = "patterns of what to leave out, instead of DIR/.dockerignore" },
	{ .name = "no-ignore", .kind = OPTION_FLAG, .offset = MEMBER(no_ignore), .help = "take everything, whatever .dockerignore says" },
	{ .name = "compression", .kind = OPTION_CHOICE, .offset = MEMBER(compression), .argument = "LEVEL", .fallback = "auto",
	  .choices = pushing_compressions, .help = "zstd level that is sent with, 0 for none; auto: 3, or less on a line that is faster than that (never with --dry-run)" },
};
#undef MEMBER
static const struct option_group explain_group = OPTION_GROUP("Options", explain_options);
static const struct option_group *const explain_groups[] = { &explain_group, &progress_options_group, &client_options_group, NULL };

/* People read a few; a program that was given as many would take them for all. */
static size_t explain_top(const struct explain_options *explain)
{
	if (explain->all || (explain->json && !explain->top))
		return SIZE_MAX;
	return explain->top ? (size_t)explain->top : EXPLAIN_TOP;
}

/* The connection ends first, so that its last bytes are in the bill. */
static int explain_print(const struct pushing *pushing, const struct explain_options *explain)
{
	size_t top = explain_top(explain);
	struct explain_bill bill;

	client_disconnect(pushing->client);
	bill = explain_bill_make(pushing);
	if (explain->json)
		return json_print(explain_table_json(pushing, &bill, top));
	explain_table_print(stdout, pushing, &bill, top);
	return STATUS_OK;
}

static int explain_tree(const struct explain_options *explain, struct client_options *client)
{
	struct explain_root options = {
		.command = &command_explain, .has_since = explain->since, .json = explain->json,
		.top = explain_top(explain),
	};
	int status = root_argument(&command_explain, explain->root, &options.root);

	if (status == STATUS_OK && explain->since)
		status = root_argument(&command_explain, explain->since, &options.since);
	if (status == STATUS_OK)
		status = session_open(&options.client, &command_explain, client);
	if (status == STATUS_OK)
		status = explain_root_run(&options);
	session_close(options.client);
	return status;
}

static int explain_directory(const struct explain_options *explain, const struct progress_options *progress,
                             struct client_options *client, const char *directory)
{
	struct pushing pushing = {
		.command = &command_explain, .explain = true, .directory = directory, .ignore_path = explain->ignore_file,
		.no_ignore = explain->no_ignore, .level = pushing_level(explain->compression), .predict = explain->dry_run,
	};
	int status = session_open(&pushing.client, &command_explain, client);

	if (status)
		return status;
	pushing.gateway = client->gateway;
	pushing.progress = progress_create(&(struct progress_config){ .mode = (enum progress_mode)progress->mode, .title = "sluice explain" });
	status = pushing_run(&pushing);
	progress_destroy(pushing.progress);
	if (status == STATUS_OK)
		status = explain_print(&pushing, explain);
	explain_destroy(pushing.explained);
	session_close(pushing.client);
	return status;
}

static int explain_run(int argc, char **argv)
{
	CLEANUP(options_fini) struct options options;
	struct explain_options explain;
	struct progress_options progress;
	struct client_options client;
	void *const values[] = { &explain, &progress, &client };
	int status;

	if (!options_parse(&options, &command_explain, values, argc, argv, &status))
		return status;
	if (options.operand_count > 1)
		return command_usage(&command_explain, "one directory at a time, not %zu", options.operand_count);
	if (explain.since && !explain.root)
		return command_usage(&command_explain, "--since goes with --root");
	if (explain.root && (options.operand_count || explain.dry_run))
		return command_usage(&command_explain, "--root names a tree at the gateway: no directory and no --dry-run beside it");
	if (explain.root)
		return explain_tree(&explain, &client);
	return explain_directory(&explain, &progress, &client, options.operand_count ? options.operands[0] : ".");
}

const struct command command_explain = {
	.name = "explain",
	.summary = "push a directory and say what each path cost, and why",
	.help = "Pushes DIR (default: the current directory) as `sluice push` does, or with --dry-run only finds out what that would\n"
	        "send, and accounts for every byte of the connection: a line a path with its share of what was sent, the costliest\n"
	        "first, then what the rest was for.\n\n"
	        "WHY is one of: new, edited, retyped, mode, xattrs, removed (against the last push from here to this gateway);\n"
	        "entries (a directory in which something differs: the list of its entries is sent again); evicted (as it was, but\n"
	        "the gateway has lost it); never seen (no push from here to this gateway is remembered, and it had not got it from\n"
	        "elsewhere). CHUNKS SENT says how many of a file's chunks went; the others were at the gateway.\n\n"
	        "With --root nothing is pushed: a tree at the gateway is compared with another one there, from directories and\n"
	        "recipes alone, and NEW is what of it the former tree has not, uncompressed.\n\n"
	        "  sluice explain .\n"
	        "  sluice explain --root sha256:HEX/SIZE --since sha256:HEX/SIZE\n"
	        "  sluice explain --dry-run --json . | jq '.paths[0]'",
	.run = explain_run,
	.operands = "[DIR]",
	.groups = explain_groups,
};
