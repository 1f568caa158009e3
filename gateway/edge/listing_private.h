/* listing_private: what listing.c (entries) and listing_tree.c (the tree that they are) share. */
#pragma once

#include "gateway/edge/listing.h"

/* -EINVAL, and why. */
int listing_refuse(struct listing *listing, const char *fault);
/* Of an entry, in the order of their names; as many as its `xattrs_count`. */
size_t listing_get_xattrs(const struct listing *listing, const struct listing_entry *entry, struct tree_xattr *xattrs);
