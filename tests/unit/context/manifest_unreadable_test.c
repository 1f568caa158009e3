/*
 * Shows that a file which the disk does not give is told as that, and not as one that was changed: to scan again would help nobody.
 * pread() is the test's own.
 */
#include "tests/unit/context/place.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

static int failure;                      /* errno; 0: it reads */

ssize_t pread(int fd, void *buffer, size_t size, off_t offset)
{
	if (!failure)
		return syscall(SYS_pread64, fd, buffer, size, offset);
	errno = failure;
	return -1;
}

static void reads(struct manifest *manifest, const struct digest *digest, int expected, const char *sentence)
{
	uint8_t bytes[16];
	char why[512] = "";

	assert_int_equal(manifest_read(manifest, digest, bytes, why, sizeof(why)), expected);
	assert_string_equal(why, sentence);
}

static void test_a_disk_that_fails(void **state)
{
	struct place *place = *state;
	struct manifest *manifest;
	struct tree_node node;
	struct digest digest;

	failure = 0;
	place_write_text(place, "f", "text");
	manifest = place_build(place);
	assert_true(place_find(manifest, "f", &node));
	digest = node.digest;
	reads(manifest, &digest, 0, "");
	failure = EIO;
	reads(manifest, &digest, -EIO, "f: cannot be read: the disk failed");
	failure = EISDIR;
	reads(manifest, &digest, -ESTALE, "f: has changed since it was scanned");
	failure = 0;
	reads(manifest, &digest, 0, "");
	manifest_destroy(manifest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_disk_that_fails, place_setup, place_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
