/*
 * image_layer: any bytes as a layer, over a root in which a directory, a file and symlinks out of it lie. It is unpacked or refused
 * with a sentence, within its limits, and nothing beside the root is touched. As the user that runs it, whose id is the image's root.
 */
#include "gateway/executor/image_layer.h"

#include "chunker/sha256.h"
#include "fuzz/gateway/executor/scratch.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What may still come: a few bytes may ask for gigabytes. */
#define ENTRIES_LEFT 1000
#define BYTES_LEFT   (1u << 20)

static int make_root(int top_fd)
{
	int root_fd, file_fd;

	REQUIRE(mkdirat(top_fd, "outside", 0700) == 0 && mkdirat(top_fd, "root", 0700) == 0);
	root_fd = openat(top_fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	REQUIRE(root_fd >= 0);
	REQUIRE(mkdirat(root_fd, "d", 0700) == 0 && symlinkat("../outside", root_fd, "up") == 0);
	REQUIRE(symlinkat(scratch_path, root_fd, "away") == 0 && symlinkat("/d", root_fd, "in") == 0);
	file_fd = openat(root_fd, "d/f", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	REQUIRE(file_fd >= 0);
	close(file_fd);
	return root_fd;
}

static int make_blob(const uint8_t *data, size_t size)
{
	int fd = memfd_create("layer", MFD_CLOEXEC);

	REQUIRE(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	return fd;
}

/* The root is a directory still, and nothing came to be beside it. */
static void look_outside(int top_fd)
{
	int fd = openat(top_fd, "outside", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	REQUIRE(fd >= 0 && beneath_is_empty(fd) == 1);
	close(fd);
	REQUIRE(unlinkat(top_fd, "outside", AT_REMOVEDIR) == 0);
	REQUIRE(beneath_remove(top_fd, "root") == 0 && beneath_is_empty(top_fd) == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t entries = IMAGE_ENTRIES_MAX - ENTRIES_LEFT, bytes = IMAGE_BYTES_MAX - BYTES_LEFT;
	char why[512] = "";
	int top_fd = scratch_open(), r;
	struct image_layer layer = {
		.root_fd = make_root(top_fd), .blob_fd = make_blob(data, size), .name = "layer", .uid_base = geteuid(), .uid_count = 1,
		.entries = &entries, .bytes = &bytes,
	};

	sha256_once(data, size, layer.hash);
	r = image_layer_unpack(&layer, (struct why){ .text = why, .size = sizeof(why) });
	REQUIRE(r <= 0 && (r == 0) == !*why);
	close(layer.root_fd);
	close(layer.blob_fd);
	look_outside(top_fd);
	return 0;
}
