/* Once a second: has there been anything to do? */
#include "gateway/daemon/rest.h"

#include "gateway/base/heap.h"

#define REST_INTERVAL_NS 1000000000u
#define REST_COMPLETIONS 100u            /* a second with fewer is one of rest: timers, health checks */

static void rest_on_timer(struct op *op, int32_t res)
{
	struct rest *rest = container_of(op, struct rest, timer);
	uint64_t completions = ring_counters(rest->ring)->completions;
	bool works = completions - rest->completions >= REST_COMPLETIONS;

	if (res < 0)
		return;
	if (rest->worked && !works)
		heap_give_back();
	rest->worked = works;
	rest->completions = completions;
	ring_timer(rest->ring, op, REST_INTERVAL_NS);
}

void rest_start(struct rest *rest, struct ring *ring)
{
	*rest = (struct rest){ .ring = ring, .worked = true, .timer.fn = rest_on_timer };
	ring_timer(ring, &rest->timer, REST_INTERVAL_NS);
}

void rest_stop(struct rest *rest)
{
	if (!rest->ring)
		return;
	ring_cancel(rest->ring, &rest->timer);
	while (op_in_flight(&rest->timer))
		ring_run(rest->ring, UINT64_MAX);
	*rest = (struct rest){ 0 };
}
