/*
 * Shows on real directories that a manifest is what is on the disk (every message, recipe and byte is read back through it),
 * that its root depends on content alone, and what is refused or left out.
 */
#include "tests/unit/context/place.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void assert_hardlink(struct manifest *manifest, const char *path, const char *first)
{
	struct tree_node node;

	assert_true(place_find(manifest, path, &node));
	if (!span_is(node.hardlink, first))
		fail_msg("%s is a name of \"%.*s\", expected \"%s\"", path, (int)node.hardlink.size,
		         (const char *)node.hardlink.data, first);
}

static void test_everything(void **state)
{
	struct place *place = *state;
	unsigned count = place_make_everything(place);
	struct manifest *manifest = place_build(place);
	const struct manifest_totals *totals = manifest_totals(manifest);

	assert_int_equal(place_compare(manifest, place->fd, manifest_root(manifest)), count);
	assert_int_equal(totals->directories, 4);
	assert_int_equal(totals->symlinks, 3);
	assert_int_equal(totals->others, 1);
	assert_int_equal(totals->files + totals->directories - 1 + totals->symlinks + totals->others, count);
	assert_int_equal(totals->files_read, totals->files - 2);        /* second names are not read */
	assert_hardlink(manifest, "script", "");
	assert_hardlink(manifest, "\xc3/second", "script");
	manifest_destroy(manifest);
}

static void test_xattrs(void **state)
{
	struct place *place = *state;
	struct manifest *manifest;
	struct tree_node node;
	struct digest root, again;
	int fd;

	place_write_text(place, "f", "x");
	fd = openat(place->fd, "f", O_RDONLY);
	if (fsetxattr(fd, "user.b", "2", 1, 0) < 0) {
		close(fd);
		skip();                  /* no xattrs on this file system */
	}
	assert_int_equal(fsetxattr(fd, "user.a", "", 0, 0), 0);
	assert_int_equal(fsetxattr(place->fd, "user.dir", "d", 1, 0), 0);
	assert_int_equal(linkat(place->fd, "f", place->fd, "g", 0), 0);
	manifest = place_build(place);
	assert_true(place_find(manifest, "g", &node));
	assert_int_equal(node.xattrs_count, 2);
	assert_true(place_find(manifest, "f", &node));
	assert_int_equal(node.xattrs_count, 2);
	assert_true(span_is(node.xattrs[0].name, "user.a") && node.xattrs[0].value.size == 0);
	assert_true(span_is(node.xattrs[1].name, "user.b") && span_is(node.xattrs[1].value, "2"));
	manifest_destroy(manifest);

	grow_old();
	place_build_and_save(place, &root);
	assert_int_equal(place_build_and_save(place, &again), 0);
	assert_true(digest_equal(&root, &again));
	assert_int_equal(fsetxattr(fd, "user.b", "3", 1, 0), 0);        /* ctime tells */
	place_build_and_save(place, &again);
	assert_false(digest_equal(&root, &again));
	assert_int_equal(fsetxattr(fd, "user.b", "2", 1, 0), 0);
	assert_int_equal(fsetxattr(place->fd, "user.dir", "e", 1, 0), 0);
	place_build_and_save(place, &again);
	assert_false(digest_equal(&root, &again));
	assert_int_equal(fsetxattr(place->fd, "user.dir", "d", 1, 0), 0);
	place_build_and_save(place, &again);
	assert_true(digest_equal(&root, &again));

	assert_int_equal(fsetxattr(fd, "user.overlay.opaque", "y", 1, 0), 0);
	assert_int_equal(unlinkat(place->fd, "g", 0), 0);
	place_refuses(place, -EPERM, "f: has the xattr user.overlay.opaque, which is refused");
	close(fd);
}

static void test_device_is_refused(void **state)
{
	struct place *place = *state;

	place_make_directory(place, "dev");
	if (mknodat(place->fd, "dev/null", S_IFCHR | 0666, makedev(1, 3)) < 0)
		skip();                  /* not root */
	place_refuses(place, -EPERM, "dev/null: is a device node, which is refused");
	assert_int_equal(unlinkat(place->fd, "dev/null", 0), 0);
	assert_int_equal(mknodat(place->fd, "dev/white-out", S_IFCHR, makedev(0, 0)), 0);
	place_refuses(place, -EPERM, "dev/white-out: is a device node, which is refused");
}

static void test_socket_is_left_out(void **state)
{
	struct place *place = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct digest without, with;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	place_write_text(place, "f", "x");
	place_build_and_save(place, &without);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", place->tree);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	place_build_and_save(place, &with);
	assert_true(digest_equal(&without, &with));
}

/* The same tree, made in another order, with other times, elsewhere. */
static void test_root_is_content(void **state)
{
	struct place *place = *state;
	struct digest forward, backward;
	char name[32], tree[160];
	int fd = place->fd;

	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		place_write_text(place, name, name);
	}
	place_make_directory(place, "d");
	assert_int_equal(linkat(place->fd, "f7", place->fd, "d/link", 0), 0);
	place_build_and_save(place, &forward);

	snprintf(tree, sizeof(tree), "%s/other", place->base);
	assert_int_equal(mkdir(tree, 0755), 0);
	strcpy(place->tree, tree);
	place->fd = open(tree, O_RDONLY | O_DIRECTORY);
	place_make_directory(place, "d");
	place_write_text(place, "d/link", "f7");
	assert_int_equal(linkat(place->fd, "d/link", place->fd, "f7", 0), 0);
	for (int i = 199; i >= 0; i--) {
		snprintf(name, sizeof(name), "f%d", i);
		if (i != 7)
			place_write_text(place, name, name);
	}
	place_build_and_save(place, &backward);
	assert_true(digest_equal(&forward, &backward));
	close(place->fd);
	place->fd = fd;
}

static void test_hardlinks(void **state)
{
	struct place *place = *state;
	struct manifest *manifest;
	struct digest root;
	char outside[128];

	place_make_directory(place, "b");
	place_make_directory(place, "b.d");
	place_write_text(place, "b.d/x", "content");
	assert_int_equal(linkat(place->fd, "b.d/x", place->fd, "b/y", 0), 0);
	assert_int_equal(linkat(place->fd, "b.d/x", place->fd, "c", 0), 0);
	place_write_text(place, "outside", "content");
	snprintf(outside, sizeof(outside), "%s/elsewhere", place->base);
	assert_int_equal(linkat(place->fd, "outside", AT_FDCWD, outside, 0), 0);
	manifest = place_build(place);
	assert_hardlink(manifest, "b/y", "");            /* "b" is walked into before "b.d" comes */
	assert_hardlink(manifest, "b.d/x", "b/y");
	assert_hardlink(manifest, "c", "b/y");
	assert_hardlink(manifest, "outside", "");
	assert_int_equal(manifest_totals(manifest)->files_read, 2);
	manifest_destroy(manifest);

	grow_old();
	place_build_and_save(place, &root);
	assert_int_equal(place_build_and_save(place, &root), 0);
	/* A directory's name changes: the links elsewhere must follow, though nothing of theirs has changed. */
	assert_int_equal(renameat(place->fd, "b", place->fd, "a"), 0);
	manifest = place_build(place);
	assert_hardlink(manifest, "c", "a/y");
	assert_hardlink(manifest, "b.d/x", "a/y");
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);
	assert_int_equal(unlinkat(place->fd, "a/y", 0), 0);
	manifest = place_build(place);
	assert_hardlink(manifest, "b.d/x", "");
	assert_hardlink(manifest, "c", "b.d/x");
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);
	assert_int_equal(unlinkat(place->fd, "b.d/x", 0), 0);
	manifest = place_build(place);
	assert_hardlink(manifest, "c", "");
	place_compare(manifest, place->fd, manifest_root(manifest));
	manifest_destroy(manifest);
}

/* Runs of data and holes that begin and end anywhere; and what is in a hole is zeros, like any others. */
static void test_sparse(void **state)
{
	struct place *place = *state;
	static const struct {
		off_t at;
		size_t size;
	} data[] = { { 5, 100000 }, { 6000000, 1 }, { 9000001, 4096 }, { 20000000, 3000000 }, { 59999998, 2 } };
	uint8_t *bytes = noise(3000000, 7), *zeros = calloc(1, 1000000);
	int fd = openat(place->fd, "sparse", O_RDWR | O_CREAT, 0644),
	    full = openat(place->fd, "full", O_RDWR | O_CREAT, 0644);
	struct tree_node sparse_node, full_node;
	struct manifest *manifest;
	struct digest root;

	for (off_t at = 0; at < 60000000; at += 1000000)
		assert_int_equal(pwrite(full, zeros, 1000000, at), 1000000);
	for (size_t i = 0; i < COUNT(data); i++) {
		assert_int_equal(pwrite(fd, bytes, data[i].size, data[i].at), (ssize_t)data[i].size);
		assert_int_equal(pwrite(full, bytes, data[i].size, data[i].at), (ssize_t)data[i].size);
	}
	assert_int_equal(ftruncate(fd, 70000003), 0);
	assert_int_equal(ftruncate(full, 70000003), 0);
	close(fd);
	close(full);
	manifest = place_build(place);
	assert_true(place_find(manifest, "full", &full_node) && place_find(manifest, "sparse", &sparse_node));
	assert_true(digest_equal(&full_node.digest, &sparse_node.digest));
	assert_int_equal(sparse_node.file_size, 70000003);
	place_compare(manifest, place->fd, manifest_root(manifest));
	manifest_destroy(manifest);
	grow_old();
	place_build_and_save(place, &root);
	assert_int_equal(place_build_and_save(place, &root), 0);
	free(bytes);
	free(zeros);
}

/* 120 directories with names of 33 bytes: from the root no path of the kernel's reaches the bottom. */
static void test_deep(void **state)
{
	struct place *place = *state;
	struct manifest *manifest;
	struct digest root;
	char name[34];
	int fd = dup(place->fd);

	memset(name, 'd', 33);
	name[33] = 0;
	for (int depth = 0; depth < 120; depth++) {
		int below;

		assert_int_equal(mkdirat(fd, name, 0755), 0);
		below = openat(fd, name, O_RDONLY | O_DIRECTORY);
		assert_true(below >= 0);
		close(fd);
		fd = below;
	}
	close(openat(fd, "bottom", O_WRONLY | O_CREAT, 0644));
	assert_int_equal(linkat(fd, "bottom", fd, "second", 0), 0);
	close(fd);
	manifest = place_build(place);
	assert_int_equal(place_compare(manifest, place->fd, manifest_root(manifest)), 122);
	manifest_destroy(manifest);
	grow_old();
	place_build_and_save(place, &root);
	assert_int_equal(place_build_and_save(place, &root), 0);
}

static void test_too_deep(void **state)
{
	struct place *place = *state;
	struct manifest_options options = place_options(place);
	struct manifest *manifest;
	int fd = dup(place->fd);
	char why[512];

	for (int depth = 0; depth < TREE_DEPTH_MAX; depth++) {
		int below;

		assert_int_equal(mkdirat(fd, "d", 0755), 0);
		below = openat(fd, "d", O_RDONLY | O_DIRECTORY);
		close(fd);
		fd = below;
	}
	close(fd);
	assert_int_equal(manifest_build(&manifest, &options, why, sizeof(why)), -ENAMETOOLONG);
	assert_memory_equal(why, "d/d/d/", 6);
}

static void test_ignore(void **state)
{
	struct place *place = *state;
	struct manifest_options options = place_options(place);
	struct manifest *manifest;
	struct digest root, again;

	place_make_small(place);
	place_make_directory(place, "d0/sub");
	place_write_text(place, "d0/sub/keep", "keep");
	place_write_text(place, ".dockerignore", "# a comment\nd0\n!d0/sub/keep\nd1/f*\n!d1/f3\nd2\n");
	manifest = place_build(place);
	assert_true(place_holds(manifest, "d0/sub/keep") && !place_holds(manifest, "d0/f1"));
	assert_true(place_holds(manifest, "d1/f3") && !place_holds(manifest, "d1/f4"));
	assert_true(!place_holds(manifest, "d2") && place_holds(manifest, "top") && place_holds(manifest, ".dockerignore"));
	assert_int_equal(manifest_totals(manifest)->files, 1 + 1 + 20 + 2);
	assert_int_equal(manifest_totals(manifest)->files_read, 24);
	manifest_destroy(manifest);

	grow_old();
	place_build_and_save(place, &root);
	assert_int_equal(place_build_and_save(place, &again), 0);
	assert_true(digest_equal(&root, &again));
	place_write_text(place, "d2/f1", "nobody looks");
	place_write_text(place, "d0/new", "nobody looks");
	place_build_and_save(place, &again);
	assert_true(digest_equal(&root, &again));

	/* When nothing is kept below an excluded directory, it goes, too; and comes back. */
	assert_int_equal(unlinkat(place->fd, "d0/sub/keep", 0), 0);
	manifest = place_build(place);
	assert_false(place_holds(manifest, "d0"));
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);
	place_write_text(place, "d0/sub/keep", "keep");
	place_build_and_save(place, &again);
	assert_true(digest_equal(&root, &again));

	/* Other rules: what was ignored is looked at. */
	place_write_text(place, ".dockerignore", "d1\n");
	manifest = place_build(place);
	assert_true(place_holds(manifest, "d2/f1") && place_holds(manifest, "d0/f1") && !place_holds(manifest, "d1"));
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);
	options.use_ignore = false;
	manifest = place_build_with(place, &options);
	assert_true(place_holds(manifest, "d1/f1"));
	place_compare(manifest, place->fd, manifest_root(manifest));
	manifest_destroy(manifest);

	place_write_text(place, ".dockerignore", "a\n[b\n");
	place_refuses(place, -EINVAL, ".dockerignore: line 2: the pattern has a '[' without a ']'");
}

/* Whoever writes it is not waited for. */
static void test_ignore_file_that_is_a_pipe(void **state)
{
	struct place *place = *state;

	assert_int_equal(mkfifoat(place->fd, ".dockerignore", 0600), 0);
	place_refuses(place, -EINVAL, ".dockerignore: is a pipe, which can be read only once");
}

static void test_children(void **state)
{
	struct place *place = *state;
	struct manifest_children children;
	struct manifest *manifest;
	uint8_t *data = noise(300000, 1);
	struct digest other = { .size = 3 };

	place_make_small(place);
	place_write(place, "large", data, 300000);
	place_write_text(place, "empty", "");
	free(data);
	manifest = place_build(place);
	assert_int_equal(manifest_children(manifest, manifest_root(manifest), &children), 0);
	assert_int_equal(children.directories_count, 5);
	assert_int_equal(children.contents_count, 2);            /* not the empty one */
	assert_int_equal(children.recipes[0] + children.recipes[1], 1);
	other = children.directories[2];
	assert_int_equal(manifest_children(manifest, &other, &children), 0);
	assert_int_equal(children.contents_count, 10);
	other.size++;
	assert_int_equal(manifest_children(manifest, &other, &children), -ENOENT);
	manifest_destroy(manifest);
}

static void test_read_stale(void **state)
{
	struct place *place = *state;
	struct manifest_children children;
	struct blob_piece pieces[10];
	struct manifest *manifest;
	uint8_t bytes[10][16];
	char why[512] = "";

	place_make_small(place);
	manifest = place_build(place);
	assert_int_equal(manifest_children(manifest, manifest_root(manifest), &children), 0);
	assert_int_equal(manifest_children(manifest, &(struct digest){ .size = 0 }, &children), -ENOENT);
	assert_int_equal(manifest_children(manifest, manifest_root(manifest), &children), 0);
	assert_int_equal(manifest_children(manifest, &(struct digest){ .size = 1 }, &children), -ENOENT);
	{
		struct digest directory = children.directories[0];

		assert_int_equal(manifest_children(manifest, &directory, &children), 0);
	}
	for (size_t i = 0; i < 10; i++)
		pieces[i] = (struct blob_piece){ .digest = children.contents[i], .buffer = bytes[i] };
	assert_int_equal(manifest_read_many(manifest, pieces, 10, why, sizeof(why)), 0);
	for (int d = 0; d < 5; d++) {
		char name[32];

		snprintf(name, sizeof(name), "d%d/f5", d);
		place_write_text(place, name, "XXXXX");
	}
	assert_int_equal(manifest_read_many(manifest, pieces, 10, why, sizeof(why)), -ESTALE);
	assert_string_equal(why + 2, "/f5: has changed since it was scanned");
	for (int d = 0; d < 5; d++) {
		char name[32];

		snprintf(name, sizeof(name), "d%d/f5", d);
		assert_int_equal(unlinkat(place->fd, name, 0), 0);
	}
	assert_int_equal(manifest_read_many(manifest, pieces, 10, why, sizeof(why)), -ESTALE);
	pieces[0].digest.hash[0] ^= 1;
	assert_int_equal(manifest_read_many(manifest, pieces, 10, why, sizeof(why)), -ENOENT);
	manifest_destroy(manifest);
}

struct progress {
	unsigned calls;
	uint64_t entries, files, bytes;
};

static void on_progress(void *context, uint64_t entries, uint64_t files_read, uint64_t bytes_read)
{
	struct progress *progress = context;

	progress->calls++;
	assert_true(entries >= progress->entries && files_read >= progress->files && bytes_read >= progress->bytes);
	progress->entries = entries;
	progress->files = files_read;
	progress->bytes = bytes_read;
}

static void test_progress(void **state)
{
	struct place *place = *state;
	struct progress progress = { 0 };
	struct manifest_options options = place_options(place);

	place_make_small(place);
	options.progress = on_progress;
	options.context = &progress;
	manifest_destroy(place_build_with(place, &options));
	assert_int_equal(progress.calls, 2);             /* at the first entry, and at the end */
	assert_int_equal(progress.entries, 56);
	assert_int_equal(progress.files, 51);
}

static void test_no_directory(void **state)
{
	struct place *place = *state;
	struct manifest *manifest;
	struct manifest_options options = { .path = "/nowhere/at/all" };
	char why[512];

	assert_int_equal(manifest_build(&manifest, &options, why, sizeof(why)), -ENOENT);
	assert_memory_equal(why, "/nowhere/at/all: cannot be opened: ", 35);
	place_write_text(place, "file", "x");
	strcat(place->tree, "/file");
	options.path = place->tree;
	assert_int_equal(manifest_build(&manifest, &options, why, sizeof(why)), -ENOTDIR);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, place_setup, place_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_everything),
		TEST(test_xattrs),
		TEST(test_device_is_refused),
		TEST(test_socket_is_left_out),
		TEST(test_root_is_content),
		TEST(test_hardlinks),
		TEST(test_sparse),
		TEST(test_deep),
		TEST(test_too_deep),
		TEST(test_ignore),
		TEST(test_ignore_file_that_is_a_pipe),
		TEST(test_children),
		TEST(test_read_stale),
		TEST(test_progress),
		TEST(test_no_directory),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
