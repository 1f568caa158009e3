/*
 * image: an OCI image layout directory as a container's root. Each blob that is read is checked against its digest. The layers
 * are unpacked once for each range of ids, into CACHE/HEX-UIDBASE/rootfs, appearing there only when whole; of a range of ids the
 * IMAGES_KEPT that were opened last stay there. What a process that died left half unpacked or half removed (.part, .gone) goes when
 * the next one is unpacked. Blocking; as root.
 */
#pragma once

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_DIGEST_TEXT (7 + 64 + 1)   /* "sha256:HEX" and a NUL */
#define IMAGE_LAYERS_MAX  256
#define IMAGES_KEPT       8              /* unpacked; another one that is opened makes room by the one opened longest ago */
#define IMAGE_ENV_MAX     1024
#define IMAGE_JSON_MAX    (4u << 20)

struct image {
	char digest[IMAGE_DIGEST_TEXT];  /* of the manifest for this machine: it names the image */
	char rootfs[PATH_MAX];
	char **env;                      /* what the image wants set: NAME=value, ends with NULL */
	char cwd[PATH_MAX];              /* "" or absolute */
	uint32_t uid, gid;               /* inside */
};

struct image_options {
	const char *layout;              /* the directory with index.json and blobs/ */
	const char *cache;               /* made when missing, 0711 */
	uint32_t uid_base, uid_count;
};

/* The manifest's digest alone, for the environment's key. 0 or -errno with `why`. */
int image_digest(const char *layout, char digest[static IMAGE_DIGEST_TEXT], char *why, size_t why_size);

/*
 * Of this range of ids no other image may be in use. 0; -ENOENT: no layout, or nothing in it for this machine; -EBADMSG:
 * malformed, or bytes that do not match their digest;
 * -E2BIG: a bound; else -errno. With `why`.
 */
int image_open(struct image *image, const struct image_options *options, char *why, size_t why_size);
void image_fini(struct image *image);
