/* sluice cat: a file of a tree on stdout. */
#include <errno.h>
#include <stdio.h>

#include "gateway/base/cleanup.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/root_argument.h"
#include "gateway/cmd/session.h"
#include "gateway/context/browse.h"
#include "gateway/context/download.h"

static const struct option_group *const cat_groups[] = { &client_options_group, NULL };

static int write_data(void *context, struct span data)
{
	return fwrite(data.data, 1, data.size, stdout) == data.size ? 0 : -EIO;
}

static int cat_file(struct client *client, const struct digest *root, const char *path)
{
	struct download *download;
	struct tree_node node;
	char why[5000];
	int r = download_create(&download, client, why, sizeof(why));

	if (r < 0)
		return session_failed(&command_cat, r, GRPC_OK, why);
	r = browse_find(download_source(download), root, path, &node, NULL, why, sizeof(why));
	if (r == 0 && node.kind != TREE_FILE) {
		snprintf(why, sizeof(why), "%s is %s", *path ? path : "the root itself",
		         node.kind == TREE_DIRECTORY ? "a directory: `sluice ls` shows what is in it" : "not a file");
		r = -EISDIR;
	}
	if (r == 0)
		r = browse_read(download_source(download), &node, write_data, NULL, why, sizeof(why));
	if (r == 0 && fflush(stdout) != 0)
		r = -EIO;
	if (ferror(stdout))
		r = STATUS_OK;                   /* main() looks for that, of all commands */
	else if (r)
		r = session_failed(&command_cat, r, download_status(download), why);
	download_destroy(download);
	return r;
}

static int cat_run(int argc, char **argv)
{
	CLEANUP(options_fini) struct options options;
	struct client_options client_options;
	void *const values[] = { &client_options };
	struct client *client = NULL;
	struct digest root;
	int status;

	if (!options_parse(&options, &command_cat, values, argc, argv, &status))
		return status;
	if (options.operand_count != 2)
		return command_usage(&command_cat, "a root and a path in it are needed");
	status = root_argument(&command_cat, options.operands[0], &root);
	if (status == STATUS_OK)
		status = session_open(&client, &command_cat, &client_options);
	if (status == STATUS_OK)
		status = cat_file(client, &root, options.operands[1]);
	session_close(client);
	return status;
}

const struct command command_cat = {
	.name = "cat",
	.summary = "print a file of a tree on the gateway",
	.help = "Writes the bytes of PATH in the tree ROOT to stdout. Every blob is checked against its digest.\n\n"
	        "  sluice cat sha256:HEX/SIZE src/main.c",
	.run = cat_run,
	.operands = "ROOT PATH",
	.groups = cat_groups,
};
