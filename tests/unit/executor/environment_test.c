/* environment: the key is the same for the same inputs, and another one as soon as any single input is another. */
#include "gateway/executor/environment.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char packages[] = "/tmp/environment-XXXXXX";

static void write_packages(const char *text)
{
	int fd = open(packages, O_WRONLY | O_TRUNC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static struct digest key_of(const struct environment_input *input)
{
	struct digest key;

	assert_int_equal(environment_key(input, &key), 0);
	return key;
}

static void each_input_counts(void **state)
{
	const struct environment_input base = {
		.packages_path = packages, .runtime = "runc version 1.1.5", .mounts = { (const uint8_t *)"/usr ro\0/lib link", 17 },
	};
	struct environment_input changed;
	struct digest key;

	write_packages("Package: gcc\nVersion: 12.2\n");
	key = key_of(&base);
	assert_true(digest_equal(&key, &(struct digest[]){ key_of(&base) }[0]));

	write_packages("Package: gcc\nVersion: 12.3\n");
	assert_false(digest_equal(&key, &(struct digest[]){ key_of(&base) }[0]));
	write_packages("Package: gcc\nVersion: 12.2\n");
	assert_true(digest_equal(&key, &(struct digest[]){ key_of(&base) }[0]));

	changed = base;
	changed.runtime = "runc version 1.1.6";
	assert_false(digest_equal(&key, &(struct digest[]){ key_of(&changed) }[0]));
	changed = base;
	changed.mounts.size--;
	assert_false(digest_equal(&key, &(struct digest[]){ key_of(&changed) }[0]));
	changed = base;
	changed.machine = "another";
	assert_false(digest_equal(&key, &(struct digest[]){ key_of(&changed) }[0]));
	changed = base;
	changed.image_digest = "sha256:00";
	assert_false(digest_equal(&key, &(struct digest[]){ key_of(&changed) }[0]));
	changed.packages_path = NULL;
	assert_false(digest_equal(&key, &(struct digest[]){ key_of(&changed) }[0]));
}

static void inputs_do_not_run_together(void **state)
{
	struct environment_input a = { .image_digest = "ab", .runtime = "c" }, b = { .image_digest = "a", .runtime = "bc" };

	assert_false(digest_equal(&(struct digest[]){ key_of(&a) }[0], &(struct digest[]){ key_of(&b) }[0]));
}

static void a_missing_list_is_an_error(void **state)
{
	struct digest key;

	assert_int_equal(environment_key(&(struct environment_input){ .packages_path = "/nonexistent/status" }, &key), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_input_counts),
		cmocka_unit_test(inputs_do_not_run_together),
		cmocka_unit_test(a_missing_list_is_an_error),
	};
	int fd = mkstemp(packages), r;

	if (fd < 0)
		return 1;
	close(fd);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(packages);
	return r;
}
