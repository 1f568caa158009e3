/*
 * image_layer: unpacks one layer of an OCI image (a tar, plain or gzip or zstd) over the layers below it. White-outs remove
 * what those brought. Paths resolve inside `root_fd` as if it were "/" (openat2 RESOLVE_IN_ROOT): layers are other
 * people's, and a symlink of one layer may stand in the path of a file of the next. Device nodes are left out: a container's
 * /dev is made for it. Blocking; as root.
 */
#pragma once

#include "gateway/context/why.h"

#include <stdint.h>

#define IMAGE_ENTRIES_MAX 4000000
#define IMAGE_BYTES_MAX   (64ull << 30)

struct image_layer {
	int root_fd;
	int blob_fd;                     /* the layer; read from its beginning, twice */
	const char *name;                /* for messages */
	uint8_t hash[32];                /* SHA-256 that the blob must have */
	uint32_t uid_base, uid_count;    /* owners are shifted into this range; those beyond it are refused */
	uint64_t *entries, *bytes;       /* of all layers of an image, counted against the limits */
};

/* 0; -EBADMSG: not a tar, or not the bytes of that hash; -E2BIG: a limit; else -errno. With `why`. */
int image_layer_unpack(const struct image_layer *layer, struct why why);

/* A directory with all above it, resolved inside the root. A descriptor or -errno. */
int image_layer_make_directory(int root_fd, const char *path, uint32_t uid, uint32_t gid);
