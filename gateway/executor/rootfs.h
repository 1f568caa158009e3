/*
 * rootfs: what an action's / is made of: the host's own programs, or an OCI image; and the key of either. Images are
 * named by clients, so they are looked for in one directory only, the operator's `images`. Blocking.
 */
#pragma once

#include "gateway/executor/oci.h"
#include "proto/digest.h"

/* The init program that is PID 1 of each container; NULL when it was not installed: the command is PID 1 then. */
const char *rootfs_init_path(void);

/*
 * The layout directory that a client means with `name`: a path below `images`, or an absolute one that leads there.
 * 0; -EPERM: no `images`, or it leads elsewhere; -ENOENT. With `why`.
 */
int rootfs_image_path(const char *images, const char *name, char path[static PATH_MAX], char *why, size_t why_size);

/* The environment's key for actions in the image `name` (NULL: the host's programs). 0 or -errno with `why`. */
int rootfs_environment(const struct oci_runtime *runtime, const char *images, const char *name, struct digest *key,
                       char *why, size_t why_size);
/* The same in the image of that manifest's digest (NULL: the host's programs), whatever stands behind its name by now. */
int rootfs_environment_of(const struct oci_runtime *runtime, const char *image, struct digest *key, char *why,
                          size_t why_size);
