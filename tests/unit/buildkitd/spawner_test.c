/*
 * Shows when daemons are started and stopped: wanted, kept warm, idle, evicted for another tenant, dead, not to be
 * started, and at the end; that no bound is passed and a root never has two. The pool is the real one, the daemons are
 * stand-ins on the same ring, and the host is this test: it does what it is told between turns of the loop. Both engines.
 */
#include "gateway/buildkitd/spawner.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "gateway/buildkitd/executors_private.h"
#include "tests/unit/buildkitd/daemon_stand_in.h"

#define MS           1000000ull
#define HOSTED_MAX   64
#define HOLDERS_MAX  8
#define LONG_NS      3600000000000ull

/* A daemon as the host has it. */
struct hosted {
	uint64_t id;
	char tenant[32];
	uint32_t number;
	bool listens, stopped, ended;
	struct daemon_stand_in daemon;
};

struct holder {
	struct lease lease;
	unsigned granted, refused, lost;
	char why[1024];
};

struct fixture {
	struct ring *ring;
	struct executors *executors;
	struct spawner *spawner;
	struct hosted hosted[HOSTED_MAX];
	unsigned hosted_count, closed;
	struct holder holders[HOLDERS_MAX];
	char directory[64];
	bool deaf;                       /* the host cannot be told anything */
	bool idles;                      /* it does nothing of what it was told */
	bool fails;                      /* nothing can be started */
	unsigned stops_refused;
};

/* ---- the host ---- */

static int host_start(void *context, uint64_t id, const char *tenant, uint32_t number)
{
	struct fixture *fixture = context;
	struct hosted *hosted = &fixture->hosted[fixture->hosted_count];

	if (fixture->deaf)
		return -ENOTCONN;
	assert_true(fixture->hosted_count < HOSTED_MAX);
	for (unsigned i = 0; i < fixture->hosted_count; i++)     /* a root has one daemon at a time */
		assert_true(fixture->hosted[i].ended || fixture->hosted[i].number != number ||
		            strcmp(fixture->hosted[i].tenant, tenant) != 0);
	hosted->id = id;
	hosted->number = number;
	snprintf(hosted->tenant, sizeof(hosted->tenant), "%s", tenant);
	fixture->hosted_count++;
	return 0;
}

static int host_stop(void *context, uint64_t id)
{
	struct fixture *fixture = context;

	if (fixture->deaf) {
		fixture->stops_refused++;
		return -ENOTCONN;
	}
	for (unsigned i = 0; i < fixture->hosted_count; i++)
		if (fixture->hosted[i].id == id) {
			assert_false(fixture->hosted[i].stopped);        /* told once */
			fixture->hosted[i].stopped = true;
		}
	return 0;
}

static void host_on_closed(void *context)
{
	((struct fixture *)context)->closed++;
}

static void host_end(struct fixture *fixture, struct hosted *hosted, const char *why)
{
	hosted->ended = true;
	spawner_on_ended(fixture->spawner, hosted->id, span_text(why));
	daemon_stand_in_stop(&hosted->daemon);
}

static void host_listen(struct fixture *fixture, struct hosted *hosted)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s-%u", fixture->directory, hosted->tenant, hosted->number);
	unlink(path);
	snprintf(hosted->daemon.bound, sizeof(hosted->daemon.bound), "unix://%s", path);
	daemon_stand_in_start(&hosted->daemon, fixture->ring);
	hosted->listens = true;
	spawner_on_ready(fixture->spawner, hosted->id, span_text(path));
}

/* What it was told, done. */
static void host_work(struct fixture *fixture)
{
	for (unsigned i = 0; i < fixture->hosted_count && !fixture->idles; i++) {
		struct hosted *hosted = &fixture->hosted[i];

		if (hosted->ended)
			continue;
		if (hosted->stopped)
			host_end(fixture, hosted, "");
		else if (fixture->fails)
			host_end(fixture, hosted, "it cannot be");
		else if (!hosted->listens)
			host_listen(fixture, hosted);
	}
}

/* ---- set-up ---- */

#define UNTIL(fixture, condition)                                                                                      \
	do {                                                                                                           \
		uint64_t begun_ns = ring_now_ns((fixture)->ring);                                                      \
		while (!(condition)) {                                                                                 \
			host_work(fixture);                                                                            \
			ring_run((fixture)->ring, 1 * MS);                                                             \
			if (ring_now_ns((fixture)->ring) - begun_ns > 20000 * MS)                                      \
				fail_msg("never: %s", #condition);                                                     \
		}                                                                                                      \
	} while (0)

/* Some turns in which something would happen if it were going to. */
static void turns(struct fixture *fixture)
{
	for (unsigned i = 0; i < 20; i++) {
		host_work(fixture);
		ring_run(fixture->ring, 2 * MS);
	}
}

static struct fixture *begin(void **state, struct spawner_config config)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct ring_config ring = { .engine = *(const enum ring_engine *)*state };
	struct executors_config pool = {
		.health_interval_ns = 16 * MS, .on_wanted = spawner_on_wanted, .spawnable = spawner_spawnable,
		.on_idle = spawner_on_idle,
	};
	char why[256];

	snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/sluice-spawner-XXXXXX");
	assert_non_null(mkdtemp(fixture->directory));
	assert_int_equal(ring_create(&fixture->ring, &ring), 0);
	config.ring = fixture->ring;
	config.start = host_start;
	config.stop = host_stop;
	config.on_closed = host_on_closed;
	config.context = fixture;
	config.daemons_max = config.daemons_max ? config.daemons_max : 4;
	config.idle_ns = config.idle_ns ? config.idle_ns : LONG_NS;
	config.tick_ns = 2 * MS;
	config.retry_ns = config.retry_ns ? config.retry_ns : 4 * MS;
	assert_int_equal(spawner_create(&fixture->spawner, &config, why, sizeof(why)), 0);
	pool.ring = fixture->ring;
	pool.context = fixture->spawner;
	assert_int_equal(executors_create(&fixture->executors, &pool), 0);
	spawner_use(fixture->spawner, fixture->executors);
	return fixture;
}

static void attach(struct fixture *fixture)
{
	spawner_on_host(fixture->spawner, true, span_text(""));
}

static void end(struct fixture *fixture)
{
	char path[128];

	fixture->deaf = fixture->idles = fixture->fails = false;
	for (unsigned i = 0; i < HOLDERS_MAX; i++)
		lease_release(&fixture->holders[i].lease);
	spawner_close(fixture->spawner);
	UNTIL(fixture, fixture->closed == 1);
	executors_close(fixture->executors);
	UNTIL(fixture, executors_idle(fixture->executors) && spawner_idle(fixture->spawner));
	executors_destroy(fixture->executors);
	spawner_destroy(fixture->spawner);
	for (unsigned i = 0; i < fixture->hosted_count; i++) {
		daemon_stand_in_stop(&fixture->hosted[i].daemon);
		snprintf(path, sizeof(path), "%s/%s-%u", fixture->directory, fixture->hosted[i].tenant, fixture->hosted[i].number);
		unlink(path);
	}
	assert_int_equal(rmdir(fixture->directory), 0);
	ring_destroy(fixture->ring);
	free(fixture);
}

static void on_granted(struct lease *lease)
{
	container_of(lease, struct holder, lease)->granted++;
}

static void on_refused(struct lease *lease, const char *why)
{
	struct holder *holder = container_of(lease, struct holder, lease);

	holder->refused++;
	snprintf(holder->why, sizeof(holder->why), "%s", why);
}

static void on_lost(struct lease *lease, const char *why)
{
	struct holder *holder = container_of(lease, struct holder, lease);

	holder->lost++;
	snprintf(holder->why, sizeof(holder->why), "%s", why);
}

static struct holder *request(struct fixture *fixture, unsigned number, const char *tenant)
{
	struct holder *holder = &fixture->holders[number];

	lease_release(&holder->lease);
	*holder = (struct holder){
		.lease = { .tenant = tenant, .on_granted = on_granted, .on_refused = on_refused, .on_lost = on_lost },
	};
	lease_request(fixture->executors, &holder->lease);
	return holder;
}

static struct spawner_status status_of(const struct fixture *fixture)
{
	struct spawner_status status;

	spawner_status(fixture->spawner, &status);
	return status;
}

static unsigned running(const struct fixture *fixture, const char *tenant)
{
	unsigned count = 0;

	for (unsigned i = 0; i < fixture->hosted_count; i++)
		count += !fixture->hosted[i].ended && (!tenant || strcmp(fixture->hosted[i].tenant, tenant) == 0);
	return count;
}

/* ---- tests ---- */

static void one_is_started_when_it_is_wanted(void **state)
{
	struct fixture *fixture = begin(state, (struct spawner_config){ .tenant_max = 2, .slots = 1 });
	struct holder *first, *second;

	attach(fixture);
	turns(fixture);
	assert_int_equal(fixture->hosted_count, 0);
	first = request(fixture, 0, "acme");
	assert_int_equal(fixture->hosted_count, 1);              /* at once */
	assert_string_equal(fixture->hosted[0].tenant, "acme");
	UNTIL(fixture, first->granted);
	assert_string_equal(executor_name(first->lease.executor), "spawn-1");
	/* It has no room for another: the next one is another root. */
	second = request(fixture, 1, "acme");
	UNTIL(fixture, second->granted);
	assert_int_equal(fixture->hosted_count, 2);
	assert_int_equal(fixture->hosted[0].number + fixture->hosted[1].number, 1);
	/* More than that the tenant may not have. */
	request(fixture, 2, "acme");
	turns(fixture);
	assert_int_equal(fixture->hosted_count, 2);
	end(fixture);
}

/* What was wanted is forgotten once it was had: no second one is started for a build that has the first. */
static void no_more_are_started_than_are_wanted(void **state)
{
	struct fixture *fixture = begin(state, (struct spawner_config){ .tenant_max = 4 });
	struct holder *holder;

	attach(fixture);
	holder = request(fixture, 0, "acme");
	fixture->idles = true;
	turns(fixture);                  /* it takes its time to start */
	spawner_on_wanted(fixture->spawner, "acme");
	fixture->idles = false;
	UNTIL(fixture, holder->granted);
	turns(fixture);
	assert_int_equal(fixture->hosted_count, 1);
	end(fixture);
}

static void nobody_gets_anothers(void **state)
{
	struct fixture *fixture = begin(state, (struct spawner_config){ 0 });
	struct holder *acme, *rival;

	attach(fixture);
	acme = request(fixture, 0, "acme");
	rival = request(fixture, 1, "rival");
	UNTIL(fixture, acme->granted && rival->granted);
	assert_ptr_not_equal(acme->lease.executor, rival->lease.executor);
	assert_string_equal(executor_tenant(acme->lease.executor), "acme");
	assert_string_equal(executor_tenant(rival->lease.executor), "rival");
	end(fixture);
}

static void warm_ones_are_there_before_anybody_asks(void **state)
{
	static const char *const warm[] = { "acme", "rival" };
	struct fixture *fixture = begin(state, (struct spawner_config){
		.warm_tenants = warm, .warm_tenants_count = 2, .warm = 1, .tenant_max = 2, .slots = 1, .idle_ns = 20 * MS,
	});
	struct holder *holders[2];

	turns(fixture);
	assert_int_equal(fixture->hosted_count, 0);              /* no host yet */
	attach(fixture);
	UNTIL(fixture, running(fixture, "acme") == 1 && running(fixture, "rival") == 1);
	for (unsigned i = 0; i < 2; i++)
		holders[i] = request(fixture, i, "acme");
	UNTIL(fixture, holders[0]->granted && holders[1]->granted);
	assert_int_equal(running(fixture, "acme"), 2);
	/* Idle, it is one too many; the one that is kept warm stays however idle. */
	lease_release(&holders[0]->lease);
	lease_release(&holders[1]->lease);
	UNTIL(fixture, running(fixture, "acme") == 1);
	turns(fixture);
	assert_int_equal(running(fixture, "acme"), 1);
	assert_int_equal(running(fixture, "rival"), 1);
	end(fixture);
}

static void an_idle_one_is_stopped_and_its_root_used_again(void **state)
{
	struct fixture *fixture = begin(state, (struct spawner_config){ .idle_ns = 20 * MS });
	struct holder *holder;

	attach(fixture);
	holder = request(fixture, 0, "acme");
	UNTIL(fixture, holder->granted);
	turns(fixture);                  /* longer than it may be idle */
	assert_int_equal(running(fixture, NULL), 1);
	lease_release(&holder->lease);
	UNTIL(fixture, running(fixture, NULL) == 0);
	assert_true(fixture->hosted[0].stopped);
	assert_int_equal(status_of(fixture).idle_stopped_total, 1);
	assert_int_equal(status_of(fixture).died_total, 0);
	holder = request(fixture, 0, "acme");
	UNTIL(fixture, holder->granted);
	assert_int_equal(fixture->hosted[1].number, fixture->hosted[0].number);
	end(fixture);
}

/* One that listens is not idle before it is ready, however long that takes: who waits for it would wait for ever. */
static void one_that_is_not_ready_yet_is_not_idle(void **state)
{
	struct fixture *fixture = begin(state, (struct spawner_config){ .idle_ns = 20 * MS, .daemons_max = 1 });
	struct holder *holder, *other;

	attach(fixture);
	fixture->hosted[0].daemon.not_serving = true;
	holder = request(fixture, 0, "acme");
	other = request(fixture, 1, "rival");
	turns(fixture);                  /* longer than it may be idle */
	assert_int_equal(running(fixture, "acme"), 1);
	assert_int_equal(status_of(fixture).idle_stopped_total, 0);
	fixture->hosted[0].daemon.not_serving = false;
	UNTIL(fixture, holder->granted);
	assert_int_equal(fixture->hosted_count, 1);
	/* And then it makes room as any other. */
	lease_release(&holder->lease);
	UNTIL(fixture, other->granted);
	end(fixture);
}

static void the_bound_on_all_makes_idle_ones_go(void **state)
{
	struct fixture *fixture = begin(state, (struct spawner_config){ .daemons_max = 2 });
	struct holder *one, *two, *three;

	attach(fixture);
	one = request(fixture, 0, "one");
	two = request(fixture, 1, "two");
	UNTIL(fixture, one->granted && two->granted);
	/* Both build: the third one waits. */
	three = request(fixture, 2, "three");
	turns(fixture);
	assert_int_equal(three->granted + three->refused, 0);
	assert_int_equal(fixture->hosted_count, 2);
	/* One has become idle: it makes room. */
	lease_release(&one->lease);
	UNTIL(fixture, three->granted);
	assert_int_equal(running(fixture, "one"), 0);
	assert_int_equal(running(fixture, "two"), 1);
	assert_int_equal(two->lost, 0);
	end(fixture);
}

/* Its leases hear of it with the host's reason; the next daemon of the root does not wait for them to be let go. */
static void one_that_dies_is_replaced(void **state)
{
	struct fixture *fixture = begin(state, (struct spawner_config){ 0 });
	struct holder *first, *second;
	struct executor *lost;

	attach(fixture);
	first = request(fixture, 0, "acme");
	UNTIL(fixture, first->granted);
	lost = first->lease.executor;
	host_end(fixture, &fixture->hosted[0], "buildkitd was killed by signal 9");
	assert_int_equal(first->lost, 1);
	assert_non_null(strstr(first->why, "signal 9"));
	assert_int_equal(status_of(fixture).died_total, 1);
	second = request(fixture, 1, "acme");
	UNTIL(fixture, second->granted);
	assert_ptr_not_equal(second->lease.executor, lost);
	assert_int_equal(fixture->hosted[1].number, fixture->hosted[0].number);
	assert_int_equal(status_of(fixture).daemons, 1);
	/* The old lease is let go of later, and again the executor goes then. */
	assert_non_null(executors_find(fixture->executors, "acme", "spawn-2"));
	lease_release(&first->lease);
	UNTIL(fixture, !executors_find(fixture->executors, "acme", "spawn-1"));
	assert_int_equal(second->lost, 0);
	end(fixture);
}

/* It runs and does not answer: once nobody has it on lease the next one takes its place, also of those that are kept warm. */
static void one_that_hangs_is_replaced(void **state)
{
	static const char *const warm[] = { "acme" };
	struct fixture *fixture = begin(state, (struct spawner_config){
		.warm_tenants = warm, .warm_tenants_count = 1, .warm = 1, .join_ns = 60 * MS,
	});
	struct holder *holder;
	uint64_t since_ns;

	attach(fixture);
	holder = request(fixture, 0, "acme");
	UNTIL(fixture, holder->granted);
	fixture->hosted[0].daemon.not_serving = true;
	UNTIL(fixture, holder->lost);
	since_ns = ring_now_ns(fixture->ring);
	UNTIL(fixture, ring_now_ns(fixture->ring) - since_ns > 100 * MS);
	assert_false(fixture->hosted[0].stopped);
	lease_release(&holder->lease);
	UNTIL(fixture, fixture->hosted[0].stopped && fixture->hosted_count == 2);
	holder = request(fixture, 0, "acme");
	UNTIL(fixture, holder->granted);
	assert_int_equal(status_of(fixture).idle_stopped_total, 0);
	end(fixture);
}

/* One that listens and is never ready: who waits gets the next. One that is slow is given its time. */
static void one_that_never_is_ready_is_replaced(void **state)
{
	struct fixture *fixture = begin(state, (struct spawner_config){ .tenant_max = 2, .join_ns = 60 * MS });
	struct holder *holder;
	uint64_t since_ns;

	attach(fixture);
	fixture->hosted[0].daemon.not_serving = true;
	holder = request(fixture, 0, "acme");
	since_ns = ring_now_ns(fixture->ring);
	UNTIL(fixture, fixture->hosted[0].stopped);
	assert_true(ring_now_ns(fixture->ring) - since_ns >= 60 * MS);
	UNTIL(fixture, holder->granted);
	assert_int_equal(fixture->hosted_count, 2);
	end(fixture);
}

/* One that dies while it drains, with a lease on it. */
static void one_dies_while_it_drains(void **state)
{
	struct fixture *fixture = begin(state, (struct spawner_config){ 0 });
	struct holder *holder;

	attach(fixture);
	holder = request(fixture, 0, "acme");
	UNTIL(fixture, holder->granted);
	spawner_close(fixture->spawner);
	turns(fixture);
	assert_int_equal(fixture->closed, 0);
	host_end(fixture, &fixture->hosted[0], "buildkitd was killed by signal 9");
	assert_int_equal(holder->lost, 1);
	assert_int_equal(fixture->closed, 0);
	lease_release(&holder->lease);
	UNTIL(fixture, fixture->closed == 1);
	end(fixture);
}

/* The queue's next turn, which comes within a second. */
static void take_turn(struct fixture *fixture)
{
	assert_true(op_in_flight(&fixture->executors->tick));
	executors_on_tick(&fixture->executors->tick, 0);
}

static void what_cannot_be_started_is_tried_less_and_less(void **state)
{
	struct fixture *fixture = begin(state, (struct spawner_config){ .retry_ns = 16 * MS });
	uint64_t first_ns;
	struct holder *holder;

	attach(fixture);
	fixture->fails = true;
	first_ns = ring_now_ns(fixture->ring);
	request(fixture, 0, "acme");
	UNTIL(fixture, fixture->hosted_count == 5);
	/* At once, at once, after 1, 2, 4 times 16 ms. */
	assert_true(ring_now_ns(fixture->ring) - first_ns >= 7 * 16 * MS);
	host_work(fixture);
	/* Who comes meanwhile is not let wait. */
	assert_false(spawner_spawnable(fixture->spawner, "acme", false));
	assert_true(spawner_spawnable(fixture->spawner, "rival", false));
	holder = request(fixture, 1, "acme");
	assert_int_equal(holder->refused, 1);
	/* Who waits already does so for the next try, and when it works again gets it. */
	take_turn(fixture);
	assert_int_equal(fixture->holders[0].refused, 0);
	fixture->fails = false;
	UNTIL(fixture, fixture->holders[0].granted);
	end(fixture);
}

/* Two starts failed before one that lived, and was stopped in the end: one that fails then is the first in a row. */
static void one_that_lived_breaks_the_row(void **state)
{
	static const char *const warm[] = { "acme" };
	struct fixture *fixture = begin(state, (struct spawner_config){
		.warm_tenants = warm, .warm_tenants_count = 1, .warm = 1, .tenant_max = 2, .slots = 1, .idle_ns = 20 * MS,
		.retry_ns = 1 * MS,
	});
	uint64_t since_ns;

	attach(fixture);
	for (unsigned i = 0; i < 2; i++)
		host_end(fixture, &fixture->hosted[i], "it cannot be");
	request(fixture, 0, "acme");
	request(fixture, 1, "acme");
	UNTIL(fixture, fixture->holders[0].granted && fixture->holders[1].granted);
	since_ns = ring_now_ns(fixture->ring);
	UNTIL(fixture, ring_now_ns(fixture->ring) - since_ns > 70 * MS);
	lease_release(&fixture->holders[0].lease);
	lease_release(&fixture->holders[1].lease);
	UNTIL(fixture, running(fixture, "acme") == 1);
	assert_int_equal(status_of(fixture).idle_stopped_total, 1);
	request(fixture, 0, "acme");
	UNTIL(fixture, fixture->holders[0].granted);
	fixture->idles = true;
	request(fixture, 1, "acme");
	UNTIL(fixture, fixture->hosted_count == 5);      /* within a second: the pool does not ask more often */
	host_end(fixture, &fixture->hosted[4], "it cannot be");
	assert_true(spawner_spawnable(fixture->spawner, "acme", false));
	end(fixture);
}

static void a_host_that_starts_none_gives_no_hope(void **state)
{
	struct fixture *fixture = begin(state, (struct spawner_config){ 0 });
	struct holder *holder;

	assert_true(spawner_spawnable(fixture->spawner, "acme", false));        /* it may still come */
	spawner_on_host(fixture->spawner, false, span_text("no buildkitd"));
	assert_false(spawner_spawnable(fixture->spawner, "acme", false));
	holder = request(fixture, 0, "acme");
	assert_int_equal(holder->refused, 1);
	assert_int_equal(fixture->hosted_count, 0);
	end(fixture);
}

/* Those who wait already: one has asked before the host came, one while its daemon starts. None waits for the queue's time-out. */
static void who_waits_when_hope_ends_is_refused(void **state)
{
	struct fixture *fixture = begin(state, (struct spawner_config){ 0 });
	struct holder *holders[2];

	for (unsigned lost = 0; lost < 2; lost++) {
		if (lost) {
			attach(fixture);
			fixture->idles = true;
		}
		for (unsigned i = 0; i < 2; i++)
			holders[i] = request(fixture, i, i ? "rival" : "acme");
		take_turn(fixture);
		assert_int_equal(holders[0]->refused + holders[1]->refused, 0);
		if (lost) {
			fixture->deaf = true;
			spawner_on_host_lost(fixture->spawner);
		} else {
			spawner_on_host(fixture->spawner, false, span_text("no buildkitd"));
		}
		take_turn(fixture);
		for (unsigned i = 0; i < 2; i++) {
			assert_int_equal(holders[i]->refused, 1);
			assert_non_null(strstr(holders[i]->why, "none can be started"));
		}
	}
	end(fixture);
}

static void a_lost_host_loses_all(void **state)
{
	struct fixture *fixture = begin(state, (struct spawner_config){ 0 });
	struct holder *holder;

	attach(fixture);
	holder = request(fixture, 0, "acme");
	UNTIL(fixture, holder->granted);
	fixture->idles = true;
	request(fixture, 1, "rival");    /* STARTING */
	fixture->deaf = true;
	for (unsigned i = 0; i < fixture->hosted_count; i++) {
		daemon_stand_in_stop(&fixture->hosted[i].daemon);
		fixture->hosted[i].ended = true;
	}
	spawner_on_host_lost(fixture->spawner);
	assert_int_equal(holder->lost, 1);
	assert_int_equal(status_of(fixture).daemons, 0);
	assert_false(spawner_spawnable(fixture->spawner, "acme", false));
	lease_release(&holder->lease);
	spawner_close(fixture->spawner);
	UNTIL(fixture, fixture->closed == 1);
	end(fixture);
}

static void closing_waits_for_builds_and_not_for_the_host(void **state)
{
	struct fixture *fixture = begin(state, (struct spawner_config){ 0 });
	struct holder *holder;

	attach(fixture);
	holder = request(fixture, 0, "acme");
	UNTIL(fixture, holder->granted);
	fixture->idles = true;
	request(fixture, 1, "rival");    /* is being started */
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
	end(fixture);
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
		BOTH(one_that_dies_is_replaced),
		BOTH(one_that_hangs_is_replaced),
		BOTH(one_that_never_is_ready_is_replaced),
		BOTH(one_dies_while_it_drains),
		BOTH(what_cannot_be_started_is_tried_less_and_less),
		BOTH(one_that_lived_breaks_the_row),
		BOTH(a_host_that_starts_none_gives_no_hope),
		BOTH(who_waits_when_hope_ends_is_refused),
		BOTH(a_lost_host_loses_all),
		BOTH(closing_waits_for_builds_and_not_for_the_host),
		cmocka_unit_test(bounds_that_contradict_each_other_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
