/* A call's time, and its end when that has passed. */
#include "gateway/net/deadline.h"

#include <stdlib.h>
#include "gateway/base/check.h"

/* For the status to go out behind messages that the client may still be reading. */
#define GRACE_NS 1000000000ull

enum deadline_state {
	DEADLINE_AHEAD,                  /* the time runs */
	DEADLINE_PASSED,                 /* a status is queued: ours, or the method's own that is on its way */
	DEADLINE_RESET,                  /* it did not get through: the stream is reset; no timer */
	DEADLINE_OVER,                   /* the call has closed; the timer lands */
};

struct deadline {
	struct ring *ring;
	enum deadline_state state;
	struct call *call;
	const struct call_events *inner; /* the method's */
	struct call_events events;       /* the same, but for on_closed */
	uint64_t timeout_ns;
	bool exceeded;                   /* the status is ours */
	struct op timer;
};

static void deadline_enter(struct deadline *deadline, enum deadline_state state)
{
	CHECK(state > deadline->state);
	deadline->state = state;
}

static void deadline_pass(struct deadline *deadline)
{
	deadline_enter(deadline, DEADLINE_PASSED);
	deadline->exceeded = !deadline->call->finishing;
	call_finish(deadline->call, GRPC_DEADLINE_EXCEEDED, "the time that the client gave this call has passed");
	ring_timer(deadline->ring, &deadline->timer, GRACE_NS);
}

static void deadline_on_timer(struct op *op, int32_t res)
{
	struct deadline *deadline = container_of(op, struct deadline, timer);

	(void)res;
	switch (deadline->state) {
	case DEADLINE_AHEAD:
		deadline_pass(deadline);
		break;
	case DEADLINE_PASSED:
		deadline_enter(deadline, DEADLINE_RESET);
		call_cancel(deadline->call);
		break;
	case DEADLINE_OVER:
		free(deadline);
		break;
	default:
		CHECK(!"a state with a timer");
	}
}

static void deadline_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct deadline *deadline = container_of(call->events, struct deadline, events);
	const struct call_events *inner = deadline->inner;

	CHECK(deadline->call == call);
	if (deadline->exceeded)
		status = GRPC_DEADLINE_EXCEEDED;
	call->events = inner;
	deadline_enter(deadline, DEADLINE_OVER);
	if (op_in_flight(&deadline->timer))
		ring_cancel(deadline->ring, &deadline->timer);
	else
		free(deadline);
	inner->on_closed(call, status, message);
}

struct deadline *deadline_create(struct ring *ring, uint64_t timeout_ns)
{
	struct deadline *deadline = calloc(1, sizeof(*deadline));

	if (!deadline)
		return NULL;
	deadline->ring = ring;
	deadline->timeout_ns = timeout_ns;
	deadline->timer.fn = deadline_on_timer;
	return deadline;
}

void deadline_destroy(struct deadline *deadline)
{
	CHECK(!deadline || !deadline->call);
	free(deadline);
}

void deadline_start(struct deadline *deadline, struct call *call)
{
	CHECK(call->server && call->stream);
	deadline->call = call;
	deadline->inner = call->events;
	deadline->events = *call->events;
	deadline->events.on_closed = deadline_on_closed;
	call->events = &deadline->events;
	ring_timer(deadline->ring, &deadline->timer, deadline->timeout_ns);
}
