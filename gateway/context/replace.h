/*
 * replace: makes a directory that holds anything equal to a tree. What it holds stays until all of the tree is on the same
 * file system: that is made in a directory of its own within, `.sluice-pull-…`, and only then are the entries of the two
 * exchanged, by renames. The directory itself stays the one that it is: it may be a mount point, somebody's working
 * directory, or be in one that its owner may not write to, where it could not be exchanged as a whole.
 *
 * Both have to fit on the disk at a time. Blocking; any thread.
 */
#pragma once

#include "gateway/context/materialise.h"

/*
 * As materialise(), of which `base`, `replace` and `set_owner` are not to be set. -EBUSY: somebody else is at it, or something is
 * mounted within. -EEXIST: meanwhile somebody made an entry that the tree has, too; what others make stays. After a failure the
 * directory is as it was, unless `why` says otherwise: when what was there could not be removed, or not be put back, it is in
 * `.sluice-pull-…/old`, but that of a directory that overlayfs will not rename a part may be gone.
 * When we are killed it is as it was, beside a `.sluice-pull-…`, or, between the first rename and the last one, in part in
 * there, as is the tree. The next replacement removes that; one that holds nothing of before, at once.
 */
int replace_directory(const struct materialise_options *options, struct materialise_totals *totals, char *why,
                      size_t why_size);
