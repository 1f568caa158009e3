/*
 * Shows what becomes of daemons that die, hang, are never ready or cannot be started, of those who wait for one, and of the
 * next ones (spawner_rig.h). Both engines.
 */
#include "tests/unit/buildkitd/spawner_rig.h"

#include <string.h>

/* Its leases hear of it with the host's reason; the next daemon of the root does not wait for them to be let go. */
static void one_that_dies_is_replaced(void **state)
{
	struct fixture *fixture = rig_begin(state, (struct spawner_config){ 0 });
	struct holder *first, *second;
	struct executor *lost;

	rig_attach(fixture);
	first = rig_request(fixture, 0, "acme");
	UNTIL(fixture, first->granted);
	lost = first->lease.executor;
	rig_host_end(fixture, &fixture->hosted[0], "buildkitd was killed by signal 9");
	assert_int_equal(first->lost, 1);
	assert_non_null(strstr(first->why, "signal 9"));
	assert_int_equal(rig_status(fixture).died_total, 1);
	second = rig_request(fixture, 1, "acme");
	UNTIL(fixture, second->granted);
	assert_ptr_not_equal(second->lease.executor, lost);
	assert_int_equal(fixture->hosted[1].number, fixture->hosted[0].number);
	assert_int_equal(rig_status(fixture).daemons, 1);
	/* The old lease is let go of later, and again the executor goes then. */
	assert_non_null(executors_find(fixture->executors, "acme", "spawn-2"));
	lease_release(&first->lease);
	UNTIL(fixture, !executors_find(fixture->executors, "acme", "spawn-1"));
	assert_int_equal(second->lost, 0);
	rig_end(fixture);
}

/* It runs and does not answer: once nobody has it on lease the next one takes its place, also of those that are kept warm. */
static void one_that_hangs_is_replaced(void **state)
{
	static const char *const warm[] = { "acme" };
	struct fixture *fixture = rig_begin(state, (struct spawner_config){
		.warm_tenants = warm, .warm_tenants_count = 1, .warm = 1, .join_ns = 500 * MS,
	});
	struct holder *holder;
	uint64_t since_ns;

	rig_attach(fixture);
	holder = rig_request(fixture, 0, "acme");
	UNTIL(fixture, holder->granted);
	fixture->hosted[0].daemon.not_serving = true;
	UNTIL(fixture, holder->lost);
	since_ns = ring_now_ns(fixture->ring);
	UNTIL(fixture, ring_now_ns(fixture->ring) - since_ns > 100 * MS);
	assert_false(fixture->hosted[0].stopped);
	lease_release(&holder->lease);
	UNTIL(fixture, fixture->hosted[0].stopped && fixture->hosted_count == 2);
	holder = rig_request(fixture, 0, "acme");
	UNTIL(fixture, holder->granted);
	assert_int_equal(rig_status(fixture).idle_stopped_total, 0);
	rig_end(fixture);
}

/* One that listens and is never ready: who waits gets the next. One that is slow is given its time. */
static void one_that_never_is_ready_is_replaced(void **state)
{
	struct fixture *fixture = rig_begin(state, (struct spawner_config){ .tenant_max = 2, .join_ns = 500 * MS });
	struct holder *holder;
	uint64_t since_ns;

	rig_attach(fixture);
	fixture->hosted[0].daemon.not_serving = true;
	holder = rig_request(fixture, 0, "acme");
	since_ns = ring_now_ns(fixture->ring);
	UNTIL(fixture, fixture->hosted[0].stopped);
	assert_true(ring_now_ns(fixture->ring) - since_ns >= 60 * MS);
	UNTIL(fixture, holder->granted);
	assert_int_equal(fixture->hosted_count, 2);
	rig_end(fixture);
}

/* One that dies while it drains, with a lease on it. */
static void one_dies_while_it_drains(void **state)
{
	struct fixture *fixture = rig_begin(state, (struct spawner_config){ 0 });
	struct holder *holder;

	rig_attach(fixture);
	holder = rig_request(fixture, 0, "acme");
	UNTIL(fixture, holder->granted);
	spawner_close(fixture->spawner);
	rig_turns(fixture);
	assert_int_equal(fixture->closed, 0);
	rig_host_end(fixture, &fixture->hosted[0], "buildkitd was killed by signal 9");
	assert_int_equal(holder->lost, 1);
	assert_int_equal(fixture->closed, 0);
	lease_release(&holder->lease);
	UNTIL(fixture, fixture->closed == 1);
	rig_end(fixture);
}

static void what_cannot_be_started_is_tried_less_and_less(void **state)
{
	struct fixture *fixture = rig_begin(state, (struct spawner_config){ .retry_ns = 16 * MS });
	uint64_t first_ns;
	struct holder *holder;

	rig_attach(fixture);
	fixture->fails = true;
	first_ns = ring_now_ns(fixture->ring);
	rig_request(fixture, 0, "acme");
	UNTIL(fixture, fixture->hosted_count == 5);
	/* At once, at once, after 1, 2, 4 times 16 ms. */
	assert_true(ring_now_ns(fixture->ring) - first_ns >= 7 * 16 * MS);
	rig_host_work(fixture);
	/* Who comes meanwhile is not let wait. */
	assert_false(spawner_spawnable(fixture->spawner, "acme", false));
	assert_true(spawner_spawnable(fixture->spawner, "rival", false));
	holder = rig_request(fixture, 1, "acme");
	assert_int_equal(holder->refused, 1);
	/* Who waits already does so for the next try, and when it works again gets it. */
	rig_take_turn(fixture);
	assert_int_equal(fixture->holders[0].refused, 0);
	fixture->fails = false;
	UNTIL(fixture, fixture->holders[0].granted);
	rig_end(fixture);
}

/* Two starts failed before one that lived, and was stopped in the end: one that fails then is the first in a row. */
static void one_that_lived_breaks_the_row(void **state)
{
	static const char *const warm[] = { "acme" };
	struct fixture *fixture = rig_begin(state, (struct spawner_config){
		.warm_tenants = warm, .warm_tenants_count = 1, .warm = 1, .tenant_max = 2, .slots = 1, .idle_ns = 20 * MS,
		.retry_ns = 1 * MS,
	});
	uint64_t since_ns;

	rig_attach(fixture);
	for (unsigned i = 0; i < 2; i++)
		rig_host_end(fixture, &fixture->hosted[i], "it cannot be");
	rig_request(fixture, 0, "acme");
	rig_request(fixture, 1, "acme");
	UNTIL(fixture, fixture->holders[0].granted && fixture->holders[1].granted);
	since_ns = ring_now_ns(fixture->ring);
	UNTIL(fixture, ring_now_ns(fixture->ring) - since_ns > 70 * MS);
	lease_release(&fixture->holders[0].lease);
	lease_release(&fixture->holders[1].lease);
	UNTIL(fixture, rig_running(fixture, "acme") == 1);
	assert_int_equal(rig_status(fixture).idle_stopped_total, 1);
	rig_request(fixture, 0, "acme");
	UNTIL(fixture, fixture->holders[0].granted);
	fixture->idles = true;
	rig_request(fixture, 1, "acme");
	UNTIL(fixture, fixture->hosted_count == 5);      /* within a second: the pool does not ask more often */
	rig_host_end(fixture, &fixture->hosted[4], "it cannot be");
	assert_true(spawner_spawnable(fixture->spawner, "acme", false));
	rig_end(fixture);
}

static void a_host_that_starts_none_gives_no_hope(void **state)
{
	struct fixture *fixture = rig_begin(state, (struct spawner_config){ 0 });
	struct holder *holder;

	assert_true(spawner_spawnable(fixture->spawner, "acme", false));        /* it may still come */
	spawner_on_host(fixture->spawner, false, span_text("no buildkitd"));
	assert_false(spawner_spawnable(fixture->spawner, "acme", false));
	holder = rig_request(fixture, 0, "acme");
	assert_int_equal(holder->refused, 1);
	assert_int_equal(fixture->hosted_count, 0);
	rig_end(fixture);
}

/* Those who wait already: one has asked before the host came, one while its daemon starts. None waits for the queue's time-out. */
static void who_waits_when_hope_ends_is_refused(void **state)
{
	struct fixture *fixture = rig_begin(state, (struct spawner_config){ 0 });
	struct holder *holders[2];

	for (unsigned lost = 0; lost < 2; lost++) {
		if (lost) {
			rig_attach(fixture);
			fixture->idles = true;
		}
		for (unsigned i = 0; i < 2; i++)
			holders[i] = rig_request(fixture, i, i ? "rival" : "acme");
		rig_take_turn(fixture);
		assert_int_equal(holders[0]->refused + holders[1]->refused, 0);
		if (lost) {
			fixture->deaf = true;
			spawner_on_host_lost(fixture->spawner);
		} else {
			spawner_on_host(fixture->spawner, false, span_text("no buildkitd"));
		}
		rig_take_turn(fixture);
		for (unsigned i = 0; i < 2; i++) {
			assert_int_equal(holders[i]->refused, 1);
			assert_non_null(strstr(holders[i]->why, "none can be started"));
		}
	}
	rig_end(fixture);
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(one_that_dies_is_replaced),
		BOTH(one_that_hangs_is_replaced),
		BOTH(one_that_never_is_ready_is_replaced),
		BOTH(one_dies_while_it_drains),
		BOTH(what_cannot_be_started_is_tried_less_and_less),
		BOTH(one_that_lived_breaks_the_row),
		BOTH(a_host_that_starts_none_gives_no_hope),
		BOTH(who_waits_when_hope_ends_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
