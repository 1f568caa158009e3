/*
 * Shows what a slot's process makes of a cancel that comes before the container runs: it starts none, and is there for the next action;
 * and that it makes the tree anew for another tenant or instance than that which it made its last one for.
 * With a gateway in a thread, and a runtime that only notes that it was asked. Needs root: skipped loudly without.
 */
#include "gateway/executor/slot.h"
#include "gateway/context/beneath.h"
#include "tests/unit/pool/execute_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char top[64], slots[80], asked[80];
static struct oci_runtime runtime;
static pid_t slot_pid;

/* Waits for the gateway's socket, which is there after the fork. */
static int run_slot(int path_fd)
{
	static const char *const nothing[] = { NULL };
	char socket_path[PATH_MAX] = "";
	struct slot_config config = {
		.number = 1, .path = slots, .socket_path = socket_path, .runtime = &runtime, .hidden = nothing,
	};

	if (read(path_fd, socket_path, sizeof(socket_path) - 1) <= 0)
		return 1;
	close(path_fd);
	return slot_run(&config);
}

static void start_slot(void)
{
	char path[PATH_MAX];
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	slot_pid = fork();
	assert_true(slot_pid >= 0);
	if (slot_pid == 0) {
		close(ends[1]);
		_exit(run_slot(ends[0]));
	}
	close(ends[0]);
	assert_int_equal(rig_setup(NULL), 0);
	stand_in_lose(slot);
	slot = NULL;
	rig_until((struct gauges){ .slots = 0 });
	snprintf(path, sizeof(path), "%s/sock", gateway_thread_path(gateway));
	assert_int_equal(write(ends[1], path, strlen(path)), strlen(path));
	close(ends[1]);
	rig_until((struct gauges){ .slots = 1 });
}

static void make_runtime(void)
{
	FILE *file;

	snprintf(asked, sizeof(asked), "%s/asked", top);
	snprintf(runtime.path, sizeof(runtime.path), "%s/runtime", top);
	snprintf(runtime.state_dir, sizeof(runtime.state_dir), "%s/state", top);
	file = fopen(runtime.path, "w");
	assert_non_null(file);
	fprintf(file, "#!/bin/sh\n: > %s\nexit 1\n", asked);
	fclose(file);
	assert_int_equal(chmod(runtime.path, 0755), 0);
}

static int setup(void **state)
{
	strcpy(top, "/var/tmp/slot-test-XXXXXX");
	assert_non_null(mkdtemp(top));
	assert_int_equal(chmod(top, 0711), 0);
	snprintf(slots, sizeof(slots), "%s/slots", top);
	assert_int_equal(mkdir(slots, 0711), 0);
	make_runtime();
	start_slot();
	return 0;
}

static int teardown(void **state)
{
	int fd, status;

	rig_teardown(NULL);
	assert_int_equal(waitpid(slot_pid, &status, 0), slot_pid);
	assert_int_equal(status, 0);
	fd = open(top, O_RDONLY | O_DIRECTORY);
	assert_int_equal(beneath_clear(fd), 0);
	close(fd);
	return rmdir(top);
}

static void nothing_more(struct gateway_parts *parts, void *context)
{
}

/* The assignment and its cancel are both there when it goes on. */
static void a_cancel_is_heard_before_the_container_runs(void **state)
{
	struct digest action = action_upload(client, "cc", NULL);
	struct caller caller;

	assert_int_equal(kill(slot_pid, SIGSTOP), 0);
	caller = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	caller_until_started(&caller);
	assert_int_equal(caller_cancel(client, &caller), GRPC_OK);
	gateway_thread_call(gateway, nothing_more, NULL);
	assert_int_equal(kill(slot_pid, SIGCONT), 0);
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_CANCELLED);
	rig_until((struct gauges){ .slots = 1 });
	assert_int_equal(access(asked, F_OK), -1);
	/* Without a cancel it comes as far as that. */
	caller = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_INTERNAL);
	rig_until((struct gauges){ .slots = 1 });
	assert_int_equal(access(asked, F_OK), 0);
}

/* When the tree's file was made, as far as inodes tell. */
static struct stat tree_file(void)
{
	struct stat stat_buffer;
	char path[128];

	snprintf(path, sizeof(path), "%s/slot-1/tree/sub/b", slots);
	assert_int_equal(stat(path, &stat_buffer), 0);
	return stat_buffer;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Else the time that his inputs take would tell him that somebody else ran just these. */
static void a_tree_is_made_anew_for_others(void **state)
{
	struct client *others[] = { client, client, gateway_thread_client(gateway, "token-a"),
	                            gateway_thread_client_of(gateway, NULL, "elsewhere"), client };
	struct stat before = { 0 }, now;
	struct small_tree tree;

	small_tree_make(&tree, "same a", "same b");
	for (size_t i = 0; i < 5; i++) {
		struct digest action;
		struct caller caller;

		commit_whole(others[i], &tree);
		action = action_upload(others[i], "cc", &tree.digests[3]);
		caller = caller_ask(others[i], &action);
		stand_in_resolve(control, 1, NULL);
		caller_finish(&caller);
		assert_int_equal(caller.status, GRPC_INTERNAL);          /* as far as the container */
		rig_until((struct gauges){ .slots = 1 });
		now = tree_file();
		assert_int_equal(same_file(&before, &now), i == 1);
		before = now;
	}
	client_close(others[2]);
	client_close(others[3]);
	small_tree_free(&tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_cancel_is_heard_before_the_container_runs, setup, teardown),
		cmocka_unit_test_setup_teardown(a_tree_is_made_anew_for_others, setup, teardown),
	};

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		fprintf(stderr, "SKIPPED: slot_test needs root: %s\n", strerror(errno));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
