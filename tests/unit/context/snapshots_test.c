/*
 * Shows that a folder of snapshots keeps those used last, as many and as much as it may, and the new one whatever its times are; that
 * what a kill left aside goes when it is old; and that nothing else there is touched.
 */
#include "gateway/context/snapshots.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64];

static int setup(void **state)
{
	strcpy(folder, "/tmp/snapshots-test-XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

static char *path_of(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static char *numbered(unsigned number)
{
	static char name[64];

	snprintf(name, sizeof(name), "%032x", number);
	return name;
}

/* So many seconds ago it was read, and written. */
static void make(const char *name, uint64_t bytes, time_t read_s, time_t written_s)
{
	time_t now = time(NULL);
	const struct timespec times[2] = { { .tv_sec = now - read_s }, { .tv_sec = now - written_s } };
	int fd = open(path_of(name), O_WRONLY | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
}

static bool there(const char *name)
{
	return access(path_of(name), F_OK) == 0;
}

static void test_so_many_are_kept(void **state)
{
	/* The greater its number, the longer ago; but one was read lately, and the new one is the oldest by its times. */
	for (unsigned i = 0; i < SNAPSHOTS_MAX + 3; i++)
		make(numbered(i), 1, i == SNAPSHOTS_MAX ? 0 : 1000 + i, 1000 + i);
	snapshots_trim(path_of(numbered(SNAPSHOTS_MAX + 2)));
	for (unsigned i = 0; i < SNAPSHOTS_MAX + 3; i++)
		assert_int_equal(there(numbered(i)), i < SNAPSHOTS_MAX - 2 || i == SNAPSHOTS_MAX || i == SNAPSHOTS_MAX + 2);
}

static void test_so_much_is_kept(void **state)
{
	make(numbered(0), SNAPSHOTS_BYTES_MAX / 2, 10, 10);
	make(numbered(1), SNAPSHOTS_BYTES_MAX / 2, 20, 20);
	make(numbered(2), 1, 30, 30);
	snapshots_trim(path_of(numbered(1)));
	assert_true(there(numbered(0)) && there(numbered(1)) && !there(numbered(2)));
	make(numbered(3), SNAPSHOTS_BYTES_MAX + 1, 0, 0);
	snapshots_trim(path_of(numbered(3)));
	assert_true(!there(numbered(0)) && !there(numbered(1)) && there(numbered(3)));
}

static void test_what_is_left_aside_goes(void **state)
{
	static const char old[] = "0123456789abcdef0123456789abcdef.a1B2c3", working[] = "0123456789abcdef0123456789abcdef.d4E5f6",
	                  other[] = "0123456789abcdef0123456789abcdef.notes.txt", notes[] = "notes";

	make(old, 1, 0, SNAPSHOTS_ASIDE_S + 10);
	make(working, 1, 0, 10);
	make(other, 1, 0, SNAPSHOTS_ASIDE_S + 10);
	make(notes, 1, 0, SNAPSHOTS_ASIDE_S + 10);
	make(numbered(0), 1, 0, 0);
	snapshots_trim(path_of(numbered(0)));
	assert_true(!there(old) && there(working) && there(other) && there(notes) && there(numbered(0)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_so_many_are_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_so_much_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_left_aside_goes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
