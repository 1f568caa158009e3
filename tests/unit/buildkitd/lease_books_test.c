/* Shows that the pool's books are kept while leases and executors come and go in any order; both ring engines. */
#include "tests/unit/buildkitd/executors_rig.h"

#define CHAOS_LEASES 24
#define CHAOS_STEPS  4000

struct chaos {
	struct fixture *fixture;
	uint64_t seed;
	bool held[CHAOS_LEASES];         /* requested and neither refused nor released */
	unsigned drained;
};

static uint32_t chaos_next(struct chaos *chaos, uint32_t below)
{
	chaos->seed = chaos->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(chaos->seed >> 33) % below;
}

/* Some release themselves when they are granted. */
static void chaos_forget(struct chaos *chaos)
{
	for (unsigned i = 0; i < CHAOS_LEASES; i++)
		if (!chaos->fixture->holders[i].lease.home)
			chaos->held[i] = false;
}

/* The pool's own numbers against those of the leases, and each lease against what it was promised. */
static void chaos_check(struct chaos *chaos)
{
	struct fixture *fixture = chaos->fixture;
	struct executors_status status;
	uint64_t slots = 0, waiting = 0;
	uint32_t positions[2] = { 0 };

	chaos_forget(chaos);
	for (unsigned i = 0; i < CHAOS_LEASES; i++) {
		const struct holder *holder = &fixture->holders[i];
		const struct lease *lease = &holder->lease;

		if (!chaos->held[i]) {
			assert_false(lease->waiting || lease->granted);
			continue;
		}
		assert_true(lease->waiting != lease->granted);
		if (lease->granted) {
			assert_string_equal(executor_tenant(lease->executor), lease->tenant);
			slots += lease->slots;
			continue;
		}
		waiting++;
		assert_true(holder->position >= 1);
		positions[lease->tenant[0] == 'b']++;
	}
	/* Each waits at a place of its own, without gaps. */
	for (unsigned tenant = 0; tenant < 2; tenant++) {
		uint64_t sum = 0, wanted = (uint64_t)positions[tenant] * (positions[tenant] + 1) / 2;

		for (unsigned i = 0; i < CHAOS_LEASES; i++)
			if (fixture->holders[i].lease.waiting && (fixture->holders[i].lease.tenant[0] == 'b') == (tenant == 1))
				sum += fixture->holders[i].position;
		assert_int_equal(sum, wanted);
	}
	executors_status(fixture->executors, &status);
	assert_int_equal(status.slots_busy, slots);
	assert_int_equal(status.waiting, waiting);
}

static void chaos_lease(struct chaos *chaos)
{
	unsigned number = chaos_next(chaos, CHAOS_LEASES);
	struct fixture *fixture = chaos->fixture;
	struct holder *holder = &fixture->holders[number];

	chaos_forget(chaos);
	if (!chaos->held[number]) {
		holder = rig_prepare(fixture, number, chaos_next(chaos, 3) ? "a" : "b", chaos_next(chaos, 5));
		holder->release_at_once = chaos_next(chaos, 8) == 0;
		if (chaos_next(chaos, 4) == 0)
			holder->lease.avoid = fixture->executor[chaos_next(chaos, 3)];
		lease_request(fixture->executors, &holder->lease);
		chaos->held[number] = holder->lease.home != NULL;
	} else if (holder->lease.granted && chaos_next(chaos, 3) == 0) {
		lease_grow(&holder->lease);
	} else if (holder->lease.granted && holder->lease.slots > 1 && chaos_next(chaos, 2)) {
		lease_shrink(&holder->lease);
	} else {
		lease_release(&holder->lease);
		chaos->held[number] = false;
	}
}

static void chaos_gone(void *context)
{
	((struct chaos *)context)->drained++;
}

static void chaos_executor(struct chaos *chaos)
{
	struct fixture *fixture = chaos->fixture;
	unsigned number = chaos_next(chaos, 4);

	switch (chaos_next(chaos, 4)) {
	case 0:
		executor_suspect(fixture->executor[number], "for no reason");
		break;
	case 1:
		fixture->daemons[number].not_serving = chaos_next(chaos, 3) == 0;
		break;
	case 2:
		if (fixture->daemons[number].server)
			daemon_stand_in_stop(&fixture->daemons[number]);
		if (chaos_next(chaos, 4) && !fixture->daemons[number].server)
			daemon_stand_in_start(&fixture->daemons[number], fixture->ring);
		break;
	default:
		/* Away, and here again under its name. */
		executor_drain(fixture->executor[number], chaos_gone, chaos);
		rig_add(fixture, number, number == 3 ? "b" : "a", 1 + chaos_next(chaos, 3));
		break;
	}
}

/* From fixed seeds: leases come, grow and go, some inside their own grant; executors are lost, suspected and drained. */
static void the_books_are_kept(void **state)
{
	for (uint64_t seed = 1; seed <= 3; seed++) {
		struct fixture *fixture = rig_begin(state);
		struct chaos chaos = { .fixture = fixture, .seed = seed };
		struct executors_status status;

		for (unsigned i = 0; i < 4; i++)
			rig_add(fixture, i, i == 3 ? "b" : "a", 2);
		for (unsigned step = 0; step < CHAOS_STEPS; step++) {
			if (chaos_next(&chaos, 60) == 0)
				chaos_executor(&chaos);
			else
				chaos_lease(&chaos);
			chaos_check(&chaos);
			if (chaos_next(&chaos, 3) == 0)
				ring_run(fixture->ring, chaos_next(&chaos, 2) * MS);
			chaos_check(&chaos);
		}
		executors_status(fixture->executors, &status);
		assert_true(status.leases_total > 100);
		assert_true(status.executors_lost > 5);
		rig_end(fixture);
		assert_true(chaos.drained > 0);
	}
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(the_books_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
