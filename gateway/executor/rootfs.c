/* What an action's / is made of. */
#include "gateway/executor/rootfs.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/err.h"
#include "gateway/executor/bundle.h"
#include "gateway/executor/environment.h"
#include "gateway/executor/image.h"

const char *rootfs_init_path(void)
{
	/* Beside the installed binary's prefix, and beside it in a build directory. */
	static const char *const places[] = { "../libexec/sluice/sluice-init", "../executor/sluice-init" };
	static char path[PATH_MAX + 64];
	char self[PATH_MAX];
	ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (size <= 0)
		return NULL;
	self[size] = 0;
	slash = strrchr(self, '/');
	*slash = 0;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", self, places[i]);
		if (access(path, X_OK) == 0)
			return path;
	}
	return NULL;
}

int rootfs_image_path(const char *images, const char *name, char path[static PATH_MAX], char *why, size_t why_size)
{
	char joined[2 * PATH_MAX], root[PATH_MAX];
	size_t size;

	if (!images || !realpath(images, root)) {
		snprintf(why, why_size, "this executor has no images: serve --images DIR says where they are");
		return ERR_RAISE(-EPERM);
	}
	snprintf(joined, sizeof(joined), "%s/%s", *name == '/' ? "" : root, name);
	if (!realpath(joined, path)) {
		snprintf(why, why_size, "no image %s on the executor's machine", name);
		return ERR_RAISE(-ENOENT);
	}
	size = strlen(root);
	if (strncmp(path, root, size) == 0 && path[size] == '/')
		return 0;
	/* The same words whether it is there or not. */
	snprintf(why, why_size, "no image %s on the executor's machine", name);
	return ERR_RAISE(-EPERM);
}

int rootfs_environment_of(const struct oci_runtime *runtime, const char *image, struct digest *key, char *why,
                          size_t why_size)
{
	struct environment_input input = { .runtime = runtime->version, .image_digest = image };
	char mounts[4096];
	int r;

	if (!image) {
		input.packages_path = ENVIRONMENT_PACKAGES_PATH;
		input.mounts = span_make(mounts, bundle_host_mounts(mounts, sizeof(mounts)));
	}
	r = environment_key(&input, key);
	if (r < 0)
		snprintf(why, why_size, "%s cannot be read: %s", ENVIRONMENT_PACKAGES_PATH, err_text(r));
	return r;
}

int rootfs_environment(const struct oci_runtime *runtime, const char *images, const char *name, struct digest *key,
                       char *why, size_t why_size)
{
	char digest[IMAGE_DIGEST_TEXT], path[PATH_MAX];
	int r = name ? rootfs_image_path(images, name, path, why, why_size) : 0;

	if (r == 0 && name)
		r = image_digest(path, digest, why, why_size);
	return r < 0 ? r : rootfs_environment_of(runtime, name ? digest : NULL, key, why, why_size);
}
