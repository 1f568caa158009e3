/* Shows where leases are placed, how they grow and shrink, and that one on a warm executor comes at once; both ring engines. */
#include "tests/unit/buildkitd/executors_rig.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

static void the_least_loaded_is_taken(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct holder *holders[6];
	unsigned on_first = 0;

	rig_add_ready(fixture, 0, "acme", 4);
	rig_add_ready(fixture, 1, "acme", 2);
	for (unsigned i = 0; i < 6; i++) {
		holders[i] = rig_request(fixture, i, "acme", 0);
		assert_int_equal(holders[i]->granted, 1);
		on_first += rig_has(fixture, holders[i], 0);
		/* In the proportion of their slots, all the way. */
		if (i == 2)
			assert_int_equal(on_first, 2);
	}
	assert_int_equal(on_first, 4);
	/* A slot that grows counts, and is never waited for. */
	lease_grow(&holders[0]->lease);
	lease_release(&holders[1]->lease);
	rig_end(fixture);
}

static void the_warm_one_is_taken(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct holder *first, *second, *third;
	unsigned warm;

	rig_add_ready(fixture, 0, "acme", 2);
	rig_add_ready(fixture, 1, "acme", 2);
	first = rig_request(fixture, 0, "acme", 77);
	warm = rig_has(fixture, first, 0) ? 0 : 1;
	/* Though the other one is idle. */
	second = rig_request(fixture, 1, "acme", 77);
	assert_true(rig_has(fixture, second, warm));
	/* It is full: the load is bounded, and the other one is warm from now on. */
	third = rig_request(fixture, 2, "acme", 77);
	assert_true(rig_has(fixture, third, 1 - warm));
	lease_release(&first->lease);
	lease_release(&second->lease);
	first = rig_request(fixture, 0, "acme", 77);
	assert_true(rig_has(fixture, first, 1 - warm));
	/* Unless it is the one to be avoided. */
	second = rig_prepare(fixture, 1, "acme", 77);
	second->lease.avoid = fixture->executor[1 - warm];
	lease_request(fixture->executors, &second->lease);
	assert_true(rig_has(fixture, second, warm));
	rig_end(fixture);
}

static void who_avoids_waits_for_another(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct holder *holder, *avoiding, *next;

	rig_add_ready(fixture, 0, "acme", 2);
	avoiding = rig_prepare(fixture, 0, "acme", 0);
	avoiding->lease.avoid = fixture->executor[0];
	lease_request(fixture->executors, &avoiding->lease);
	assert_true(rig_has(fixture, avoiding, 0));          /* there is no other */
	lease_release(&avoiding->lease);
	rig_add_ready(fixture, 1, "acme", 1);
	holder = rig_prepare(fixture, 1, "acme", 0);
	holder->lease.avoid = fixture->executor[0];
	lease_request(fixture->executors, &holder->lease);
	assert_true(rig_has(fixture, holder, 1));
	avoiding = rig_prepare(fixture, 0, "acme", 0);
	avoiding->lease.avoid = fixture->executor[0];
	lease_request(fixture->executors, &avoiding->lease);
	assert_int_equal(avoiding->granted, 0);
	/* It does not stop who wants no more than any executor. */
	next = rig_request(fixture, 2, "acme", 0);
	assert_true(rig_has(fixture, next, 0));
	lease_release(&holder->lease);
	assert_true(rig_has(fixture, avoiding, 1));
	rig_end(fixture);
}

static bool suits_none(const struct lease *lease, const struct executor *executor)
{
	(void)lease;
	(void)executor;
	return false;
}

/* Its affinity is its own. */
static bool suits_all_but(const struct lease *lease, const struct executor *executor)
{
	return executor != (const void *)(uintptr_t)lease->affinity;
}

static void what_suits_is_preferred(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct holder *first, *holder, *next;

	rig_add_ready(fixture, 0, "acme", 2);
	first = rig_prepare(fixture, 0, "acme", (uintptr_t)fixture->executor[0]);
	first->lease.suits = suits_all_but;
	lease_request(fixture->executors, &first->lease);
	assert_true(rig_has(fixture, first, 0));             /* none has room but it */
	assert_false(lease_is_misplaced(&first->lease));
	rig_add_ready(fixture, 1, "acme", 1);
	assert_true(lease_is_misplaced(&first->lease));
	/* It is warm there; but the other one suits, though it is as full. */
	holder = rig_prepare(fixture, 1, "acme", (uintptr_t)fixture->executor[0]);
	holder->lease.suits = suits_all_but;
	lease_request(fixture->executors, &holder->lease);
	assert_true(rig_has(fixture, holder, 1));
	assert_false(lease_is_misplaced(&holder->lease));
	assert_false(lease_is_misplaced(&first->lease)); /* no room there */
	/* What suits nowhere is placed as if all did, and nobody moves for it. */
	next = rig_prepare(fixture, 2, "acme", 0);
	next->lease.suits = suits_none;
	lease_request(fixture->executors, &next->lease);
	assert_true(rig_has(fixture, next, 0));
	lease_release(&holder->lease);
	assert_false(lease_is_misplaced(&next->lease));
	assert_true(lease_is_misplaced(&first->lease));
	lease_release(&first->lease);
	lease_request(fixture->executors, &first->lease);
	assert_true(rig_has(fixture, first, 1));
	rig_end(fixture);
}

/* A lease whose affinity is this executor, which it does not suit. */
static struct holder *request_elsewhere(struct fixture *fixture, unsigned number, const struct executor *executor)
{
	struct holder *holder = rig_prepare(fixture, number, "acme", (uintptr_t)executor);

	holder->lease.suits = suits_all_but;
	lease_request(fixture->executors, &holder->lease);
	return holder;
}

/* Unless the warm one was lost, it is still the warm one for those that it suits. */
static void who_suits_elsewhere_warms_nothing(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct holder *first, *second;
	uint64_t affinity;

	rig_add_ready(fixture, 0, "acme", 4);
	affinity = (uintptr_t)fixture->executor[0];
	first = rig_request(fixture, 0, "acme", affinity);
	assert_true(rig_has(fixture, first, 0));
	rig_add_ready(fixture, 1, "acme", 4);
	second = request_elsewhere(fixture, 1, fixture->executor[0]);
	assert_true(rig_has(fixture, second, 1));
	lease_release(&first->lease);
	lease_release(&second->lease);
	first = rig_request(fixture, 0, "acme", affinity);
	assert_true(rig_has(fixture, first, 0));
	lease_release(&first->lease);
	executor_suspect(fixture->executor[0], "it is a test");
	second = request_elsewhere(fixture, 1, fixture->executor[0]);
	assert_true(rig_has(fixture, second, 1));
	DAEMON_UNTIL(fixture, rig_is(fixture, 0, EXECUTOR_READY));
	first = rig_request(fixture, 0, "acme", affinity);
	assert_true(rig_has(fixture, first, 1));
	rig_end(fixture);
}

/* What suits nobody where he is moves nobody to where he came from. */
static void who_avoids_does_not_move_back(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct holder *holder;

	rig_add_ready(fixture, 0, "acme", 4);
	rig_add_ready(fixture, 1, "acme", 4);
	holder = rig_prepare(fixture, 0, "acme", (uintptr_t)fixture->executor[1]);
	holder->lease.suits = suits_all_but;
	holder->lease.avoid = fixture->executor[0];
	lease_request(fixture->executors, &holder->lease);
	assert_true(rig_has(fixture, holder, 1));
	assert_false(lease_is_misplaced(&holder->lease));
	rig_add_ready(fixture, 2, "acme", 4);
	assert_true(lease_is_misplaced(&holder->lease));
	lease_release(&holder->lease);
	lease_request(fixture->executors, &holder->lease);
	assert_true(rig_has(fixture, holder, 2));
	rig_end(fixture);
}

/* A lease may be held, or wait, for hours: whatever has the memory then is somebody else. */
static void who_was_avoided_and_went_is_forgotten(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct holder *granted, *waiting;

	rig_add_ready(fixture, 0, "acme", 1);
	rig_add_ready(fixture, 1, "acme", 1);
	granted = rig_prepare(fixture, 0, "acme", 0);
	granted->lease.avoid = fixture->executor[0];
	lease_request(fixture->executors, &granted->lease);
	assert_true(rig_has(fixture, granted, 1));
	waiting = rig_prepare(fixture, 1, "acme", 0);
	waiting->lease.avoid = fixture->executor[0];
	lease_request(fixture->executors, &waiting->lease);
	assert_int_equal(waiting->granted, 0);
	executor_drain(fixture->executor[0], rig_on_gone, fixture);
	DAEMON_UNTIL(fixture, fixture->gone == 1);
	fixture->executor[0] = NULL;
	assert_null(granted->lease.avoid);
	assert_null(waiting->lease.avoid);
	rig_end(fixture);
}

static void slots_grow_and_shrink(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct holder *holder, *next;
	struct executors_status status;

	rig_add_ready(fixture, 0, "acme", 2);
	holder = rig_request(fixture, 0, "acme", 0);
	lease_grow(&holder->lease);
	lease_grow(&holder->lease);
	executors_status(fixture->executors, &status);
	assert_int_equal(status.slots, 2);
	assert_int_equal(status.slots_busy, 3);
	next = rig_request(fixture, 1, "acme", 0);
	lease_shrink(&holder->lease);
	assert_int_equal(next->granted, 0);
	lease_shrink(&holder->lease);
	assert_int_equal(next->granted, 1);
	lease_release(&holder->lease);
	assert_int_equal(fixture->idle, 0);
	lease_release(&next->lease);
	assert_int_equal(fixture->idle, 1);
	executors_status(fixture->executors, &status);
	assert_int_equal(status.slots_busy, 0);
	rig_end(fixture);
}

/* This thread's, on which all happens: what else the machine has to do does not count. */
static uint64_t spent_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A lease on a warm executor comes within the call, among as many executors as there may be; the bound is generous. */
static void a_warm_lease_is_quick(void **state)
{
	enum { TIMES = 200 };
	struct fixture *fixture = rig_begin(state);
	struct executor_config config = { .tenant = "acme" };
	struct executors_status status;
	char name[32];
	uint64_t begun;

	rig_add_ready(fixture, 0, "acme", 4);
	config.name = name;
	config.address = daemon_stand_in_address(&fixture->daemons[0]);
	for (unsigned i = 1; i < EXECUTORS_MAX; i++) {
		snprintf(name, sizeof(name), "more-%u", i);
		assert_int_equal(executors_add(fixture->executors, NULL, &config), 0);
	}
	snprintf(name, sizeof(name), "too-many");
	assert_int_equal(executors_add(fixture->executors, NULL, &config), -ENOSPC);
	do {
		ring_run(fixture->ring, 100 * MS);
		executors_status(fixture->executors, &status);
	} while (status.executors_ready < EXECUTORS_MAX);
	lease_release(&rig_request(fixture, 0, "acme", 9)->lease);
	begun = spent_ns();
	for (unsigned i = 0; i < TIMES; i++) {
		struct holder *holder = rig_request(fixture, 0, "acme", 9);

		assert_int_equal(holder->granted, 1);
		lease_release(&holder->lease);
	}
	print_message("a lease on a warm executor among %d: %llu ns\n", EXECUTORS_MAX,
	              (unsigned long long)((spent_ns() - begun) / TIMES));
	assert_true((spent_ns() - begun) / TIMES < 1 * MS);
	rig_end(fixture);
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(the_least_loaded_is_taken),
		BOTH(the_warm_one_is_taken),
		BOTH(who_avoids_waits_for_another),
		BOTH(what_suits_is_preferred),
		BOTH(who_suits_elsewhere_warms_nothing),
		BOTH(who_avoids_does_not_move_back),
		BOTH(who_was_avoided_and_went_is_forgotten),
		BOTH(slots_grow_and_shrink),
		BOTH(a_warm_lease_is_quick),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
