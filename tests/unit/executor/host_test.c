/*
 * Shows that a slot's process that dies is started again, whatever becomes of the wall clock: here it goes back each time that somebody
 * looks. With a gateway in a thread. Needs root and a runtime: skipped loudly without.
 */
#include "gateway/executor/host.h"
#include "gateway/context/beneath.h"
#include "gateway/executor/oci.h"
#include "tests/unit/pool/execute_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TRIES_MAX 2000                   /* each 10 ms */

static char top[64], path[80], answer[512];
static pid_t host_pid;

/* In place of libc's. */
time_t time(time_t *out)
{
	static time_t seconds = 1000000000;

	seconds -= 1000;
	if (out)
		*out = seconds;
	return seconds;
}

static void start_host(void)
{
	char socket_path[PATH_MAX];
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	host_pid = fork();
	assert_true(host_pid >= 0);
	if (host_pid == 0) {
		close(ends[1]);
		_exit(host_run(&(struct host_config){ .path = path, .slots = 1, .socket_fd = ends[0] }));
	}
	close(ends[0]);
	assert_int_equal(rig_setup(NULL), 0);
	stand_in_lose(slot);
	stand_in_lose(control);
	slot = control = NULL;
	rig_until((struct gauges){ .slots = 0 });
	snprintf(socket_path, sizeof(socket_path), "%s/sock", gateway_thread_path(gateway));
	assert_int_equal(write(ends[1], socket_path, strlen(socket_path)), strlen(socket_path));
	shutdown(ends[1], SHUT_WR);
	assert_true(read(ends[1], answer, sizeof(answer) - 1) > 0);
	close(ends[1]);
}

static int setup(void **state)
{
	start_host();
	return 0;
}

static int teardown(void **state)
{
	int status;

	rig_teardown(NULL);
	assert_int_equal(waitpid(host_pid, &status, 0), host_pid);
	assert_int_equal(status, 0);
	return 0;
}

/* Of the host's slot, which is its only child; 0: it has none now. */
static pid_t pid_of_slot(void)
{
	char children[64];
	FILE *file;
	int pid = 0;

	snprintf(children, sizeof(children), "/proc/%d/task/%d/children", (int)host_pid, (int)host_pid);
	file = fopen(children, "r");
	assert_non_null(file);
	if (fscanf(file, "%d", &pid) != 1)
		pid = 0;
	fclose(file);
	return pid;
}

static void a_slot_that_dies_is_started_again(void **state)
{
	pid_t before, after = 0;

	rig_until((struct gauges){ .slots = 1 });
	before = pid_of_slot();
	assert_true(before > 0);
	assert_int_equal(kill(before, SIGKILL), 0);
	for (int i = 0; i < TRIES_MAX && (!after || after == before); i++) {
		usleep(10000);
		after = pid_of_slot();
	}
	assert_true(after && after != before);
	rig_until((struct gauges){ .slots = 1 });
}

static void remove_top(void)
{
	int fd = open(top, O_RDONLY | O_DIRECTORY);

	beneath_clear(fd);
	close(fd);
	rmdir(top);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(a_slot_that_dies_is_started_again, setup, teardown) };
	struct oci_runtime runtime;
	int r = 77;

	strcpy(top, "/var/tmp/host-test-XXXXXX");
	if (!mkdtemp(top) || chmod(top, 0711))
		return 1;
	snprintf(path, sizeof(path), "%s/executor", top);
	if (oci_probe(&runtime, NULL, path))
		fprintf(stderr, "SKIPPED: host_test needs root and a runtime: %s\n", runtime.why);
	else
		r = cmocka_run_group_tests(tests, NULL, NULL);
	remove_top();
	return r;
}
