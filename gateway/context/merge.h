/*
 * merge: moves what one directory holds over what another one holds: of a tree that was made aside, whole, before anything
 * of the old one is touched. Directories that are there stay, with all that has no counterpart; each file, symlink and
 * fifo is renamed to its place, over what had the name. Both are on one file system. Blocking; any thread. Three
 * descriptors are open for each level that both have.
 */
#pragma once

#include "gateway/context/why.h"

/*
 * Moves the directory `from` over `to`, both entries of `parent_fd`; `from` is then gone. 0; -EISDIR: a directory is in the place
 * of a file; -ENOTDIR, -ELOOP: a file or a symlink in the place of a directory; -EXDEV: another mount is; or another
 * -errno, with `why`: then what was moved before is in place, and the rest in `from`. `path`: how `to` is called in `why`.
 */
int merge_directory(int parent_fd, const char *from, const char *to, const char *path, struct why why);

/* Says why `path` could not be put in its place, and returns `r`, a negative errno: for what is moved by others the same way. */
int merge_refuse(struct why why, const char *path, int r);
