/* sluice ls: what is in a tree. */
#include <stdio.h>

#include "gateway/base/cleanup.h"
#include "gateway/cmd/clean.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/json.h"
#include "gateway/cmd/root_argument.h"
#include "gateway/cmd/session.h"
#include "gateway/context/browse.h"
#include "gateway/context/download.h"

struct ls_options {
	bool json, long_form;
};

#define MEMBER(name) offsetof(struct ls_options, name)
static const struct option ls_options[] = {
	{ .name = "long", .kind = OPTION_FLAG, .letter = 'l', .offset = MEMBER(long_form), .help = "kind, mode, size and digest of each entry" },
	{ .name = "json", .kind = OPTION_FLAG, .offset = MEMBER(json), .help = "print one JSON object an entry" },
};
#undef MEMBER
static const struct option_group ls_group = OPTION_GROUP("Options", ls_options);
static const struct option_group *const ls_groups[] = { &ls_group, &client_options_group, NULL };

static const char *const kind_names[] = {
	[TREE_FILE] = "file", [TREE_DIRECTORY] = "directory", [TREE_SYMLINK] = "symlink",
	[TREE_FIFO] = "fifo", [TREE_CHAR_DEVICE] = "char device", [TREE_BLOCK_DEVICE] = "block device",
};
static const char kind_letters[] = {
	[TREE_FILE] = '-', [TREE_DIRECTORY] = 'd', [TREE_SYMLINK] = 'l', [TREE_FIFO] = 'p', [TREE_CHAR_DEVICE] = 'c',
	[TREE_BLOCK_DEVICE] = 'b',
};

static int print_json_entry(const struct tree_node *node)
{
	json_t *object = json_object();
	char digest[DIGEST_TEXT_MAX];

	json_object_set_new(object, "name", json_path(node->name));
	json_set_text(object, "kind", kind_names[node->kind]);
	if (node->kind != TREE_DIRECTORY && node->kind != TREE_SYMLINK)
		json_set_u64(object, "mode", node->mode);
	if (node->kind == TREE_FILE)
		json_set_u64(object, "size", node->file_size);
	if (node->kind == TREE_FILE || node->kind == TREE_DIRECTORY)
		json_set_text(object, "digest", digest_text(&node->digest, digest));
	if (node->kind == TREE_FILE)
		json_object_set_new(object, "recipe", json_boolean(node->recipe));
	if (node->kind == TREE_SYMLINK)
		json_object_set_new(object, "target", json_target(node->target));
	return json_print(object);
}

static int print_entry(void *context, const struct tree_node *node)
{
	const struct ls_options *ls = context;
	char digest[DIGEST_TEXT_MAX];

	if (ls->json)
		return print_json_entry(node);
	if (ls->long_form) {
		/* A directory's mode is in its own message, and a symlink has none. */
		if (node->kind == TREE_DIRECTORY || node->kind == TREE_SYMLINK)
			printf("%c    - %12s ", kind_letters[node->kind], "-");
		else
			printf("%c %04o %12llu ", kind_letters[node->kind], node->mode, (unsigned long long)node->file_size);
		if (node->kind == TREE_FILE || node->kind == TREE_DIRECTORY)
			printf("%.19s… ", digest_text(&node->digest, digest));
	}
	clean_print(stdout, node->name);
	if (node->kind == TREE_DIRECTORY)
		putchar('/');
	if (node->kind == TREE_SYMLINK && ls->long_form) {
		fputs(" -> ", stdout);
		clean_print(stdout, node->target);
	}
	putchar('\n');
	return 0;
}

static int ls_tree(struct client *client, const struct ls_options *ls, const struct digest *root, const char *path)
{
	struct download *download;
	struct browse_target target;
	struct tree_node node;
	char why[5000];
	int r = download_create(&download, client, why, sizeof(why));

	if (r < 0)
		return session_failed(&command_ls, r, GRPC_OK, why);
	r = browse_find(download_source(download), root, path, &node, &target, why, sizeof(why));
	if (r == 0 && node.kind != TREE_DIRECTORY) {
		node.name = span_text(path);
		r = print_entry((void *)ls, &node);
	} else if (r == 0) {
		r = browse_list(download_source(download), &node.digest, print_entry, (void *)ls, why, sizeof(why));
	}
	if (r < 0)
		r = session_failed(&command_ls, r, download_status(download), why);
	download_destroy(download);
	return r;
}

static int ls_run(int argc, char **argv)
{
	CLEANUP(options_fini) struct options options;
	struct ls_options ls;
	struct client_options client_options;
	void *const values[] = { &ls, &client_options };
	struct client *client = NULL;
	struct digest root;
	int status;

	if (!options_parse(&options, &command_ls, values, argc, argv, &status))
		return status;
	if (options.operand_count < 1 || options.operand_count > 2)
		return command_usage(&command_ls, "a root, and perhaps a path in it, are needed");
	status = root_argument(&command_ls, options.operands[0], &root);
	if (status == STATUS_OK)
		status = session_open(&client, &command_ls, &client_options);
	if (status == STATUS_OK)
		status = ls_tree(client, &ls, &root, options.operand_count == 2 ? options.operands[1] : "");
	session_close(client);
	return status;
}

const struct command command_ls = {
	.name = "ls",
	.summary = "list a directory of a tree on the gateway",
	.help = "Lists the entries of PATH (default: the root) in the tree ROOT.\n\n"
	        "  sluice ls -l sha256:HEX/SIZE src",
	.run = ls_run,
	.operands = "ROOT [PATH]",
	.groups = ls_groups,
};
