/*
 * environment: what an action's result depends on besides its inputs: where it runs. Its key goes into the key of the
 * cached result, so that after an upgrade of a host package, of the runtime or of the image nothing old is answered.
 */
#pragma once

#include "proto/digest.h"

#include <stddef.h>

#define ENVIRONMENT_PACKAGES_PATH "/var/lib/dpkg/status"

struct environment_input {
	const char *packages_path;       /* the host's package list; NULL when an image is used */
	const char *image_digest;        /* "sha256:…" of its manifest; NULL: the host's programs */
	const char *runtime;             /* its version line */
	struct span mounts;              /* what of the host is seen: bundle_host_mounts() */
	const char *machine;             /* NULL: uname's */
};

/* `key->size` is the length of the hashed description. 0 or -errno: the package list cannot be read. */
int environment_key(const struct environment_input *input, struct digest *key);
