/*
 * bundle: the directory that an OCI runtime starts a container from: config.json and, when no image is given, the
 * skeleton of a root over which the host's programs are mounted read-only, with a small /etc of its own.
 */
#pragma once

#include "gateway/context/why.h"
#include "gateway/executor/oci.h"

#define BUNDLE_INIT_PATH "/dev/.init"    /* where the init program is inside */

#define BUNDLE_ID_FILE   "id"            /* the container's id, for whoever cleans up after us */

/*
 * Writes it into `command->bundle_dir`. `network_path`: the network namespace to join; NULL: one of its own, without a way
 * out. 0 or -errno with `why`.
 */
int bundle_write(const struct oci_command *command, const char *network_path, struct why why);

/*
 * What a command in host mode sees of the host, one line a mount ("/usr ro"), for the environment's key: with NULs
 * between them. Returns the bytes written (at most `size`).
 */
size_t bundle_host_mounts(char *text, size_t size);
