/*
 * difference: what differs between two trees, found from their Directory messages alone. Goes down from the roots and
 * skips what has the same digest on both sides, so its cost follows what differs. Messages are fetched in batches.
 *
 * Memory: one batch (DIFFERENCE_BATCH_BYTES) and a list of the directories that still wait, not the trees.
 * Blocking; used by materialise and by `sluice diff`.
 */
#pragma once

#include "gateway/context/source.h"
#include "proto/tree.h"

#define DIFFERENCE_BATCH_BYTES   (4u << 20)      /* of Directory messages in one fetch, unless a single pair is longer */
#define DIFFERENCE_BATCH_COUNT   512             /* directories in one fetch */
#define DIFFERENCE_ENTRIES_MAX   4000000         /* entries looked at, of either tree: few bytes can name very many */
#define DIFFERENCE_WAITING_BYTES_MAX (64u << 20) /* directories found and not yet read, their paths included */

/* A change has one or more of these. */
enum difference_kind {
	DIFFERENCE_ADDED = 1,
	DIFFERENCE_REMOVED = 2,
	DIFFERENCE_TYPE = 4,     /* with ADDED or REMOVED: the path is in both trees, and of another kind */
	DIFFERENCE_CONTENT = 8,  /* bytes of a file, target of a symlink, number of a device */
	DIFFERENCE_MODE = 16,
	DIFFERENCE_XATTRS = 32,
	DIFFERENCE_HARDLINK = 64, /* is, or is no longer, or is of another, second name */
	DIFFERENCE_INSIDE = 128, /* of a directory: something below it differs. May come alone */
};

/*
 * One change. Borrowed until the callback returns. Of a path whose kind changes, the removal comes before the
 * addition; a directory comes before what is in it. The order is otherwise not that of the paths.
 */
struct difference_change {
	const char *path;                        /* from the root; "" is the root itself */
	uint32_t kinds;                          /* of enum difference_kind */
	const struct tree_node *before, *after;  /* NULL: not in that tree */
	const struct tree_directory *directory_before, *directory_after; /* of directories: NULL as above, or not read */
};

struct difference_options {
	struct source *source;
	const struct digest *before;             /* NULL: the empty tree, all of `after` is added */
	const struct digest *after;
	bool inside_removed;                     /* report each entry of a removed directory, not the directory alone */
	/* Non-zero ends the walk with that value. */
	int (*visit)(void *context, const struct difference_change *change);
	void *context;
};

struct difference_totals {
	uint64_t entries;                        /* looked at, on both sides */
	uint64_t directories_read;               /* pairs of messages */
	uint64_t directories_same;               /* skipped, with all below, because their digests are equal */
};

/*
 * 0; -ESTALE: a directory of `before` is not to be had (`after` may be); -ENOENT: one of `after`; -EBADMSG: malformed;
 * -E2BIG: a bound above; -ENAMETOOLONG: deeper than TREE_DEPTH_MAX or a path beyond TREE_PATH_MAX; or the visitor's value.
 * `why` gets one sentence that names the path, unless the visitor ended it.
 */
int difference_walk(const struct difference_options *options, struct difference_totals *totals, char *why,
                    size_t why_size);
