/* The edge's numbers. */
#include "gateway/edge/parts.h"

#include "gateway/admin/admin.h"
#include "gateway/base/log.h"

#define OBSERVE_INTERVAL_NS 1000000000u
#define OBSERVE_FIRST_NS    100000000u        /* a link is up by then, as a rule */

static void edge_publish(struct edge *edge)
{
	struct counter_values values = { { 0 } };
	struct stat_memory_status stats;
	struct server_status server;
	struct store_status store;

	store_status(edge->store, &store);
	stat_memory_status(edge->giver.memory, &stats);
	server_status(edge->server, &server);
	counters_process(&edge->process);
	counters_read(&values, COUNTERS_SERVER, &server);
	counters_read(&values, COUNTERS_RING, ring_counters(edge->ring));
	counters_read(&values, COUNTERS_CHANNELS, &edge->channels.counters);
	counters_read(&values, COUNTERS_GIVER, &edge->giver.counters);
	counters_read(&values, COUNTERS_STORE, &store);
	counters_read(&values, COUNTERS_STATS, &stats);
	counters_read(&values, COUNTERS_PROCESS, &edge->process);
	admin_publish(edge->admin, &values);
}

static void edge_set_ready(struct edge *edge, bool ready, const char *why)
{
	if (edge->admin)
		admin_set_ready(edge->admin, ready, why);
}

/* Who waits for an edge wants a build, and that is the gateway's. */
static void edge_reach(struct edge *edge)
{
	bool reached = upstream_reach(&edge->upstream), first = !edge->reached && !edge->unreached;

	/* At first the link has only just begun: what it comes to shows when it is up, or lost. */
	if (first && !reached && !edge->upstream.lost_seen)
		return;
	if (reached != edge->reached || first) {
		edge_set_ready(edge, reached, "the gateway cannot be reached");
		notify_send(&edge->notify, reached ? "STATUS=the gateway is within reach" : "STATUS=the gateway cannot be reached");
		log_event(reached ? LOG_INFO : LOG_WARNING, reached ? "ready" : "not ready", LOG_TEXT("upstream", edge->upstream.name),
		          LOG_TEXT("why", reached || !edge->upstream.link ? "" : link_reason(edge->upstream.link)));
	}
	edge->reached = reached;
	edge->unreached = !reached;
}

static void observe_on_timer(struct op *op, int32_t res)
{
	struct edge *edge = container_of(op, struct edge, observe_timer);

	if (res < 0)
		return;
	if (!edge->draining)
		edge_reach(edge);
	if (edge->admin)
		edge_publish(edge);
	ring_timer(edge->ring, op, OBSERVE_INTERVAL_NS);
}

void edge_observe_draining(struct edge *edge)
{
	edge_set_ready(edge, false, "draining");
}

static int edge_open_admin(struct edge *edge, char *why, size_t why_size)
{
	struct admin_config config = {
		.address = edge->config->admin, .version = SLUICE_VERSION, .engine = ring_engine_name(edge->ring),
	};
	char bound[64];
	int r = admin_create(&edge->admin, &config, bound, sizeof(bound), why, why_size);

	if (r < 0)
		return r;
	log_event(LOG_INFO, "admin", LOG_TEXT("address", bound));
	edge_publish(edge);
	return 0;
}

int edge_observe_start(struct edge *edge, char *why, size_t why_size)
{
	int r = edge->config->admin ? edge_open_admin(edge, why, why_size) : 0;

	if (r < 0)
		return r;
	edge_reach(edge);
	edge->observe_timer.fn = observe_on_timer;
	ring_timer(edge->ring, &edge->observe_timer, OBSERVE_FIRST_NS);
	return 0;
}

void edge_observe_stop(struct edge *edge)
{
	if (op_in_flight(&edge->observe_timer))
		ring_cancel(edge->ring, &edge->observe_timer);
	while (op_in_flight(&edge->observe_timer))
		ring_run(edge->ring, UINT64_MAX);
	admin_destroy(edge->admin);
	edge->admin = NULL;
}
