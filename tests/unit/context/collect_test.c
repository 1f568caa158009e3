/*
 * collect: white-outs and opaque marks of a real overlay are reported and taken out, all else stays; device nodes are
 * refused by name. Needs root (mounts, trusted.* attributes): skipped loudly without.
 */
#include "gateway/context/beneath.h"
#include "gateway/context/collect.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static char top[64];
static char why[256];

static int setup(void **state)
{
	strcpy(top, "/tmp/collect-XXXXXX");
	return mkdtemp(top) ? chdir(top) : -1;
}

static int teardown(void **state)
{
	int fd = open(top, O_RDONLY | O_DIRECTORY);

	assert_int_equal(beneath_clear(fd), 0);
	close(fd);
	return chdir("/") | rmdir(top);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static int on_deleted(void *context, enum collect_kind kind, const char *path)
{
	char *seen = context;

	sprintf(seen + strlen(seen), "%c%s ", kind == COLLECT_DELETED ? '-' : '=', path);
	return 0;
}

static int prepare(char *seen)
{
	int fd = open("upper", O_RDONLY | O_DIRECTORY), r;

	seen[0] = 0;
	r = collect_prepare(&(struct collect_options){ .upper_fd = fd, .deleted = on_deleted, .context = seen }, why, sizeof(why));
	close(fd);
	return r;
}

static void make_lower(void)
{
	static const char *const directories[] = { "lower", "upper", "work", "merged", "lower/a", "lower/a/b", "lower/c", "lower/d" };

	for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]); i++)
		assert_int_equal(mkdir(directories[i], 0755), 0);
	put("lower/a/one", "1");
	put("lower/a/two", "2");
	put("lower/a/b/three", "3");
	put("lower/c/four", "4");
	put("lower/d/five", "5");
	assert_int_equal(mount("overlay", "merged", "overlay", 0,
	                       "lowerdir=lower,upperdir=upper,workdir=work,redirect_dir=off,metacopy=off,index=off"), 0);
}

static void an_overlay_becomes_a_tree(void **state)
{
	char seen[1024];
	struct stat stat;

	make_lower();
	assert_int_equal(unlink("merged/a/one"), 0);
	put("merged/a/two", "changed");
	assert_int_equal(setxattr("merged/a/two", "user.mine", "x", 1, 0), 0);
	assert_int_equal(unlink("merged/c/four") | rmdir("merged/c") | mkdir("merged/c", 0755), 0);
	put("merged/c/new", "6");
	assert_int_equal(unlink("merged/d/five") | rmdir("merged/d"), 0);
	put("merged/.wh.d", "an ordinary file");
	assert_int_equal(symlink("/", "merged/root"), 0);
	assert_int_equal(umount("merged"), 0);

	assert_int_equal(prepare(seen), 0);
	assert_non_null(strstr(seen, "-a/one "));
	assert_non_null(strstr(seen, "=c "));
	assert_non_null(strstr(seen, "-d "));
	assert_int_equal(strlen(seen), strlen("-a/one =c -d "));
	assert_int_equal(lstat("upper/a/one", &stat), -1);
	assert_int_equal(lstat("upper/.wh.d", &stat) | lstat("upper/c/new", &stat) | lstat("upper/root", &stat), 0);
	assert_int_equal(getxattr("upper/c", "trusted.overlay.opaque", seen, 1), -1);
	assert_int_equal(getxattr("upper/a/two", "user.mine", seen, 1), 1);
	assert_int_equal(listxattr("upper/a/two", seen, sizeof(seen)), strlen("user.mine") + 1);
	assert_int_equal(prepare(seen), 0);
	assert_string_equal(seen, "");
}

static void devices_are_refused(void **state)
{
	char seen[1024];

	assert_int_equal(mkdir("upper", 0755) | mkdir("upper/dev", 0755), 0);
	assert_int_equal(mknod("upper/dev/mem", S_IFCHR | 0666, makedev(1, 1)), 0);
	assert_int_equal(prepare(seen), -EPERM);
	assert_string_equal(why, "dev/mem: device nodes are refused");
	assert_int_equal(unlink("upper/dev/mem") | mknod("upper/dev/sda", S_IFBLK | 0666, makedev(0, 0)), 0);
	assert_int_equal(prepare(seen), -EPERM);
	assert_string_equal(why, "dev/sda: device nodes are refused");
}

static void too_deep_is_refused(void **state)
{
	char seen[1024];
	int fd;

	assert_int_equal(mkdir("upper", 0755), 0);
	fd = open("upper", O_RDONLY | O_DIRECTORY);
	for (int depth = 0; depth < 300; depth++) {
		int below;

		assert_int_equal(mkdirat(fd, "d", 0755), 0);
		below = openat(fd, "d", O_RDONLY | O_DIRECTORY);
		close(fd);
		fd = below;
	}
	close(fd);
	assert_int_equal(prepare(seen), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_overlay_becomes_a_tree, setup, teardown),
		cmocka_unit_test_setup_teardown(devices_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(too_deep_is_refused, setup, teardown),
	};

	/* Mounts of its own: a failed test leaves none behind. */
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		fprintf(stderr, "SKIPPED: collect_test needs root: %s\n", strerror(errno));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
