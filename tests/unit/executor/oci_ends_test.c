/*
 * Shows how a command in a container ends: its streams and its exit status, its limits of memory, processes and time, a cancel,
 * a start that fails, a host that was killed; and that nothing of it is left afterwards: no process, no mount, no cgroup.
 */
#include "tests/unit/executor/oci_rig.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <limits.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void expect_no_child(void)
{
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void streams_and_statuses(void **state)
{
	static const char *const missing[] = { "no-such-program", NULL }, *const not_executable[] = { "/etc/passwd", NULL };
	struct outcome *outcome = run_shell("echo to stdout; echo to stderr >&2; exit 7");

	expect(outcome, 7, "to stdout\n");
	assert_string_equal(outcome->err, "to stderr\n");
	assert_false(outcome->result.out_of_memory || outcome->result.timed_out || outcome->result.cancelled);
	expect(run_shell("cat; echo end"), 0, "end\n");         /* stdin is at its end */
	expect(run_shell("kill -9 $$"), 137, "");
	expect(run_shell("kill -ABRT $$"), 134, "");
	expect(run_shell("echo a > /dev/stdout; echo b > /dev/stderr"), 0, "a\n");
	outcome = run_argv(missing);
	assert_int_equal(outcome->result.exit_status, 127);
	assert_non_null(strstr(outcome->err, "no-such-program"));
	assert_int_equal(run_argv(not_executable)->result.exit_status, 126);
	expect(run_shell("head -c 60000 /dev/zero | tr '\\0' x | wc -c"), 0, "60000\n");
	expect(run_shell("(sleep 1000 &) ; echo over"), 0, "over\n");   /* what it leaves running ends with it */
}

/* Without the init program the runtime itself says why it cannot start. */
static void without_init(void **state)
{
	static const char *const good[] = { "/bin/echo", "as PID 1", NULL }, *const missing[] = { "no-such-program", NULL };
	const char *kept = init_path;

	init_path = NULL;
	expect(run_argv(good), 0, "as PID 1\n");
	assert_int_equal(run_argv(missing)->result.exit_status, 127);
	init_path = kept;
}

static void processes_are_limited(void **state)
{
	struct outcome *outcome = run_shell("i=0; while [ $i -lt 500 ]; do sleep 100 & i=$((i+1)); done 2>/dev/null; echo all");

	assert_true(outcome->result.exit_status != 0);
	assert_null(strstr(outcome->out, "all"));
}

static void memory_is_limited(void **state)
{
	struct outcome *outcome = run_shell("head -c 1G /dev/zero | tail > /dev/null; true");

	assert_true(outcome->result.out_of_memory);
	outcome = run_shell("head -c 1G /dev/zero > /tmp/file");        /* its /tmp is memory, too */
	assert_int_not_equal(outcome->result.exit_status, 0);
}

static void time_is_limited(void **state)
{
	static const char *const argv[] = { "sh", "-c", "trap '' TERM INT HUP; (setsid sleep 1000 &); while :; do sleep 1000; done", NULL };
	struct oci_command command = command_for(0, argv);
	static struct outcome outcome;

	outcome = (struct outcome){ .cancel_fd = -1 };
	assert_int_equal(run_command(0, &command, SECOND / 2, &outcome), 0);
	assert_true(outcome.result.timed_out);
	assert_false(outcome.result.cancelled);
	assert_int_equal(outcome.result.exit_status, 137);
	expect_nothing_left();
}

static void cancel_leaves_nothing(void **state)
{
	static const char *const argv[] = { "sh", "-c", "sleep 1000 & sleep 1000 & echo ready; wait", NULL };
	struct oci_command command = command_for(0, argv);
	static struct outcome outcome;

	outcome = (struct outcome){ .cancel_fd = eventfd(0, EFD_CLOEXEC) };
	assert_int_equal(run_command(0, &command, 60 * SECOND, &outcome), 0);
	assert_true(outcome.result.cancelled);
	assert_false(outcome.result.timed_out);
	close(outcome.cancel_fd);
	expect_nothing_left();
}

/* A host that was killed leaves its containers running: the next one ends them. */
static void stale_containers_are_deleted(void **state)
{
	static const char *const argv[] = { "sleep", "1000", NULL };
	struct oci_command command = command_for(0, argv);
	struct oci_process *process;
	char why[512];
	int out, err, status;
	bool out_of_memory;

	assert_int_equal(workspace_mount(workspaces[0], why, sizeof(why)), 0);
	if (oci_start(&process, &runtime, &command, &out, &err, why, sizeof(why)))
		fail_msg("%s", why);
	assert_true(count_processes() > 0);
	oci_cleanup_bundle(&runtime, workspace_bundle_path(workspaces[1]));     /* another slot's: nothing is there */
	assert_true(count_processes() > 0);
	if (*state)
		oci_cleanup_bundle(&runtime, workspace_bundle_path(workspaces[0]));
	else
		oci_cleanup_stale(&runtime);
	assert_int_equal(oci_finish(process, &status, &out_of_memory), 0);
	assert_int_equal(status, 137);
	close(out);
	close(err);
	assert_int_equal(workspace_unmount(workspaces[0], why, sizeof(why)), 0);
}

/* Likewise one slot's process. */
static void a_stale_container_of_a_slot_is_deleted(void **state)
{
	void *by_bundle = state;

	stale_containers_are_deleted(&by_bundle);
}

static void bad_commands_are_refused(void **state)
{
	static const char *const argv[] = { "true", NULL }, *const bytes[] = { "echo", "\xff", NULL }, *const empty[] = { NULL };
	static const char *const ids[] = { "", "../x", "a b", ".hidden", "-x", "a/b" };
	struct oci_command command = command_for(0, argv);
	struct oci_process *process;
	char why[512];
	int out, err;

	for (size_t i = 0; i < COUNT(ids); i++) {
		command.id = ids[i];
		assert_int_equal(oci_start(&process, &runtime, &command, &out, &err, why, sizeof(why)), -EINVAL);
	}
	command = command_for(0, argv);
	command = command_for(0, empty);
	assert_int_equal(oci_start(&process, &runtime, &command, &out, &err, why, sizeof(why)), -EINVAL);
	command = command_for(0, argv);
	command.cwd = "relative";
	assert_int_equal(oci_start(&process, &runtime, &command, &out, &err, why, sizeof(why)), -EINVAL);
	command = command_for(0, argv);
	command.bundle_dir = "/nonexistent/bundle";             /* our own fault is no missing program */
	assert_int_equal(oci_start(&process, &runtime, &command, &out, &err, why, sizeof(why)), -EIO);
	command = command_for(0, bytes);
	assert_int_equal(oci_start(&process, &runtime, &command, &out, &err, why, sizeof(why)), -EINVAL);
	assert_string_equal(why, "command: an argument or variable is not UTF-8 text");
}

/* One that does what `script` says when it is to start a container, and else nothing; $4 is its log. */
static struct oci_runtime stand_in(const char *script)
{
	struct oci_runtime made = runtime;
	FILE *file;

	snprintf(made.path, sizeof(made.path), "%s/stand-in", top);
	file = fopen(made.path, "w");
	assert_non_null(file);
	fprintf(file, "#!/bin/sh\ncase \"$7\" in run) %s ;; esac\n", script);
	fclose(file);
	assert_int_equal(chmod(made.path, 0755), 0);
	return made;
}

static int start_fails(const struct oci_runtime *failing, const struct oci_command *command)
{
	struct oci_process *process;
	char why[512];
	int out, err, r;

	assert_int_equal(workspace_mount(workspaces[0], why, sizeof(why)), 0);
	r = oci_start(&process, failing, command, &out, &err, why, sizeof(why));
	assert_true(r < 0);
	assert_int_equal(workspace_unmount(workspaces[0], why, sizeof(why)), 0);
	return r;
}

/* It names a path that the client chose; what it starts is the init, which is there. */
static void a_runtime_that_fails_is_no_exit_status(void **state)
{
	static const char *const argv[] = { "true", NULL };
	static const char *const says[] = {
		"chdir to cwd (/work/exec) set in config.json failed: permission denied",
		"exec: mount /work/x: no such file or directory", "executable file true not found",
	};
	char script[256];

	for (size_t i = 0; i < COUNT(says); i++) {
		struct oci_command command = command_for(0, argv);
		struct oci_runtime failing;

		snprintf(script, sizeof(script), "echo '{\"msg\": \"%s\"}' > $4; exit 1", says[i]);
		failing = stand_in(script);
		assert_int_equal(start_fails(&failing, &command), -EIO);
		command.init_path = NULL;
		assert_int_equal(start_fails(&failing, &command), i ? -ENOENT : -EACCES);
	}
}

/*
 * Processes that nobody knows the ids of are this one's children once the runtime has gone: one of the runtime's own, which has
 * ended or not, or one that runs as the container's user in a session of its own.
 */
static void a_start_that_fails_leaves_nothing(void **state)
{
	static const char *const scripts[] = {
		"sleep 1000 >/dev/null 2>&1 & exit 1",
		"(true &) ; sleep 0.1; exit 1",
		"setpriv --reuid 1900000000 setsid sleep 1000 >/dev/null 2>&1 & until grep -q ^sleep /proc/$!/comm; do :; done; exit 1",
		/* Its helpers: as root, in a session of their own, alive and ended, as crun's is. */
		"setsid sleep 1000 >/dev/null 2>&1 & until grep -q ^sleep /proc/$!/comm; do :; done; exit 1",
		"(setsid true &) ; sleep 0.1; exit 1",
		"(setsid sh -c 'setsid sleep 1000 & wait' >/dev/null 2>&1 &) ; sleep 0.1; exit 1",
		"exit 1",
	};
	static const char *const argv[] = { "true", NULL }, *const missing[] = { "no-such-program", NULL };
	struct oci_command command = command_for(0, argv);
	size_t before = count_processes();
	pid_t ours;

	expect_no_child();
	for (size_t i = 0; i < COUNT(scripts); i++) {
		struct oci_runtime failing = stand_in(scripts[i]);

		assert_int_equal(start_fails(&failing, &command), -EIO);
		assert_int_equal(count_processes(), before);
		expect_no_child();
	}
	/* As real ones fail. */
	command = command_for(0, missing);
	command.init_path = NULL;
	assert_int_equal(start_fails(&runtime, &command), -ENOENT);
	expect_no_child();
	/* A child of this process's own stays. */
	ours = fork();
	if (ours == 0) {
		pause();
		_exit(0);
	}
	assert_int_equal(start_fails(&runtime, &command), -ENOENT);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), 0);
	kill(ours, SIGKILL);
	assert_int_equal(waitpid(ours, NULL, 0), ours);
	expect_no_child();
}

/* crun's helper does the work in a session of its own, and is let go of: it is our child when it ends. */
static void a_start_that_succeeds_leaves_nothing(void **state)
{
	static const char *const argv[] = { "true", NULL };
	struct oci_command command = command_for(0, argv);
	static struct outcome outcome;
	struct oci_runtime kept = runtime;
	char script[2 * PATH_MAX + 128];

	snprintf(script, sizeof(script), "(setsid true &) ; exec %s \"$@\" ;; *) exec %s \"$@\"", kept.path, kept.path);
	runtime = stand_in(script);
	outcome = (struct outcome){ .cancel_fd = -1 };
	assert_int_equal(run_command(0, &command, 60 * SECOND, &outcome), 0);
	runtime = kept;
	assert_int_equal(outcome.result.exit_status, 0);
	expect_no_child();
}

/* The runtime, which says its id first. */
static struct oci_runtime runtime_that_says_its_id(void)
{
	char script[2 * PATH_MAX + 128];

	snprintf(script, sizeof(script), "echo $$ > %s/id; exec %s \"$@\" ;; *) exec %s \"$@\"", top, runtime.path, runtime.path);
	return stand_in(script);
}

static pid_t id_of_runtime(void)
{
	char path[PATH_MAX];
	FILE *file;
	int id = 0;

	snprintf(path, sizeof(path), "%s/id", top);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%d", &id), 1);
	fclose(file);
	return id;
}

/* A process that waits for an id, leads a group of that id by a child of its own, and ends with that one's status. */
static pid_t fork_stranger(int *ask, int *answer)
{
	int ids[2], answers[2];
	pid_t pid;

	assert_int_equal(pipe(ids) | pipe(answers), 0);
	pid = fork();
	if (pid == 0) {
		pid_t id = 0;
		struct clone_args args = { .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&id, .set_tid_size = 1 };
		int status = 1;
		long child;

		close(ids[1]);
		if (read(ids[0], &id, sizeof(id)) != sizeof(id))
			_exit(1);
		child = syscall(SYS_clone3, &args, sizeof(args));
		if (child == 0) {
			if (setpgid(0, 0) || write(answers[1], "", 1) != 1)
				_exit(1);
			_exit(read(ids[0], &id, 1) != 0);
		}
		close(answers[1]);
		if (child > 0)
			waitpid((pid_t)child, &status, 0);
		_exit(status != 0);
	}
	close(ids[0]);
	close(answers[1]);
	*ask = ids[1];
	*answer = answers[0];
	return pid;
}

/* The runtime's id is free while its container runs. */
static void a_group_of_another_is_left_alone(void **state)
{
	static const char *const argv[] = { "sleep", "1000", NULL };
	struct oci_command command = command_for(0, argv);
	struct oci_runtime saying = runtime_that_says_its_id();
	int out, err, status, ask, answer;
	pid_t stranger = fork_stranger(&ask, &answer), id;
	struct oci_process *process;
	bool out_of_memory;
	char why[512], byte;

	assert_int_equal(workspace_mount(workspaces[0], why, sizeof(why)), 0);
	if (oci_start(&process, &saying, &command, &out, &err, why, sizeof(why)))
		fail_msg("%s", why);
	id = id_of_runtime();
	assert_int_equal(write(ask, &id, sizeof(id)), sizeof(id));
	assert_int_equal(read(answer, &byte, 1), 1);
	oci_kill(process);
	assert_int_equal(oci_finish(process, &status, &out_of_memory), 0);
	close(ask);
	assert_int_equal(waitpid(stranger, &status, 0), stranger);
	assert_int_equal(status, 0);
	close(answer);
	close(out);
	close(err);
	assert_int_equal(workspace_unmount(workspaces[0], why, sizeof(why)), 0);
	expect_no_child();
}

/*
 * What is tried, and fails or not, leaves no child. A runtime may give its standard streams to the container's user: the
 * host's /dev/null must not be among them.
 */
static void the_probe_says_why(void **state)
{
	struct oci_runtime other;
	struct stat stat_buffer;

	assert_int_equal(oci_probe(&other, "no-such-runtime", scratch), -ENOENT);
	assert_false(other.works);
	assert_string_equal(other.why, "no-such-runtime: not installed");
	assert_int_equal(oci_probe(&other, "/bin/false", scratch), -ENOENT);
	assert_int_equal(chmod(top, 0700), 0);
	assert_int_equal(oci_probe(&other, NULL, scratch), -ENOENT);
	assert_non_null(strstr(other.why, "closed to others"));
	assert_int_equal(chmod(top, 0711), 0);
	assert_int_equal(oci_probe(&other, NULL, scratch), 0);
	expect_no_child();
	assert_int_equal(stat("/dev/null", &stat_buffer), 0);
	assert_int_equal(stat_buffer.st_uid, 0);
	assert_int_equal(stat_buffer.st_mode & 07777, 0666);
}

static int run_group(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(streams_and_statuses, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(without_init, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(processes_are_limited, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(memory_is_limited, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(time_is_limited, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(cancel_leaves_nothing, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(stale_containers_are_deleted, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_stale_container_of_a_slot_is_deleted, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(bad_commands_are_refused, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_runtime_that_fails_is_no_exit_status, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_start_that_fails_leaves_nothing, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_start_that_succeeds_leaves_nothing, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_group_of_another_is_left_alone, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(the_probe_says_why, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
	return rig_main(argc, argv, run_group);
}
