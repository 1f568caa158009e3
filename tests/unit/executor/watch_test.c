/*
 * Shows how long a process is watched, with children that do nothing but hold or close their streams: until its end, not that of its
 * streams; that its time counts all along, and whoever cancels is heard; and that all it has written is handed on before.
 */
#include "gateway/executor/watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "gateway/base/check.h"
#include "tests/unit/cas/gateway_thread.h"

#define MS 1000000ull

static struct gateway_thread *gateway;

struct child {
	struct watch watch;
	pid_t pid;
	int held[2];                     /* the write ends, which this process holds, too */
	char output[2][64];
	unsigned kills;
	bool cancelled;
};

static bool is_cancelled(void *context)
{
	return ((struct child *)context)->cancelled;
}

static void on_output(void *context, uint32_t stream, struct span data)
{
	struct child *child = context;

	strncat(child->output[stream - 1], (const char *)data.data, data.size);
}

static void on_kill(void *context)
{
	struct child *child = context;

	child->kills++;
	pidfd_send_signal(child->watch.end_fd, SIGKILL, NULL, 0);
}

/* What it does is in `run`, with its streams in place; it then ends with 3. */
static void child_start(struct child *child, void (*run)(void))
{
	int out[2], err[2];

	*child = (struct child){ .watch = { .cancelled = is_cancelled, .output = on_output, .kill = on_kill, .context = child } };
	assert_int_equal(pipe2(out, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pipe2(err, O_CLOEXEC | O_NONBLOCK), 0);
	child->pid = fork();
	assert_true(child->pid >= 0);
	if (child->pid == 0) {
		dup2(out[1], 1);
		dup2(err[1], 2);
		close_range(3, ~0u, 0);
		run();
		_exit(3);
	}
	child->watch.client = gateway_thread_client(gateway, NULL);
	child->watch.end_fd = pidfd_open(child->pid, 0);
	assert_true(child->watch.end_fd >= 0);
	child->watch.pipes[0] = out[0];
	child->watch.pipes[1] = err[0];
	child->held[0] = out[1];
	child->held[1] = err[1];
}

static void child_let_go(struct child *child)
{
	for (unsigned i = 0; i < 2; i++)
		if (child->held[i] >= 0)
			close(child->held[i]);
	child->held[0] = child->held[1] = -1;
}

/* Its end: the signal that killed it, or 0. */
static int child_watch(struct child *child, bool timed_out)
{
	int status;

	assert_int_equal(watch_run(&child->watch), timed_out);
	assert_int_equal(waitpid(child->pid, &status, WNOHANG), child->pid);
	assert_int_equal(child->watch.pipes[0], -1);
	assert_int_equal(child->watch.pipes[1], -1);
	child_let_go(child);
	close(child->watch.end_fd);
	client_close(child->watch.client);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void say(void)
{
	CHECK(write(1, "out", 3) == 3);
	CHECK(write(2, "err", 3) == 3);
}

static void close_and_stay(void)
{
	say();
	close(1);
	close(2);
	for (;;)
		pause();
}

static void stay(void)
{
	for (;;)
		pause();
}

static void what_it_says_is_handed_on(void **state)
{
	struct child child;

	child_start(&child, say);
	child_let_go(&child);
	assert_int_equal(child_watch(&child, false), 0);
	assert_string_equal(child.output[0], "out");
	assert_string_equal(child.output[1], "err");
	assert_int_equal(child.kills, 0);
}

/* It was given up on with its last stream: then nobody heard of its time, or of a cancel. */
static void who_closes_his_streams_is_watched_on(void **state)
{
	for (unsigned cancelled = 0; cancelled < 2; cancelled++) {
		struct child child;

		child_start(&child, close_and_stay);
		child_let_go(&child);
		child.watch.timeout_ns = 300 * MS;
		child.cancelled = cancelled;
		assert_int_equal(child_watch(&child, !cancelled), SIGKILL);
		assert_int_equal(child.kills, 1);
	}
}

static void time_is_over_while_streams_are_open(void **state)
{
	struct child child;

	child_start(&child, stay);
	child_let_go(&child);
	child.watch.timeout_ns = 100 * MS;
	assert_int_equal(child_watch(&child, true), SIGKILL);
	assert_int_equal(child.kills, 1);
}

/* Its end is the end, whoever holds its streams open; what is in them by then still comes. */
static void streams_that_others_hold_are_let_go(void **state)
{
	struct child child;

	child_start(&child, say);
	child.watch.timeout_ns = 2000 * MS;      /* less than is given to the streams: it is not killed for them */
	assert_int_equal(child_watch(&child, false), 0);
	assert_string_equal(child.output[0], "out");
	assert_string_equal(child.output[1], "err");
	assert_int_equal(child.kills, 0);
}

static int setup(void **state)
{
	gateway = gateway_thread_start(&(struct gateway_thread_options){ 0 });
	return 0;
}

static int teardown(void **state)
{
	gateway_thread_stop(gateway, true);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_it_says_is_handed_on),
		cmocka_unit_test(who_closes_his_streams_is_watched_on),
		cmocka_unit_test(time_is_over_while_streams_are_open),
		cmocka_unit_test(streams_that_others_hold_are_let_go),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
