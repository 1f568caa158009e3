/* sluice pull: a tree from the gateway into a directory. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/cleanup.h"
#include "gateway/base/units.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/json.h"
#include "gateway/cmd/pulling.h"
#include "gateway/cmd/root_argument.h"
#include "gateway/cmd/session.h"

struct pull_options {
	bool json, replace, keep_special;
};

#define MEMBER(name) offsetof(struct pull_options, name)
static const struct option pull_options[] = {
	{ .name = "json", .kind = OPTION_FLAG, .offset = MEMBER(json), .help = "print one JSON object" },
	{ .name = "replace", .kind = OPTION_FLAG, .offset = MEMBER(replace),
	  .help = "put the tree in the place of what DIR holds, which stays until all of the tree is there" },
	{ .name = "special-modes", .kind = OPTION_FLAG, .offset = MEMBER(keep_special), .fallback = "true",
	  .help = "keep setuid, setgid and sticky bits; --special-modes=false leaves them off" },
};
#undef MEMBER
static const struct option_group pull_group = OPTION_GROUP("Options", pull_options);
static const struct option_group *const pull_groups[] = { &pull_group, &progress_options_group, &client_options_group, NULL };

static int pull_print(const struct pulling *pulling, struct client *client, bool json, enum progress_mode mode)
{
	uint64_t received, sent, ignored;
	char bytes[24], wire[24], seconds[24];
	json_t *object;

	client_bytes(client, &received, &sent, &ignored, &ignored);
	if (!json && !progress_for_people(mode))
		return STATUS_OK;
	if (!json) {
		fprintf(stderr, "%llu files, %s written, %s received in %s\n", (unsigned long long)pulling->totals.files_written,
		        units_format_bytes(pulling->totals.bytes_written, bytes), units_format_bytes(received, wire),
		        units_format_duration(pulling->elapsed_ns, seconds));
		return STATUS_OK;
	}
	object = json_object();
	json_set_u64(object, "files_written", pulling->totals.files_written);
	json_set_u64(object, "directories_made", pulling->totals.directories_made);
	json_set_u64(object, "bytes_written", pulling->totals.bytes_written);
	json_set_u64(object, "bytes_sent", sent);
	json_set_u64(object, "bytes_received", received);
	json_set_seconds(object, "seconds", pulling->elapsed_ns);
	return json_print(object);
}

static int pull_run(int argc, char **argv)
{
	CLEANUP(options_fini) struct options options;
	struct pull_options pull;
	struct progress_options progress;
	struct client_options client_options;
	void *const values[] = { &pull, &progress, &client_options };
	struct pulling pulling = { .command = &command_pull };
	struct client *client = NULL;
	int status;

	if (!options_parse(&options, &command_pull, values, argc, argv, &status))
		return status;
	if (options.operand_count != 2)
		return command_usage(&command_pull, "a root and a directory are needed");
	status = root_argument(&command_pull, options.operands[0], &pulling.root);
	if (status == STATUS_OK)
		status = session_open(&client, &command_pull, &client_options);
	if (status) {
		session_close(client);
		return status;
	}
	pulling.client = client;
	pulling.directory = options.operands[1];
	pulling.replace = pull.replace;
	pulling.special_modes = pull.keep_special;
	pulling.progress = progress_create(&(struct progress_config){ .mode = (enum progress_mode)progress.mode, .title = "sluice pull" });
	status = pulling_run(&pulling);
	progress_destroy(pulling.progress);
	if (status == STATUS_OK)
		status = pull_print(&pulling, client, pull.json, (enum progress_mode)progress.mode);
	session_close(client);
	return status;
}

const struct command command_pull = {
	.name = "pull",
	.summary = "write a tree that the gateway holds into a directory",
	.help = "Makes DIR (new or empty; with --replace anything) equal to the tree ROOT: contents, modes, symlinks,\n"
	        "hardlinks, extended attributes. Every blob is checked against its digest. Times and owners are not kept.\n\n"
	        "With --replace the tree is made in DIR/.sluice-pull-… and moved to its place when it is whole: a pull that fails\n"
	        "before changes nothing, and there has to be room for both. One that is killed leaves that directory, which the\n"
	        "next one with --replace removes; killed in mid-exchange, what DIR held is in its old/.\n\n"
	        "  sluice pull sha256:HEX/SIZE out/",
	.run = pull_run,
	.operands = "ROOT DIR",
	.groups = pull_groups,
};
