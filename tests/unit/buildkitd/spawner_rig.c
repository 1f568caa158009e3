#include "tests/unit/buildkitd/spawner_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/buildkitd/executors_private.h"

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

void rig_host_end(struct fixture *fixture, struct hosted *hosted, const char *why)
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

void rig_host_work(struct fixture *fixture)
{
	for (unsigned i = 0; i < fixture->hosted_count && !fixture->idles; i++) {
		struct hosted *hosted = &fixture->hosted[i];

		if (hosted->ended)
			continue;
		if (hosted->stopped)
			rig_host_end(fixture, hosted, "");
		else if (fixture->fails)
			rig_host_end(fixture, hosted, "it cannot be");
		else if (!hosted->listens)
			host_listen(fixture, hosted);
	}
}

/* ---- set-up ---- */

void rig_turns(struct fixture *fixture)
{
	for (unsigned i = 0; i < 20; i++) {
		rig_host_work(fixture);
		ring_run(fixture->ring, 2 * MS);
	}
}

struct fixture *rig_begin(void **state, struct spawner_config config)
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

void rig_attach(struct fixture *fixture)
{
	spawner_on_host(fixture->spawner, true, span_text(""));
}

void rig_end(struct fixture *fixture)
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

struct holder *rig_request(struct fixture *fixture, unsigned number, const char *tenant)
{
	struct holder *holder = &fixture->holders[number];

	lease_release(&holder->lease);
	*holder = (struct holder){
		.lease = { .tenant = tenant, .on_granted = on_granted, .on_refused = on_refused, .on_lost = on_lost },
	};
	lease_request(fixture->executors, &holder->lease);
	return holder;
}

struct spawner_status rig_status(const struct fixture *fixture)
{
	struct spawner_status status;

	spawner_status(fixture->spawner, &status);
	return status;
}

unsigned rig_running(const struct fixture *fixture, const char *tenant)
{
	unsigned count = 0;

	for (unsigned i = 0; i < fixture->hosted_count; i++)
		count += !fixture->hosted[i].ended && (!tenant || strcmp(fixture->hosted[i].tenant, tenant) == 0);
	return count;
}

void rig_take_turn(struct fixture *fixture)
{
	assert_true(op_in_flight(&fixture->executors->tick));
	executors_on_tick(&fixture->executors->tick, 0);
}
