/*
 * Shows which directories a host takes for its own, that a directory of somebody else's stays as it is, and that one that is in
 * use is not taken before the host that has it has ended. Needs root: skipped loudly without.
 */
#include "gateway/executor/host_directory.h"
#include "gateway/context/beneath.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SLOT_GID   1000065536u
#define HOST_MS    500                   /* how long a host outlives its gateway here */
#define REFUSED_MS 5000                  /* less than somebody waits for a host that ends */

static char top[64], path[80], why[512];
static int lock_fd;

static int setup(void **state)
{
	strcpy(top, "/tmp/host-directory-XXXXXX");
	assert_non_null(mkdtemp(top));
	snprintf(path, sizeof(path), "%s/executor", top);
	lock_fd = -1;
	return 0;
}

static int teardown(void **state)
{
	int fd = open(top, O_RDONLY | O_DIRECTORY);

	if (lock_fd >= 0)
		close(lock_fd);
	assert_int_equal(beneath_clear(fd), 0);
	close(fd);
	assert_int_equal(rmdir(top), 0);
	return 0;
}

static void another(void **state)
{
	teardown(state);
	setup(state);
}

static int take(void)
{
	*why = 0;
	return host_directory_take(&lock_fd, path, why, sizeof(why));
}

static void expect_taken(void)
{
	int r = take();

	if (r)
		fail_msg("%s", why);
	assert_true(lock_fd >= 0);
	assert_int_equal(fcntl(lock_fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	close(lock_fd);
	lock_fd = -1;
}

static int mode_of(const char *of)
{
	struct stat st;

	assert_int_equal(stat(of, &st), 0);
	return st.st_mode & 07777;
}

static void make(const char *name, mode_t mode, gid_t gid)
{
	char full[160];

	snprintf(full, sizeof(full), "%s%s%s", path, *name ? "/" : "", name);
	assert_int_equal(mkdir(full, 0700), 0);
	assert_int_equal(chown(full, 0, gid), 0);
	assert_int_equal(chmod(full, mode), 0);
}

static void one_that_is_missing_is_made(void **state)
{
	mode_t mask = umask(077);
	char file[100], text[32] = "";
	int fd;

	expect_taken();
	umask(mask);
	assert_int_equal(mode_of(path), 0711);
	snprintf(file, sizeof(file), "%s/sluice.pid", path);
	fd = open(file, O_RDONLY);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	assert_int_equal(strtol(text, NULL, 10), getpid());
	expect_taken();
}

static void an_empty_one_keeps_its_mode_almost(void **state)
{
	static const struct {
		mode_t before, after;
	} modes[] = { { 0755, 0755 }, { 0700, 0711 }, { 0750, 0751 }, { 0711, 0711 }, { 0777, 0755 } };

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		make("", modes[i].before, 0);
		make("lost+found", 0700, 0);
		expect_taken();
		assert_int_equal(mode_of(path), modes[i].after);
		expect_taken();          /* also by the next one, when this came to nothing */
		assert_int_equal(mode_of(path), modes[i].after);
		another(state);
	}
}

/* Of versions that knew no lock. */
static void what_an_earlier_host_made_is_taken(void **state)
{
	make("", 0711, 0);
	make("state", 0700, 0);
	expect_taken();
	make("slot-1", 0710, SLOT_GID);
	make("images", 0711, 0);
	make("buildkit", 0711, 0);
	make("notes of the operator", 0755, 0);
	expect_taken();
	assert_int_equal(chmod(path, 0755), 0);
	expect_taken();
	assert_int_equal(mode_of(path), 0755);
}

static void expect_refused(mode_t mode, const char *words)
{
	struct timespec began, now;
	int r;

	clock_gettime(CLOCK_MONOTONIC, &began);
	r = take();
	clock_gettime(CLOCK_MONOTONIC, &now);
	assert_int_equal(r, -EPERM);
	assert_int_equal(lock_fd, -1);
	assert_non_null(strstr(why, path));
	if (!strstr(why, words))
		fail_msg("%s", why);
	assert_int_equal(mode_of(path), mode);
}

static void somebody_else_s_stays_as_it_is(void **state)
{
	make("", 0755, 0);
	make("data", 0755, 0);
	expect_refused(0755, "holds what is not the executor's");
	make("state", 0755, 0);
	expect_refused(0755, "holds what is not the executor's");
	another(state);
	make("", 0755, 0);               /* no host gives this mode, and these names are anybody's */
	make("images", 0755, 0);
	expect_refused(0755, "holds what is not the executor's");
	make("slot-1", 0755, 0);
	expect_refused(0755, "holds what is not the executor's");
	another(state);
	make("", 01777, 0);
	expect_refused(01777, "must be root's");
	another(state);
	make("", 0711, 0);
	assert_int_equal(chown(path, 65534, 65534), 0);
	expect_refused(0711, "must be root's");
}

static void no_directory(void **state)
{
	int fd = open(path, O_CREAT | O_WRONLY, 0600);

	close(fd);
	assert_int_equal(take(), -ENOTDIR);
	assert_non_null(strstr(why, path));
	assert_int_equal(mode_of(path), 0600);
	strcat(path, "-missing/executor");
	assert_int_equal(take(), 0);
	assert_int_equal(lock_fd, -1);
}

/*
 * A gateway with its host: it ends when `end_fd` does, the host HOST_MS later. Both are there once it returns.
 */
static pid_t start_gateway(int *end_fd)
{
	int ends[2], ready[2];
	pid_t pid;
	char byte;

	assert_int_equal(pipe(ends) | pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(ends[1]);
		if (take() || fork() == 0) {
			close(ready[0]);
			close(ready[1]);
			if (read(ends[0], &byte, 1) == 0)
				usleep(HOST_MS * 1000);
			_exit(0);
		}
		close(lock_fd);
		if (write(ready[1], "r", 1) != 1 || read(ends[0], &byte, 1) != 0)
			_exit(1);
		_exit(0);
	}
	close(ends[0]);
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	*end_fd = ends[1];
	return pid;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void one_host_at_a_time(void **state)
{
	int end_fd, status;
	pid_t gateway = start_gateway(&end_fd);
	uint64_t began = now_ms();
	char words[128];

	assert_int_equal(take(), -EBUSY);
	assert_true(now_ms() - began < REFUSED_MS);
	snprintf(words, sizeof(words), "%s is in use by process %d;", path, (int)gateway);
	assert_non_null(strstr(why, words));
	assert_int_equal(lock_fd, -1);

	/* Its gateway has gone, and it has not: whoever comes then waits for it. */
	began = now_ms();
	close(end_fd);
	assert_int_equal(waitpid(gateway, &status, 0), gateway);
	assert_int_equal(status, 0);
	expect_taken();
	assert_true(now_ms() - began >= HOST_MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_that_is_missing_is_made, setup, teardown),
		cmocka_unit_test_setup_teardown(an_empty_one_keeps_its_mode_almost, setup, teardown),
		cmocka_unit_test_setup_teardown(what_an_earlier_host_made_is_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(somebody_else_s_stays_as_it_is, setup, teardown),
		cmocka_unit_test_setup_teardown(no_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(one_host_at_a_time, setup, teardown),
	};

	if (geteuid() != 0) {
		fprintf(stderr, "SKIPPED: host_directory_test needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
