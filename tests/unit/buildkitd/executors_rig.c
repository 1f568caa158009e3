#include "tests/unit/buildkitd/executors_rig.h"

#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/check.h"

/* ---- the pool's spawner, such as it is ---- */

static void on_wanted(void *context, const char *tenant)
{
	struct fixture *fixture = context;

	if (fixture->wanted < WANTED_MAX)
		snprintf(fixture->wanted_tenants[fixture->wanted], 16, "%s", tenant);
	fixture->wanted++;
}

static bool spawnable(void *context, const char *tenant, bool waiting)
{
	(void)tenant;
	return ((struct fixture *)context)->spawnable;
}

static void on_idle(void *context, struct executor *executor)
{
	(void)executor;
	((struct fixture *)context)->idle++;
}

void rig_on_gone(void *context)
{
	((struct fixture *)context)->gone++;
}

/* ---- set-up ---- */

struct fixture *rig_begin_with(void **state, uint64_t queue_timeout_ns, uint64_t answer_timeout_ns)
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

struct fixture *rig_begin(void **state)
{
	return rig_begin_with(state, 0, 0);
}

void rig_end(struct fixture *fixture)
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

void rig_add(struct fixture *fixture, unsigned number, const char *tenant, uint32_t slots)
{
	char name[EXECUTOR_NAME_MAX];
	struct executor_config config = { .name = name, .tenant = tenant, .slots = slots };

	if (!fixture->daemons[number].server && !fixture->daemons[number].bound[0])
		daemon_stand_in_start(&fixture->daemons[number], fixture->ring);
	snprintf(name, sizeof(name), "daemon-%u", number);
	config.address = daemon_stand_in_address(&fixture->daemons[number]);
	assert_int_equal(executors_add(fixture->executors, &fixture->executor[number], &config), 0);
}

bool rig_is(const struct fixture *fixture, unsigned number, enum executor_state state)
{
	return executor_state(fixture->executor[number]) == state;
}

void rig_add_ready(struct fixture *fixture, unsigned number, const char *tenant, uint32_t slots)
{
	rig_add(fixture, number, tenant, slots);
	DAEMON_UNTIL(fixture, rig_is(fixture, number, EXECUTOR_READY));
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

struct holder *rig_prepare(struct fixture *fixture, unsigned number, const char *tenant, uint64_t affinity)
{
	struct holder *holder = &fixture->holders[number];

	*holder = (struct holder){ .fixture = fixture };
	holder->lease = (struct lease){
		.tenant = tenant, .affinity = affinity, .on_granted = holder_on_granted, .on_queued = holder_on_queued,
		.on_refused = holder_on_refused, .on_lost = holder_on_lost,
	};
	return holder;
}

struct holder *rig_request(struct fixture *fixture, unsigned number, const char *tenant, uint64_t affinity)
{
	struct holder *holder = rig_prepare(fixture, number, tenant, affinity);

	lease_request(fixture->executors, &holder->lease);
	return holder;
}

bool rig_has(const struct fixture *fixture, const struct holder *holder, unsigned number)
{
	return holder->lease.executor == fixture->executor[number];
}
