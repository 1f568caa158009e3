/*
 * Shows that the tree of a target is what a directory with nothing but its inputs would be: for names of all kinds, whole
 * directories and parts of them; and that what is beside them does not change it, nor the mode of the directory itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <cmocka.h>

#include "gateway/cmd/target_tree.h"

#include "gateway/cmd/command.h"
const struct command *const command_table[] = { NULL };

static char top[64];

static void write_file(const char *directory, const char *path, const char *text)
{
	char full[512];
	FILE *file;

	snprintf(full, sizeof(full), "%s/%s/%s", top, directory, path);
	for (char *slash = strchr(full + strlen(top) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		mkdir(full, 0755);
		*slash = '/';
	}
	file = fopen(full, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	chmod(full, 0644);
}

static struct manifest *scan(const char *directory)
{
	char path[128], why[512];
	struct manifest_options options = { .path = path };
	struct manifest *manifest;

	snprintf(path, sizeof(path), "%s/%s", top, directory);
	if (manifest_build(&manifest, &options, why, sizeof(why)))
		fail_msg("%s", why);
	return manifest;
}

struct emitted {
	size_t count;
};

static int on_directory(void *context, const struct digest *digest, struct span directory)
{
	((struct emitted *)context)->count++;
	return 0;
}

static struct digest cut(struct manifest *manifest, struct targets *targets, size_t index, size_t *emitted)
{
	struct emitted sum = { 0 };
	struct target_tree tree = { .manifest = manifest, .targets = targets, .index = index, .emit = on_directory, .context = &sum };
	struct digest root;
	char why[512];

	if (target_tree_make(&tree, &root, why, sizeof(why)))
		fail_msg("%s", why);
	*emitted = sum.count;
	return root;
}

static void the_tree_is_the_inputs_and_nothing_else(void **state)
{
	static const char yaml[] = "targets:\n  a: { paths: [src, \"!src/doc\", \"lib/**/*.h\", \"odd*\"] }\n  b: { paths: none }\n";
	struct manifest *full, *only;
	struct targets *targets;
	struct target_tree none;
	struct digest root;
	size_t emitted;
	char why[512];

	for (int i = 0; i < 2; i++) {
		const char *directory = i ? "only" : "full";

		write_file(directory, "src/a.c", "a");
		write_file(directory, "src/sub/b.c", "b");
		write_file(directory, "lib/x/y.h", "y");
		write_file(directory, "odd\xff", "odd");
		if (i)
			continue;
		write_file(directory, "src/doc/x", "not");
		write_file(directory, "lib/x/y.c", "not");
		write_file(directory, "lib/z/y.c", "not");
		write_file(directory, "other/a", "not");
	}
	assert_int_equal(targets_parse(&targets, span_text(yaml), "t", why, sizeof(why)), 0);
	full = scan("full");
	only = scan("only");
	root = cut(full, targets, 0, &emitted);
	assert_true(digest_equal(&root, manifest_root(only)));
	assert_int_equal(emitted, 4);            /* lib/x, lib, src, the root: src/sub is as it was */
	manifest_destroy(full);
	write_file("full", "other/b", "beside");
	snprintf(why, sizeof(why), "%s/full", top);
	assert_int_equal(chmod(why, 0700), 0);
	full = scan("full");
	root = cut(full, targets, 0, &emitted);
	assert_true(digest_equal(&root, manifest_root(only)));
	none = (struct target_tree){ .manifest = full, .targets = targets, .index = 1, .emit = on_directory };
	assert_int_equal(target_tree_make(&none, &root, why, sizeof(why)), -ENOENT);
	assert_string_equal(why, "none of its paths is there");
	manifest_destroy(full);
	write_file("full", "src/sub/b.c", "changed");
	full = scan("full");
	root = cut(full, targets, 0, &emitted);
	assert_false(digest_equal(&root, manifest_root(only)));
	manifest_destroy(full);
	manifest_destroy(only);
	targets_destroy(targets);
}

/* As much of them as a tree may hold: encoded that is a third more. Needs a file system that takes it: tmpfs, of a newer kernel. */
static void a_root_may_have_large_xattrs(void **state)
{
	static const char yaml[] = "targets:\n  a: { paths: src }\n";
	static char value[60000];
	char disk[sizeof(top)], memory[sizeof(top)] = "/dev/shm/sluice-target-XXXXXX", path[128], command[128], why[512];
	struct manifest *manifest;
	struct targets *targets;
	struct digest with, without;
	size_t emitted;
	bool taken;

	if (!mkdtemp(memory))
		skip();
	memset(value, 'x', sizeof(value));
	memcpy(disk, top, sizeof(top));
	memcpy(top, memory, sizeof(top));
	snprintf(path, sizeof(path), "%s/tree", top);
	snprintf(command, sizeof(command), "rm -rf '%s'", top);
	write_file("tree", "src/a.c", "a");
	assert_int_equal(targets_parse(&targets, span_text(yaml), "t", why, sizeof(why)), 0);
	manifest = scan("tree");
	without = cut(manifest, targets, 0, &emitted);
	manifest_destroy(manifest);
	taken = setxattr(path, "user.large", value, sizeof(value), 0) == 0;
	manifest = scan("tree");
	with = cut(manifest, targets, 0, &emitted);
	manifest_destroy(manifest);
	targets_destroy(targets);
	assert_int_equal(system(command), 0);
	memcpy(top, disk, sizeof(top));
	assert_int_equal(digest_equal(&with, &without), !taken);
	if (!taken)
		skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_tree_is_the_inputs_and_nothing_else),
		cmocka_unit_test(a_root_may_have_large_xattrs),
	};
	char command[128];
	int r;

	snprintf(top, sizeof(top), "/tmp/sluice-target-XXXXXX");
	if (!mkdtemp(top))
		return 1;
	r = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(command, sizeof(command), "rm -rf '%s'", top);
	return system(command) || r;
}
