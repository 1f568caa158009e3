/*
 * Shows when daemons are started and stopped: wanted, kept warm, idle, evicted for another tenant, and at the end; that no
 * bound is passed and a root never has two (spawner_rig.h). Both engines.
 */
#include "tests/unit/buildkitd/spawner_rig.h"

#include <errno.h>

static void one_is_started_when_it_is_wanted(void **state)
{
	struct fixture *fixture = rig_begin(state, (struct spawner_config){ .tenant_max = 2, .slots = 1 });
	struct holder *first, *second;

	rig_attach(fixture);
	rig_turns(fixture);
	assert_int_equal(fixture->hosted_count, 0);
	first = rig_request(fixture, 0, "acme");
	assert_int_equal(fixture->hosted_count, 1);              /* at once */
	assert_string_equal(fixture->hosted[0].tenant, "acme");
	UNTIL(fixture, first->granted);
	assert_string_equal(executor_name(first->lease.executor), "spawn-1");
	/* It has no room for another: the next one is another root. */
	second = rig_request(fixture, 1, "acme");
	UNTIL(fixture, second->granted);
	assert_int_equal(fixture->hosted_count, 2);
	assert_int_equal(fixture->hosted[0].number + fixture->hosted[1].number, 1);
	/* More than that the tenant may not have. */
	rig_request(fixture, 2, "acme");
	rig_turns(fixture);
	assert_int_equal(fixture->hosted_count, 2);
	rig_end(fixture);
}

/* What was wanted is forgotten once it was had: no second one is started for a build that has the first. */
static void no_more_are_started_than_are_wanted(void **state)
{
	struct fixture *fixture = rig_begin(state, (struct spawner_config){ .tenant_max = 4 });
	struct holder *holder;

	rig_attach(fixture);
	holder = rig_request(fixture, 0, "acme");
	fixture->idles = true;
	rig_turns(fixture);                  /* it takes its time to start */
	spawner_on_wanted(fixture->spawner, "acme");
	fixture->idles = false;
	UNTIL(fixture, holder->granted);
	rig_turns(fixture);
	assert_int_equal(fixture->hosted_count, 1);
	rig_end(fixture);
}

static void nobody_gets_anothers(void **state)
{
	struct fixture *fixture = rig_begin(state, (struct spawner_config){ 0 });
	struct holder *acme, *rival;

	rig_attach(fixture);
	acme = rig_request(fixture, 0, "acme");
	rival = rig_request(fixture, 1, "rival");
	UNTIL(fixture, acme->granted && rival->granted);
	assert_ptr_not_equal(acme->lease.executor, rival->lease.executor);
	assert_string_equal(executor_tenant(acme->lease.executor), "acme");
	assert_string_equal(executor_tenant(rival->lease.executor), "rival");
	rig_end(fixture);
}

static void warm_ones_are_there_before_anybody_asks(void **state)
{
	static const char *const warm[] = { "acme", "rival" };
	struct fixture *fixture = rig_begin(state, (struct spawner_config){
		.warm_tenants = warm, .warm_tenants_count = 2, .warm = 1, .tenant_max = 2, .slots = 1, .idle_ns = 20 * MS,
	});
	struct holder *holders[2];

	rig_turns(fixture);
	assert_int_equal(fixture->hosted_count, 0);              /* no host yet */
	rig_attach(fixture);
	UNTIL(fixture, rig_running(fixture, "acme") == 1 && rig_running(fixture, "rival") == 1);
	for (unsigned i = 0; i < 2; i++)
		holders[i] = rig_request(fixture, i, "acme");
	UNTIL(fixture, holders[0]->granted && holders[1]->granted);
	assert_int_equal(rig_running(fixture, "acme"), 2);
	/* Idle, it is one too many; the one that is kept warm stays however idle. */
	lease_release(&holders[0]->lease);
	lease_release(&holders[1]->lease);
	UNTIL(fixture, rig_running(fixture, "acme") == 1);
	rig_turns(fixture);
	assert_int_equal(rig_running(fixture, "acme"), 1);
	assert_int_equal(rig_running(fixture, "rival"), 1);
	rig_end(fixture);
}

static void an_idle_one_is_stopped_and_its_root_used_again(void **state)
{
	struct fixture *fixture = rig_begin(state, (struct spawner_config){ .idle_ns = 20 * MS });
	struct holder *holder;

	rig_attach(fixture);
	holder = rig_request(fixture, 0, "acme");
	UNTIL(fixture, holder->granted);
	rig_turns(fixture);                  /* longer than it may be idle */
	assert_int_equal(rig_running(fixture, NULL), 1);
	lease_release(&holder->lease);
	UNTIL(fixture, rig_running(fixture, NULL) == 0);
	assert_true(fixture->hosted[0].stopped);
	assert_int_equal(rig_status(fixture).idle_stopped_total, 1);
	assert_int_equal(rig_status(fixture).died_total, 0);
	holder = rig_request(fixture, 0, "acme");
	UNTIL(fixture, holder->granted);
	assert_int_equal(fixture->hosted[1].number, fixture->hosted[0].number);
	rig_end(fixture);
}

/* One that listens is not idle before it is ready, however long that takes: who waits for it would wait for ever. */
static void one_that_is_not_ready_yet_is_not_idle(void **state)
{
	struct fixture *fixture = rig_begin(state, (struct spawner_config){ .idle_ns = 20 * MS, .daemons_max = 1 });
	struct holder *holder, *other;

	rig_attach(fixture);
	fixture->hosted[0].daemon.not_serving = true;
	holder = rig_request(fixture, 0, "acme");
	other = rig_request(fixture, 1, "rival");
	rig_turns(fixture);                  /* longer than it may be idle */
	assert_int_equal(rig_running(fixture, "acme"), 1);
	assert_int_equal(rig_status(fixture).idle_stopped_total, 0);
	fixture->hosted[0].daemon.not_serving = false;
	UNTIL(fixture, holder->granted);
	assert_int_equal(fixture->hosted_count, 1);
	/* And then it makes room as any other. */
	lease_release(&holder->lease);
	UNTIL(fixture, other->granted);
	rig_end(fixture);
}

static void the_bound_on_all_makes_idle_ones_go(void **state)
{
	struct fixture *fixture = rig_begin(state, (struct spawner_config){ .daemons_max = 2 });
	struct holder *one, *two, *three;

	rig_attach(fixture);
	one = rig_request(fixture, 0, "one");
	two = rig_request(fixture, 1, "two");
	UNTIL(fixture, one->granted && two->granted);
	/* Both build: the third one waits. */
	three = rig_request(fixture, 2, "three");
	rig_turns(fixture);
	assert_int_equal(three->granted + three->refused, 0);
	assert_int_equal(fixture->hosted_count, 2);
	/* One has become idle: it makes room. */
	lease_release(&one->lease);
	UNTIL(fixture, three->granted);
	assert_int_equal(rig_running(fixture, "one"), 0);
	assert_int_equal(rig_running(fixture, "two"), 1);
	assert_int_equal(two->lost, 0);
	rig_end(fixture);
}

static void a_lost_host_loses_all(void **state)
{
	struct fixture *fixture = rig_begin(state, (struct spawner_config){ 0 });
	struct holder *holder;

	rig_attach(fixture);
	holder = rig_request(fixture, 0, "acme");
	UNTIL(fixture, holder->granted);
	fixture->idles = true;
	rig_request(fixture, 1, "rival");    /* STARTING */
	fixture->deaf = true;
	for (unsigned i = 0; i < fixture->hosted_count; i++) {
		daemon_stand_in_stop(&fixture->hosted[i].daemon);
		fixture->hosted[i].ended = true;
	}
	spawner_on_host_lost(fixture->spawner);
	assert_int_equal(holder->lost, 1);
	assert_int_equal(rig_status(fixture).daemons, 0);
	assert_false(spawner_spawnable(fixture->spawner, "acme", false));
	lease_release(&holder->lease);
	spawner_close(fixture->spawner);
	UNTIL(fixture, fixture->closed == 1);
	rig_end(fixture);
}

static void closing_waits_for_builds_and_not_for_the_host(void **state)
{
	struct fixture *fixture = rig_begin(state, (struct spawner_config){ 0 });
	struct holder *holder;

	rig_attach(fixture);
	holder = rig_request(fixture, 0, "acme");
	UNTIL(fixture, holder->granted);
	fixture->idles = true;
	rig_request(fixture, 1, "rival");    /* is being started */
	spawner_close(fixture->spawner);
	assert_true(fixture->hosted[1].stopped);
	assert_false(spawner_spawnable(fixture->spawner, "third", false));
	fixture->deaf = true;            /* what cannot be told now is told later */
	lease_release(&holder->lease);
	UNTIL(fixture, fixture->stops_refused > 1);
	assert_int_equal(fixture->closed, 0);
	fixture->deaf = false;
	UNTIL(fixture, fixture->closed == 1);
	assert_true(fixture->hosted[0].stopped);
	rig_end(fixture);
}

static void bounds_that_contradict_each_other_are_refused(void **state)
{
	static const char *const warm[] = { "acme", "rival", "third" };
	const struct spawner_config wrong[] = {
		{ .daemons_max = 0 },
		{ .daemons_max = SPAWNER_DAEMONS_MAX + 1 },
		{ .daemons_max = 4, .tenant_max = 1, .warm = 2 },
		{ .daemons_max = 2, .warm = 1, .warm_tenants = warm, .warm_tenants_count = 3 },
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct spawner *spawner;
		char why[256] = "";

		assert_int_equal(spawner_create(&spawner, &wrong[i], why, sizeof(why)), -EINVAL);
		assert_true(*why);
	}
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(one_is_started_when_it_is_wanted),
		BOTH(no_more_are_started_than_are_wanted),
		BOTH(nobody_gets_anothers),
		BOTH(warm_ones_are_there_before_anybody_asks),
		BOTH(an_idle_one_is_stopped_and_its_root_used_again),
		BOTH(one_that_is_not_ready_yet_is_not_idle),
		BOTH(the_bound_on_all_makes_idle_ones_go),
		BOTH(a_lost_host_loses_all),
		BOTH(closing_waits_for_builds_and_not_for_the_host),
		cmocka_unit_test(bounds_that_contradict_each_other_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
