/*
 * Shows on real directories that a manifest is what is on the disk (every message, recipe and byte is read back through
 * it), that its root depends on content alone, and that with a snapshot only what has changed, or could have changed
 * unseen, is read again.
 */
#include "chunker/sha256.h"
#include "gateway/base/err.h"
#include "gateway/context/manifest.h"
#include "proto/recipe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A directory for the tree and one for the snapshot. */
struct place {
	char base[64], tree[80], snapshot[96];
	int fd;                          /* of the tree */
};

static int setup(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	strcpy(place->base, "/tmp/manifest-test-XXXXXX");
	if (!mkdtemp(place->base))
		return -1;
	snprintf(place->tree, sizeof(place->tree), "%s/tree", place->base);
	snprintf(place->snapshot, sizeof(place->snapshot), "%s/cache/snapshot", place->base);
	if (mkdir(place->tree, 0755) < 0)
		return -1;
	place->fd = open(place->tree, O_RDONLY | O_DIRECTORY);
	*state = place;
	return 0;
}

static int teardown(void **state)
{
	struct place *place = *state;
	char command[128];

	close(place->fd);
	snprintf(command, sizeof(command), "rm -rf %s", place->base);
	assert_int_equal(system(command), 0);
	free(place);
	return 0;
}

static void write_bytes(struct place *place, const char *name, const void *data, size_t size)
{
	int fd = openat(place->fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), (ssize_t)size);
	assert_int_equal(fchmod(fd, 0644), 0);
	close(fd);
}

static void write_text(struct place *place, const char *name, const char *text)
{
	write_bytes(place, name, text, strlen(text));
}

static void make_directory(struct place *place, const char *name)
{
	assert_int_equal(mkdirat(place->fd, name, 0755), 0);
	assert_int_equal(fchmodat(place->fd, name, 0755, 0), 0);
}

/* Pseudo-random bytes that need chunks. */
static uint8_t *noise(size_t size, uint64_t seed)
{
	uint8_t *data = malloc(size);

	for (size_t i = 0; i < size; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		data[i] = (uint8_t)(seed >> 56);
	}
	return data;
}

/* Waits until what was written before is old enough to be trusted: that is a matter of clocks, and of nothing else. */
static void grow_old(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 3 * (1000000000 / sysconf(_SC_CLK_TCK)) + 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	while (clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL))
		;
}

static struct manifest *build_with(struct place *place, const struct manifest_options *options)
{
	struct manifest *manifest = NULL;
	char why[512];
	int r = manifest_build(&manifest, options, why, sizeof(why));

	if (r)
		fail_msg("%s (%s)", why, err_text(r));
	return manifest;
}

static struct manifest_options options_of(struct place *place)
{
	return (struct manifest_options){ .path = place->tree, .snapshot_path = place->snapshot, .use_ignore = true };
}

static struct manifest *build(struct place *place)
{
	struct manifest_options options = options_of(place);

	return build_with(place, &options);
}

static void refused(struct place *place, int expected, const char *sentence)
{
	struct manifest_options options = options_of(place);
	struct manifest *manifest = NULL;
	char why[512];

	assert_int_equal(manifest_build(&manifest, &options, why, sizeof(why)), expected);
	assert_string_equal(why, sentence);
	assert_null(manifest);
}

/* Builds, saves, and tells how many files were read. */
static uint64_t build_and_save(struct place *place, struct digest *root)
{
	struct manifest *manifest = build(place);
	uint64_t files_read = manifest_totals(manifest)->files_read;

	*root = *manifest_root(manifest);
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);
	return files_read;
}

static void *read_blob(struct manifest *manifest, const struct digest *digest)
{
	uint8_t *data = malloc(digest->size + 1), hash[SHA256_BYTES];
	char why[512] = "";

	if (manifest_read(manifest, digest, data, why, sizeof(why)))
		fail_msg("blob cannot be read: %s", why);
	sha256_once(data, digest->size, hash);
	assert_memory_equal(hash, digest->hash, sizeof(hash));
	return data;
}

/* Puts the content together from its pieces, as the other side will. */
static void append_content(struct manifest *manifest, const struct digest *digest, bool recipe, struct buffer *out)
{
	void *blob = read_blob(manifest, digest);
	const struct digest *children;
	struct recipe_reader reader;
	struct digest entry;
	size_t count, seen = 0;
	bool recipes;

	if (!recipe) {
		buffer_put(out, blob, digest->size);
		free(blob);
		return;
	}
	assert_true(recipe_open(&reader, span_make(blob, digest->size)));
	while (recipe_next(&reader, &entry)) {
		append_content(manifest, &entry, reader.head.level == 1, out);
		assert_int_equal(manifest_recipe_children(manifest, digest, &children, &recipes, &count), 0);
		assert_int_equal(recipes, reader.head.level == 1);
		assert_true(seen < count && digest_equal(&children[seen], &entry));
		seen++;
	}
	assert_false(reader.failed);
	assert_int_equal(seen, count);
	free(blob);
}

static void compare_file(struct manifest *manifest, int dir_fd, const char *name, const struct tree_node *node)
{
	struct buffer content = buffer_heap(1u << 30);
	struct stat st;
	uint8_t *data;
	int fd;

	append_content(manifest, &node->digest, node->recipe, &content);
	assert_int_equal(fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(node->mode, st.st_mode & 07777);
	assert_int_equal(node->file_size, st.st_size);
	assert_int_equal(content.size, st.st_size);
	assert_int_equal(node->recipe, st.st_size > RECIPE_WHOLE_MAX);
	data = malloc((size_t)st.st_size + 1);
	fd = openat(dir_fd, name, O_RDONLY);
	assert_int_equal(read(fd, data, (size_t)st.st_size + 1), st.st_size);
	close(fd);
	if (content.size)
		assert_memory_equal(data, content.data, content.size);
	free(data);
	buffer_fini(&content);
}

static void compare_symlink(int dir_fd, const char *name, const struct tree_node *node)
{
	char target[PATH_MAX];
	ssize_t size = readlinkat(dir_fd, name, target, sizeof(target));

	assert_true(size > 0);
	assert_true(span_equal(node->target, span_make(target, (size_t)size)));
}

/* Compares the tree with the disk, down from here. Returns the entries seen. */
static unsigned compare(struct manifest *manifest, int dir_fd, const struct digest *digest)
{
	void *blob = read_blob(manifest, digest);
	struct tree_reader reader;
	struct tree_node node;
	unsigned count = 0;
	struct stat st;

	assert_true(tree_open(&reader, span_make(blob, digest->size)));
	assert_int_equal(fstat(dir_fd, &st), 0);
	assert_int_equal(reader.directory.mode, st.st_mode & 07777);
	while (tree_next(&reader, &node)) {
		char name[TREE_NAME_MAX + 1];

		memcpy(name, node.name.data, node.name.size);
		name[node.name.size] = 0;
		count++;
		if (node.kind == TREE_FILE) {
			compare_file(manifest, dir_fd, name, &node);
		} else if (node.kind == TREE_SYMLINK) {
			compare_symlink(dir_fd, name, &node);
		} else if (node.kind == TREE_DIRECTORY) {
			int below = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);

			assert_true(below >= 0);
			count += compare(manifest, below, &node.digest);
			close(below);
		} else {
			assert_int_equal(node.kind, TREE_FIFO);
		}
	}
	if (reader.failed)
		fail_msg("%s", reader.fault);
	tree_close(&reader);
	free(blob);
	return count;
}

/* The node at a path of the tree; its spans are good until the next call. */
static bool find_node(struct manifest *manifest, const char *path, struct tree_node *found)
{
	static struct tree_reader reader;
	static void *blob;
	struct digest digest = *manifest_root(manifest);

	for (;;) {
		size_t size = strcspn(path, "/");
		bool there = false;

		tree_close(&reader);
		free(blob);
		blob = read_blob(manifest, &digest);
		assert_true(tree_open(&reader, span_make(blob, digest.size)));
		while (!there && tree_next(&reader, found))
			there = span_equal(found->name, span_make(path, size));
		assert_false(reader.failed);
		if (!there || !path[size]) {
			if (!there) {
				tree_close(&reader);
				free(blob);
				blob = NULL;
			}
			return there;
		}
		digest = found->digest;
		path += size + 1;
	}
}

static bool holds(struct manifest *manifest, const char *path)
{
	struct tree_node node;

	return find_node(manifest, path, &node);
}

static void assert_hardlink(struct manifest *manifest, const char *path, const char *first)
{
	struct tree_node node;

	assert_true(find_node(manifest, path, &node));
	if (!span_is(node.hardlink, first))
		fail_msg("%s is a name of \"%.*s\", expected \"%s\"", path, (int)node.hardlink.size,
		         (const char *)node.hardlink.data, first);
}

/* Some of everything that is allowed. */
static unsigned make_everything(struct place *place)
{
	static const size_t sizes[] = { 0, 1, 65535, 65536, 65537, 70000, 262144, 1000000, 9000000 };
	char long_name[256];
	unsigned count = 0;

	for (size_t i = 0; i < COUNT(sizes); i++, count++) {
		uint8_t *data = noise(sizes[i] + 1, i);
		char name[32];

		snprintf(name, sizeof(name), "size-%zu", sizes[i]);
		write_bytes(place, name, data, sizes[i]);
		free(data);
	}
	write_text(place, "script", "#!/bin/sh\n");
	assert_int_equal(fchmodat(place->fd, "script", 0755, 0), 0);
	write_text(place, "setuid", "x");
	assert_int_equal(fchmodat(place->fd, "setuid", 06711, 0), 0);
	write_text(place, "\xff\xfe not UTF-8", "x");
	write_text(place, "%FF%FE not UTF-8", "y");
	write_text(place, ".wh.white-out", "");
	write_text(place, "new\nline", "z");
	memset(long_name, 'n', 255);
	long_name[255] = 0;
	write_text(place, long_name, "long");
	make_directory(place, "empty");
	make_directory(place, "sticky");
	assert_int_equal(fchmodat(place->fd, "sticky", 01777, 0), 0);
	make_directory(place, "\xc3");
	write_text(place, "\xc3/below", "deep");
	assert_int_equal(symlinkat("loop", place->fd, "loop"), 0);
	assert_int_equal(symlinkat("/etc/../passwd", place->fd, "absolute"), 0);
	assert_int_equal(symlinkat("\xe9", place->fd, "to-\xe9"), 0);
	assert_int_equal(mkfifoat(place->fd, "pipe", 0600), 0);
	assert_int_equal(linkat(place->fd, "script", place->fd, "\xc3/second", 0), 0);
	assert_int_equal(linkat(place->fd, "size-9000000", place->fd, "\xc3/large", 0), 0);
	return count + 17;
}

static void test_everything(void **state)
{
	struct place *place = *state;
	unsigned count = make_everything(place);
	struct manifest *manifest = build(place);
	const struct manifest_totals *totals = manifest_totals(manifest);

	assert_int_equal(compare(manifest, place->fd, manifest_root(manifest)), count);
	assert_int_equal(totals->directories, 4);
	assert_int_equal(totals->symlinks, 3);
	assert_int_equal(totals->others, 1);
	assert_int_equal(totals->files + totals->directories - 1 + totals->symlinks + totals->others, count);
	assert_int_equal(totals->files_read, totals->files - 2);        /* second names are not read */
	assert_hardlink(manifest, "script", "");
	assert_hardlink(manifest, "\xc3/second", "script");
	manifest_destroy(manifest);
}

/* As before, but all of it comes from the snapshot now. */
static void test_everything_from_the_snapshot(void **state)
{
	struct place *place = *state;
	unsigned count = make_everything(place);
	struct digest root, again;
	struct manifest *manifest;

	grow_old();
	build_and_save(place, &root);
	assert_int_equal(build_and_save(place, &again), 0);
	assert_true(digest_equal(&root, &again));
	manifest = build(place);
	assert_int_equal(compare(manifest, place->fd, manifest_root(manifest)), count);
	assert_int_equal(manifest_totals(manifest)->files_read, 0);
	manifest_destroy(manifest);
}

static void test_xattrs(void **state)
{
	struct place *place = *state;
	struct manifest *manifest;
	struct tree_node node;
	struct digest root, again;
	int fd;

	write_text(place, "f", "x");
	fd = openat(place->fd, "f", O_RDONLY);
	if (fsetxattr(fd, "user.b", "2", 1, 0) < 0) {
		close(fd);
		skip();                  /* no xattrs on this file system */
	}
	assert_int_equal(fsetxattr(fd, "user.a", "", 0, 0), 0);
	assert_int_equal(fsetxattr(place->fd, "user.dir", "d", 1, 0), 0);
	assert_int_equal(linkat(place->fd, "f", place->fd, "g", 0), 0);
	manifest = build(place);
	assert_true(find_node(manifest, "g", &node));
	assert_int_equal(node.xattrs_count, 2);
	assert_true(find_node(manifest, "f", &node));
	assert_int_equal(node.xattrs_count, 2);
	assert_true(span_is(node.xattrs[0].name, "user.a") && node.xattrs[0].value.size == 0);
	assert_true(span_is(node.xattrs[1].name, "user.b") && span_is(node.xattrs[1].value, "2"));
	manifest_destroy(manifest);

	grow_old();
	build_and_save(place, &root);
	assert_int_equal(build_and_save(place, &again), 0);
	assert_true(digest_equal(&root, &again));
	assert_int_equal(fsetxattr(fd, "user.b", "3", 1, 0), 0);        /* ctime tells */
	build_and_save(place, &again);
	assert_false(digest_equal(&root, &again));
	assert_int_equal(fsetxattr(fd, "user.b", "2", 1, 0), 0);
	assert_int_equal(fsetxattr(place->fd, "user.dir", "e", 1, 0), 0);
	build_and_save(place, &again);
	assert_false(digest_equal(&root, &again));
	assert_int_equal(fsetxattr(place->fd, "user.dir", "d", 1, 0), 0);
	build_and_save(place, &again);
	assert_true(digest_equal(&root, &again));

	assert_int_equal(fsetxattr(fd, "user.overlay.opaque", "y", 1, 0), 0);
	assert_int_equal(unlinkat(place->fd, "g", 0), 0);
	refused(place, -EPERM, "f: has the xattr user.overlay.opaque, which is refused");
	close(fd);
}

static void test_device_is_refused(void **state)
{
	struct place *place = *state;

	make_directory(place, "dev");
	if (mknodat(place->fd, "dev/null", S_IFCHR | 0666, makedev(1, 3)) < 0)
		skip();                  /* not root */
	refused(place, -EPERM, "dev/null: is a device node, which is refused");
	assert_int_equal(unlinkat(place->fd, "dev/null", 0), 0);
	assert_int_equal(mknodat(place->fd, "dev/white-out", S_IFCHR, makedev(0, 0)), 0);
	refused(place, -EPERM, "dev/white-out: is a device node, which is refused");
}

static void test_socket_is_left_out(void **state)
{
	struct place *place = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct digest without, with;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	write_text(place, "f", "x");
	build_and_save(place, &without);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", place->tree);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	build_and_save(place, &with);
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
		write_text(place, name, name);
	}
	make_directory(place, "d");
	assert_int_equal(linkat(place->fd, "f7", place->fd, "d/link", 0), 0);
	build_and_save(place, &forward);

	snprintf(tree, sizeof(tree), "%s/other", place->base);
	assert_int_equal(mkdir(tree, 0755), 0);
	strcpy(place->tree, tree);
	place->fd = open(tree, O_RDONLY | O_DIRECTORY);
	make_directory(place, "d");
	write_text(place, "d/link", "f7");
	assert_int_equal(linkat(place->fd, "d/link", place->fd, "f7", 0), 0);
	for (int i = 199; i >= 0; i--) {
		snprintf(name, sizeof(name), "f%d", i);
		if (i != 7)
			write_text(place, name, name);
	}
	build_and_save(place, &backward);
	assert_true(digest_equal(&forward, &backward));
	close(place->fd);
	place->fd = fd;
}

static void make_small_tree(struct place *place)
{
	char name[32];

	for (int d = 0; d < 5; d++) {
		snprintf(name, sizeof(name), "d%d", d);
		make_directory(place, name);
		for (int f = 0; f < 10; f++) {
			snprintf(name, sizeof(name), "d%d/f%d", d, f);
			write_text(place, name, name);
		}
	}
	write_text(place, "top", "top");
}

static void touch(struct place *place, const char *name)
{
	const struct timespec times[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1000000000, .tv_nsec = 1 } };

	assert_int_equal(utimensat(place->fd, name, times, AT_SYMLINK_NOFOLLOW), 0);
}

static void test_nothing_changed(void **state)
{
	struct place *place = *state;
	struct digest root, again;
	struct stat before, after;

	make_small_tree(place);
	grow_old();
	assert_int_equal(build_and_save(place, &root), 51);
	assert_int_equal(stat(place->snapshot, &before), 0);
	assert_int_equal(build_and_save(place, &again), 0);
	assert_true(digest_equal(&root, &again));
	assert_int_equal(stat(place->snapshot, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);           /* nothing was written */
}

static void test_touched(void **state)
{
	struct place *place = *state;
	struct digest root, again;
	char name[32];

	make_small_tree(place);
	grow_old();
	build_and_save(place, &root);
	for (int f = 0; f < 10; f++) {
		snprintf(name, sizeof(name), "d3/f%d", f);
		touch(place, name);
	}
	touch(place, "d2");
	assert_int_equal(build_and_save(place, &again), 10);
	assert_true(digest_equal(&root, &again));
	grow_old();
	assert_int_equal(build_and_save(place, &again), 10);     /* their ctimes were too fresh then */
	assert_int_equal(build_and_save(place, &again), 0);
	assert_true(digest_equal(&root, &again));
}

static void test_edits(void **state)
{
	struct place *place = *state;
	struct digest root, edited, fresh;
	struct manifest *manifest;
	char snapshot[sizeof(place->snapshot)];

	make_small_tree(place);
	grow_old();
	build_and_save(place, &root);
	write_text(place, "d1/f1", "D1/f1");                     /* the size stays */
	write_text(place, "d2/new", "new");
	assert_int_equal(unlinkat(place->fd, "d3/f3", 0), 0);
	assert_int_equal(renameat(place->fd, "d4/f4", place->fd, "d4/moved"), 0);
	make_directory(place, "d5");
	manifest = build(place);
	assert_int_equal(manifest_totals(manifest)->files_read, 3);     /* moved ones are found by name only */
	compare(manifest, place->fd, manifest_root(manifest));
	assert_false(holds(manifest, "d3/f3"));
	assert_true(holds(manifest, "d4/moved") && !holds(manifest, "d4/f4") && holds(manifest, "d2/new"));
	edited = *manifest_root(manifest);
	assert_false(digest_equal(&root, &edited));
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);

	/* Without a snapshot the same comes out. */
	strcpy(snapshot, place->snapshot);
	strcat(place->snapshot, "-2");
	build_and_save(place, &fresh);
	assert_true(digest_equal(&edited, &fresh));
	strcpy(place->snapshot, snapshot);

	write_text(place, "d1/f1", "d1/f1");
	assert_int_equal(unlinkat(place->fd, "d2/new", 0), 0);
	write_text(place, "d3/f3", "d3/f3");
	assert_int_equal(renameat(place->fd, "d4/moved", place->fd, "d4/f4"), 0);
	assert_int_equal(unlinkat(place->fd, "d5", AT_REMOVEDIR), 0);
	build_and_save(place, &edited);
	assert_true(digest_equal(&root, &edited));
}

static void test_kind_changes(void **state)
{
	struct place *place = *state;
	struct manifest *manifest;
	struct digest root;

	make_small_tree(place);
	grow_old();
	build_and_save(place, &root);
	assert_int_equal(unlinkat(place->fd, "d0/f0", 0), 0);
	make_directory(place, "d0/f0");
	write_text(place, "d0/f0/x", "x");
	assert_int_equal(unlinkat(place->fd, "d1/f1", 0), 0);
	assert_int_equal(symlinkat("f2", place->fd, "d1/f1"), 0);
	assert_int_equal(fchmodat(place->fd, "d1/f2", 0600, 0), 0);
	assert_int_equal(fchmodat(place->fd, "d2", 0700, 0), 0);
	manifest = build(place);
	compare(manifest, place->fd, manifest_root(manifest));
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);
	grow_old();
	build_and_save(place, &root);
	manifest = build(place);
	compare(manifest, place->fd, manifest_root(manifest));
	assert_int_equal(manifest_totals(manifest)->files_read, 0);
	manifest_destroy(manifest);
}

/* A file that is written right before the scan could be written again within the same clock tick, unseen. */
static void test_too_fresh(void **state)
{
	struct place *place = *state;
	struct digest root;

	write_text(place, "old", "old");
	grow_old();
	write_text(place, "fresh", "fresh");
	assert_int_equal(build_and_save(place, &root), 2);
	grow_old();
	assert_int_equal(build_and_save(place, &root), 1);
	assert_int_equal(build_and_save(place, &root), 0);
}

static void test_bad_snapshots(void **state)
{
	struct place *place = *state;
	struct digest root, again;
	struct stat st;

	make_small_tree(place);
	grow_old();
	build_and_save(place, &root);
	assert_int_equal(stat(place->snapshot, &st), 0);
	for (off_t at = 0; at < st.st_size; at += 397) {
		int fd = open(place->snapshot, O_RDWR);
		uint8_t byte;

		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 1;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		close(fd);
		assert_int_equal(build_and_save(place, &again), 51);     /* all is read, and a good one written */
		assert_true(digest_equal(&root, &again));
	}
	assert_int_equal(truncate(place->snapshot, st.st_size / 2), 0);
	assert_int_equal(build_and_save(place, &again), 51);
	assert_int_equal(truncate(place->snapshot, 0), 0);
	assert_int_equal(build_and_save(place, &again), 51);
	strcat(place->tree, "/");                                        /* another spelling, another directory */
	assert_int_equal(build_and_save(place, &again), 51);
	assert_true(digest_equal(&root, &again));
}

static void test_hardlinks(void **state)
{
	struct place *place = *state;
	struct manifest *manifest;
	struct digest root;
	char outside[128];

	make_directory(place, "b");
	make_directory(place, "b.d");
	write_text(place, "b.d/x", "content");
	assert_int_equal(linkat(place->fd, "b.d/x", place->fd, "b/y", 0), 0);
	assert_int_equal(linkat(place->fd, "b.d/x", place->fd, "c", 0), 0);
	write_text(place, "outside", "content");
	snprintf(outside, sizeof(outside), "%s/elsewhere", place->base);
	assert_int_equal(linkat(place->fd, "outside", AT_FDCWD, outside, 0), 0);
	manifest = build(place);
	assert_hardlink(manifest, "b/y", "");            /* "b" is walked into before "b.d" comes */
	assert_hardlink(manifest, "b.d/x", "b/y");
	assert_hardlink(manifest, "c", "b/y");
	assert_hardlink(manifest, "outside", "");
	assert_int_equal(manifest_totals(manifest)->files_read, 2);
	manifest_destroy(manifest);

	grow_old();
	build_and_save(place, &root);
	assert_int_equal(build_and_save(place, &root), 0);
	/* A directory's name changes: the links elsewhere must follow, though nothing of theirs has changed. */
	assert_int_equal(renameat(place->fd, "b", place->fd, "a"), 0);
	manifest = build(place);
	assert_hardlink(manifest, "c", "a/y");
	assert_hardlink(manifest, "b.d/x", "a/y");
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);
	assert_int_equal(unlinkat(place->fd, "a/y", 0), 0);
	manifest = build(place);
	assert_hardlink(manifest, "b.d/x", "");
	assert_hardlink(manifest, "c", "b.d/x");
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);
	assert_int_equal(unlinkat(place->fd, "b.d/x", 0), 0);
	manifest = build(place);
	assert_hardlink(manifest, "c", "");
	compare(manifest, place->fd, manifest_root(manifest));
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
	manifest = build(place);
	assert_true(find_node(manifest, "full", &full_node) && find_node(manifest, "sparse", &sparse_node));
	assert_true(digest_equal(&full_node.digest, &sparse_node.digest));
	assert_int_equal(sparse_node.file_size, 70000003);
	compare(manifest, place->fd, manifest_root(manifest));
	manifest_destroy(manifest);
	grow_old();
	build_and_save(place, &root);
	assert_int_equal(build_and_save(place, &root), 0);
	free(bytes);
	free(zeros);
}

/* 120 directories with names of 200 bytes: no path of the kernel's reaches the bottom. */
static void test_deep(void **state)
{
	struct place *place = *state;
	struct manifest *manifest;
	struct digest root;
	char name[201];
	int fd = dup(place->fd);

	memset(name, 'd', 200);
	name[200] = 0;
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
	manifest = build(place);
	assert_int_equal(compare(manifest, place->fd, manifest_root(manifest)), 122);
	manifest_destroy(manifest);
	grow_old();
	build_and_save(place, &root);
	assert_int_equal(build_and_save(place, &root), 0);
}

static void test_too_deep(void **state)
{
	struct place *place = *state;
	struct manifest_options options = options_of(place);
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
	struct manifest_options options = options_of(place);
	struct manifest *manifest;
	struct digest root, again;

	make_small_tree(place);
	make_directory(place, "d0/sub");
	write_text(place, "d0/sub/keep", "keep");
	write_text(place, ".dockerignore", "# a comment\nd0\n!d0/sub/keep\nd1/f*\n!d1/f3\nd2\n");
	manifest = build(place);
	assert_true(holds(manifest, "d0/sub/keep") && !holds(manifest, "d0/f1"));
	assert_true(holds(manifest, "d1/f3") && !holds(manifest, "d1/f4"));
	assert_true(!holds(manifest, "d2") && holds(manifest, "top") && holds(manifest, ".dockerignore"));
	assert_int_equal(manifest_totals(manifest)->files, 1 + 1 + 20 + 2);
	assert_int_equal(manifest_totals(manifest)->files_read, 24);
	manifest_destroy(manifest);

	grow_old();
	build_and_save(place, &root);
	assert_int_equal(build_and_save(place, &again), 0);
	assert_true(digest_equal(&root, &again));
	write_text(place, "d2/f1", "nobody looks");
	write_text(place, "d0/new", "nobody looks");
	build_and_save(place, &again);
	assert_true(digest_equal(&root, &again));

	/* When nothing is kept below an excluded directory, it goes, too; and comes back. */
	assert_int_equal(unlinkat(place->fd, "d0/sub/keep", 0), 0);
	manifest = build(place);
	assert_false(holds(manifest, "d0"));
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);
	write_text(place, "d0/sub/keep", "keep");
	build_and_save(place, &again);
	assert_true(digest_equal(&root, &again));

	/* Other rules: what was ignored is looked at. */
	write_text(place, ".dockerignore", "d1\n");
	manifest = build(place);
	assert_true(holds(manifest, "d2/f1") && holds(manifest, "d0/f1") && !holds(manifest, "d1"));
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);
	options.use_ignore = false;
	manifest = build_with(place, &options);
	assert_true(holds(manifest, "d1/f1"));
	compare(manifest, place->fd, manifest_root(manifest));
	manifest_destroy(manifest);

	write_text(place, ".dockerignore", "a\n[b\n");
	refused(place, -EINVAL, ".dockerignore: line 2: the pattern has a '[' without a ']'");
}

static void test_children(void **state)
{
	struct place *place = *state;
	struct manifest_children children;
	struct manifest *manifest;
	uint8_t *data = noise(300000, 1);
	struct digest other = { .size = 3 };

	make_small_tree(place);
	write_bytes(place, "large", data, 300000);
	write_text(place, "empty", "");
	free(data);
	manifest = build(place);
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

	make_small_tree(place);
	manifest = build(place);
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
		write_text(place, name, "XXXXX");
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

static void test_committed(void **state)
{
	struct place *place = *state;
	struct span gateway = span_text("gateway-1"), other = span_text("gateway-2");
	struct manifest *manifest;
	struct digest root, edited;

	make_small_tree(place);
	grow_old();
	manifest = build(place);
	root = *manifest_root(manifest);
	assert_false(manifest_known(manifest, gateway, &root));
	manifest_committed(manifest, gateway);
	assert_false(manifest_known(manifest, gateway, &root));  /* the predecessor counts, and there is none */
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);

	write_text(place, "d1/f1", "edited");
	manifest = build(place);
	edited = *manifest_root(manifest);
	assert_true(manifest_known(manifest, gateway, &root));
	assert_false(manifest_known(manifest, gateway, &edited));
	assert_false(manifest_known(manifest, other, &root));
	assert_int_equal(manifest_save(manifest), 0);            /* scanned, but not committed */
	manifest_destroy(manifest);

	manifest = build(place);
	assert_false(manifest_known(manifest, gateway, &root));
	assert_false(manifest_known(manifest, gateway, &edited));
	manifest_committed(manifest, other);
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);
	manifest = build(place);
	assert_true(manifest_known(manifest, other, &edited));
	manifest_destroy(manifest);
}

static const struct span base_gateway = { (const uint8_t *)"gateway", 7 };

static struct digest row_digest(const struct manifest *manifest, const char *path)
{
	const struct table *table = manifest_table(manifest);
	struct digest digest = { 0 };

	for (uint32_t i = 1; i < table->rows_count; i++) {
		struct buffer buffer = buffer_heap(4096);

		table_path(table, i, &buffer);
		if (span_is(buffer_span(&buffer), path))
			digest = S_ISDIR(table->rows[i].mode) ? table_directory_digest(&table->directories[table->rows[i].link]) :
			                                        table_row_digest(table, &table->rows[i]);
		buffer_fini(&buffer);
	}
	assert_true(digest.size);
	return digest;
}

/* The only base of what is at `path` now. `made`: its bytes are to be had as well. */
static void expect_base(struct manifest *manifest, const char *path, const struct digest *base, bool made)
{
	struct digest blob = row_digest(manifest, path), found[4];
	uint8_t *data = malloc(base->size), hash[SHA256_BYTES];

	assert_int_equal(manifest_bases(manifest, base_gateway, &blob, found, 4), 1);
	assert_true(digest_equal(&found[0], base));
	assert_int_equal(manifest_read_base(manifest, base, data), made ? 0 : -ENOENT);
	if (made) {
		sha256_once(data, base->size, hash);
		assert_memory_equal(hash, base->hash, sizeof(hash));
	}
	free(data);
}

/* What was at the same path, the chunks that lay in the same place; of what is new there is nothing. */
static void test_bases(void **state)
{
	struct place *place = *state;
	uint8_t *data = noise(600000, 1);
	struct digest small, large, directory, blob, found[4];
	const struct digest *chunks;
	struct manifest *manifest;
	size_t count, changed = 0;
	bool recipes;

	make_small_tree(place);
	write_bytes(place, "d2/large", data, 600000);
	grow_old();
	manifest = build(place);
	small = row_digest(manifest, "d1/f1");
	large = row_digest(manifest, "d2/large");
	directory = row_digest(manifest, "d2");
	assert_int_equal(manifest_bases(manifest, base_gateway, &small, found, 4), 0);
	manifest_committed(manifest, base_gateway);
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);

	write_text(place, "d1/f1", "edited");
	write_text(place, "d1/new", "new");
	data[300000] ^= 1;
	write_bytes(place, "d2/large", data, 600000);
	manifest = build(place);
	expect_base(manifest, "d1/f1", &small, false);
	expect_base(manifest, "d2/large", &large, true);
	expect_base(manifest, "d2", &directory, true);
	blob = row_digest(manifest, "d1/new");
	assert_int_equal(manifest_bases(manifest, base_gateway, &blob, found, 4), 0);
	assert_int_equal(manifest_bases(manifest, span_text("another gateway"), &small, found, 4), 0);
	blob = row_digest(manifest, "d2/large");
	assert_int_equal(manifest_recipe_children(manifest, &blob, &chunks, &recipes, &count), 0);
	for (size_t i = 0; i < count; i++) {
		if (manifest_known(manifest, base_gateway, &chunks[i]))
			continue;
		blob = chunks[i];
		assert_in_range(manifest_bases(manifest, base_gateway, &blob, found, 4), 1, 2);
		assert_true(manifest_known(manifest, base_gateway, &found[0]));
		assert_false(digest_equal(&found[0], &blob));
		changed++;
	}
	assert_in_range(changed, 1, 2);
	manifest_destroy(manifest);
	free(data);
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
	struct manifest_options options = options_of(place);

	make_small_tree(place);
	options.progress = on_progress;
	options.context = &progress;
	manifest_destroy(build_with(place, &options));
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
	write_text(place, "file", "x");
	strcat(place->tree, "/file");
	options.path = place->tree;
	assert_int_equal(manifest_build(&manifest, &options, why, sizeof(why)), -ENOTDIR);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_everything), TEST(test_everything_from_the_snapshot), TEST(test_xattrs),
		TEST(test_device_is_refused), TEST(test_socket_is_left_out), TEST(test_root_is_content),
		TEST(test_nothing_changed), TEST(test_touched), TEST(test_edits), TEST(test_kind_changes),
		TEST(test_too_fresh), TEST(test_bad_snapshots), TEST(test_hardlinks), TEST(test_sparse),
		TEST(test_deep), TEST(test_too_deep), TEST(test_ignore), TEST(test_children), TEST(test_read_stale),
		TEST(test_committed), TEST(test_progress), TEST(test_no_directory),
		TEST(test_bases), TEST(test_progress), TEST(test_no_directory),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
