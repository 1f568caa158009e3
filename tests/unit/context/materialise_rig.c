/* Directories that trees are made into. */
#include "tests/unit/context/materialise_rig.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "gateway/context/beneath.h"

int rig_setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	model_init(&rig->model);
	strcpy(rig->path, "/tmp/materialise-XXXXXX");
	assert_non_null(mkdtemp(rig->path));
	rig->top_fd = open(rig->path, O_RDONLY | O_DIRECTORY);
	assert_int_equal(mkdirat(rig->top_fd, "root", 0755), 0);
	rig->dir_fd = openat(rig->top_fd, "root", O_RDONLY | O_DIRECTORY);
	assert_true(rig->dir_fd >= 0);
	*state = rig;
	return 0;
}

int rig_teardown(void **state)
{
	struct rig *rig = *state;

	close(rig->dir_fd);
	assert_int_equal(beneath_clear(rig->top_fd), 0);
	close(rig->top_fd);
	assert_int_equal(rmdir(rig->path), 0);
	model_fini(&rig->model);
	free(rig);
	return 0;
}

struct materialise_options rig_options(struct rig *rig, const struct digest *base, struct digest root)
{
	return (struct materialise_options){
		.dir_fd = rig->dir_fd, .base = base, .root = root, .source = &rig->model.source, .allow_special_modes = true,
	};
}

int rig_apply(struct rig *rig, const struct digest *base, struct digest root)
{
	struct materialise_options options = rig_options(rig, base, root);

	return materialise(&options, &rig->totals, rig->why, sizeof(rig->why));
}

void rig_apply_good(struct rig *rig, const struct digest *base, struct digest root)
{
	int r = rig_apply(rig, base, root);

	if (r)
		fail_msg("%s (%s)", rig->why, strerror(-r));
}

struct stat rig_stat(struct rig *rig, const char *path)
{
	struct stat stat;

	assert_int_equal(fstatat(rig->dir_fd, path, &stat, AT_SYMLINK_NOFOLLOW), 0);
	return stat;
}

const struct model_entry rig_everything[] = {
	{ .path = "", .type = S_IFDIR, .mode = 0750, .xattr = "of the root" },
	{ .path = "README", .text = "hello\n" },
	{ .path = "empty", .text = "" },
	{ .path = "run.sh", .text = "#!/bin/sh\n", .mode = 0755, .xattr = "value" },
	{ .path = "secret", .text = "s", .mode = 0400 },
	{ .path = "none", .text = "n", .mode = 01 },
	{ .path = "setuid", .text = "x", .mode = 04755 },
	{ .path = "src/a.c", .text = "int a;\n" },
	{ .path = "src/b.c", .text = "int a;\n" },
	{ .path = "src/deep/er/still", .text = "deep" },
	{ .path = "hollow", .type = S_IFDIR, .xattr = "dir" },
	{ .path = "read-only", .type = S_IFDIR, .mode = 0500 },
	{ .path = "read-only/file", .text = "in a read-only directory" },
	{ .path = "read-only/below", .type = S_IFDIR, .mode = 0555 },
	{ .path = "read-only/below/file", .text = "1" },
	{ .path = "sticky", .type = S_IFDIR, .mode = 01777 },
	{ .path = "link", .type = S_IFLNK, .text = "src/a.c" },
	{ .path = "absolute", .type = S_IFLNK, .text = "/etc/passwd" },
	{ .path = "loop", .type = S_IFLNK, .text = "loop" },
	{ .path = "out", .type = S_IFLNK, .text = "../../../.." },
	{ .path = "fifo", .type = S_IFIFO, .mode = 0640 },
	{ .path = ".wh.README", .text = "not a white-out" },
	{ .path = ".wh..wh..opq", .text = "" },
	{ .path = "\xff\xfe not utf-8", .text = "bytes" },
	{ .path = "one", .text = "linked" },
	{ .path = "src/two", .text = "linked", .hardlink = "one" },
	{ .path = "three", .text = "linked", .hardlink = "one" },
	{ .path = "big", .large = 1000000, .seed = 1 },
	{ .path = "zzz/bigger", .large = 3000001, .seed = 2, .mode = 0444 },
};
