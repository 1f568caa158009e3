/*
 * Shows how executors join, are lost, come back, are refused and drained, and how leases are placed, queued and refused.
 * The daemons are stand-ins on the same ring, so one thread sees both sides; both ring engines. Nothing waits for time but
 * for time-outs.
 */
#include "gateway/buildkitd/executors.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "gateway/base/check.h"
#include "tests/unit/buildkitd/daemon_stand_in.h"
#include "tests/unit/buildkitd/ping_counter.h"
#include "tests/unit/net/wire.h"

#define MS          1000000ull
#define DAEMONS_MAX 4
#define LEASES_MAX  (EXECUTORS_QUEUE_MAX + 100)
#define WANTED_MAX  32

struct fixture;

/* A lease, and what it was told. */
struct holder {
	struct fixture *fixture;
	struct lease lease;
	unsigned granted, refused, lost, queued;
	uint32_t position, waiting;
	unsigned order;                  /* of its grant, among all */
	char why[1024];
	bool release_at_once;            /* when granted */
};

struct fixture {
	struct ring *ring;
	struct executors *executors;
	struct daemon_stand_in daemons[DAEMONS_MAX];
	struct executor *executor[DAEMONS_MAX];
	struct holder holders[LEASES_MAX];
	unsigned grants, gone, wanted, idle;
	char wanted_tenants[WANTED_MAX][16];
	bool spawnable;
};

/* ---- the pool's spawner, such as it is ---- */

static void on_wanted(void *context, const char *tenant)
{
	struct fixture *fixture = context;

	if (fixture->wanted < WANTED_MAX)
		snprintf(fixture->wanted_tenants[fixture->wanted], 16, "%s", tenant);
	fixture->wanted++;
}

static bool spawnable(void *context, const char *tenant)
{
	(void)tenant;
	return ((struct fixture *)context)->spawnable;
}

static void on_idle(void *context, struct executor *executor)
{
	(void)executor;
	((struct fixture *)context)->idle++;
}

static void on_gone(void *context)
{
	((struct fixture *)context)->gone++;
}

/* ---- set-up ---- */

static struct fixture *begin_with(void **state, uint64_t queue_timeout_ns, uint64_t answer_timeout_ns)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct ring_config ring = { .engine = *(const enum ring_engine *)*state };
	struct executors_config config = {
		.queue_timeout_ns = queue_timeout_ns, .health_interval_ns = 16 * MS, .answer_timeout_ns = answer_timeout_ns,
		.on_wanted = on_wanted, .spawnable = spawnable, .on_idle = on_idle, .context = fixture,
	};

	assert_int_equal(ring_create(&fixture->ring, &ring), 0);
	config.ring = fixture->ring;
	assert_int_equal(executors_create(&fixture->executors, &config), 0);
	return fixture;
}

static struct fixture *begin(void **state)
{
	return begin_with(state, 0, 0);
}

static void end(struct fixture *fixture)
{
	for (unsigned i = 0; i < LEASES_MAX; i++)
		lease_release(&fixture->holders[i].lease);
	executors_close(fixture->executors);
	while (!executors_idle(fixture->executors))
		ring_run(fixture->ring, UINT64_MAX);
	executors_destroy(fixture->executors);
	for (unsigned i = 0; i < DAEMONS_MAX; i++)
		daemon_stand_in_stop(&fixture->daemons[i]);
	ring_destroy(fixture->ring);
	free(fixture);
}

static void add(struct fixture *fixture, unsigned number, const char *tenant, uint32_t slots)
{
	char name[EXECUTOR_NAME_MAX];
	struct executor_config config = { .name = name, .tenant = tenant, .slots = slots };

	if (!fixture->daemons[number].server && !fixture->daemons[number].bound[0])
		daemon_stand_in_start(&fixture->daemons[number], fixture->ring);
	snprintf(name, sizeof(name), "daemon-%u", number);
	config.address = daemon_stand_in_address(&fixture->daemons[number]);
	assert_int_equal(executors_add(fixture->executors, &fixture->executor[number], &config), 0);
}

static bool is(const struct fixture *fixture, unsigned number, enum executor_state state)
{
	return executor_state(fixture->executor[number]) == state;
}

static void add_ready(struct fixture *fixture, unsigned number, const char *tenant, uint32_t slots)
{
	add(fixture, number, tenant, slots);
	DAEMON_UNTIL(fixture, is(fixture, number, EXECUTOR_READY));
}

/* ---- holders ---- */

static struct holder *of_lease(struct lease *lease)
{
	return container_of(lease, struct holder, lease);
}

static void holder_on_granted(struct lease *lease)
{
	struct holder *holder = of_lease(lease);

	assert_non_null(lease->executor);
	assert_string_equal(executor_tenant(lease->executor), lease->tenant);
	holder->granted++;
	holder->order = ++holder->fixture->grants;
	if (holder->release_at_once)
		lease_release(lease);
}

static void holder_on_queued(struct lease *lease, uint32_t position, uint32_t waiting)
{
	struct holder *holder = of_lease(lease);

	holder->queued++;
	holder->position = position;
	holder->waiting = waiting;
}

static void holder_on_refused(struct lease *lease, const char *why)
{
	struct holder *holder = of_lease(lease);

	holder->refused++;
	snprintf(holder->why, sizeof(holder->why), "%s", why);
}

static void holder_on_lost(struct lease *lease, const char *why)
{
	struct holder *holder = of_lease(lease);

	holder->lost++;
	snprintf(holder->why, sizeof(holder->why), "%s", why);
}

static struct holder *prepare(struct fixture *fixture, unsigned number, const char *tenant, uint64_t affinity)
{
	struct holder *holder = &fixture->holders[number];

	*holder = (struct holder){ .fixture = fixture };
	holder->lease = (struct lease){
		.tenant = tenant, .affinity = affinity, .on_granted = holder_on_granted, .on_queued = holder_on_queued,
		.on_refused = holder_on_refused, .on_lost = holder_on_lost,
	};
	return holder;
}

static struct holder *request(struct fixture *fixture, unsigned number, const char *tenant, uint64_t affinity)
{
	struct holder *holder = prepare(fixture, number, tenant, affinity);

	lease_request(fixture->executors, &holder->lease);
	return holder;
}

static bool has(const struct fixture *fixture, const struct holder *holder, unsigned number)
{
	return holder->lease.executor == fixture->executor[number];
}

/* ---- joining, and being lost ---- */

static void an_executor_joins(void **state)
{
	struct fixture *fixture = begin(state);
	struct executors_answers answers;
	struct executors_status status;

	executors_answers(fixture->executors, "acme", &answers);
	assert_int_equal(answers.pong.size, 0);
	add(fixture, 0, "acme", 0);
	assert_true(is(fixture, 0, EXECUTOR_JOINING));
	assert_string_not_equal(executor_why(fixture->executor[0]), "");
	DAEMON_UNTIL(fixture, is(fixture, 0, EXECUTOR_READY));
	assert_string_equal(executor_why(fixture->executor[0]), "");
	assert_ptr_equal(executors_find(fixture->executors, "acme", "daemon-0"), fixture->executor[0]);
	assert_null(executors_find(fixture->executors, "other", "daemon-0"));
	executors_answers(fixture->executors, "acme", &answers);
	assert_true(answers.list_workers.size && answers.info.size && answers.pong.size);
	executors_answers(fixture->executors, "other", &answers);
	assert_int_equal(answers.pong.size, 0);
	executors_status(fixture->executors, &status);
	assert_int_equal(status.executors, 1);
	assert_int_equal(status.executors_ready, 1);
	assert_int_equal(status.slots, EXECUTOR_SLOTS_DEFAULT);
	/* Its build has ended well, and health goes on being asked, what it can do is not. */
	DAEMON_UNTIL(fixture, fixture->daemons[0].checks >= 5);
	assert_int_equal(fixture->daemons[0].asked, 1);
	assert_int_equal(fixture->daemons[0].builds, 1);
	assert_int_equal(fixture->daemons[0].returns, 1);
	assert_int_equal(fixture->daemons[0].open_builds, 0);
	end(fixture);
}

static void what_is_not_ready_says_why(void **state)
{
	struct fixture *fixture = begin(state);

	fixture->daemons[0].not_serving = true;
	fixture->daemons[1].no_workers = true;
	fixture->daemons[2].malformed = true;
	fixture->daemons[3].no_info = fixture->daemons[3].no_health = true;      /* old, and ready */
	for (unsigned i = 0; i < 4; i++)
		add(fixture, i, "acme", 0);
	DAEMON_UNTIL(fixture, strstr(executor_why(fixture->executor[0]), "not serving"));
	DAEMON_UNTIL(fixture, strstr(executor_why(fixture->executor[1]), "the workers are ill"));
	DAEMON_UNTIL(fixture, strstr(executor_why(fixture->executor[2]), "malformed"));
	assert_true(is(fixture, 0, EXECUTOR_JOINING));
	assert_true(is(fixture, 1, EXECUTOR_JOINING));
	assert_true(is(fixture, 2, EXECUTOR_REFUSED));
	DAEMON_UNTIL(fixture, is(fixture, 3, EXECUTOR_READY));
	/* And they are asked again. */
	fixture->daemons[0].not_serving = fixture->daemons[1].no_workers = false;
	DAEMON_UNTIL(fixture, is(fixture, 0, EXECUTOR_READY) && is(fixture, 1, EXECUTOR_READY));
	end(fixture);
}

static void lost_and_back(void **state)
{
	struct fixture *fixture = begin(state);
	struct holder *holder, *next;
	struct executors_status status;

	add_ready(fixture, 0, "acme", 2);
	holder = request(fixture, 0, "acme", 0);
	assert_int_equal(holder->granted, 1);
	daemon_stand_in_stop(&fixture->daemons[0]);
	DAEMON_UNTIL(fixture, holder->lost);
	assert_true(is(fixture, 0, EXECUTOR_LOST));
	assert_string_not_equal(holder->why, "");
	/* Nobody is sent there meanwhile; the answers stay. */
	next = request(fixture, 1, "acme", 0);
	assert_int_equal(next->granted, 0);
	assert_int_equal(next->position, 1);
	executors_status(fixture->executors, &status);
	assert_int_equal(status.executors_lost, 1);
	assert_int_equal(status.executors_ready, 0);
	assert_int_equal(status.waiting, 1);
	daemon_stand_in_start(&fixture->daemons[0], fixture->ring);
	DAEMON_UNTIL(fixture, is(fixture, 0, EXECUTOR_READY));
	assert_int_equal(next->granted, 1);
	assert_int_equal(holder->lost, 1);
	/* It may have become another one: asked anew. */
	assert_int_equal(fixture->daemons[0].asked, 2);
	assert_int_equal(executor_leases(fixture->executor[0]), 2);
	end(fixture);
}

static void not_serving_is_lost(void **state)
{
	struct fixture *fixture = begin(state);
	struct holder *holder;

	add_ready(fixture, 0, "acme", 2);
	holder = request(fixture, 0, "acme", 0);
	fixture->daemons[0].not_serving = true;
	DAEMON_UNTIL(fixture, is(fixture, 0, EXECUTOR_LOST));
	assert_int_equal(holder->lost, 1);
	fixture->daemons[0].not_serving = false;
	DAEMON_UNTIL(fixture, is(fixture, 0, EXECUTOR_READY));
	/* Over the same connection, so it is the same daemon. */
	assert_int_equal(fixture->daemons[0].asked, 1);
	fixture->daemons[0].not_serving = true;
	DAEMON_UNTIL(fixture, holder->lost == 2);
	end(fixture);
}

static void a_suspect_is_asked_before_it_gets_a_lease(void **state)
{
	struct fixture *fixture = begin(state);
	struct holder *holder, *next;

	add_ready(fixture, 0, "acme", 2);
	holder = request(fixture, 0, "acme", 0);
	executor_suspect(fixture->executor[0], "a build's connection broke");
	assert_int_equal(holder->lost, 1);
	assert_string_equal(holder->why, "a build's connection broke");
	assert_true(is(fixture, 0, EXECUTOR_LOST));
	next = request(fixture, 1, "acme", 0);
	assert_int_equal(next->granted, 0);
	DAEMON_UNTIL(fixture, next->granted);
	assert_int_equal(fixture->daemons[0].asked, 2);
	assert_int_equal(holder->lost, 1);
	end(fixture);
}

static void who_does_not_answer_is_lost(void **state)
{
	struct fixture *fixture = begin_with(state, 0, 100 * MS);
	unsigned checks;

	add_ready(fixture, 0, "acme", 2);
	fixture->daemons[0].silent = true;
	DAEMON_UNTIL(fixture, is(fixture, 0, EXECUTOR_LOST));
	assert_non_null(strstr(executor_why(fixture->executor[0]), "did not answer in time"));
	/* And asked again over another connection. */
	checks = fixture->daemons[0].checks;
	DAEMON_UNTIL(fixture, fixture->daemons[0].checks > checks);
	fixture->daemons[0].silent = false;
	DAEMON_UNTIL(fixture, is(fixture, 0, EXECUTOR_READY));
	end(fixture);
}

/* grpc-go ends a connection that pings more than once in five minutes. */
static void nobody_is_pinged(void **state)
{
	struct fixture *fixture = begin(state);
	struct executor_config config = { .name = "counted", .tenant = "acme" };
	struct ping_counter counter;
	char bound[64];
	int fd;

	fixture->daemons[0].tcp = true;
	daemon_stand_in_start(&fixture->daemons[0], fixture->ring);
	config.address = daemon_stand_in_address(&fixture->daemons[0]);
	ping_counter_start(&counter, (uint16_t)atoi(config.address.port));
	snprintf(config.address.port, sizeof(config.address.port), "%u", counter.port);
	assert_int_equal(executors_add(fixture->executors, &fixture->executor[0], &config), 0);
	DAEMON_UNTIL(fixture, is(fixture, 0, EXECUTOR_READY) && fixture->daemons[0].checks >= 30);
	assert_int_equal(ping_counter_pings(&counter), 0);
	/* It does count. */
	snprintf(bound, sizeof(bound), "grpc://127.0.0.1:%u", counter.port);
	fd = wire_connect(bound);
	wire_send(fd, wire_preface);
	wire_send(fd, wire_ping);
	DAEMON_UNTIL(fixture, ping_counter_pings(&counter) == 1);
	close(fd);
	daemon_stand_in_stop(&fixture->daemons[0]);
	ping_counter_stop(&counter);
	end(fixture);
}

/* ---- capabilities ---- */

static void who_can_less_is_refused(void **state)
{
	struct fixture *fixture = begin(state);

	fixture->daemons[0].capability = "llb.special";
	fixture->daemons[0].platform = "arm64";
	fixture->daemons[2].capability = "llb.special";
	fixture->daemons[2].platform = "arm64";
	fixture->daemons[3].capability = "llb.other";
	add_ready(fixture, 0, "acme", 0);
	add(fixture, 1, "acme", 0);
	DAEMON_UNTIL(fixture, is(fixture, 1, EXECUTOR_REFUSED));
	assert_non_null(strstr(executor_why(fixture->executor[1]), "LLB capability llb.special"));
	assert_non_null(strstr(executor_why(fixture->executor[1]), "platform linux/arm64"));
	assert_null(strstr(executor_why(fixture->executor[1]), "llb.base"));
	assert_null(strstr(executor_why(fixture->executor[1]), "llb.disabled"));
	add_ready(fixture, 2, "acme", 0);
	/* Another tenant has a set of its own. */
	add_ready(fixture, 3, "other", 0);
	/* Those who could more go; then it may join. */
	executor_drain(fixture->executor[0], on_gone, fixture);
	DAEMON_UNTIL(fixture, fixture->gone == 1);
	assert_true(is(fixture, 1, EXECUTOR_REFUSED));
	executor_drain(fixture->executor[2], on_gone, fixture);
	DAEMON_UNTIL(fixture, is(fixture, 1, EXECUTOR_READY));
	end(fixture);
}

static void who_stays_away_keeps_nobody_out(void **state)
{
	struct fixture *fixture = begin(state);

	fixture->daemons[0].capability = "llb.special";
	add_ready(fixture, 0, "acme", 0);
	add(fixture, 1, "acme", 0);
	DAEMON_UNTIL(fixture, is(fixture, 1, EXECUTOR_REFUSED));
	daemon_stand_in_stop(&fixture->daemons[0]);
	DAEMON_UNTIL(fixture, is(fixture, 0, EXECUTOR_LOST));
	assert_true(is(fixture, 1, EXECUTOR_REFUSED));
	DAEMON_UNTIL(fixture, is(fixture, 1, EXECUTOR_READY));
	/* Who can more than that joins as any other. */
	daemon_stand_in_start(&fixture->daemons[0], fixture->ring);
	DAEMON_UNTIL(fixture, is(fixture, 0, EXECUTOR_READY));
	end(fixture);
}

static void who_can_more_joins(void **state)
{
	struct fixture *fixture = begin(state);
	struct executors_answers before, after;

	add_ready(fixture, 0, "acme", 0);
	executors_answers(fixture->executors, "acme", &before);
	fixture->daemons[1].capability = "llb.special";
	add_ready(fixture, 1, "acme", 0);
	/* But clients are not told of what only one can. */
	executors_answers(fixture->executors, "acme", &after);
	assert_int_equal(before.pong.size, after.pong.size);
	/* A single daemon that was replaced by a lesser one is what there is. */
	executor_drain(fixture->executor[0], NULL, NULL);
	daemon_stand_in_stop(&fixture->daemons[1]);
	DAEMON_UNTIL(fixture, is(fixture, 1, EXECUTOR_LOST));
	fixture->daemons[1].capability = NULL;
	daemon_stand_in_start(&fixture->daemons[1], fixture->ring);
	DAEMON_UNTIL(fixture, is(fixture, 1, EXECUTOR_READY));
	end(fixture);
}

/* ---- placement ---- */

static void the_least_loaded_is_taken(void **state)
{
	struct fixture *fixture = begin(state);
	struct holder *holders[6];
	unsigned on_first = 0;

	add_ready(fixture, 0, "acme", 4);
	add_ready(fixture, 1, "acme", 2);
	for (unsigned i = 0; i < 6; i++) {
		holders[i] = request(fixture, i, "acme", 0);
		assert_int_equal(holders[i]->granted, 1);
		on_first += has(fixture, holders[i], 0);
		/* In the proportion of their slots, all the way. */
		if (i == 2)
			assert_int_equal(on_first, 2);
	}
	assert_int_equal(on_first, 4);
	/* A slot that grows counts, and is never waited for. */
	lease_grow(&holders[0]->lease);
	lease_release(&holders[1]->lease);
	end(fixture);
}

static void the_warm_one_is_taken(void **state)
{
	struct fixture *fixture = begin(state);
	struct holder *first, *second, *third;
	unsigned warm;

	add_ready(fixture, 0, "acme", 2);
	add_ready(fixture, 1, "acme", 2);
	first = request(fixture, 0, "acme", 77);
	warm = has(fixture, first, 0) ? 0 : 1;
	/* Though the other one is idle. */
	second = request(fixture, 1, "acme", 77);
	assert_true(has(fixture, second, warm));
	/* It is full: the load is bounded, and the other one is warm from now on. */
	third = request(fixture, 2, "acme", 77);
	assert_true(has(fixture, third, 1 - warm));
	lease_release(&first->lease);
	lease_release(&second->lease);
	first = request(fixture, 0, "acme", 77);
	assert_true(has(fixture, first, 1 - warm));
	/* Unless it is the one to be avoided. */
	second = prepare(fixture, 1, "acme", 77);
	second->lease.avoid = fixture->executor[1 - warm];
	lease_request(fixture->executors, &second->lease);
	assert_true(has(fixture, second, warm));
	end(fixture);
}

static void who_avoids_waits_for_another(void **state)
{
	struct fixture *fixture = begin(state);
	struct holder *holder, *avoiding, *next;

	add_ready(fixture, 0, "acme", 2);
	avoiding = prepare(fixture, 0, "acme", 0);
	avoiding->lease.avoid = fixture->executor[0];
	lease_request(fixture->executors, &avoiding->lease);
	assert_true(has(fixture, avoiding, 0));          /* there is no other */
	lease_release(&avoiding->lease);
	add_ready(fixture, 1, "acme", 1);
	holder = prepare(fixture, 1, "acme", 0);
	holder->lease.avoid = fixture->executor[0];
	lease_request(fixture->executors, &holder->lease);
	assert_true(has(fixture, holder, 1));
	avoiding = prepare(fixture, 0, "acme", 0);
	avoiding->lease.avoid = fixture->executor[0];
	lease_request(fixture->executors, &avoiding->lease);
	assert_int_equal(avoiding->granted, 0);
	/* It does not stop who wants no more than any executor. */
	next = request(fixture, 2, "acme", 0);
	assert_true(has(fixture, next, 0));
	lease_release(&holder->lease);
	assert_true(has(fixture, avoiding, 1));
	end(fixture);
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
	struct fixture *fixture = begin(state);
	struct holder *first, *holder, *next;

	add_ready(fixture, 0, "acme", 2);
	first = prepare(fixture, 0, "acme", (uintptr_t)fixture->executor[0]);
	first->lease.suits = suits_all_but;
	lease_request(fixture->executors, &first->lease);
	assert_true(has(fixture, first, 0));             /* none has room but it */
	assert_false(lease_is_misplaced(&first->lease));
	add_ready(fixture, 1, "acme", 1);
	assert_true(lease_is_misplaced(&first->lease));
	/* It is warm there; but the other one suits, though it is as full. */
	holder = prepare(fixture, 1, "acme", (uintptr_t)fixture->executor[0]);
	holder->lease.suits = suits_all_but;
	lease_request(fixture->executors, &holder->lease);
	assert_true(has(fixture, holder, 1));
	assert_false(lease_is_misplaced(&holder->lease));
	assert_false(lease_is_misplaced(&first->lease)); /* no room there */
	/* What suits nowhere is placed as if all did, and nobody moves for it. */
	next = prepare(fixture, 2, "acme", 0);
	next->lease.suits = suits_none;
	lease_request(fixture->executors, &next->lease);
	assert_true(has(fixture, next, 0));
	lease_release(&holder->lease);
	assert_false(lease_is_misplaced(&next->lease));
	assert_true(lease_is_misplaced(&first->lease));
	lease_release(&first->lease);
	lease_request(fixture->executors, &first->lease);
	assert_true(has(fixture, first, 1));
	end(fixture);
}

/* A lease whose affinity is this executor, which it does not suit. */
static struct holder *request_elsewhere(struct fixture *fixture, unsigned number, const struct executor *executor)
{
	struct holder *holder = prepare(fixture, number, "acme", (uintptr_t)executor);

	holder->lease.suits = suits_all_but;
	lease_request(fixture->executors, &holder->lease);
	return holder;
}

/* Unless the warm one was lost, it is still the warm one for those that it suits. */
static void who_suits_elsewhere_warms_nothing(void **state)
{
	struct fixture *fixture = begin(state);
	struct holder *first, *second;
	uint64_t affinity;

	add_ready(fixture, 0, "acme", 4);
	affinity = (uintptr_t)fixture->executor[0];
	first = request(fixture, 0, "acme", affinity);
	assert_true(has(fixture, first, 0));
	add_ready(fixture, 1, "acme", 4);
	second = request_elsewhere(fixture, 1, fixture->executor[0]);
	assert_true(has(fixture, second, 1));
	lease_release(&first->lease);
	lease_release(&second->lease);
	first = request(fixture, 0, "acme", affinity);
	assert_true(has(fixture, first, 0));
	lease_release(&first->lease);
	executor_suspect(fixture->executor[0], "it is a test");
	second = request_elsewhere(fixture, 1, fixture->executor[0]);
	assert_true(has(fixture, second, 1));
	DAEMON_UNTIL(fixture, is(fixture, 0, EXECUTOR_READY));
	first = request(fixture, 0, "acme", affinity);
	assert_true(has(fixture, first, 1));
	end(fixture);
}

/* What suits nobody where he is moves nobody to where he came from. */
static void who_avoids_does_not_move_back(void **state)
{
	struct fixture *fixture = begin(state);
	struct holder *holder;

	add_ready(fixture, 0, "acme", 4);
	add_ready(fixture, 1, "acme", 4);
	holder = prepare(fixture, 0, "acme", (uintptr_t)fixture->executor[1]);
	holder->lease.suits = suits_all_but;
	holder->lease.avoid = fixture->executor[0];
	lease_request(fixture->executors, &holder->lease);
	assert_true(has(fixture, holder, 1));
	assert_false(lease_is_misplaced(&holder->lease));
	add_ready(fixture, 2, "acme", 4);
	assert_true(lease_is_misplaced(&holder->lease));
	lease_release(&holder->lease);
	lease_request(fixture->executors, &holder->lease);
	assert_true(has(fixture, holder, 2));
	end(fixture);
}

static void slots_grow_and_shrink(void **state)
{
	struct fixture *fixture = begin(state);
	struct holder *holder, *next;
	struct executors_status status;

	add_ready(fixture, 0, "acme", 2);
	holder = request(fixture, 0, "acme", 0);
	lease_grow(&holder->lease);
	lease_grow(&holder->lease);
	executors_status(fixture->executors, &status);
	assert_int_equal(status.slots, 2);
	assert_int_equal(status.slots_busy, 3);
	next = request(fixture, 1, "acme", 0);
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
	end(fixture);
}

/* ---- tenants and the queue ---- */

static void no_tenant_gets_anothers(void **state)
{
	struct fixture *fixture = begin(state);
	struct holder *holder;

	add_ready(fixture, 0, "acme", 4);
	holder = request(fixture, 0, "other", 0);
	assert_int_equal(holder->refused, 1);
	assert_non_null(strstr(holder->why, "no buildkitd serves your tenant"));
	assert_null(strstr(holder->why, "daemon-0"));
	add_ready(fixture, 1, "other", 1);
	/* Even with the same affinity. */
	holder = request(fixture, 0, "acme", 5);
	assert_true(has(fixture, holder, 0));
	holder = request(fixture, 1, "other", 5);
	assert_true(has(fixture, holder, 1));
	/* It waits for its own while the other's has room. */
	holder = request(fixture, 2, "other", 5);
	assert_int_equal(holder->granted, 0);
	assert_int_equal(holder->position, 1);
	end(fixture);
}

static void positions_are_told(void **state)
{
	struct fixture *fixture = begin(state);
	struct holder *holder[4], *running;

	add_ready(fixture, 0, "acme", 1);
	running = request(fixture, 9, "acme", 0);
	for (unsigned i = 0; i < 4; i++) {
		holder[i] = request(fixture, i, "acme", 0);
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
	end(fixture);
}

static void tenants_do_not_hold_each_other_up(void **state)
{
	struct fixture *fixture = begin(state);
	struct holder *holder;

	add_ready(fixture, 0, "acme", 1);
	add_ready(fixture, 1, "other", 1);
	for (unsigned i = 0; i < 500; i++)
		request(fixture, i, "acme", 0);
	holder = request(fixture, 500, "other", 0);
	assert_true(has(fixture, holder, 1));
	holder = request(fixture, 501, "other", 0);
	assert_int_equal(holder->position, 1);
	end(fixture);
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
	struct fixture *fixture = begin(state);
	const uint64_t since_ns = ring_now_ns(fixture->ring);
	unsigned before, a, b;

	fixture->spawnable = true;
	for (unsigned i = 0; i < 20; i++)
		request(fixture, i, "a", 0);
	before = told_of(fixture, "a");
	assert_in_range(before, 1, may_be_told(fixture, since_ns));
	request(fixture, 20, "b", 0);
	assert_int_equal(told_of(fixture, "b"), 1);
	DAEMON_UNTIL(fixture, told_of(fixture, "a") > before && told_of(fixture, "b") > 1);
	a = told_of(fixture, "a");
	b = told_of(fixture, "b");
	assert_in_range(a, before + 1, may_be_told(fixture, since_ns));
	assert_in_range(b, 2, may_be_told(fixture, since_ns));
	/* Who came first may have had one turn more. */
	assert_in_range(a - before, b - 1, b);
	/* What it brings is used at once. */
	add(fixture, 0, "b", 1);
	DAEMON_UNTIL(fixture, fixture->holders[20].granted);
	assert_int_equal(fixture->holders[0].granted, 0);
	end(fixture);
}

static void the_queue_is_bounded(void **state)
{
	struct fixture *fixture = begin(state);
	struct holder *holder;
	struct executors_status status;

	add_ready(fixture, 0, "acme", 1);
	add_ready(fixture, 1, "other", 1);
	for (unsigned i = 0; i < 1 + EXECUTORS_QUEUE_TENANT_MAX; i++)
		assert_int_equal(request(fixture, i, "acme", 0)->refused, 0);
	holder = request(fixture, 1 + EXECUTORS_QUEUE_TENANT_MAX, "acme", 0);
	assert_int_equal(holder->refused, 1);
	assert_non_null(strstr(holder->why, "wait for an executor already"));
	executors_status(fixture->executors, &status);
	assert_int_equal(status.waiting, EXECUTORS_QUEUE_TENANT_MAX);
	assert_int_equal(status.leases_refused, 1);
	/* The other tenant does not feel it. */
	for (unsigned i = 1 + EXECUTORS_QUEUE_TENANT_MAX; i < EXECUTORS_QUEUE_TENANT_MAX + 80; i++)
		assert_int_equal(request(fixture, i, "other", 0)->refused, 0);
	end(fixture);
}

/* A few tenants that fill the queue do not shut out those who have little in it. */
static void a_full_queue_has_room_for_newcomers(void **state)
{
	struct fixture *fixture = begin(state);
	unsigned next = 0;
	char tenants[EXECUTORS_QUEUE_MAX / EXECUTORS_QUEUE_TENANT_MAX][8];

	fixture->spawnable = true;
	for (unsigned i = 0; i < EXECUTORS_QUEUE_MAX / EXECUTORS_QUEUE_TENANT_MAX; i++) {
		snprintf(tenants[i], sizeof(tenants[i]), "t%u", i);
		for (unsigned k = 0; k < EXECUTORS_QUEUE_TENANT_MAX; k++)
			assert_int_equal(request(fixture, next++, tenants[i], 0)->refused, 0);
	}
	for (unsigned i = 0; i < EXECUTORS_QUEUE_SURE; i++)
		assert_int_equal(request(fixture, next++, "newcomer", 0)->refused, 0);
	assert_int_equal(request(fixture, next++, "newcomer", 0)->refused, 1);
	end(fixture);
}

static void nobody_waits_for_ever(void **state)
{
	struct fixture *fixture = begin_with(state, 50 * MS, 0);
	struct holder *running, *waiting, *later;

	add_ready(fixture, 0, "acme", 1);
	running = request(fixture, 0, "acme", 0);
	waiting = request(fixture, 1, "acme", 0);
	DAEMON_UNTIL(fixture, waiting->refused);
	assert_non_null(strstr(waiting->why, "no executor of tenant acme became free"));
	assert_int_equal(running->refused + running->lost, 0);
	/* It says what is wrong with executors that are not there. */
	daemon_stand_in_stop(&fixture->daemons[0]);
	DAEMON_UNTIL(fixture, is(fixture, 0, EXECUTOR_LOST));
	later = request(fixture, 2, "acme", 0);
	DAEMON_UNTIL(fixture, later->refused);
	assert_non_null(strstr(later->why, "daemon-0"));
	end(fixture);
}

static void tenants_are_bounded(void **state)
{
	struct fixture *fixture = begin(state);
	static char names[EXECUTORS_TENANTS_MAX + 1][8];

	fixture->spawnable = true;
	/* Those who hold nothing are forgotten. */
	for (unsigned i = 0; i <= EXECUTORS_TENANTS_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), "t%u", i);
		assert_int_equal(request(fixture, 0, names[i], 0)->refused, 0);
		lease_release(&fixture->holders[0].lease);
	}
	for (unsigned i = 0; i < EXECUTORS_TENANTS_MAX; i++)
		assert_int_equal(request(fixture, i, names[i], 0)->refused, 0);
	assert_int_equal(request(fixture, EXECUTORS_TENANTS_MAX, names[EXECUTORS_TENANTS_MAX], 0)->refused, 1);
	end(fixture);
}

/* ---- anything in any order ---- */

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
		holder = prepare(fixture, number, chaos_next(chaos, 3) ? "a" : "b", chaos_next(chaos, 5));
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
		add(fixture, number, number == 3 ? "b" : "a", 1 + chaos_next(chaos, 3));
		break;
	}
}

/* From fixed seeds: leases come, grow and go, some inside their own grant; executors are lost, suspected and drained. */
static void the_books_are_kept(void **state)
{
	for (uint64_t seed = 1; seed <= 3; seed++) {
		struct fixture *fixture = begin(state);
		struct chaos chaos = { .fixture = fixture, .seed = seed };
		struct executors_status status;

		for (unsigned i = 0; i < 4; i++)
			add(fixture, i, i == 3 ? "b" : "a", 2);
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
		end(fixture);
		assert_true(chaos.drained > 0);
	}
}

/* ---- drain, and the end ---- */

static void a_drained_one_ends_with_its_last_lease(void **state)
{
	struct fixture *fixture = begin(state);
	struct holder *holder, *next, *last;
	struct executor_config config = { .name = "daemon-0", .tenant = "acme" };

	add_ready(fixture, 0, "acme", 4);
	add_ready(fixture, 1, "acme", 1);
	holder = request(fixture, 0, "acme", 3);
	next = request(fixture, 1, "acme", 3);
	assert_true(has(fixture, holder, 0) && has(fixture, next, 0));
	config.address = daemon_stand_in_address(&fixture->daemons[0]);
	assert_int_equal(executors_add(fixture->executors, NULL, &config), -EEXIST);
	executor_drain(fixture->executor[0], on_gone, fixture);
	assert_true(is(fixture, 0, EXECUTOR_DRAINING));
	last = request(fixture, 2, "acme", 3);
	assert_true(has(fixture, last, 1));
	lease_release(&holder->lease);
	assert_int_equal(executor_leases(fixture->executor[0]), 1);
	/* It is still looked after: who is there hears of its loss. */
	daemon_stand_in_stop(&fixture->daemons[0]);
	DAEMON_UNTIL(fixture, next->lost);
	assert_int_equal(fixture->gone, 0);
	/* Its name is free already. */
	assert_int_equal(executors_add(fixture->executors, NULL, &config), 0);
	lease_release(&next->lease);
	DAEMON_UNTIL(fixture, fixture->gone);
	end(fixture);
}

static void who_waits_for_the_last_one_is_told(void **state)
{
	struct fixture *fixture = begin(state);
	struct holder *running, *waiting;

	add_ready(fixture, 0, "acme", 1);
	running = request(fixture, 0, "acme", 0);
	waiting = request(fixture, 1, "acme", 0);
	executor_drain(fixture->executor[0], NULL, NULL);
	assert_int_equal(waiting->refused, 1);
	assert_int_equal(running->refused + running->lost, 0);
	assert_int_equal(request(fixture, 2, "acme", 0)->refused, 1);
	end(fixture);
}

static void closing_refuses_who_waits(void **state)
{
	struct fixture *fixture = begin(state);
	struct holder *running, *waiting;
	struct executor_config config = { .name = "late", .tenant = "acme" };

	add_ready(fixture, 0, "acme", 1);
	running = request(fixture, 0, "acme", 0);
	waiting = request(fixture, 1, "acme", 0);
	executors_close(fixture->executors);
	assert_int_equal(waiting->refused, 1);
	assert_int_equal(request(fixture, 2, "acme", 0)->refused, 1);
	assert_int_equal(executors_add(fixture->executors, NULL, &config), -ESHUTDOWN);
	assert_int_equal(running->refused + running->lost, 0);
	for (unsigned i = 0; i < 20; i++)
		ring_run(fixture->ring, 10 * MS);
	assert_false(executors_idle(fixture->executors));
	lease_release(&running->lease);
	end(fixture);
}

/* A name that has to be looked up, which a worker does; and one that does not exist. */
static void names_are_resolved_off_the_loop(void **state)
{
	struct fixture *fixture = begin(state);
	struct executor_config config = { .name = "by-name", .tenant = "acme" };
	struct executor *nowhere;
	struct conn_config conn = { 0 };
	struct conn *none;
	char why[512];

	fixture->daemons[0].tcp = true;
	daemon_stand_in_start(&fixture->daemons[0], fixture->ring);
	config.address = daemon_stand_in_address(&fixture->daemons[0]);
	snprintf(config.address.host, sizeof(config.address.host), "localhost");
	assert_int_equal(executors_add(fixture->executors, &fixture->executor[0], &config), 0);
	assert_int_equal(executor_connect(fixture->executor[0], &none, &conn, why, sizeof(why)), -EHOSTUNREACH);
	DAEMON_UNTIL(fixture, is(fixture, 0, EXECUTOR_READY));
	config.name = "nowhere";
	snprintf(config.address.host, sizeof(config.address.host), "nowhere.invalid");
	assert_int_equal(executors_add(fixture->executors, &nowhere, &config), 0);
	DAEMON_UNTIL(fixture, strstr(executor_why(nowhere), "nowhere.invalid"));
	assert_int_equal(executor_state(nowhere), EXECUTOR_JOINING);
	end(fixture);
}

/* ---- speed ---- */

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A lease on a warm executor comes within the call, among as many executors as there may be; the bound is generous. */
static void a_warm_lease_is_quick(void **state)
{
	enum { TIMES = 200 };
	struct fixture *fixture = begin(state);
	struct executor_config config = { .tenant = "acme" };
	struct executors_status status;
	char name[32];
	uint64_t begun;

	add_ready(fixture, 0, "acme", 4);
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
	lease_release(&request(fixture, 0, "acme", 9)->lease);
	begun = now_ns();
	for (unsigned i = 0; i < TIMES; i++) {
		struct holder *holder = request(fixture, 0, "acme", 9);

		assert_int_equal(holder->granted, 1);
		lease_release(&holder->lease);
	}
	print_message("a lease on a warm executor among %d: %llu ns\n", EXECUTORS_MAX,
	              (unsigned long long)((now_ns() - begun) / TIMES));
	assert_true((now_ns() - begun) / TIMES < 1 * MS);
	end(fixture);
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(an_executor_joins),
		BOTH(what_is_not_ready_says_why),
		BOTH(lost_and_back),
		BOTH(not_serving_is_lost),
		BOTH(a_suspect_is_asked_before_it_gets_a_lease),
		BOTH(who_does_not_answer_is_lost),
		BOTH(nobody_is_pinged),
		BOTH(who_can_less_is_refused),
		BOTH(who_stays_away_keeps_nobody_out),
		BOTH(who_can_more_joins),
		BOTH(the_least_loaded_is_taken),
		BOTH(the_warm_one_is_taken),
		BOTH(who_avoids_waits_for_another),
		BOTH(what_suits_is_preferred),
		BOTH(who_suits_elsewhere_warms_nothing),
		BOTH(who_avoids_does_not_move_back),
		BOTH(slots_grow_and_shrink),
		BOTH(no_tenant_gets_anothers),
		BOTH(positions_are_told),
		BOTH(tenants_do_not_hold_each_other_up),
		BOTH(the_spawner_hears_all_in_turn),
		BOTH(the_queue_is_bounded),
		BOTH(a_full_queue_has_room_for_newcomers),
		BOTH(nobody_waits_for_ever),
		BOTH(tenants_are_bounded),
		BOTH(the_books_are_kept),
		BOTH(a_drained_one_ends_with_its_last_lease),
		BOTH(who_waits_for_the_last_one_is_told),
		BOTH(closing_refuses_who_waits),
		BOTH(names_are_resolved_off_the_loop),
		BOTH(a_warm_lease_is_quick),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
