/*
 * Shows that a build whose executor is lost goes on at another one, unseen by its client, where that is safe; that otherwise
 * it ends, saying which was lost; and how a replay itself goes wrong. Both ring engines.
 */
#include "proto/pb.h"
#include "tests/unit/buildkit/binding_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static bool counts_replays(struct gateway_parts *parts, void *context)
{
	struct buildkit_status status;

	buildkit_status(parts->buildkit, &status);
	return status.replays_total == *(unsigned *)context;
}

/* A build with its first LLBBridge call answered, on `fixture->lost`. `push` NULL: it exports nothing. */
static struct client_call *replay_begin_build(struct fixture *fixture, const char *push, struct client_call **progress)
{
	struct client *client = rig_client_of(fixture, 0);
	struct client_call *call;
	uint8_t storage[256];
	struct buffer out = buffer_over(storage, sizeof(storage));

	rig_session(client, "s", "app:node");
	call = rig_call(client, CONTROL "Solve", NULL, NULL, NULL, NULL);
	pb_put_text(&out, 1, "r");
	pb_put_text(&out, 5, "s");
	if (push) {
		size_t mark = pb_begin(&out, 13), pair;

		pb_put_text(&out, 1, "image");
		pair = pb_begin(&out, 2);
		pb_put_text(&out, 1, "push");
		pb_put_text(&out, 2, push);
		pb_end(&out, pair);
		pb_end(&out, mark);
	}
	assert_int_equal(client_send(call, buffer_span(&out), 0), CLIENT_OK);
	client_send_end(call);
	*progress = rig_status(client, "r");
	rig_says(*progress, "sha256:aa");
	fixture->lost = &fixture->builders[builder_open(&fixture->builders[0], "Solve") == 1 ? 0 : 1];
	fixture->other = &fixture->builders[fixture->lost == &fixture->builders[0]];
	rig_ends(rig_bridge(client, "Solve", "r", span_text("x")), GRPC_OK, NULL);
	return call;
}

static struct client_call *return_of(struct fixture *fixture, const char *reference)
{
	uint8_t storage[64];
	struct buffer out = buffer_over(storage, sizeof(storage));
	size_t mark = pb_begin(&out, 1), inner = pb_begin(&out, 3);

	pb_put_text(&out, 1, reference);
	pb_end(&out, inner);
	pb_end(&out, mark);
	return rig_bridge(rig_client_of(fixture, 0), "Return", "r", buffer_span(&out));
}

/* The gateway has noticed: what the client sends from now on is for the other one. */
static void lose(struct fixture *fixture, struct client_call *progress)
{
	char vertex[2 * ADDRESS_TEXT_MAX + 64];

	builder_stop(fixture->lost);
	snprintf(vertex, sizeof(vertex), "[sluice] executor %s lost, replaying on %s", fixture->lost->address,
	         fixture->other->address);
	rig_says(progress, vertex);
}

/* The client goes on with the reference that it was told, and sees one vertex more. */
static void a_lost_build_goes_on_elsewhere(void **state)
{
	struct fixture *fixture = rig_begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
	struct client_call *running, *progress;
	char order[256], named[64];
	unsigned one = 1;

	running = replay_begin_build(fixture, NULL, &progress);
	lose(fixture, progress);
	rig_says(progress, "sha256:aa");
	rig_ends(return_of(fixture, fixture->lost->name), GRPC_OK, NULL);
	assert_non_null(strstr(builder_named(fixture->other, named, sizeof(named)), fixture->other->name));
	assert_null(strstr(named, fixture->lost->name));
	assert_non_null(strstr(builder_order(fixture->other, order, sizeof(order)), "Session Solve Status Bridge/Solve Bridge/Return"));
	rig_ends(running, GRPC_OK, NULL);
	rig_says(progress, "[sluice] context: 3 files");
	rig_ends(progress, GRPC_OK, NULL);
	gateway_thread_until(fixture->gateway, counts_replays, &one);
	rig_until_ended(fixture, 0);
	assert_int_equal(fixture->ended.result, BUILD_DONE);
	assert_int_equal(fixture->ended.replays, 1);
	assert_string_equal(fixture->ended.executor, fixture->other->address);
	rig_end(fixture);
}

/* A call that was under way, as one that comes while the build is between two executors, has its answer from the second. */
static void what_was_under_way_is_asked_again(void **state)
{
	struct fixture *fixture = rig_begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
	struct client_call *running, *progress, *returned;

	for (unsigned i = 0; i < 2; i++)
		fixture->builders[i].exports = true;
	running = replay_begin_build(fixture, NULL, &progress);
	rig_ends(return_of(fixture, fixture->lost->name), GRPC_OK, NULL);
	builder_stop(fixture->lost);
	returned = rig_bridge(rig_client_of(fixture, 0), "ReadFile", "r", span_text("x"));
	rig_ends(returned, GRPC_OK, NULL);
	builder_until_count(fixture->other, "Bridge/Return", 1);
	builder_finish(fixture->other, "r", GRPC_OK, NULL);
	rig_ends(running, GRPC_OK, NULL);
	client_call_close(progress);
	rig_end(fixture);
}

static void a_replay_that_fails_ends_its_build(void **state)
{
	struct fixture *fixture = rig_begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
	struct client_call *running, *progress;

	running = replay_begin_build(fixture, NULL, &progress);
	fixture->other->refuses = "Bridge/Solve";
	builder_stop(fixture->lost);
	rig_ends(running, GRPC_INTERNAL, "the frontend stumbled");
	rig_ends(progress, GRPC_OK, NULL);
	builder_until_open(fixture->other, "Solve", 0);
	rig_until_ended(fixture, 0);
	assert_int_equal(fixture->ended.result, BUILD_FAILED);
	rig_end(fixture);
}

/* Before Return nothing was pushed; after it something may have been. */
static void a_push_is_not_done_twice(void **state)
{
	for (unsigned returned = 0; returned < 2; returned++) {
		struct fixture *fixture = rig_begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
		struct client_call *running, *progress;

		for (unsigned i = 0; i < 2; i++)
			fixture->builders[i].exports = true;
		running = replay_begin_build(fixture, "true", &progress);
		if (returned) {
			rig_ends(return_of(fixture, fixture->lost->name), GRPC_OK, NULL);
			builder_stop(fixture->lost);
		} else {
			lose(fixture, progress);
			rig_ends(return_of(fixture, fixture->lost->name), GRPC_OK, NULL);
			builder_finish(fixture->other, "r", GRPC_OK, NULL);
		}
		rig_ends(running, returned ? GRPC_UNAVAILABLE : GRPC_OK, returned ? fixture->lost->address : NULL);
		assert_int_equal(builder_count(fixture->other, "Solve"), !returned);
		client_call_close(progress);
		rig_end(fixture);
	}
}

/* The client has talked to its processes. */
static void a_build_with_containers_is_not_done_again(void **state)
{
	struct fixture *fixture = rig_begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
	struct client_call *running, *progress;

	running = replay_begin_build(fixture, NULL, &progress);
	rig_ends(rig_bridge(rig_client_of(fixture, 0), "NewContainer", "r", span_text("x")), GRPC_OK, NULL);
	builder_stop(fixture->lost);
	rig_ends(running, GRPC_UNAVAILABLE, fixture->lost->address);
	assert_int_equal(builder_count(fixture->other, "Solve"), 0);
	client_call_close(progress);
	rig_end(fixture);
}

/* More than is kept of a build. */
static void a_build_of_large_requests_is_not_done_again(void **state)
{
	struct fixture *fixture = rig_begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
	struct client_call *running, *progress;
	struct span large = span_make(calloc(1, REPLAY_BYTES_MAX / 2), REPLAY_BYTES_MAX / 2);

	running = replay_begin_build(fixture, NULL, &progress);
	for (unsigned i = 0; i < 2; i++)
		rig_ends(rig_bridge(rig_client_of(fixture, 0), "Evaluate", "r", large), GRPC_OK, NULL);
	free((void *)large.data);
	builder_stop(fixture->lost);
	rig_ends(running, GRPC_UNAVAILABLE, fixture->lost->address);
	client_call_close(progress);
	rig_end(fixture);
}

/* While its build waits for the other executor, and while a call is being repeated there. */
static void a_client_may_vanish_in_a_replay(void **state)
{
	for (unsigned repeating = 0; repeating < 2; repeating++) {
		struct fixture *fixture = rig_begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
		struct client_call *progress;

		(void)replay_begin_build(fixture, NULL, &progress);
		fixture->other->hangs = "Bridge/Solve";
		builder_stop(fixture->lost);
		if (repeating)
			builder_until_open(fixture->other, "Bridge/Solve", 1);
		rig_leave(fixture, 0);
		builder_until_open(fixture->other, "Solve", 0);
		rig_end(fixture);
	}
}

/* The other one is lost as well, in the middle of it, before a third is there. */
static void a_replay_may_be_lost_itself(void **state)
{
	struct fixture *fixture = rig_begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
	struct client_call *running, *progress;

	running = replay_begin_build(fixture, NULL, &progress);
	fixture->other->hangs = "Bridge/Solve";
	builder_stop(fixture->lost);
	builder_until_open(fixture->other, "Bridge/Solve", 1);
	builder_stop(fixture->other);
	rig_ends(running, GRPC_UNAVAILABLE, fixture->other->address);
	client_call_close(progress);
	rig_end(fixture);
}

static void who_finds_no_other_in_time_is_told(void **state)
{
	struct fixture *fixture = rig_begin_as(state, 2, 1, 300 * MS, false, REPLAY_SAFE);
	struct client_call *running, *progress, *second;

	running = replay_begin_build(fixture, NULL, &progress);
	rig_build(fixture, 1, "second", &second);
	while (builder_open(fixture->other, "Solve") != 1)
		rig_turn(rig_client_of(fixture, 1));
	builder_stop(fixture->lost);
	rig_ends(running, GRPC_UNAVAILABLE, fixture->lost->address);
	rig_ends(progress, GRPC_OK, NULL);
	builder_finish(fixture->other, "second", GRPC_OK, NULL);
	rig_ends(second, GRPC_OK, NULL);
	rig_end(fixture);
}

static void without_another_executor_it_is_told_at_once(void **state)
{
	struct fixture *fixture = rig_begin_as(state, 1, 4, 0, false, REPLAY_SAFE);
	struct client_call *running, *progress;

	running = replay_begin_build(fixture, NULL, &progress);
	builder_stop(fixture->lost);
	rig_ends(running, GRPC_UNAVAILABLE, fixture->lost->address);
	rig_ends(progress, GRPC_UNAVAILABLE, fixture->lost->address);
	rig_end(fixture);
}

/* Each executor is lost in its turn; the build stops to be done again after REPLAYS_MAX times. */
static void a_build_is_lost_so_many_times(void **state)
{
	struct fixture *fixture = rig_begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
	struct client_call *running, *progress;
	unsigned two = 2;

	running = replay_begin_build(fixture, NULL, &progress);
	for (unsigned i = 0; i < REPLAYS_MAX; i++) {
		struct builder *lost = fixture->lost;

		builder_stop(lost);
		builder_until_open(fixture->other, "Solve", 1);
		rig_says(progress, "lost, replaying on");
		rig_says(progress, "sha256:aa");
		builder_start(lost);
		gateway_thread_until(fixture->gateway, rig_all_are_ready, &two);
		fixture->lost = fixture->other;
		fixture->other = lost;
	}
	builder_stop(fixture->lost);
	rig_ends(running, GRPC_UNAVAILABLE, fixture->lost->address);
	client_call_close(progress);
	rig_end(fixture);
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(a_lost_build_goes_on_elsewhere),
		BOTH(what_was_under_way_is_asked_again),
		BOTH(a_replay_that_fails_ends_its_build),
		BOTH(a_push_is_not_done_twice),
		BOTH(a_build_with_containers_is_not_done_again),
		BOTH(a_build_of_large_requests_is_not_done_again),
		BOTH(a_client_may_vanish_in_a_replay),
		BOTH(a_replay_may_be_lost_itself),
		BOTH(who_finds_no_other_in_time_is_told),
		BOTH(without_another_executor_it_is_told_at_once),
		BOTH(a_build_is_lost_so_many_times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
