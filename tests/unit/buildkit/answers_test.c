/*
 * Shows what is answered without a build: what buildx asks first, and its capability probe; also while no executor is ready,
 * and when none ever is. Both ring engines.
 */
#include "tests/unit/buildkit/binding_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "gateway/buildkitd/executor_address.h"

static void what_is_asked_first_is_answered_here(void **state)
{
	struct fixture *fixture = rig_begin(state);
	static const char *const paths[] = { CONTROL "ListWorkers", CONTROL "Info", BRIDGE "Ping" };
	static const char *const answers[] = { "worker", "buildkit", "frontend.return" };
	struct client_call *call;

	for (unsigned i = 0; i < 3; i++) {
		struct span answer;

		assert_int_equal(client_unary(rig_client_of(fixture, 0), paths[i], (struct span){ 0 }, &call, &answer), CLIENT_OK);
		assert_non_null(memmem(answer.data, answer.size, answers[i], strlen(answers[i])));
		client_call_close(call);
	}
	/* buildx asks after each build whether there is a history: of a Ref that nobody has. */
	call = rig_call(rig_client_of(fixture, 0), CONTROL "ListenBuildHistory", NULL, NULL, NULL, NULL);
	assert_int_equal(client_send(call, span_text("\x08\x01\x12\x1f" "buildx-test-history-api-feature\x18\x01"), 0), CLIENT_OK);
	client_send_end(call);
	rig_ends(call, GRPC_OK, NULL);
	/* Nothing was opened for it. */
	builder_until_connections(&fixture->builders[0], 1);
	rig_end(fixture);
}

/* In any order, and what comes late as well. */
static void the_probe_is_answered_here(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct client *client = rig_client_of(fixture, 0);
	struct client_call *sessions[2], *solves[2], *statuses[2], *returns[2];
	struct span answer;

	sessions[0] = rig_session(client, "s0", "");
	solves[0] = rig_solve_of_size(client, "r0", "s0", true, false, 0);
	statuses[0] = rig_status(client, "r0");
	rig_ends(rig_bridge(client, "Ping", "r0", (struct span){ 0 }), GRPC_OK, NULL);
	returns[0] = rig_return_nothing(client, "r0");
	returns[1] = rig_return_nothing(client, "r1");
	statuses[1] = rig_status(client, "r1");
	sessions[1] = rig_session(client, "s1", "");
	rig_ends(returns[0], GRPC_OK, NULL);
	rig_ends(solves[0], GRPC_OK, NULL);
	assert_int_equal(client_receive(statuses[0], &answer, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(statuses[0], NULL), GRPC_OK);
	client_call_close(statuses[0]);
	solves[1] = rig_solve_of_size(client, "r1", "s1", true, false, 0);
	rig_ends(solves[1], GRPC_OK, NULL);
	rig_ends(returns[1], GRPC_OK, NULL);
	rig_ends(statuses[1], GRPC_OK, NULL);
	rig_ends(rig_status(client, "r1"), GRPC_OK, NULL);
	for (unsigned i = 0; i < 2; i++) {
		client_send_end(sessions[i]);
		rig_ends(sessions[i], GRPC_OK, NULL);
	}
	assert_int_equal(builder_count(&fixture->builders[0], "Solve"), 0);
	assert_int_equal(builder_count(&fixture->builders[0], "Session"), 0);
	assert_int_equal(fixture->ended_count, 0);
	rig_end(fixture);
}

static void before_any_executor_is_ready(void **state)
{
	struct fixture *fixture = rig_begin_with(state, 1, 1, 0, true);
	struct client *client = rig_client_of(fixture, 0);
	struct client_call *call = rig_call(client, CONTROL "ListWorkers", NULL, NULL, NULL, NULL), *running;
	struct span answer;

	assert_int_equal(client_send(call, (struct span){ 0 }, 0), CLIENT_OK);
	client_send_end(call);
	assert_int_equal(client_receive(call, &answer, 50 * MS), CLIENT_AGAIN);
	builder_set_sick(&fixture->builders[0], false);
	rig_says(call, "worker");
	rig_ends(call, GRPC_OK, NULL);
	rig_build(fixture, 0, "r", &running);
	rig_wait_open(fixture, 0, 0, "Solve", 1);
	builder_finish(&fixture->builders[0], "r", GRPC_OK, NULL);
	rig_ends(running, GRPC_OK, NULL);
	rig_end(fixture);
}

static struct client_call *asks(struct client *client, const char *path)
{
	struct client_call *call = rig_call(client, path, NULL, NULL, NULL, NULL);

	assert_int_equal(client_send(call, (struct span){ 0 }, 0), CLIENT_OK);
	client_send_end(call);
	return call;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 * MS + (uint64_t)now.tv_nsec;
}

/* And when none ever is: what is asked first is answered within the time that a build may wait, so that its user reads why. */
static void when_no_executor_is_ever_ready(void **state)
{
	struct fixture *fixture = rig_begin_with(state, 1, 1, 300 * MS, true);
	struct client *client = rig_client_of(fixture, 0);
	uint64_t begun_ns = now_ns();
	struct client_call *call = asks(client, CONTROL "ListWorkers");

	rig_ends(call, GRPC_UNAVAILABLE, ": its health check says that it is not serving");
	assert_true(now_ns() - begun_ns >= 150 * MS);    /* half of it: a turn of the gateway's loop has one time */
	rig_ends(asks(client, CONTROL "Info"), GRPC_FAILED_PRECONDITION, "its health check says that it is not serving");
	rig_end(fixture);
}

static void drain_executor(struct gateway_parts *parts, void *context)
{
	executor_drain(executors_find(parts->executors, "default", ((struct fixture *)context)->executors[0]), NULL, NULL);
}

static bool none_is_there(struct gateway_parts *parts, void *context)
{
	struct executors_status status;

	executors_status(parts->executors, &status);
	return status.executors == 0;
}

/* As a spawner does. */
static void add_executor(struct gateway_parts *parts, void *context)
{
	struct fixture *fixture = context;
	struct executor_config config = { .name = fixture->executors[0], .tenant = "default" };
	struct executor_address address;
	char why[512];

	assert_true(executor_address_parse(&address, config.name, why, sizeof(why)));
	config.address = address.address;
	assert_int_equal(executors_add(parts->executors, NULL, &config), 0);
}

/* The daemon was idle and stopped: what asks one starts the next, and waits for it; each time anew. */
static void what_was_stopped_is_started_again(void **state)
{
	static const char *const methods[] = { CONTROL "DiskUsage", CONTROL "ListenBuildHistory" };
	struct fixture *fixture = rig_begin_spawnable(state, 1, 1000 * MS);
	struct client *client = rig_client_of(fixture, 0);
	struct span answer;

	for (unsigned i = 0; i < 2; i++) {
		struct client_call *call;

		gateway_thread_call(fixture->gateway, drain_executor, fixture);
		gateway_thread_until(fixture->gateway, none_is_there, NULL);
		call = asks(client, methods[i]);
		assert_int_equal(client_receive(call, &answer, 50 * MS), CLIENT_AGAIN);
		gateway_thread_call(fixture->gateway, add_executor, fixture);
		rig_says(call, "one");
		rig_ends(call, GRPC_OK, NULL);
		usleep(1100000);         /* longer than one may wait */
	}
	rig_end(fixture);
}

/* Nobody has to ask an operator for what is only slow to come; and what is known of the wait is told. */
static void why_none_was_started_is_told(void **state)
{
	struct fixture *fixture = rig_begin_spawnable(state, 0, 300 * MS);
	struct client_call *call = asks(rig_client_of(fixture, 0), CONTROL "ListWorkers");
	struct span answer;

	rig_ends(call, GRPC_UNAVAILABLE, "again later");
	rig_ends(asks(rig_client_of(fixture, 0), CONTROL "DiskUsage"), GRPC_UNAVAILABLE, "no executor is ready: one is being started");
	rig_end(fixture);
	fixture = rig_begin_spawnable(state, 0, 0);
	call = asks(rig_client_of(fixture, 0), CONTROL "ListWorkers");
	assert_int_equal(client_receive(call, &answer, 50 * MS), CLIENT_AGAIN);
	__atomic_store_n(&fixture->barren, true, __ATOMIC_SEQ_CST);
	rig_ends(call, GRPC_FAILED_PRECONDITION, "none can be started here now");
	rig_end(fixture);
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(what_is_asked_first_is_answered_here),
		BOTH(the_probe_is_answered_here),
		BOTH(before_any_executor_is_ready),
		BOTH(when_no_executor_is_ever_ready),
		BOTH(what_was_stopped_is_started_again),
		BOTH(why_none_was_started_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
