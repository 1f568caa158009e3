/* Who has how many calls, and which of them stand still. */
#include "gateway/cas/open_call.h"

#include <stdio.h>

#include "gateway/base/check.h"
#include "gateway/link/link.h"

#define SWEEP_NS 5000000000u

static unsigned count_of(const struct cas *cas, uint32_t tenant)
{
	unsigned count = 0;

	list_for_each(link, &cas->calls)
		count += container_of(link, struct open_call, link)->tenant == tenant;
	return count;
}

bool open_call_begin(struct open_call *open, struct cas *cas, const struct scope *scope, char *why, size_t why_size)
{
	if (count_of(cas, scope->tenant) >= CAS_TENANT_CALLS_MAX) {
		snprintf(why, why_size, "this tenant has too many calls in progress; try again");
		return false;
	}
	open->tenant = scope->tenant;
	list_append(&cas->calls, &open->link);
	return true;
}

void open_call_end(struct open_call *open)
{
	CHECK(!open->cas);
	list_remove(&open->link);
}

/* ---- whether it moves ---- */

static void look(struct open_call *open, uint64_t now)
{
	const struct call *call = open->call;
	uint64_t received = call->bytes_received, taken = call->bytes_sent - call_untaken(call);
	uint64_t patience_ns = open->events->patience_ns(open);

	if (!patience_ns || received != open->received || taken != open->taken) {
		open->received = received;
		open->taken = taken;
		open->moved_ns = now;
	} else if (now >= open->moved_ns + patience_ns + open->more_ns) {
		open->moved_ns = now;
		open->events->on_expired(open);
	}
}

void open_calls_sweep(struct cas *cas, uint64_t now)
{
	list_for_each_safe(link, after, &cas->watched)
		look(container_of(link, struct open_call, watched), now);
}

static void sweep_later(struct cas *cas);

static void sweep_on_timer(struct op *op, int32_t res)
{
	struct cas *cas = container_of(op, struct cas, sweep);

	(void)res;                       /* -ECANCELED: none were left, and there may be some again */
	open_calls_sweep(cas, ring_now_ns(cas->ring));
	sweep_later(cas);
}

static void sweep_later(struct cas *cas)
{
	if (op_in_flight(&cas->sweep) || list_empty(&cas->watched))
		return;
	cas->sweep.fn = sweep_on_timer;
	ring_timer(cas->ring, &cas->sweep, SWEEP_NS);
}

void open_call_watch(struct open_call *open, struct cas *cas, const struct call *call, const struct conn_peer *peer,
                     const struct open_call_events *events)
{
	uint64_t link_timeout_ns = cas->link_timeout_ns ? cas->link_timeout_ns : LINK_TIMEOUT_NS;

	CHECK(!open->cas);
	open->cas = cas;
	open->call = call;
	open->events = events;
	open->more_ns = peer->linked ? link_timeout_ns : 0;
	open->received = open->taken = 0;
	open->moved_ns = ring_now_ns(cas->ring);
	list_append(&cas->watched, &open->watched);
	sweep_later(cas);
}

void open_call_unwatch(struct open_call *open)
{
	struct cas *cas = open->cas;

	CHECK(cas);
	open->cas = NULL;
	list_remove(&open->watched);
	if (list_empty(&cas->watched))
		ring_cancel(cas->ring, &cas->sweep);
}
