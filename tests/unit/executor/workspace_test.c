/*
 * workspace: a slot keeps its tree from one action to the next, knows when it may not be trusted, hands out an overlay,
 * and leaves no mounts behind; neither does a host that was killed. What is somebody else's stays. Needs root: skipped loudly
 * without.
 */
#include "gateway/context/beneath.h"
#include "gateway/executor/host.h"
#include "gateway/executor/workspace.h"
#include "tests/unit/context/tree_model.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static char root[64];
static char why[512];
static struct model model;

static const struct model_entry first[] = {
	{ .path = "", .type = S_IFDIR, .mode = 0751 },
	{ .path = "a/one", .text = "1" },
	{ .path = "a/two", .text = "2", .mode = 0755 },
	{ .path = "b/three", .text = "3" },
};
static const struct model_entry second[] = {
	{ .path = "", .type = S_IFDIR, .mode = 0751 },
	{ .path = "a/one", .text = "1" },
	{ .path = "a/two", .text = "changed", .mode = 0755 },
	{ .path = "b/three", .text = "3" },
};

static int setup(void **state)
{
	model_init(&model);
	strcpy(root, "/tmp/workspace-XXXXXX");
	assert_non_null(mkdtemp(root));
	if (workspace_recover(root, why, sizeof(why)))
		fail_msg("%s", why);
	return 0;
}

static int teardown(void **state)
{
	int fd = open(root, O_RDONLY | O_DIRECTORY);

	assert_int_equal(workspace_recover(root, why, sizeof(why)), 0);
	assert_int_equal(beneath_clear(fd), 0);
	close(fd);
	assert_int_equal(rmdir(root), 0);
	model_fini(&model);
	return 0;
}

static struct workspace *open_slot(uint32_t slot)
{
	struct workspace *workspace;

	if (workspace_open(&workspace, &(struct workspace_options){ .root = root, .slot = slot }, why, sizeof(why)))
		fail_msg("%s", why);
	return workspace;
}

static struct materialise_totals fill(struct workspace *workspace, struct digest digest)
{
	struct materialise_totals totals;

	if (workspace_materialise(workspace, &digest, &model.source, &totals, why, sizeof(why)))
		fail_msg("%s", why);
	return totals;
}

static void compare(const char *below, const struct model_entry *entries, size_t count)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", root, below);
	fd = open(path, O_RDONLY | O_DIRECTORY);
	assert_true(fd >= 0);
	model_compare(fd, entries, count);
	close(fd);
}

static void put(const char *directory, const char *name, const char *text)
{
	char path[PATH_MAX + 64];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static int on_deleted(void *context, enum collect_kind kind, const char *path)
{
	char *seen = context;

	sprintf(seen + strlen(seen), "%s ", path);
	return 0;
}

static void the_tree_stays(void **state)
{
	struct digest old = model_tree(&model, first, COUNT(first), 0), new = model_tree(&model, second, COUNT(second), 0);
	struct workspace *workspace = open_slot(3);

	assert_null(workspace_base(workspace));
	assert_int_equal(workspace_uid_base(workspace), WORKSPACE_UID_BASE + 3 * 65536);
	assert_int_equal(fill(workspace, old).files_written, 3);
	compare("slot-3/tree", first, COUNT(first));
	assert_int_equal(fill(workspace, old).files_written, 0);
	workspace_close(workspace);

	workspace = open_slot(3);                               /* a new process */
	assert_true(digest_equal(workspace_base(workspace), &old));
	assert_int_equal(fill(workspace, new).files_written, 1);
	compare("slot-3/tree", second, COUNT(second));
	workspace_close(workspace);
}

static void expect_owner(const char *path, uint32_t uid, uint32_t gid)
{
	char full[128];
	struct stat stat;

	snprintf(full, sizeof(full), "%s/%s", root, path);
	assert_int_equal(lstat(full, &stat), 0);
	assert_int_equal(stat.st_uid, uid);
	assert_int_equal(stat.st_gid, gid);
}

/* What is there of one user's is not another's; and the merged root is his as well. */
static void a_tree_is_its_user_s(void **state)
{
	struct digest digest = model_tree(&model, first, COUNT(first), 0);
	struct workspace *workspace = open_slot(0);

	fill(workspace, digest);
	expect_owner("slot-0/tree/a/one", WORKSPACE_UID_BASE, WORKSPACE_UID_BASE);
	workspace_set_owner(workspace, 5, 6);
	assert_int_equal(fill(workspace, digest).files_written, 3);
	workspace_close(workspace);

	workspace = open_slot(0);
	workspace_set_owner(workspace, 5, 6);
	assert_int_equal(fill(workspace, digest).files_written, 0);
	expect_owner("slot-0/tree", WORKSPACE_UID_BASE + 5, WORKSPACE_UID_BASE + 6);
	expect_owner("slot-0/tree/a", WORKSPACE_UID_BASE + 5, WORKSPACE_UID_BASE + 6);
	expect_owner("slot-0/tree/a/one", WORKSPACE_UID_BASE + 5, WORKSPACE_UID_BASE + 6);
	assert_int_equal(workspace_mount(workspace, why, sizeof(why)), 0);
	expect_owner("slot-0/merged", WORKSPACE_UID_BASE + 5, WORKSPACE_UID_BASE + 6);
	assert_int_equal(workspace_unmount(workspace, why, sizeof(why)), 0);
	workspace_set_owner(workspace, 0, 0);
	assert_int_equal(fill(workspace, digest).files_written, 3);
	expect_owner("slot-0/tree", WORKSPACE_UID_BASE, WORKSPACE_UID_BASE);
	workspace_close(workspace);
}

/* As one that is nobody's: whoever comes next could else tell what the one before had. */
static void a_tree_is_its_tenant_s(void **state)
{
	static const struct {
		const char *tenant;
		uint32_t instance;
		uint64_t files_written;
	} steps[] = {
		{ "acme", 1, 3 }, { "acme", 1, 0 }, { "acme", 2, 3 }, { "acme", 2, 0 }, { "umbrella", 2, 3 }, { "umbrella", 2, 0 }, { "acme", 1, 3 },
	};
	struct digest digest = model_tree(&model, first, COUNT(first), 0);
	struct workspace *workspace = NULL;
	char path[PATH_MAX], text[512] = "", *former;
	FILE *file;

	for (size_t i = 0; i < COUNT(steps); i++) {
		workspace_close(workspace);
		workspace = open_slot(0);
		workspace_set_scope(workspace, span_text(steps[i].tenant), steps[i].instance);
		assert_int_equal(fill(workspace, digest).files_written, steps[i].files_written);
	}
	workspace_close(workspace);

	/* Of before there was a word of whose it is. */
	snprintf(path, sizeof(path), "%s/slot-0/tree.base", root);
	file = fopen(path, "r");
	assert_non_null(fgets(text, sizeof(text), file));
	fclose(file);
	former = strrchr(text, ' ');
	strcpy(former, "\n");
	snprintf(path, sizeof(path), "%s/slot-0", root);
	put(path, "tree.base", text);
	workspace = open_slot(0);
	assert_null(workspace_base(workspace));
	workspace_close(workspace);
}

/* Killed while the tree was changing: no base, so all is made anew whatever is there. */
static void a_broken_tree_is_not_trusted(void **state)
{
	struct digest old = model_tree(&model, first, COUNT(first), 0), new = model_tree(&model, second, COUNT(second), 0);
	struct workspace *workspace = open_slot(0);
	struct materialise_totals totals;
	char path[PATH_MAX];

	fill(workspace, old);
	model.lost = &new;
	assert_int_equal(workspace_materialise(workspace, &new, &model.source, &totals, why, sizeof(why)), -ENOENT);
	assert_null(workspace_base(workspace));
	model.lost = NULL;
	workspace_close(workspace);
	workspace = open_slot(0);
	assert_null(workspace_base(workspace));
	assert_int_equal(fill(workspace, new).files_written, 3);
	workspace_close(workspace);

	snprintf(path, sizeof(path), "%s/slot-0", root);        /* another boot */
	put(path, "tree.base", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/0 00000000-0000-0000-0000-000000000000\n");
	workspace = open_slot(0);
	assert_null(workspace_base(workspace));
	workspace_close(workspace);
}

static void an_action_changes_only_its_overlay(void **state)
{
	struct digest old = model_tree(&model, first, COUNT(first), 0);
	struct workspace *workspace = open_slot(0);
	char seen[256] = "", path[PATH_MAX];
	struct statvfs fs;
	struct stat stat_buffer;

	fill(workspace, old);
	if (workspace_mount(workspace, why, sizeof(why)))
		fail_msg("%s", why);
	compare("slot-0/merged", first, COUNT(first));
	assert_int_equal(statvfs(workspace_merged_path(workspace), &fs), 0);
	assert_int_equal(fs.f_flag & (ST_NOSUID | ST_NODEV), ST_NOSUID | ST_NODEV);
	put(workspace_merged_path(workspace), "a/new", "new");
	put(workspace_merged_path(workspace), "a/one", "rewritten");
	snprintf(path, sizeof(path), "%s/b/three", workspace_merged_path(workspace));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(workspace_unmount(workspace, why, sizeof(why)), 0);
	assert_int_equal(workspace_collect(workspace, on_deleted, seen, why, sizeof(why)), 0);
	assert_string_equal(seen, "b/three ");
	{
		const struct model_entry changed[] = {
			{ .path = "", .type = S_IFDIR, .mode = 0751 },
			{ .path = "a/new", .text = "new" }, { .path = "a/one", .text = "rewritten" }, { .path = "b", .type = S_IFDIR },
		};

		compare("slot-0/upper", changed, COUNT(changed));
	}
	compare("slot-0/tree", first, COUNT(first));
	assert_int_equal(workspace_clean(workspace, why, sizeof(why)), 0);
	snprintf(path, sizeof(path), "%s/a", workspace_upper_path(workspace));
	assert_int_equal(lstat(path, &stat_buffer), -1);
	workspace_close(workspace);
}

static bool anything_mounted(void)
{
	FILE *file = fopen("/proc/self/mountinfo", "r");
	char line[4096];
	bool found = false;

	while (fgets(line, sizeof(line), file))
		found = found || strstr(line, root);
	fclose(file);
	return found;
}

static void nothing_stays_mounted(void **state)
{
	struct digest old = model_tree(&model, first, COUNT(first), 0);
	struct workspace *workspace = open_slot(0), *other = open_slot(1);

	fill(workspace, old);
	fill(other, old);
	assert_int_equal(workspace_mount(workspace, why, sizeof(why)) | workspace_mount(other, why, sizeof(why)), 0);
	workspace_close(workspace);
	put(workspace_merged_path(other), "left", "by an action of a host that was killed");
	assert_true(anything_mounted());
	workspace = open_slot(1);                               /* the process of that slot, started again */
	assert_false(anything_mounted());
	assert_int_equal(workspace_mount(workspace, why, sizeof(why)), 0);
	assert_int_equal(workspace_recover(root, why, sizeof(why)), 0);
	assert_false(anything_mounted());
	workspace_close(workspace);
	workspace_close(other);

	workspace = open_slot(1);
	assert_true(digest_equal(workspace_base(workspace), &old));
	assert_int_equal(workspace_mount(workspace, why, sizeof(why)), 0);
	compare("slot-1/merged", first, COUNT(first));
	workspace_close(workspace);
	assert_false(anything_mounted());
}

/* A file system that the operator has mounted beside the slots, and one whose place only begins as a slot's does. */
static void what_is_no_slot_s_stays_mounted(void **state)
{
	static const char *const places[] = { "other", "slot-1-of-another" };
	struct workspace *workspace = open_slot(1);
	char path[128], file[160];
	struct stat stat_buffer;

	fill(workspace, model_tree(&model, first, COUNT(first), 0));
	assert_int_equal(workspace_mount(workspace, why, sizeof(why)), 0);
	for (size_t i = 0; i < COUNT(places); i++) {
		snprintf(path, sizeof(path), "%s/%s", root, places[i]);
		assert_int_equal(mkdir(path, 0755), 0);
		assert_int_equal(mount("tmpfs", path, "tmpfs", 0, "size=64k"), 0);
		put(path, "file", "somebody's");
	}
	assert_int_equal(chmod(root, 0755), 0);
	assert_int_equal(workspace_recover(root, why, sizeof(why)), 0);
	for (size_t i = 0; i < COUNT(places); i++) {
		snprintf(path, sizeof(path), "%s/%s", root, places[i]);
		snprintf(file, sizeof(file), "%s/file", path);
		assert_int_equal(stat(file, &stat_buffer), 0);
		assert_int_equal(umount(path), 0);
		assert_int_equal(rmdir(path), 0);
	}
	assert_int_equal(stat(root, &stat_buffer), 0);
	assert_int_equal(stat_buffer.st_mode & 07777, 0755);
	assert_false(anything_mounted());        /* but the slot's is gone */
	workspace_close(workspace);
}

/* The last slot of a host that has as many as it may, one of which a former one left mounted. */
static void every_slot_of_a_host_has_its_workspace(void **state)
{
	struct workspace *workspace = open_slot(HOST_SLOTS_MAX);
	struct stat stat_buffer;
	char path[PATH_MAX];

	fill(workspace, model_tree(&model, first, COUNT(first), 0));
	assert_int_equal(workspace_mount(workspace, why, sizeof(why)), 0);
	put(workspace_merged_path(workspace), "left", "by an action of a host that was killed");
	snprintf(path, sizeof(path), "%s/left", workspace_upper_path(workspace));
	assert_int_equal(stat(path, &stat_buffer), 0);
	assert_int_equal(workspace_recover(root, why, sizeof(why)), 0);
	assert_false(anything_mounted());
	assert_int_equal(stat(path, &stat_buffer), -1);
	workspace_close(workspace);
}

/* A host without slots that ends when it has cleaned up: nobody tells it a gateway's socket. */
static void run_host(const char *path)
{
	int ends[2], status;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	close(ends[1]);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(host_run(&(struct host_config){ .path = path, .socket_fd = ends[0] }));
	close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
}

/* Mounts have the path that the kernel knows, however the operator writes it: with a slash behind it, or by way of a link. */
static void a_host_finds_mounts_however_its_path_is_written(void **state)
{
	static const char *const forms[] = { "%s/", "%s-link", "%s-link/" };
	char path[PATH_MAX], link[80];

	snprintf(link, sizeof(link), "%s-link", root);
	assert_int_equal(symlink(root, link), 0);
	for (size_t i = 0; i < COUNT(forms); i++) {
		struct workspace *workspace = open_slot(1);

		assert_int_equal(workspace_mount(workspace, why, sizeof(why)), 0);
		assert_true(anything_mounted());
		snprintf(path, sizeof(path), forms[i], root);
		run_host(path);
		assert_false(anything_mounted());
		workspace_close(workspace);
	}
	assert_int_equal(unlink(link), 0);
}

static int mode_of(const char *name)
{
	char path[128];
	struct stat stat_buffer;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	assert_int_equal(stat(path, &stat_buffer), 0);
	return stat_buffer.st_mode & 07777;
}

static void slots_are_closed_to_others(void **state)
{
	struct workspace *workspace = open_slot(0);
	char path[128];
	struct stat stat_buffer;

	assert_int_equal(mode_of("slot-0"), 0710);
	assert_int_equal(mode_of("slot-0/work"), 0700);
	snprintf(path, sizeof(path), "%s/slot-0", root);
	assert_int_equal(stat(path, &stat_buffer), 0);
	assert_int_equal(stat_buffer.st_uid, 0);
	assert_int_equal(stat_buffer.st_gid, WORKSPACE_UID_BASE);
	workspace_close(workspace);
}

/* After a change of settings: what belongs to the old ids is made anew. */
static void another_range_of_ids(void **state)
{
	struct digest old = model_tree(&model, first, COUNT(first), 0);
	struct workspace *workspace = open_slot(0);
	char path[PATH_MAX];
	struct stat stat_buffer;

	fill(workspace, old);
	workspace_close(workspace);
	assert_int_equal(workspace_open(&workspace, &(struct workspace_options){ .root = root, .uid_base = 2000000000, .uid_count = 65536 },
	                                why, sizeof(why)), 0);
	assert_null(workspace_base(workspace));
	fill(workspace, old);
	snprintf(path, sizeof(path), "%s/slot-0/tree/a/one", root);
	assert_int_equal(stat(path, &stat_buffer), 0);
	assert_int_equal(stat_buffer.st_uid, 2000000000);
	workspace_close(workspace);
}

static void bad_roots_are_refused(void **state)
{
	struct workspace *workspace;
	static const char *const bad[] = { "relative", "/tmp/with,comma", "/tmp/with:colon", "/tmp/back\\slash" };

	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_int_equal(workspace_recover(bad[i], why, sizeof(why)), -EINVAL);
		assert_int_equal(workspace_open(&workspace, &(struct workspace_options){ .root = bad[i] }, why, sizeof(why)), -EINVAL);
	}
	assert_int_equal(workspace_open(&workspace, &(struct workspace_options){ .root = root, .slot = WORKSPACE_SLOTS_MAX }, why,
	                                sizeof(why)), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_tree_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(a_tree_is_its_user_s, setup, teardown),
		cmocka_unit_test_setup_teardown(a_tree_is_its_tenant_s, setup, teardown),
		cmocka_unit_test_setup_teardown(a_broken_tree_is_not_trusted, setup, teardown),
		cmocka_unit_test_setup_teardown(an_action_changes_only_its_overlay, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_stays_mounted, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_no_slot_s_stays_mounted, setup, teardown),
		cmocka_unit_test_setup_teardown(every_slot_of_a_host_has_its_workspace, setup, teardown),
		cmocka_unit_test_setup_teardown(a_host_finds_mounts_however_its_path_is_written, setup, teardown),
		cmocka_unit_test_setup_teardown(slots_are_closed_to_others, setup, teardown),
		cmocka_unit_test_setup_teardown(another_range_of_ids, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_roots_are_refused, setup, teardown),
	};

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		fprintf(stderr, "SKIPPED: workspace_test needs root: %s\n", strerror(errno));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
