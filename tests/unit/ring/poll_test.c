/*
 * Polls: a pipe, a socket, a process descriptor and a file, ready before or after the start, by bytes or by the other
 * side's end; once each; cancelled; and that a descriptor which was polled and then closed wakes nobody any more, not
 * even when it lives on elsewhere and its number belongs to another.
 */
#include "tests/unit/ring/tests.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "tests/unit/ring/fixture.h"

enum { QUIET_NS = 20000000 };

static void make_pipe(int ends[2])
{
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
}

static void close_both(const int ends[2])
{
	close(ends[0]);
	close(ends[1]);
}

static void start_poll(struct ring *ring, struct call *call, int fd)
{
	ring_poll(ring, &call_init(call)->op, fd);
	assert_true(op_in_flight(&call->op));
	assert_false(call->done);
}

/* Nothing completes, and nothing ends the wait before its time. */
static void assert_asleep(struct ring *ring)
{
	uint64_t start_ns = ring_now_ns(ring);

	assert_int_equal(ring_run(ring, QUIET_NS), 0);
	assert_true(ring_now_ns(ring) - start_ns >= QUIET_NS);
}

/* The same, after a turn for what was started. */
static void assert_quiet(struct ring *ring)
{
	assert_int_equal(ring_run(ring, 0), 0);
	assert_asleep(ring);
}

static void test_pipe(void **state)
{
	struct fixture *fixture = *state;
	struct call poll;
	int ends[2];
	char byte;

	make_pipe(ends);
	start_poll(fixture->ring, &poll, ends[0]);
	assert_quiet(fixture->ring);
	assert_int_equal(write(ends[1], "ab", 2), 2);
	assert_int_equal(call_wait(fixture->ring, &poll), POLLIN);
	/* Once, whatever comes after; a byte that is still there ends the next poll at once. */
	assert_int_equal(write(ends[1], "c", 1), 1);
	assert_quiet(fixture->ring);
	assert_int_equal(poll.completions, 1);
	for (int i = 0; i < 3; i++) {
		start_poll(fixture->ring, &poll, ends[0]);
		assert_int_equal(call_wait(fixture->ring, &poll), POLLIN);
		assert_int_equal(read(ends[0], &byte, 1), 1);
	}
	start_poll(fixture->ring, &poll, ends[0]);
	assert_quiet(fixture->ring);
	close(ends[1]);
	assert_int_equal(call_wait(fixture->ring, &poll), POLLHUP);
	start_poll(fixture->ring, &poll, ends[0]);
	assert_int_equal(call_wait(fixture->ring, &poll), POLLHUP);
	close(ends[0]);
}

static void test_socket_closed_by_the_peer(void **state)
{
	struct fixture *fixture = *state;
	struct call poll, sent;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
	start_poll(fixture->ring, &poll, ends[0]);
	/* The other direction is free. */
	ring_send(fixture->ring, &call_init(&sent)->op, ends[0], span_text("hello"));
	assert_int_equal(call_wait(fixture->ring, &sent), 5);
	ring_run(fixture->ring, 0);
	assert_false(poll.done);
	close(ends[1]);
	assert_true(call_wait(fixture->ring, &poll) & (POLLIN | POLLHUP));
	close(ends[0]);
}

static void test_process(void **state)
{
	struct fixture *fixture = *state;
	siginfo_t info = { 0 };
	struct call poll;
	int ends[2], fd;
	pid_t child;
	char byte;

	make_pipe(ends);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		close(ends[1]);
		_exit(read(ends[0], &byte, 1) == 1 ? 7 : 1);
	}
	fd = (int)syscall(SYS_pidfd_open, child, 0);
	assert_true(fd >= 0);
	start_poll(fixture->ring, &poll, fd);
	assert_quiet(fixture->ring);
	assert_int_equal(write(ends[1], "x", 1), 1);
	assert_true(call_wait(fixture->ring, &poll) & POLLIN);
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED), 0);
	assert_int_equal(info.si_status, 7);
	close(fd);
	close_both(ends);
}

/* As poll(2) has it: a file is always ready, what is no descriptor never. */
static void test_file_and_no_descriptor(void **state)
{
	struct fixture *fixture = *state;
	struct call poll;
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/file", fixture->directory);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	start_poll(fixture->ring, &poll, fd);
	assert_int_equal(call_wait(fixture->ring, &poll), POLLIN);
	close(fd);
	start_poll(fixture->ring, &poll, fd);
	assert_int_equal(call_wait(fixture->ring, &poll), -EBADF);
}

static void test_cancel(void **state)
{
	struct fixture *fixture = *state;
	struct call poll;
	int ends[2];
	int32_t res;

	make_pipe(ends);
	for (int i = 0; i < 100; i++) {
		start_poll(fixture->ring, &poll, ends[0]);
		if (i % 2)
			ring_run(fixture->ring, 0);
		ring_cancel(fixture->ring, &poll.op);
		ring_cancel(fixture->ring, &poll.op);
		assert_false(poll.done);
		assert_int_equal(call_wait(fixture->ring, &poll), -ECANCELED);
	}
	/* Ready and cancelled in one turn: one of the two, once. */
	for (int i = 0; i < 100; i++) {
		char byte;

		start_poll(fixture->ring, &poll, ends[0]);
		if (i % 2)
			ring_run(fixture->ring, 0);
		assert_int_equal(write(ends[1], "x", 1), 1);
		ring_cancel(fixture->ring, &poll.op);
		res = call_wait(fixture->ring, &poll);
		assert_true(res == POLLIN || res == -ECANCELED);
		assert_int_equal(read(ends[0], &byte, 1), 1);
	}
	start_poll(fixture->ring, &poll, ends[0]);
	assert_quiet(fixture->ring);
	close(ends[1]);
	assert_int_equal(call_wait(fixture->ring, &poll), POLLHUP);
	close(ends[0]);
}

/*
 * `kept` keeps the pipe alive, as a child would. Its bytes mean nothing to a ring that polls it no more: neither while
 * nobody polls, nor when its old number is that of another pipe.
 */
static void forgotten(struct fixture *fixture, bool cancelled)
{
	int old[2], other[2], kept;
	struct call poll;
	char byte;

	make_pipe(old);
	kept = fcntl(old[0], F_DUPFD_CLOEXEC, 0);
	start_poll(fixture->ring, &poll, old[0]);
	ring_run(fixture->ring, 0);
	if (cancelled)
		ring_cancel(fixture->ring, &poll.op);
	else
		assert_int_equal(write(old[1], "x", 1), 1);
	assert_int_equal(call_wait(fixture->ring, &poll), cancelled ? -ECANCELED : POLLIN);
	close(old[0]);
	assert_int_equal(write(old[1], "y", 1), 1);
	assert_asleep(fixture->ring);
	make_pipe(other);
	assert_int_equal(other[0], old[0]);
	start_poll(fixture->ring, &poll, other[0]);
	ring_run(fixture->ring, 0);
	assert_int_equal(write(old[1], "z", 1), 1);
	assert_asleep(fixture->ring);
	assert_int_equal(write(other[1], "o", 1), 1);
	assert_int_equal(call_wait(fixture->ring, &poll), POLLIN);
	assert_int_equal(read(other[0], &byte, 1), 1);
	assert_int_equal(byte, 'o');
	close_both(other);
	close(old[1]);
	close(kept);
}

static void test_forgotten(void **state)
{
	forgotten(*state, true);
	forgotten(*state, false);
}

/* Each completes by its own pipe and no other's, in whatever order they become ready. */
static void test_many(void **state)
{
	enum { COUNT = 200, STEP = 77 };         /* coprime: each comes once */
	struct fixture *fixture = *state;
	struct call *polls = calloc(COUNT, sizeof(*polls));
	int (*ends)[2] = calloc(COUNT, sizeof(*ends));
	unsigned done = 0;

	for (int i = 0; i < COUNT; i++) {
		make_pipe(ends[i]);
		start_poll(fixture->ring, &polls[i], ends[i][0]);
	}
	for (int i = 0; i < COUNT / 2; i++) {
		int at = i * STEP % COUNT;

		assert_int_equal(write(ends[at][1], "x", 1), 1);
		assert_int_equal(call_wait(fixture->ring, &polls[at]), POLLIN);
	}
	for (int i = 0; i < COUNT; i++)
		done += polls[i].done;
	assert_int_equal(done, COUNT / 2);
	for (int i = 0; i < COUNT; i++) {
		ring_cancel(fixture->ring, &polls[i].op);
		call_wait(fixture->ring, &polls[i]);
		assert_int_equal(polls[i].completions, 1);
		close_both(ends[i]);
	}
	free(polls);
	free(ends);
}

int run_poll_tests(void)
{
	const struct CMUnitTest tests[] = {
		fixture_test(test_pipe), fixture_test(test_socket_closed_by_the_peer), fixture_test(test_process),
		fixture_test(test_file_and_no_descriptor), fixture_test(test_cancel), fixture_test(test_forgotten),
		fixture_test(test_many),
	};

	return cmocka_run_group_tests_name("poll", tests, NULL, NULL);
}
