/*
 * Shows how a build gets its executor: what belongs to it is held until one is lent, and goes there in order; the client sees
 * its place in the queue; cancelled, refused and lost builds end; a connection that takes no more calls is followed by another;
 * leases go back; nothing is left whenever the client vanishes. Both ring engines.
 */
#include "tests/unit/buildkit/binding_rig.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>

static void a_build_goes_through(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct client_call *progress, *running, *held;
	struct client *client = rig_client_of(fixture, 0);

	progress = rig_status(client, "r");
	rig_turn(client);
	held = rig_session(client, "s", "app:node");
	running = rig_solve(client, "r", "s");
	rig_ends(rig_bridge(client, "Solve", "r", span_text("x")), GRPC_OK, NULL);
	rig_says(progress, "sha256:aa");
	rig_ends(rig_return_nothing(client, "r"), GRPC_OK, NULL);
	rig_ends(running, GRPC_OK, NULL);
	/* The gateway's own last word, before the executor's end of it. */
	rig_says(progress, "[sluice] context: 3 files");
	rig_ends(progress, GRPC_OK, NULL);
	client_send_end(held);
	rig_ends(held, GRPC_OK, NULL);
	rig_until_ended(fixture, 0);
	assert_int_equal(fixture->ended.result, BUILD_DONE);
	assert_int_equal(fixture->ended.steps, 2);
	assert_int_equal(fixture->ended.steps_cached, 1);
	assert_string_equal(fixture->ended.directory, "app");
	assert_string_equal(fixture->ended.executor, fixture->executors[0]);
	/* Two seconds later the client has nothing there any more, though it stays. */
	builder_until_connections(&fixture->builders[0], 1);
	/* And builds again. */
	rig_build(fixture, 0, "again", &running);
	rig_wait_open(fixture, 0, 0, "Solve", 1);
	builder_finish(&fixture->builders[0], "again", GRPC_UNKNOWN, "exit code: 7");
	rig_ends(running, GRPC_UNKNOWN, "exit code: 7");
	rig_end(fixture);
}

static void what_waits_goes_in_order(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct client_call *first, *running, *progress, *asked;
	struct client *client = rig_client_of(fixture, 1);
	char order[256];

	rig_build(fixture, 0, "first", &first);
	rig_wait_open(fixture, 0, 0, "Solve", 1);
	/* The other way round. */
	asked = rig_bridge(client, "Solve", "second", span_text("x"));
	progress = rig_status(client, "second");
	rig_turn(client);
	running = rig_solve(client, "second", "s");
	rig_turn(client);
	rig_session(client, "shared", "");
	rig_session(client, "s", "app:node");
	rig_says(progress, "[sluice] waiting for an executor, 1st in queue");
	rig_ends(rig_bridge(client, "Ping", "second", (struct span){ 0 }), GRPC_OK, NULL);
	assert_int_equal(builder_count(&fixture->builders[0], "Solve"), 1);
	rig_leave(fixture, 0);
	rig_says(progress, "[sluice] waiting for an executor, 1st in queue");
	rig_says(progress, "sha256:aa");
	rig_ends(asked, GRPC_OK, NULL);
	builder_order(&fixture->builders[0], order, sizeof(order));
	assert_non_null(strstr(order, "Session Solve Session Session Solve "));
	builder_finish(&fixture->builders[0], "second", GRPC_OK, NULL);
	rig_ends(running, GRPC_OK, NULL);
	rig_ends(progress, GRPC_OK, NULL);
	rig_end(fixture);
}

/* A client that would wait for Status for ever. */
static void who_cancels_in_the_queue_is_let_go(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct client_call *first, *running, *progress;
	struct client *client = rig_client_of(fixture, 1);

	rig_build(fixture, 0, "first", &first);
	rig_wait_open(fixture, 0, 0, "Solve", 1);
	rig_build(fixture, 1, "second", &running);
	progress = rig_status(client, "second");
	rig_says(progress, "1st in queue");
	client_call_close(running);
	rig_says(progress, "cancelled");
	rig_ends(progress, GRPC_OK, NULL);
	rig_until_ended(fixture, 1);
	assert_int_equal(fixture->ended.result, BUILD_CANCELLED);
	assert_string_equal(fixture->ended.executor, "");
	builder_finish(&fixture->builders[0], "first", GRPC_OK, NULL);
	rig_ends(first, GRPC_OK, NULL);
	assert_int_equal(builder_count(&fixture->builders[0], "Solve"), 1);
	rig_end(fixture);
}

static void who_waits_too_long_is_told(void **state)
{
	struct fixture *fixture = rig_begin_with(state, 1, 1, 3000 * MS, false);         /* it is asked of meanwhile */
	struct client_call *first, *running, *progress, *asked;

	rig_build(fixture, 0, "first", &first);
	rig_wait_open(fixture, 0, 0, "Solve", 1);
	rig_build(fixture, 1, "second", &running);
	progress = rig_status(rig_client_of(fixture, 1), "second");
	asked = rig_bridge(rig_client_of(fixture, 1), "Solve", "second", span_text("x"));
	rig_says(progress, "1st in queue");
	rig_ends(running, GRPC_UNAVAILABLE, NULL);
	rig_ends(progress, GRPC_OK, NULL);
	rig_ends(asked, GRPC_UNAVAILABLE, NULL);
	rig_until_ended(fixture, 1);
	assert_int_equal(fixture->ended.result, BUILD_REFUSED);
	/* buildx returns what it was told. That waits for no executor again, nor does what else is late. */
	rig_ends(rig_return_failure(rig_client_of(fixture, 1), "second"), GRPC_NOT_FOUND, "no such job second");
	rig_ends(rig_bridge(rig_client_of(fixture, 1), "Solve", "second", span_text("x")), GRPC_NOT_FOUND, "no such job second");
	rig_end(fixture);
}

/* What comes before its Solve waits for that, not for ever; and what is held when the Solve goes ends with it. */
static void who_returns_to_no_build_is_told(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct client_call *first, *running, *stray, *early, *late;

	rig_build(fixture, 0, "first", &first);
	rig_wait_open(fixture, 0, 0, "Solve", 1);
	stray = rig_return_failure(rig_client_of(fixture, 1), "nobody's");
	early = rig_return_failure(rig_client_of(fixture, 1), "second");
	rig_build(fixture, 1, "second", &running);
	late = rig_bridge(rig_client_of(fixture, 1), "Solve", "second", span_text("x"));
	rig_turn(rig_client_of(fixture, 1));
	client_call_close(running);
	rig_ends(early, GRPC_NOT_FOUND, "no such job second");
	rig_ends(late, GRPC_NOT_FOUND, "no such job second");
	rig_ends(stray, GRPC_NOT_FOUND, "no such job nobody's");
	assert_int_equal(builder_count(&fixture->builders[0], "Bridge/Return"), 0);
	builder_finish(&fixture->builders[0], "first", GRPC_OK, NULL);
	rig_ends(first, GRPC_OK, NULL);
	rig_end(fixture);
}

static void a_lost_executor_ends_its_builds(void **state)
{
	struct fixture *fixture = rig_begin_with(state, 2, 4, 0, false);
	struct client_call *running[2], *progress;
	unsigned at;

	rig_build(fixture, 0, "r", &running[0]);
	progress = rig_status(rig_client_of(fixture, 0), "r");
	rig_says(progress, "sha256:aa");
	at = builder_open(&fixture->builders[0], "Solve") == 1 ? 0 : 1;
	builder_stop(&fixture->builders[at]);
	rig_ends(running[0], GRPC_UNAVAILABLE, fixture->executors[at]);
	rig_ends(progress, GRPC_UNAVAILABLE, fixture->executors[at]);
	/* The next one goes to the other. */
	rig_build(fixture, 0, "again", &running[1]);
	rig_wait_open(fixture, 0, 1 - at, "Solve", 1);
	rig_until_ended(fixture, 0);
	assert_int_equal(fixture->ended.result, BUILD_LOST);
	builder_finish(&fixture->builders[1 - at], "again", GRPC_OK, NULL);
	rig_ends(running[1], GRPC_OK, NULL);
	rig_end(fixture);
}

/* One health check that fails ends no build whose own connection stands. */
static void a_doubted_executor_keeps_its_builds(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct client_call *running;
	unsigned none = 0, one = 1;

	rig_build(fixture, 0, "r", &running);
	rig_wait_open(fixture, 0, 0, "Solve", 1);
	builder_set_sick(&fixture->builders[0], true);
	gateway_thread_until(fixture->gateway, rig_all_are_ready, &none);
	builder_set_sick(&fixture->builders[0], false);
	gateway_thread_until(fixture->gateway, rig_all_are_ready, &one);
	builder_finish(&fixture->builders[0], "r", GRPC_OK, NULL);
	rig_ends(running, GRPC_OK, NULL);
	rig_end(fixture);
}

static void count_ready(struct gateway_parts *parts, void *context)
{
	executors_status(parts->executors, context);
}

/* The gateway's own need is no fault of the executor's: who builds there goes on. */
static void a_gateway_without_room_blames_nobody(void **state)
{
	struct fixture *fixture = rig_begin_with(state, 1, 4, 0, false);
	struct client_call *running[2];
	struct executors_status status;
	struct rlimit before, none;
	int lowest;

	rig_build(fixture, 0, "first", &running[0]);
	rig_wait_open(fixture, 0, 0, "Solve", 1);
	rig_ends(rig_bridge(rig_client_of(fixture, 1), "Ping", "", (struct span){ 0 }), GRPC_OK, NULL);
	lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_true(lowest >= 0);
	close(lowest);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = (rlim_t)lowest;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	rig_build(fixture, 1, "second", &running[1]);
	rig_ends(running[1], GRPC_RESOURCE_EXHAUSTED, "Too many open files");
	gateway_thread_call(fixture->gateway, count_ready, &status);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(status.executors_ready, 1);
	assert_int_equal(status.executors_lost, 0);
	rig_build(fixture, 1, "third", &running[1]);
	rig_wait_open(fixture, 1, 0, "Solve", 2);
	for (unsigned i = 0; i < 2; i++) {
		builder_finish(&fixture->builders[0], i ? "third" : "first", GRPC_OK, NULL);
		rig_ends(running[i], GRPC_OK, NULL);
	}
	rig_end(fixture);
}

/* `Internal` is the client's word. */
static void an_internal_build_counts(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct client_call *running;

	running = rig_solve_of_size(rig_client_of(fixture, 0), "r", "s", true, false, 0);
	rig_session(rig_client_of(fixture, 0), "s", "");
	rig_ends(rig_bridge(rig_client_of(fixture, 0), "Solve", "r", span_text("x")), GRPC_OK, NULL);
	assert_int_equal(builder_open(&fixture->builders[0], "Solve"), 1);
	assert_int_equal(builder_open(&fixture->builders[0], "Session"), 1);
	rig_ends(rig_return_nothing(rig_client_of(fixture, 0), "r"), GRPC_OK, NULL);
	rig_ends(running, GRPC_OK, NULL);
	rig_end(fixture);
}

/* Its definition is longer than the client's window. */
static void a_large_request_is_held_whole(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct client_call *first, *running;

	rig_build(fixture, 0, "first", &first);
	rig_wait_open(fixture, 0, 0, "Solve", 1);
	running = rig_solve_of_size(rig_client_of(fixture, 1), "second", "", false, true, 5000000);
	for (unsigned i = 0; i < 20; i++)
		rig_turn(rig_client_of(fixture, 1));
	rig_leave(fixture, 0);
	rig_wait_open(fixture, 1, 0, "Solve", 1);
	while (builder_count(&fixture->builders[0], "Solve") != 2)
		rig_turn(rig_client_of(fixture, 1));
	builder_finish(&fixture->builders[0], "second", GRPC_OK, NULL);
	for (;;) {
		struct span message;
		int r = client_receive(running, &message, 100 * MS);

		if (r == CLIENT_END)
			break;
		builder_finish(&fixture->builders[0], "second", GRPC_OK, NULL);
	}
	assert_int_equal(client_call_status(running, NULL), GRPC_OK);
	client_call_close(running);
	rig_end(fixture);
}

/* Several builds of one connection share its executor, each in a slot of its own, and never wait for each other. */
static void builds_of_one_connection_go_together(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct client_call *running[3];
	char ref[16];

	for (unsigned i = 0; i < 3; i++) {
		snprintf(ref, sizeof(ref), "r%u", i);
		rig_build(fixture, 0, ref, &running[i]);
	}
	rig_wait_open(fixture, 0, 0, "Solve", 3);
	for (unsigned i = 0; i < 3; i++) {
		snprintf(ref, sizeof(ref), "r%u", i);
		builder_finish(&fixture->builders[0], ref, GRPC_OK, NULL);
		rig_ends(running[i], GRPC_OK, NULL);
	}
	rig_end(fixture);
}

/* A build of which the gateway has heard that its connection takes no new calls. */
static void build_on_a_leaving_connection(struct fixture *fixture, const char *ref, struct client_call **running,
                                          struct client_call **progress)
{
	rig_build(fixture, 0, ref, running);
	*progress = rig_status(rig_client_of(fixture, 0), ref);
	rig_says(*progress, "sha256:aa");
	builder_goodbye(&fixture->builders[0]);
	rig_says(*progress, "sha256:aa");
}

/* A proxy before the daemon takes no new calls on a connection that has a build: they take another one, and the build goes on. */
static void a_connection_that_is_to_end_gets_no_more_calls(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct client_call *running[2], *progress;

	build_on_a_leaving_connection(fixture, "first", &running[0], &progress);
	rig_build(fixture, 0, "second", &running[1]);
	rig_wait_open(fixture, 0, 0, "Solve", 2);
	for (unsigned i = 0; i < 2; i++) {
		builder_finish(&fixture->builders[0], i ? "second" : "first", GRPC_OK, NULL);
		rig_ends(running[i], GRPC_OK, NULL);
	}
	rig_end(fixture);
}

static void drain_executor(struct gateway_parts *parts, void *context)
{
	struct fixture *fixture = context;
	struct executor *executor = executors_find(parts->executors, "default", fixture->executors[0]);

	executor_drain(executor, NULL, NULL);
}

/* What begins no build takes another one as well, and does not wait for a build that does. */
static void a_lone_status_takes_another_connection(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct client_call *running, *progress[2];

	build_on_a_leaving_connection(fixture, "r", &running, &progress[0]);
	progress[1] = rig_status(rig_client_of(fixture, 0), "r");
	rig_says(progress[1], "sha256:aa");
	builder_finish(&fixture->builders[0], "r", GRPC_OK, NULL);
	rig_ends(running, GRPC_OK, NULL);
	for (unsigned i = 0; i < 2; i++)
		rig_ends(progress[i], GRPC_OK, NULL);
	rig_end(fixture);
}

/*
 * It is lost while its connection takes no more calls: the doubt goes along to the next one, and what hangs on either ends. The
 * executor is drained meanwhile, which makes it no better.
 */
static void a_doubt_outlives_a_connection(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct client_call *running[2], *progress;
	unsigned none = 0;

	build_on_a_leaving_connection(fixture, "first", &running[0], &progress);
	builder_set_sick(&fixture->builders[0], true);
	gateway_thread_until(fixture->gateway, rig_all_are_ready, &none);
	rig_build(fixture, 0, "second", &running[1]);
	rig_wait_open(fixture, 0, 0, "Solve", 2);
	gateway_thread_call(fixture->gateway, drain_executor, fixture);
	for (unsigned i = 0; i < 2; i++)
		rig_ends(running[i], GRPC_UNAVAILABLE, fixture->executors[0]);
	rig_ends(progress, GRPC_UNAVAILABLE, fixture->executors[0]);
	rig_end(fixture);
}

/* They are tried as often as an executor that cannot be reached, then the build is told. */
static void connections_that_begin_with_a_goodbye_are_none(void **state)
{
	struct proxy proxy;
	struct fixture *fixture = rig_begin_behind(state, &proxy);
	struct client_call *running;

	proxy_set(&proxy, PROXY_CURT);
	rig_build(fixture, 0, "first", &running);
	rig_ends(running, GRPC_UNAVAILABLE, "it takes no calls on a new connection");
	proxy_set(&proxy, PROXY_PASS);
	rig_build(fixture, 0, "second", &running);
	rig_wait_open(fixture, 0, 0, "Solve", 1);
	builder_finish(&fixture->builders[0], "second", GRPC_OK, NULL);
	rig_ends(running, GRPC_OK, NULL);
	rig_end(fixture);
	proxy_stop(&proxy);
}

/* At each step of a build, held and under way. */
static void a_client_may_vanish_at_any_moment(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct client_call *first = NULL;

	for (unsigned held = 0; held < 2; held++) {
		if (held) {
			rig_build(fixture, 0, "first", &first);
			rig_wait_open(fixture, 0, 0, "Solve", 1);
		}
		for (unsigned steps = 0; steps < 12; steps++) {
			struct client *client = rig_client_of(fixture, 1);

			if (steps > 0)
				rig_session(client, "s", "app:node");
			if (steps > 2)
				rig_solve(client, "r", "s");
			if (steps > 4)
				rig_status(client, "r");
			if (steps > 6)
				rig_bridge(client, "Solve", "r", span_text("x"));
			if (steps > 8)
				rig_return_nothing(client, "r");
			if (steps > 10)
				rig_status(client, "nobody's");
			for (unsigned i = 0; i < steps % 3; i++)
				rig_turn(client);
			rig_leave(fixture, 1);
		}
	}
	rig_end(fixture);
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(a_build_goes_through),
		BOTH(what_waits_goes_in_order),
		BOTH(who_cancels_in_the_queue_is_let_go),
		BOTH(who_waits_too_long_is_told),
		BOTH(who_returns_to_no_build_is_told),
		BOTH(a_lost_executor_ends_its_builds),
		BOTH(a_doubted_executor_keeps_its_builds),
		BOTH(a_gateway_without_room_blames_nobody),
		BOTH(an_internal_build_counts),
		BOTH(a_large_request_is_held_whole),
		BOTH(builds_of_one_connection_go_together),
		BOTH(a_connection_that_is_to_end_gets_no_more_calls),
		BOTH(a_lone_status_takes_another_connection),
		cmocka_unit_test_prestate(a_doubt_outlives_a_connection, (void *)&uring),
		BOTH(connections_that_begin_with_a_goodbye_are_none),
		BOTH(a_client_may_vanish_at_any_moment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
