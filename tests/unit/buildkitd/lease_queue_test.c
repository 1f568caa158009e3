/*
 * Shows how leases wait: tenants apart, each at a place that it is told, so many of them, and so long; and that the pool's
 * spawner hears of them. Both ring engines.
 */
#include "tests/unit/buildkitd/executors_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void no_tenant_gets_anothers(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct holder *holder;

	rig_add_ready(fixture, 0, "acme", 4);
	holder = rig_request(fixture, 0, "other", 0);
	assert_int_equal(holder->refused, 1);
	assert_non_null(strstr(holder->why, "no buildkitd serves your tenant"));
	assert_null(strstr(holder->why, "daemon-0"));
	rig_add_ready(fixture, 1, "other", 1);
	/* Even with the same affinity. */
	holder = rig_request(fixture, 0, "acme", 5);
	assert_true(rig_has(fixture, holder, 0));
	holder = rig_request(fixture, 1, "other", 5);
	assert_true(rig_has(fixture, holder, 1));
	/* It waits for its own while the other's has room. */
	holder = rig_request(fixture, 2, "other", 5);
	assert_int_equal(holder->granted, 0);
	assert_int_equal(holder->position, 1);
	rig_end(fixture);
}

static void positions_are_told(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct holder *holder[4], *running;

	rig_add_ready(fixture, 0, "acme", 1);
	running = rig_request(fixture, 9, "acme", 0);
	for (unsigned i = 0; i < 4; i++) {
		holder[i] = rig_request(fixture, i, "acme", 0);
		assert_int_equal(holder[i]->position, i + 1);
		assert_int_equal(holder[i]->waiting, i + 1);
		assert_int_equal(holder[i]->queued, 1);
	}
	/* Who gives up lets the others move. */
	lease_release(&holder[1]->lease);
	assert_int_equal(holder[0]->queued, 1);
	assert_int_equal(holder[2]->position, 2);
	assert_int_equal(holder[3]->position, 3);
	/* First come, first served. */
	lease_release(&running->lease);
	assert_int_equal(holder[0]->granted, 1);
	assert_int_equal(holder[2]->position, 1);
	assert_int_equal(holder[3]->position, 2);
	/* One that ends inside its own grant. */
	holder[2]->release_at_once = true;
	lease_release(&holder[0]->lease);
	assert_int_equal(holder[2]->granted, 1);
	assert_int_equal(holder[3]->granted, 1);
	assert_true(holder[2]->order < holder[3]->order);
	assert_int_equal(holder[1]->granted + holder[1]->refused, 0);
	rig_end(fixture);
}

static void tenants_do_not_hold_each_other_up(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct holder *holder;

	rig_add_ready(fixture, 0, "acme", 1);
	rig_add_ready(fixture, 1, "other", 1);
	for (unsigned i = 0; i < 500; i++)
		rig_request(fixture, i, "acme", 0);
	holder = rig_request(fixture, 500, "other", 0);
	assert_true(rig_has(fixture, holder, 1));
	holder = rig_request(fixture, 501, "other", 0);
	assert_int_equal(holder->position, 1);
	rig_end(fixture);
}

static unsigned told_of(const struct fixture *fixture, const char *tenant)
{
	unsigned count = 0;

	for (unsigned i = 0; i < fixture->wanted && i < WANTED_MAX; i++)
		count += strcmp(fixture->wanted_tenants[i], tenant) == 0;
	return count;
}

/* How often a tenant that waits since then may have been told, once a second: at once, and with each second that is over. */
static unsigned may_be_told(const struct fixture *fixture, uint64_t since_ns)
{
	return 1 + (unsigned)((ring_now_ns(fixture->ring) - since_ns) / (1000 * MS));
}

/* Tenants without executors, and a spawner that hears of each of them in turn, once a second at most, however long a turn takes. */
static void the_spawner_hears_all_in_turn(void **state)
{
	struct fixture *fixture = rig_begin(state);
	const uint64_t since_ns = ring_now_ns(fixture->ring);
	unsigned before, a, b;

	fixture->spawnable = true;
	for (unsigned i = 0; i < 20; i++)
		rig_request(fixture, i, "a", 0);
	before = told_of(fixture, "a");
	assert_in_range(before, 1, may_be_told(fixture, since_ns));
	rig_request(fixture, 20, "b", 0);
	assert_int_equal(told_of(fixture, "b"), 1);
	DAEMON_UNTIL(fixture, told_of(fixture, "a") > before && told_of(fixture, "b") > 1);
	a = told_of(fixture, "a");
	b = told_of(fixture, "b");
	assert_in_range(a, before + 1, may_be_told(fixture, since_ns));
	assert_in_range(b, 2, may_be_told(fixture, since_ns));
	/* Who came first may have had one turn more. */
	assert_in_range(a - before, b - 1, b);
	/* What it brings is used at once. */
	rig_add(fixture, 0, "b", 1);
	DAEMON_UNTIL(fixture, fixture->holders[20].granted);
	assert_int_equal(fixture->holders[0].granted, 0);
	rig_end(fixture);
}

static void the_queue_is_bounded(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct holder *holder;
	struct executors_status status;

	rig_add_ready(fixture, 0, "acme", 1);
	rig_add_ready(fixture, 1, "other", 1);
	for (unsigned i = 0; i < 1 + EXECUTORS_QUEUE_TENANT_MAX; i++)
		assert_int_equal(rig_request(fixture, i, "acme", 0)->refused, 0);
	holder = rig_request(fixture, 1 + EXECUTORS_QUEUE_TENANT_MAX, "acme", 0);
	assert_int_equal(holder->refused, 1);
	assert_non_null(strstr(holder->why, "wait for an executor already"));
	executors_status(fixture->executors, &status);
	assert_int_equal(status.waiting, EXECUTORS_QUEUE_TENANT_MAX);
	assert_int_equal(status.leases_refused, 1);
	/* The other tenant does not feel it. */
	for (unsigned i = 1 + EXECUTORS_QUEUE_TENANT_MAX; i < EXECUTORS_QUEUE_TENANT_MAX + 80; i++)
		assert_int_equal(rig_request(fixture, i, "other", 0)->refused, 0);
	rig_end(fixture);
}

/* A few tenants that fill the queue do not shut out those who have little in it. */
static void a_full_queue_has_room_for_newcomers(void **state)
{
	struct fixture *fixture = rig_begin(state);
	unsigned next = 0;
	char tenants[EXECUTORS_QUEUE_MAX / EXECUTORS_QUEUE_TENANT_MAX][8];

	fixture->spawnable = true;
	for (unsigned i = 0; i < EXECUTORS_QUEUE_MAX / EXECUTORS_QUEUE_TENANT_MAX; i++) {
		snprintf(tenants[i], sizeof(tenants[i]), "t%u", i);
		for (unsigned k = 0; k < EXECUTORS_QUEUE_TENANT_MAX; k++)
			assert_int_equal(rig_request(fixture, next++, tenants[i], 0)->refused, 0);
	}
	for (unsigned i = 0; i < EXECUTORS_QUEUE_SURE; i++)
		assert_int_equal(rig_request(fixture, next++, "newcomer", 0)->refused, 0);
	assert_int_equal(rig_request(fixture, next++, "newcomer", 0)->refused, 1);
	rig_end(fixture);
}

static void nobody_waits_for_ever(void **state)
{
	struct fixture *fixture = rig_begin_with(state, 50 * MS, 0);
	struct holder *running, *waiting, *later;

	rig_add_ready(fixture, 0, "acme", 1);
	running = rig_request(fixture, 0, "acme", 0);
	waiting = rig_request(fixture, 1, "acme", 0);
	DAEMON_UNTIL(fixture, waiting->refused);
	assert_non_null(strstr(waiting->why, "no executor of tenant acme became free"));
	assert_int_equal(running->refused + running->lost, 0);
	/* It says what is wrong with executors that are not there. */
	daemon_stand_in_stop(&fixture->daemons[0]);
	DAEMON_UNTIL(fixture, rig_is(fixture, 0, EXECUTOR_LOST));
	later = rig_request(fixture, 2, "acme", 0);
	DAEMON_UNTIL(fixture, later->refused);
	assert_non_null(strstr(later->why, "daemon-0"));
	rig_end(fixture);
}

static void tenants_are_bounded(void **state)
{
	struct fixture *fixture = rig_begin(state);
	static char names[EXECUTORS_TENANTS_MAX + 1][8];

	fixture->spawnable = true;
	/* Those who hold nothing are forgotten. */
	for (unsigned i = 0; i <= EXECUTORS_TENANTS_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), "t%u", i);
		assert_int_equal(rig_request(fixture, 0, names[i], 0)->refused, 0);
		lease_release(&fixture->holders[0].lease);
	}
	for (unsigned i = 0; i < EXECUTORS_TENANTS_MAX; i++)
		assert_int_equal(rig_request(fixture, i, names[i], 0)->refused, 0);
	assert_int_equal(rig_request(fixture, EXECUTORS_TENANTS_MAX, names[EXECUTORS_TENANTS_MAX], 0)->refused, 1);
	rig_end(fixture);
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(no_tenant_gets_anothers),
		BOTH(positions_are_told),
		BOTH(tenants_do_not_hold_each_other_up),
		BOTH(the_spawner_hears_all_in_turn),
		BOTH(the_queue_is_bounded),
		BOTH(a_full_queue_has_room_for_newcomers),
		BOTH(nobody_waits_for_ever),
		BOTH(tenants_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
