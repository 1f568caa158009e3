/*
 * replace: what a directory holds stays, whatever of the tree is not to be had, and when something may not be moved; in the
 * end the directory equals the tree, is the same directory, and nothing of the work is left in it. What a replacement left
 * that was killed goes with the next one, and what others make meanwhile stays. Each is done as an ordinary user, for whom modes
 * count. What the kernel says of a rename or a close is this test's where it has to be: on an overlay, on a full disk, over a quota, in a race.
 */
#include "gateway/context/beneath.h"
#include "gateway/context/replace.h"
#include "tests/unit/context/tree_model.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define NOBODY 65534

struct fixture {
	struct model model;
	char path[64];
	int top_fd, dir_fd;              /* a private directory; "root" in it */
	struct digest root;
	size_t first;                    /* of the blobs that are the tree's; those before it are of what is there */
	char why[512];
};

static const struct model_entry mine[] = {
	{ .path = "", .type = S_IFDIR, .mode = 0550, .xattr = "mine" },
	{ .path = "mine/file", .text = "mine" },
	{ .path = "locked", .type = S_IFDIR, .mode = 0500 },
	{ .path = "locked/below", .type = S_IFDIR, .mode = 01 },
	{ .path = "both", .text = "before" },
	{ .path = "d", .text = "a file is where the tree has a directory" },
};

static const struct model_entry tree[] = {
	{ .path = "", .type = S_IFDIR, .mode = 0511, .xattr = "of the tree" },
	{ .path = "both", .text = "after" },
	{ .path = "d/e/f", .text = "deep" },
	{ .path = "d/g", .text = "after", .hardlink = "both" },
	{ .path = "read-only", .type = S_IFDIR, .mode = 0555 },
	{ .path = "read-only/file", .text = "in a read-only directory", .mode = 0400 },
	{ .path = "mine", .type = S_IFLNK, .text = "../.." },
	{ .path = "big", .large = 1000000, .seed = 1 },
};

/* ---- renames and closes ---- */

/* By the name that is renamed. NULL: none. */
static struct {
	const char *raced;               /* just before it somebody makes a file of that name where it goes, and "theirs" */
	const char *lower;               /* a directory of a lower layer */
	const char *refused;             /* the disk is full */
	unsigned closes;                 /* 0: all are well; else the how manieth file that was written is over a quota */
} kernel;

static bool is_named(const char *name, const char *wanted)
{
	return wanted && strcmp(name, wanted) == 0;
}

static bool is_directory(int dir_fd, const char *name)
{
	struct stat st;

	return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static void put_file(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL, 0644);

	if (fd < 0 || write(fd, name, strlen(name)) < 0 || close(fd) < 0)
		_exit(254);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	int error = is_named(from, kernel.lower) && is_directory(from_fd, from) ? EXDEV : is_named(from, kernel.refused) ? ENOSPC : 0;

	if (is_named(from, kernel.raced)) {
		kernel.raced = NULL;
		put_file(to_fd, to);
		put_file(to_fd, "theirs");
	}
	if (!error)
		return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
	errno = error;
	return -1;
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	return renameat2(from_fd, from, to_fd, to, 0);
}

static bool was_written(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY;
}

int close(int fd)
{
	bool refused = kernel.closes && was_written(fd) && --kernel.closes == 0;
	int r = (int)syscall(SYS_close, fd);

	if (!refused)
		return r;
	errno = EDQUOT;
	return -1;
}

/* ---- set-up ---- */

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct materialise_options options;
	struct digest before;

	memset(&kernel, 0, sizeof(kernel));
	model_init(&fixture->model);
	strcpy(fixture->path, "/tmp/replace-XXXXXX");
	assert_non_null(mkdtemp(fixture->path));
	fixture->top_fd = open(fixture->path, O_RDONLY | O_DIRECTORY);
	assert_int_equal(mkdirat(fixture->top_fd, "root", 0755), 0);
	fixture->dir_fd = openat(fixture->top_fd, "root", O_RDONLY | O_DIRECTORY);
	assert_true(fixture->dir_fd >= 0);
	before = model_tree(&fixture->model, mine, COUNT(mine), 0);
	fixture->first = fixture->model.count;
	fixture->root = model_tree(&fixture->model, tree, COUNT(tree), 0);
	options = (struct materialise_options){
		.dir_fd = fixture->dir_fd, .root = before, .source = &fixture->model.source, .allow_special_modes = true,
		.set_owner = geteuid() == 0, .uid = NOBODY, .gid = NOBODY,
	};
	assert_int_equal(materialise(&options, NULL, fixture->why, sizeof(fixture->why)), 0);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	close(fixture->dir_fd);
	assert_int_equal(beneath_clear(fixture->top_fd), 0);
	close(fixture->top_fd);
	assert_int_equal(rmdir(fixture->path), 0);
	model_fini(&fixture->model);
	free(fixture);
	return 0;
}

/* By a child, who is nobody if we are root: how it ended, with `why` brought back. */
static int replace(struct fixture *fixture)
{
	struct materialise_options options = {
		.dir_fd = fixture->dir_fd, .root = fixture->root, .source = &fixture->model.source, .allow_special_modes = true,
	};
	int ends[2], status = -1;
	ssize_t size;
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	if (child == 0) {
		int r;

		if (geteuid() == 0 && (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY)))
			_exit(255);
		r = replace_directory(&options, NULL, fixture->why, sizeof(fixture->why));
		_exit(write(ends[1], fixture->why, sizeof(fixture->why)) < 0 ? 255 : -r);
	}
	close(ends[1]);
	size = read(ends[0], fixture->why, sizeof(fixture->why));
	close(ends[0]);
	assert_true(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && size > 0);
	return -WEXITSTATUS(status);
}

static void replaced_by_the_tree(void **state)
{
	struct fixture *fixture = *state;

	if (replace(fixture))
		fail_msg("%s", fixture->why);
	model_compare(fixture->dir_fd, tree, COUNT(tree));
}

/* Each blob in turn; of a large file its recipe and its chunks. */
static void what_cannot_be_had_replaces_nothing(void **state)
{
	struct fixture *fixture = *state;

	assert_true(fixture->model.count > fixture->first + 10);
	for (size_t i = fixture->first; i < fixture->model.count; i++) {
		fixture->model.lost = &fixture->model.blobs[i].digest;
		assert_int_equal(replace(fixture), -ENOENT);
		model_compare(fixture->dir_fd, mine, COUNT(mine));
	}
	fixture->model.lost = NULL;
}

/* One in three is somebody else's, and a directory that he let nobody else write to: all are put back. */
static void what_may_not_be_moved_keeps_all(void **state)
{
	struct fixture *fixture = *state;

	if (geteuid() != 0)
		skip();
	assert_int_equal(fchownat(fixture->dir_fd, "mine", 0, 0, 0), 0);
	assert_int_equal(replace(fixture), -EACCES);
	assert_non_null(strstr(fixture->why, "mine: cannot be moved"));
	model_compare(fixture->dir_fd, mine, COUNT(mine));
}

/* It may be moved, but not removed: the tree is there, and it is said where the rest is. */
static void what_may_not_be_removed_is_named(void **state)
{
	struct fixture *fixture = *state;
	int fd;

	if (geteuid() != 0)
		skip();
	assert_int_equal(mkdirat(fixture->dir_fd, "mine/theirs", 0755), 0);
	fd = openat(fixture->dir_fd, "mine/theirs/file", O_WRONLY | O_CREAT, 0644);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(replace(fixture), -EPERM);
	assert_non_null(strstr(fixture->why, "/old: the tree is there, but what was there before cannot be removed"));
	assert_int_equal(faccessat(fixture->dir_fd, "d/e/f", F_OK, 0), 0);
}

static void make_left(struct fixture *fixture, const char *name, bool old)
{
	char path[128];
	int fd;

	assert_int_equal(fchmod(fixture->dir_fd, 0750), 0);
	assert_int_equal(mkdirat(fixture->dir_fd, name, 0700), 0);
	for (int i = 0; i < 1 + old; i++) {
		snprintf(path, sizeof(path), "%s/%s", name, i ? "old" : "new");
		assert_int_equal(mkdirat(fixture->dir_fd, path, 0700), 0);
		assert_true(geteuid() != 0 || fchownat(fixture->dir_fd, path, NOBODY, NOBODY, 0) == 0);
		strcat(path, "/file");
		fd = openat(fixture->dir_fd, path, O_WRONLY | O_CREAT, 0644);
		assert_true(fd >= 0);
		close(fd);
	}
	assert_true(geteuid() != 0 || fchownat(fixture->dir_fd, name, NOBODY, NOBODY, 0) == 0);
}

static bool there(struct fixture *fixture, const char *path)
{
	return faccessat(fixture->dir_fd, path, F_OK, 0) == 0;
}

/* A part of a tree goes at once; what may hold the last of what was there, or is somebody's who is at work, when all is done. */
static void left_by_a_kill(void **state)
{
	static const char stale[] = ".sluice-pull-0123456789abcdef", swapped[] = ".sluice-pull-0123456789abcde0",
	                  working[] = ".sluice-pull-0123456789abcde1", other[] = ".sluice-pull-notes";
	struct fixture *fixture = *state;
	struct digest root = fixture->root;
	int lock_fd;

	make_left(fixture, stale, false);
	make_left(fixture, swapped, true);
	make_left(fixture, working, false);
	make_left(fixture, other, false);
	lock_fd = openat(fixture->dir_fd, working, O_RDONLY | O_DIRECTORY);
	assert_int_equal(flock(lock_fd, LOCK_EX), 0);
	/* Who holds the lock is at work, and what he has there is not touched. */
	assert_int_equal(replace(fixture), -EBUSY);
	assert_non_null(strstr(fixture->why, "somebody else is replacing"));
	assert_true(there(fixture, swapped) && there(fixture, working) && there(fixture, other) && there(fixture, "locked"));
	close(lock_fd);
	fixture->model.lost = &root;
	assert_int_equal(replace(fixture), -ENOENT);
	assert_true(!there(fixture, stale) && there(fixture, swapped) && !there(fixture, working) && there(fixture, other));
	fixture->model.lost = NULL;
	if (replace(fixture))
		fail_msg("%s", fixture->why);
	model_compare(fixture->dir_fd, tree, COUNT(tree));
}

/* What is not ours is neither written over nor taken along when all is put back. */
static void what_others_make_meanwhile_stays(void **state)
{
	static const char *const names[] = { "big", "theirs" };
	struct fixture *fixture = *state;
	char text[16] = "";

	kernel.raced = "big";
	assert_int_equal(replace(fixture), -EEXIST);
	assert_string_equal(fixture->why, "big: cannot be moved: somebody made another one meanwhile");
	assert_int_equal(fchmod(fixture->dir_fd, 0750), 0);
	for (size_t i = 0; i < COUNT(names); i++) {
		int fd = openat(fixture->dir_fd, names[i], O_RDONLY);

		assert_int_equal(read(fd, text, sizeof(text)), strlen(names[i]));
		assert_memory_equal(text, names[i], strlen(names[i]));
		close(fd);
		assert_int_equal(unlinkat(fixture->dir_fd, names[i], 0), 0);
	}
	assert_int_equal(fchmod(fixture->dir_fd, 0550), 0);
	model_compare(fixture->dir_fd, mine, COUNT(mine));
}

/* It goes when nothing else of the tree can fail any more, and what takes its place comes then. */
static void what_cannot_be_renamed_goes_last(void **state)
{
	struct fixture *fixture = *state;

	kernel.lower = "mine";
	kernel.refused = "big";
	assert_int_equal(replace(fixture), -ENOSPC);
	assert_string_equal(fixture->why, "big: cannot be moved: No space left on device");
	model_compare(fixture->dir_fd, mine, COUNT(mine));
	kernel.refused = NULL;
	if (replace(fixture))
		fail_msg("%s", fixture->why);
	model_compare(fixture->dir_fd, tree, COUNT(tree));
}

/* Some servers say only then that there was no room: small files, one without bytes, and one of chunks. */
static void what_is_refused_at_close_replaces_nothing(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned i = 1; i <= 4; i++) {
		kernel.closes = i;
		assert_int_equal(replace(fixture), -EDQUOT);
		assert_non_null(strstr(fixture->why, ": cannot write: Disk quota exceeded"));
		model_compare(fixture->dir_fd, mine, COUNT(mine));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(replaced_by_the_tree, setup, teardown),
		cmocka_unit_test_setup_teardown(what_cannot_be_had_replaces_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(what_may_not_be_moved_keeps_all, setup, teardown),
		cmocka_unit_test_setup_teardown(what_may_not_be_removed_is_named, setup, teardown),
		cmocka_unit_test_setup_teardown(left_by_a_kill, setup, teardown),
		cmocka_unit_test_setup_teardown(what_others_make_meanwhile_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(what_cannot_be_renamed_goes_last, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_refused_at_close_replaces_nothing, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
