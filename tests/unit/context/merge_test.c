/*
 * Shows that one directory goes over another as the user who pulls it may do that, root or not: again and again over directories
 * whose owner may not write, in as many reads of a directory as it takes, and that what meets something of another kind says so.
 */
#include "gateway/context/merge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOBODY 65534u
#define MANY   2000

static char root[32];
static int root_fd;
static char why[512];

static int setup(void **state)
{
	snprintf(root, sizeof(root), "/tmp/sluice-merge-XXXXXX");
	assert_non_null(mkdtemp(root));
	if (geteuid() == 0) {
		assert_int_equal(chown(root, NOBODY, NOBODY), 0);
		assert_int_equal(seteuid(NOBODY), 0);
	}
	root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(root_fd >= 0);
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static int teardown(void **state)
{
	close(root_fd);
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
	nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}

static void make_file(const char *path, const char *text)
{
	int fd = openat(root_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void expect_file(const char *path, const char *text)
{
	char found[64] = "";
	int fd = openat(root_fd, path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(read(fd, found, sizeof(found) - 1), strlen(text));
	assert_string_equal(found, text);
	close(fd);
}

static int merge(void)
{
	return merge_directory(root_fd, "new", "out", "out", (struct why){ why, sizeof(why) });
}

/* As an action leaves it that makes its output read-only. */
static void make_sealed(const char *text)
{
	assert_int_equal(mkdirat(root_fd, "new", 0755) | mkdirat(root_fd, "new/deep", 0755), 0);
	make_file("new/deep/file", text);
	assert_int_equal(fchmodat(root_fd, "new/deep", 0555, 0) | fchmodat(root_fd, "new", 0555, 0), 0);
}

static void what_its_owner_may_not_write_is_merged_again(void **state)
{
	static const char *const texts[] = { "first", "second", "third" };
	struct stat st;

	for (unsigned i = 0; i < 3; i++) {
		make_sealed(texts[i]);
		if (merge() < 0)
			fail_msg("%s", why);
		expect_file("out/deep/file", texts[i]);
		assert_int_equal(fstatat(root_fd, "out", &st, 0), 0);
		assert_int_equal(st.st_mode & 07777, 0555);
		assert_int_equal(fstatat(root_fd, "out/deep", &st, 0), 0);
		assert_int_equal(st.st_mode & 07777, 0555);
		assert_int_equal(faccessat(root_fd, "new", F_OK, 0), -1);
	}
	fchmodat(root_fd, "out", 0755, 0);
	fchmodat(root_fd, "out/deep", 0755, 0);
}

static void many_entries_all_move(void **state)
{
	char path[32];

	assert_int_equal(mkdirat(root_fd, "new", 0755) | mkdirat(root_fd, "out", 0755), 0);
	make_file("out/stays", "old");
	for (int i = 0; i < MANY; i++) {
		snprintf(path, sizeof(path), "new/%d", i);
		make_file(path, "");
	}
	assert_int_equal(merge(), 0);
	for (int i = 0; i < MANY; i++) {
		snprintf(path, sizeof(path), "out/%d", i);
		assert_int_equal(faccessat(root_fd, path, F_OK, 0), 0);
	}
	expect_file("out/stays", "old");
}

static void what_is_of_another_kind_is_named(void **state)
{
	assert_int_equal(mkdirat(root_fd, "new", 0755) | mkdirat(root_fd, "new/x", 0755), 0);
	assert_int_equal(mkdirat(root_fd, "out", 0755), 0);
	make_file("out/x", "a file");
	assert_int_equal(merge(), -ENOTDIR);
	assert_non_null(strstr(why, "out/x"));
	expect_file("out/x", "a file");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_its_owner_may_not_write_is_merged_again, setup, teardown),
		cmocka_unit_test_setup_teardown(many_entries_all_move, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_of_another_kind_is_named, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
