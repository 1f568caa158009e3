/* The edge's numbers. */
#include "gateway/edge/parts.h"

#include "gateway/admin/admin.h"
#include "gateway/base/log.h"

#define OBSERVE_INTERVAL_NS 1000000000u

static void edge_publish(struct edge *edge)
{
	struct counter_values values = { { 0 } };
	struct counters_process process;
	struct stat_memory_status stats;
	struct server_status server;
	struct store_status store;

	store_status(edge->store, &store);
	stat_memory_status(edge->giver.memory, &stats);
	server_status(edge->server, &server);
	counters_process(&process);
	counters_read(&values, COUNTERS_SERVER, &server);
	counters_read(&values, COUNTERS_RING, ring_counters(edge->ring));
	counters_read(&values, COUNTERS_CHANNELS, &edge->channels.counters);
	counters_read(&values, COUNTERS_GIVER, &edge->giver.counters);
	counters_read(&values, COUNTERS_STORE, &store);
	counters_read(&values, COUNTERS_STATS, &stats);
	counters_read(&values, COUNTERS_PROCESS, &process);
	admin_publish(edge->admin, &values);
	if (edge->draining)
		admin_set_ready(edge->admin, false, "draining");
}

static void observe_on_timer(struct op *op, int32_t res)
{
	struct edge *edge = container_of(op, struct edge, observe_timer);

	if (res < 0 || !edge->admin)
		return;
	edge_publish(edge);
	ring_timer(edge->ring, op, OBSERVE_INTERVAL_NS);
}

int edge_observe_start(struct edge *edge, char *why, size_t why_size)
{
	struct admin_config config = {
		.address = edge->config->admin, .version = SLUICE_VERSION, .engine = ring_engine_name(edge->ring),
	};
	char bound[64];
	int r;

	if (!edge->config->admin)
		return 0;
	r = admin_create(&edge->admin, &config, bound, sizeof(bound), why, why_size);
	if (r < 0)
		return r;
	log_event(LOG_INFO, "admin", LOG_TEXT("address", bound));
	edge->observe_timer.fn = observe_on_timer;
	edge_publish(edge);
	ring_timer(edge->ring, &edge->observe_timer, OBSERVE_INTERVAL_NS);
	return 0;
}

void edge_observe_ready(struct edge *edge)
{
	if (edge->admin)
		admin_set_ready(edge->admin, true, NULL);
}

void edge_observe_stop(struct edge *edge)
{
	if (!edge->admin)
		return;
	ring_cancel(edge->ring, &edge->observe_timer);
	while (op_in_flight(&edge->observe_timer))
		ring_run(edge->ring, UINT64_MAX);
	admin_destroy(edge->admin);
	edge->admin = NULL;
}
