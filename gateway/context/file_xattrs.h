/*
 * file_xattrs: the xattrs of an open file or directory, as far as a tree holds them: those of the class user. What
 * overlayfs keeps in xattrs is refused; those of other classes belong to the machine and are left out. Blocking.
 */
#pragma once

#include "proto/tree.h"

struct file_xattrs {
	struct tree_xattr xattrs[TREE_XATTRS_MAX];       /* sorted by name, good until the next reading */
	size_t count;
	struct buffer names, values;
	char fault[TREE_NAME_MAX + 64];                  /* what is wrong, to go behind the file's path */
};

void file_xattrs_init(struct file_xattrs *xattrs);
void file_xattrs_fini(struct file_xattrs *xattrs);

/* 0; -errno with `fault`: -EPERM one that is refused, -E2BIG, -EINVAL a name that is not UTF-8, or of the system. */
int file_xattrs_read(struct file_xattrs *xattrs, int fd);
