/* One source for two sides: a directory's blobs come from the disk, all others from the gateway. */
#include "gateway/cmd/two_trees.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/cmd/pushing.h"
#include "gateway/cmd/session.h"
#include "gateway/context/download.h"

int two_trees_scan(const struct command *command, const char *directory, const char *ignore_path, bool no_ignore,
                   struct manifest **manifest)
{
	char snapshot[4096], why[5000];
	struct manifest_options options = { .path = directory, .use_ignore = !no_ignore };
	CLEANUP(ignore_file_fini) struct ignore_file ignore = { 0 };
	int r = 0;

	if (!*directory)
		return command_usage(command, "the name of the directory is empty");
	if (pushing_snapshot_path(directory, snapshot, sizeof(snapshot)))
		options.snapshot_path = snapshot;
	if (ignore_path) {
		r = ignore_file_read(&ignore, ignore_path, (struct why){ .text = why, .size = sizeof(why) });
		options.ignore_file = &ignore;
	}
	if (r == 0)
		r = manifest_build(manifest, &options, why, sizeof(why));
	if (r == 0)
		return STATUS_OK;
	command_fail(command, "%s", why);
	return command_status_errno(r);
}

struct both {
	struct source source;
	struct manifest *manifest;       /* NULL: both sides are at the gateway */
	struct source *gateway;
};

/* A fetch of some, as part of a larger one. */
struct rest {
	int (*visit)(void *context, size_t index, struct span blob);
	void *context;
	struct digest *digests;
	size_t *indexes;
	size_t count;
};

static int visit_rest(void *context, size_t index, struct span blob)
{
	const struct rest *rest = context;

	return rest->visit(rest->context, rest->indexes[index], blob);
}

/* 0: visited; -ENOENT: not a blob of the directory. */
static int visit_own(struct manifest *manifest, const struct digest *digest, size_t index, const struct rest *rest,
                     char *why, size_t why_size)
{
	CLEANUP(free_p) uint8_t *bytes = NULL;
	int r;

	if (digest->size > TREE_DIRECTORY_BYTES_MAX)
		return -ENOENT;
	bytes = malloc(digest->size + 1);
	if (!bytes) {
		snprintf(why, why_size, "out of memory");
		return -ENOMEM;
	}
	r = manifest_read(manifest, digest, bytes, why, why_size);
	return r ? r : rest->visit(rest->context, index, span_make(bytes, digest->size));
}

static int both_fetch(struct source *source, const struct digest *digests, size_t count,
                      int (*visit)(void *context, size_t index, struct span blob), void *context, char *why,
                      size_t why_size)
{
	struct both *both = (struct both *)source;
	struct rest rest = { .visit = visit, .context = context };
	int r = 0;

	if (!both->manifest)
		return both->gateway->fetch(both->gateway, digests, count, visit, context, why, why_size);
	rest.digests = malloc(count * sizeof(*rest.digests));
	rest.indexes = malloc(count * sizeof(*rest.indexes));
	if (!rest.digests || !rest.indexes) {
		snprintf(why, why_size, "out of memory");
		r = -ENOMEM;
	}
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = visit_own(both->manifest, &digests[i], i, &rest, why, why_size);
		if (r == -ENOENT) {
			rest.digests[rest.count] = digests[i];
			rest.indexes[rest.count++] = i;
			r = 0;
		}
	}
	if (r == 0 && rest.count)
		r = both->gateway->fetch(both->gateway, rest.digests, rest.count, visit_rest, &rest, why, why_size);
	free(rest.digests);
	free(rest.indexes);
	return r;
}

int two_trees_walk(const struct two_trees *trees)
{
	struct both both = { .source.fetch = both_fetch, .manifest = trees->manifest };
	struct difference_options options = {
		.source = &both.source, .before = trees->before, .after = trees->after, .visit = trees->visit,
		.context = trees->context, .inside_removed = trees->inside_removed,
	};
	struct difference_totals totals;
	struct download *download;
	char why[5000];
	int r = download_create(&download, trees->client, why, sizeof(why));

	if (r < 0)
		return session_failed(trees->command, r, GRPC_OK, why);
	both.gateway = download_source(download);
	r = difference_walk(&options, &totals, why, sizeof(why));
	if (r == -ESTALE) {
		command_fail(trees->command, "the former tree is not at the gateway (any more), or not whole: %s. `sluice pin` keeps a root.", why);
		r = STATUS_FAILURE;
	} else if (r < 0) {
		r = session_failed(trees->command, r, download_status(download), *why ? why : err_text(r));
	}
	download_destroy(download);
	return r;
}

const char *two_trees_word(uint32_t kinds)
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
