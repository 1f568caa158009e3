/* sluice diff: what differs between two trees, or between a tree and a directory. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "gateway/base/cleanup.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/json.h"
#include "gateway/cmd/pushing.h"
#include "gateway/cmd/root_argument.h"
#include "gateway/cmd/session.h"
#include "gateway/context/difference.h"
#include "gateway/context/download.h"

#define DIFF_TROUBLE 2                   /* as diff(1) has it: 1 says that something differs */

struct diff_options {
	bool json, quiet;
};

#define MEMBER(name) offsetof(struct diff_options, name)
static const struct option diff_options[] = {
	{ .name = "json", .kind = OPTION_FLAG, .offset = MEMBER(json), .help = "print one JSON object a change" },
	{ .name = "quiet", .letter = 'q', .kind = OPTION_FLAG, .offset = MEMBER(quiet), .help = "print nothing; the exit status tells" },
};
#undef MEMBER
static const struct option_group diff_group = OPTION_GROUP("Options", diff_options);
static const struct option_group *const diff_groups[] = { &diff_group, &client_options_group, NULL };

/* Blobs of both sides: a directory's from the disk, all others from the gateway. */
struct both {
	struct source source;
	struct manifest *manifest;       /* NULL: both sides are on the gateway */
	struct source *gateway;
};

/* Of a fetch of one, as part of a larger one. */
struct one_of_many {
	int (*visit)(void *context, size_t index, struct span blob);
	void *context;
	size_t index;
};

static int visit_one_of_many(void *context, size_t index, struct span blob)
{
	const struct one_of_many *one = context;

	return one->visit(one->context, one->index + index, blob);
}

static int both_fetch(struct source *source, const struct digest *digests, size_t count,
                      int (*visit)(void *context, size_t index, struct span blob), void *context, char *why,
                      size_t why_size)
{
	struct both *both = (struct both *)source;
	int r = 0;

	if (!both->manifest)
		return both->gateway->fetch(both->gateway, digests, count, visit, context, why, why_size);
	for (size_t i = 0; r == 0 && i < count; i++) {
		struct one_of_many one = { .visit = visit, .context = context, .index = i };
		bool may_be_ours = digests[i].size <= TREE_DIRECTORY_BYTES_MAX;
		CLEANUP(free_p) uint8_t *bytes = may_be_ours ? malloc(digests[i].size + 1) : NULL;

		if (may_be_ours && !bytes) {
			snprintf(why, why_size, "out of memory");
			return -ENOMEM;
		}
		r = may_be_ours ? manifest_read(both->manifest, &digests[i], bytes, why, why_size) : -ENOENT;
		if (r == 0)
			r = visit(context, i, span_make(bytes, digests[i].size));
		else if (r == -ENOENT)           /* the other side's */
			r = both->gateway->fetch(both->gateway, &digests[i], 1, visit_one_of_many, &one, why, why_size);
	}
	return r;
}

struct changes {
	const struct diff_options *options;
	uint64_t count;
};

static const char *change_word(uint32_t kinds)
{
	if (kinds & DIFFERENCE_TYPE)
		return kinds & DIFFERENCE_ADDED ? "retyped" : NULL;      /* told once, by the addition */
	if (kinds & DIFFERENCE_ADDED)
		return "added";
	if (kinds & DIFFERENCE_REMOVED)
		return "removed";
	if (kinds & DIFFERENCE_CONTENT)
		return "changed";
	if (kinds & DIFFERENCE_MODE)
		return "mode";
	if (kinds & DIFFERENCE_XATTRS)
		return "xattrs";
	if (kinds & DIFFERENCE_HARDLINK)
		return "hardlink";
	return NULL;                             /* only something inside */
}

static int print_change(void *context, const struct difference_change *change)
{
	struct changes *changes = context;
	const char *word = change_word(change->kinds);

	if (!word)
		return 0;
	changes->count++;
	if (changes->options->quiet)
		return 0;
	if (changes->options->json) {
		json_t *object = json_object();

		json_set_text(object, "change", word);
		json_set_text(object, "path", change->path);
		return json_print(object);
	}
	printf("%-8s %s\n", word, *change->path ? change->path : ".");
	return 0;
}

static int diff_scan(const char *path, struct manifest **manifest)
{
	char snapshot[4096], why[5000];
	struct manifest_options options = { .path = path, .use_ignore = true };
	int r;

	if (pushing_snapshot_path(path, snapshot, sizeof(snapshot)))
		options.snapshot_path = snapshot;
	r = manifest_build(manifest, &options, why, sizeof(why));
	if (r == 0)
		return STATUS_OK;
	command_fail(&command_diff, "%s", why);
	return command_status_errno(r);
}

static int diff_walk(struct client *client, const struct diff_options *diff, const struct digest *before,
                     const struct digest *after, struct manifest *manifest, bool *differs)
{
	struct changes changes = { .options = diff };
	struct both both = { .source.fetch = both_fetch, .manifest = manifest };
	struct difference_options options = {
		.source = &both.source, .before = before, .after = after, .visit = print_change, .context = &changes,
	};
	struct difference_totals totals;
	struct download *download;
	char why[5000] = "standard output cannot be written";
	int r = download_create(&download, client, why, sizeof(why));

	if (r < 0)
		return session_failed(&command_diff, r, GRPC_OK, why);
	both.gateway = download_source(download);
	r = difference_walk(&options, &totals, why, sizeof(why));
	if (r)
		r = session_failed(&command_diff, r, download_status(download), why);
	download_destroy(download);
	*differs = changes.count > 0;
	return r;
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
	bool differs = false;
	struct stat st;
	int status;

	if (!options_parse(&options, &command_diff, values, argc, argv, &status))
		return status;
	if (options.operand_count != 2)
		return command_usage(&command_diff, "two roots, or a root and a directory, are needed");
	status = root_argument(&command_diff, options.operands[0], &before);
	if (status == STATUS_OK && stat(options.operands[1], &st) == 0 && S_ISDIR(st.st_mode)) {
		status = diff_scan(options.operands[1], &manifest);
		if (status == STATUS_OK)
			after = *manifest_root(manifest);
	} else if (status == STATUS_OK) {
		status = root_argument(&command_diff, options.operands[1], &after);
	}
	if (status == STATUS_OK)
		status = session_open(&client, &command_diff, &client_options);
	if (status == STATUS_OK)
		status = diff_walk(client, &diff, &before, &after, manifest, &differs);
	session_close(client);
	manifest_destroy(manifest);
	if (status == STATUS_OK)
		return differs ? STATUS_FAILURE : STATUS_OK;
	return status == STATUS_FAILURE ? DIFF_TROUBLE : status;
}

const struct command command_diff = {
	.name = "diff",
	.summary = "show what differs between two trees, or a tree and a directory",
	.help = "Prints one line a change: added, removed, changed, mode, xattrs, hardlink, retyped. Exits with 0 when nothing differs, 1\n"
	        "when something does, 2 or more when it could not find out. Only directories that differ are looked at.\n\n"
	        "  sluice diff sha256:HEX/SIZE sha256:HEX/SIZE\n"
	        "  sluice diff sha256:HEX/SIZE .",
	.run = diff_run,
	.operands = "ROOT ROOT|DIR",
	.groups = diff_groups,
};
