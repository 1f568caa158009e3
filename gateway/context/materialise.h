/*
 * materialise: makes a directory on disk equal to a tree. Cost follows what differs from the tree that is there
 * already (`base`), when the caller vouches for it. Blocking; used by `sluice pull` and by the executor's slots.
 *
 * Everything stays beneath `dir_fd` (beneath.h): names are checked by proto/tree.h, a symlink is made and never
 * followed. Device nodes are refused by name; 0/0 character devices are among them, and trusted.* or user.overlay.*
 * xattrs are not in a well-formed tree. Names that look like white-outs (`.wh.x`) are ordinary files.
 */
#pragma once

#include "gateway/context/source.h"
#include "proto/tree.h"

struct materialise_options {
	int dir_fd;                      /* the root: an existing directory */
	const struct digest *base;       /* the tree that is there; NULL: unknown, the directory must be empty or replaced */
	struct digest root;
	/*
	 * Where `root` is in a larger tree, whose paths its hardlinks have: links within stay links, one to a name outside
	 * becomes a file of its own. NULL: `root` is a whole tree.
	 */
	const char *below;
	struct source *source;           /* blobs by digest (source.h) */
	/*
	 * Without base, or when the source has lost it: remove what is there first, once all directories of the tree were to be
	 * had. Until then nothing is touched.
	 */
	bool replace;
	bool set_owner;                  /* chown all to uid/gid (a slot's mapped range); chown comes before chmod */
	uint32_t uid, gid;
	bool allow_special_modes;        /* keep setuid, setgid, sticky; else they are kept off */
	void (*progress)(void *context, uint64_t files, uint64_t bytes);
	void *context;
};

struct materialise_totals {
	uint64_t files_written, files_removed, directories_made, links_made, bytes_written, directories_same;
	uint64_t bytes_fetched;          /* content asked of the source, each distinct blob of a batch once */
	uint64_t bytes_reused;           /* chunks of changed large files that their former version held */
};

/*
 * 0; -ENOTEMPTY: neither base nor replace, and something is there; -EPERM: a device node; -ESTALE: the base is not to be
 * had from the source (and `replace` is off); -ENOENT, -EBADMSG, -E2BIG, -ENAMETOOLONG as difference_walk() has them; or another -errno.
 * `why` gets one sentence that names the path. After a failure it is unspecified which entries are there; each file that is there
 * is whole, unless we were killed.
 */
int materialise(const struct materialise_options *options, struct materialise_totals *totals, char *why,
                size_t why_size);
