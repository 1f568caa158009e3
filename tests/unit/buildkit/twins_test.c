/* Shows that a Ref which a daemon still has is built elsewhere, by whomever it comes again, or later; both ring engines. */
#include "tests/unit/buildkit/binding_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "gateway/buildkit/refs.h"

static bool all_slots_are_busy(struct gateway_parts *parts, void *context)
{
	struct executors_status status;

	(void)context;
	executors_status(parts->executors, &status);
	return status.slots_busy == status.slots;
}

/* A daemon takes a Ref once, and keeps it for a while after: the next build of it, by whomever, goes to another. */
static void a_twin_goes_elsewhere(void **state)
{
	struct fixture *fixture = rig_begin_with(state, 2, 4, 0, false);
	struct client_call *running[3], *progress;
	unsigned at;

	rig_build(fixture, 0, "r", &running[0]);
	progress = rig_status(rig_client_of(fixture, 0), "r");
	rig_says(progress, "sha256:aa");
	client_call_close(progress);
	at = builder_open(&fixture->builders[0], "Solve") == 1 ? 0 : 1;
	/* A Status that comes first waits for its own build. */
	progress = rig_status(rig_client_of(fixture, 1), "r");
	rig_turn(rig_client_of(fixture, 1));
	rig_build(fixture, 1, "r", &running[1]);
	rig_wait_open(fixture, 1, 1 - at, "Solve", 1);
	rig_wait_open(fixture, 1, 1 - at, "Status", 1);
	builder_finish(&fixture->builders[1 - at], "r", GRPC_OK, NULL);
	rig_ends(running[1], GRPC_OK, NULL);
	rig_says(progress, "sha256:aa");
	builder_finish(&fixture->builders[at], "r", GRPC_OK, NULL);
	rig_ends(running[0], GRPC_OK, NULL);
	assert_int_equal(builder_count(&fixture->builders[at], "Session"), 1);
	assert_int_equal(builder_count(&fixture->builders[1 - at], "Session"), 1);
	assert_int_equal(builder_count(&fixture->builders[at], "Status"), 1);
	rig_end(fixture);
}

/* On the connection of the first one, which is still bound to its daemon. */
static void who_tries_again_goes_elsewhere(void **state)
{
	struct fixture *fixture = rig_begin_with(state, 2, 4, 0, false);
	struct client_call *running, *held;
	struct client *client = rig_client_of(fixture, 0);
	unsigned at;

	held = rig_session(client, "s", "app:node");
	running = rig_solve(client, "r", "s");
	while (builder_open(&fixture->builders[0], "Solve") + builder_open(&fixture->builders[1], "Solve") != 1)
		rig_turn(client);
	at = builder_open(&fixture->builders[0], "Solve") == 1 ? 0 : 1;
	builder_finish(&fixture->builders[at], "r", GRPC_UNKNOWN, "exit code: 1");
	rig_ends(running, GRPC_UNKNOWN, NULL);
	running = rig_solve(client, "r", "t");
	rig_session(client, "t", "app:node");
	rig_turn(client);
	client_send_end(held);
	rig_ends(held, GRPC_OK, NULL);
	rig_wait_open(fixture, 0, 1 - at, "Solve", 1);
	builder_finish(&fixture->builders[1 - at], "r", GRPC_OK, NULL);
	rig_ends(running, GRPC_OK, NULL);
	assert_int_equal(builder_count(&fixture->builders[at], "Solve"), 1);
	rig_end(fixture);
}

/* What has no room when the twin comes may have some later; until then it waits where its Ref will be free. */
static void a_twin_waits_for_room_elsewhere(void **state)
{
	struct fixture *fixture = rig_begin_with(state, 2, 2, 0, false);
	struct client_call *running[4], *progress;
	unsigned at;

	rig_build(fixture, 0, "r", &running[0]);
	progress = rig_status(rig_client_of(fixture, 0), "r");
	rig_says(progress, "sha256:aa");
	at = builder_open(&fixture->builders[0], "Solve") == 1 ? 0 : 1;
	for (unsigned i = 0; i < 2; i++) {
		/* Of no directory: where there is least. One connection takes both slots. */
		running[2 + i] = rig_solve(rig_client_of(fixture, 2), i ? "b" : "a", "");
		rig_wait_open(fixture, 2, 1 - at, "Solve", i + 1);
	}
	rig_build(fixture, 1, "r", &running[1]);
	gateway_thread_until(fixture->gateway, all_slots_are_busy, NULL);
	assert_int_equal(builder_count(&fixture->builders[at], "Solve"), 1);
	builder_finish(&fixture->builders[1 - at], "a", GRPC_OK, NULL);
	rig_ends(running[2], GRPC_OK, NULL);
	while (builder_count(&fixture->builders[1 - at], "Solve") != 3)
		rig_turn(rig_client_of(fixture, 1));
	assert_int_equal(builder_count(&fixture->builders[at], "Session"), 1);
	builder_finish(&fixture->builders[1 - at], "r", GRPC_OK, NULL);
	rig_ends(running[1], GRPC_OK, NULL);
	rig_end(fixture);
}

static bool one_is_replayed(struct gateway_parts *parts, void *context)
{
	struct buildkit_status status;

	(void)context;
	buildkit_status(parts->buildkit, &status);
	return status.replays_total == 1;
}

/* The only other daemon has the same Ref: it would refuse the build as one that it has. */
static void what_is_replayed_waits_for_its_twin(void **state)
{
	struct fixture *fixture = rig_begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
	struct client_call *running[2], *progress;
	struct builder *other;
	unsigned at;

	rig_build(fixture, 0, "r", &running[0]);
	progress = rig_status(rig_client_of(fixture, 0), "r");
	rig_says(progress, "sha256:aa");
	client_call_close(progress);
	at = builder_open(&fixture->builders[0], "Solve") == 1 ? 0 : 1;
	other = &fixture->builders[1 - at];
	rig_build(fixture, 1, "r", &running[1]);
	rig_wait_open(fixture, 1, 1 - at, "Solve", 1);
	builder_stop(&fixture->builders[at]);
	gateway_thread_until(fixture->gateway, one_is_replayed, NULL);
	for (unsigned i = 0; i < 300; i++)
		rig_turn(rig_client_of(fixture, 0));
	assert_int_equal(builder_count(other, "Solve"), 1);
	builder_finish(other, "r", GRPC_OK, NULL);
	rig_ends(running[1], GRPC_OK, NULL);
	/* It is kept there for a while after its end. */
	builder_until_open(other, "Solve", 1);
	builder_finish(other, "r", GRPC_OK, NULL);
	rig_ends(running[0], GRPC_OK, NULL);
	assert_int_equal(builder_count(other, "Solve"), 2);
	rig_end(fixture);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/*
 * A build whose daemon was killed, and then the one that it was replayed on, comes back to the first, which was
 * restarted meanwhile, under its Ref: what kept that has ended.
 */
static void a_daemon_that_ended_keeps_nothing(void **state)
{
	struct impostor first, next;
	struct fixture *fixture;
	struct client_call *running, *progress;
	unsigned two = 2;
	char path[64];
	uint64_t since;

	snprintf(path, sizeof(path), "/tmp/sluice-twins-%d", getpid());
	impostor_begin(&first, "buildkitd", path);
	impostor_begin(&next, "buildkitd", path);
	fixture = rig_begin_behind_impostor(state, &first);
	rig_build(fixture, 0, "r", &running);
	progress = rig_status(rig_client_of(fixture, 0), "r");
	rig_wait_open(fixture, 0, 0, "Solve", 1);
	builder_set_sick(&fixture->builders[1], false);
	gateway_thread_until(fixture->gateway, rig_all_are_ready, &two);
	impostor_kill(&first);
	rig_wait_open(fixture, 0, 1, "Solve", 1);
	since = now_ns();
	impostor_serve(&next, rig_port(fixture, 0));
	gateway_thread_until(fixture->gateway, rig_all_are_ready, &two);
	builder_stop(&fixture->builders[1]);
	while (builder_count(&fixture->builders[0], "Solve") < 2)
		rig_turn(rig_client_of(fixture, 0));
	assert_true(now_ns() - since < REFS_KEPT_NS * 2 / 3);
	builder_until_open(&fixture->builders[0], "Solve", 1);
	builder_finish(&fixture->builders[0], "r", GRPC_OK, NULL);
	rig_ends(running, GRPC_OK, NULL);
	client_call_close(progress);
	builder_start(&fixture->builders[1]);
	rig_end(fixture);
	impostor_kill(&next);
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(a_twin_goes_elsewhere),
		BOTH(who_tries_again_goes_elsewhere),
		BOTH(a_twin_waits_for_room_elsewhere),
		cmocka_unit_test_prestate(what_is_replayed_waits_for_its_twin, (void *)&uring),
		BOTH(a_daemon_that_ended_keeps_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
