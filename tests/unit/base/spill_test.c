/*
 * Shows that a spill keeps its bytes while it grows from memory into a file, that new bytes are zero, that the file has no
 * name, and that a directory which takes no file, or no more bytes, is an error and loses nothing.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "gateway/base/spill.h"

static char directory[] = "/var/tmp/spill-test-XXXXXX";

static size_t files_in_directory(void)
{
	DIR *dir = opendir(directory);
	size_t count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 2;
}

static void it_keeps_its_bytes(void **state)
{
	struct spill spill = { .directory = directory, .memory_bytes_max = 200000 };

	for (size_t i = 0; i < 1000000; i++) {
		assert_int_equal(spill_grow(&spill, i + 1), 0);
		assert_true(spill.data[i] == 0);
		spill.data[i] = (uint8_t)(i % 251);
	}
	assert_true(spill.mapped);
	assert_int_equal(files_in_directory(), 0);
	for (size_t i = 0; i < 1000000; i++)
		assert_true(spill.data[i] == i % 251);
	spill_fini(&spill);
	assert_null(spill.data);
	assert_int_equal(spill_grow(&spill, 10), 0);
	assert_false(spill.mapped);
	spill_fini(&spill);
}

static void without_a_directory_it_stays_in_memory(void **state)
{
	struct spill spill = { .memory_bytes_max = 1 };

	assert_int_equal(spill_grow(&spill, 1000000), 0);
	assert_false(spill.mapped);
	spill_fini(&spill);
}

static void a_refusal_loses_nothing(void **state)
{
	struct spill spill = { .directory = "/proc", .memory_bytes_max = 100000 };

	assert_int_equal(spill_grow(&spill, 70000), 0);
	spill.data[69999] = 7;
	assert_true(spill_grow(&spill, 1000000) < 0);
	assert_int_equal(spill.data[69999], 7);
	assert_true(spill_grow(&spill, SIZE_MAX - 5) < 0);
	spill_fini(&spill);
	spill_fini(&spill);
}

static int make(void **state)
{
	return mkdtemp(directory) ? 0 : -1;
}

static int drop(void **state)
{
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_keeps_its_bytes),
		cmocka_unit_test(without_a_directory_it_stays_in_memory),
		cmocka_unit_test(a_refusal_loses_nothing),
	};

	return cmocka_run_group_tests(tests, make, drop);
}
