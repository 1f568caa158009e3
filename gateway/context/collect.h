/*
 * collect: what an action changed, from the upper directory of its overlay. White-outs (0/0 character devices) and
 * opaque directories become a list of deleted paths and are taken out, so that the directory is then an ordinary tree
 * that manifest_build() reads. The overlay must be unmounted. Blocking; any thread.
 */
#pragma once

#include <stddef.h>

enum collect_kind {
	COLLECT_DELETED,         /* the path, and all below, is gone */
	COLLECT_REPLACED,        /* a directory that hides what the lower one held: only what the upper one holds is there */
};

struct collect_options {
	int upper_fd;
	/* `path` is relative to the upper directory, borrowed. Non-zero ends the walk with that value. */
	int (*deleted)(void *context, enum collect_kind kind, const char *path);
	void *context;
};

/*
 * 0; -EPERM: a device node that is no white-out (none can be made in a user namespace; it is refused all the same);
 * -ENAMETOOLONG: deeper than TREE_DEPTH_MAX or a path beyond TREE_PATH_MAX; -EXDEV: something is mounted there; or
 * another -errno. `why` gets one sentence that names the path.
 */
int collect_prepare(const struct collect_options *options, char *why, size_t why_size);
