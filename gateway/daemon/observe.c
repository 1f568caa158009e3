/* Once a second, a copy of all numbers for the admin port. */
#include "gateway/daemon/observe.h"

#include "gateway/admin/admin.h"
#include "gateway/base/log.h"
#include "gateway/buildkitd/spawner.h"
#include "gateway/daemon/parts.h"

#define OBSERVE_INTERVAL_NS 1000000000u

/* Builds are to go elsewhere. It stays so until a restart. */
static void observe_store(struct daemon *daemon, const struct store_status *store)
{
	if (!store->failed || !daemon->ready)
		return;
	daemon->ready = false;
	admin_set_ready(daemon->admin, false, "the store's disk failed: see the log, and restart when it is mended");
}

static void observe_publish(struct daemon *daemon)
{
	struct counter_values values = { { 0 } };
	struct server_status server;
	struct store_status store;
	struct pool_status pool;
	struct buildkit_status buildkit = { 0 };
	struct stat_memory_status stats = { 0 };
	struct ledger_status ledger;
	struct stable_status stable = { 0 };
	struct executors_status executors = { 0 };
	struct spawner_status spawner = { 0 };
	struct link_service_status links;

	server_status(daemon->server, &server);
	store_status(daemon->store, &store);
	pool_status(daemon->pool, &pool);
	ledger_status(daemon->ledger, &ledger);
	link_service_status(daemon->links, &links);
	if (daemon->buildkit)
		buildkit_status(daemon->buildkit, &buildkit);
	if (daemon->broker.memory)
		stat_memory_status(daemon->broker.memory, &stats);
	if (daemon->play.stable)
		stable_status(daemon->play.stable, &stable);
	if (daemon->executors)
		executors_status(daemon->executors, &executors);
	if (daemon->spawner)
		spawner_status(daemon->spawner, &spawner);
	counters_process(&daemon->process);
	counters_read(&values, COUNTERS_SERVER, &server);
	counters_read(&values, COUNTERS_RING, ring_counters(daemon->ring));
	counters_read(&values, COUNTERS_STORE, &store);
	counters_read(&values, COUNTERS_CAS, &daemon->cas.counters);
	counters_read(&values, COUNTERS_POOL, &pool);
	counters_read(&values, COUNTERS_EXECUTE, &daemon->execute.counters);
	counters_read(&values, COUNTERS_REAPI, &daemon->reapi.counters);
	counters_read(&values, COUNTERS_BUILDKIT, &buildkit);
	counters_read(&values, COUNTERS_BROKER, &daemon->broker.counters);
	counters_read(&values, COUNTERS_PLAY, &daemon->play.counters);
	counters_read(&values, COUNTERS_STABLE, &stable);
	counters_read(&values, COUNTERS_STATS, &stats);
	counters_read(&values, COUNTERS_LEDGER, &ledger);
	counters_read(&values, COUNTERS_EXECUTORS, &executors);
	counters_read(&values, COUNTERS_SPAWNER, &spawner);
	counters_read(&values, COUNTERS_LINKS, &links);
	counters_read(&values, COUNTERS_PROCESS, &daemon->process);
	admin_publish(daemon->admin, &values);
	observe_store(daemon, &store);
}

static void observe_on_timer(struct op *op, int32_t res)
{
	struct daemon *daemon = container_of(op, struct daemon, observe_timer);

	if (res < 0 || !daemon->admin)
		return;
	observe_publish(daemon);
	ring_timer(daemon->ring, op, OBSERVE_INTERVAL_NS);
}

int observe_start(struct daemon *daemon, char *why, size_t why_size)
{
	struct admin_config config = {
		.address = daemon->config->admin, .version = SLUICE_VERSION, .engine = ring_engine_name(daemon->ring),
	};
	char bound[64];
	int r;

	if (!daemon->config->admin)
		return 0;
	r = admin_create(&daemon->admin, &config, bound, sizeof(bound), why, why_size);
	if (r < 0)
		return r;
	log_event(LOG_INFO, "admin", LOG_TEXT("address", bound));
	daemon->observe_timer.fn = observe_on_timer;
	observe_publish(daemon);
	ring_timer(daemon->ring, &daemon->observe_timer, OBSERVE_INTERVAL_NS);
	return 0;
}

void observe_ready(struct daemon *daemon)
{
	daemon->ready = true;
	if (daemon->admin)
		admin_set_ready(daemon->admin, true, NULL);
}

void observe_draining(struct daemon *daemon)
{
	daemon->ready = false;
	if (daemon->admin)
		admin_set_ready(daemon->admin, false, "draining");
}

void observe_stop(struct daemon *daemon)
{
	if (!daemon->admin)
		return;
	ring_cancel(daemon->ring, &daemon->observe_timer);
	while (op_in_flight(&daemon->observe_timer))
		ring_run(daemon->ring, UINT64_MAX);
	admin_destroy(daemon->admin);
	daemon->admin = NULL;
}
