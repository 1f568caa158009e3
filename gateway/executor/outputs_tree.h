/*
 * outputs_tree: a directory that an action made, as a REAPI Tree: plain SHA-256 for every file, no recipes; names as they are.
 * FIFOs, devices and sockets are left out. Blocking.
 */
#pragma once

#include "gateway/executor/blob_box.h"

#define OUTPUTS_TREE_BYTES_MAX (32u << 20)

struct outputs_tree {
	struct blob_box *box;            /* for its files, and for itself */
	struct why why;
	int dir_fd;                      /* it is `name` in there */
	const char *name;
	const char *path;                /* what sentences call it */
	bool unix_modes;                 /* say modes, not only what is executable */
};

/*
 * 0; -EINVAL: a name or target that is no UTF-8; -EFBIG: a bound; -EREMOTEIO: the gateway refused something; else -errno. `digest`: the
 * Tree's.
 */
int outputs_tree_put(const struct outputs_tree *tree, struct digest *digest);
