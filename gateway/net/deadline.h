/*
 * deadline: ends a server's call when the time that its client gave it (`grpc-timeout`) has passed: DEADLINE_EXCEEDED
 * goes out behind what is queued, and when it has not got through a second later, as the client reads no more, the
 * stream is reset. One timer, and only for a call that asked for it; so there are at most as many as streams.
 *
 * The call's owner learns of it by on_closed with GRPC_DEADLINE_EXCEEDED; until then what he sends is refused with
 * CALL_CLOSED and nothing arrives.
 *
 *	AHEAD -> PASSED -> RESET, each -> OVER -> (freed)
 */
#pragma once

#include "gateway/ring/ring.h"
#include "proto/call.h"

struct deadline;

/* NULL: no memory. */
struct deadline *deadline_create(struct ring *ring, uint64_t timeout_ns);
/* Only of one that was not started. NULL is accepted. */
void deadline_destroy(struct deadline *deadline);
/*
 * The time runs. Right after call_accept(), or before the call's first event at least; `call` is a server's. Puts itself
 * before the call's events. Frees itself some turns after the call's end.
 */
void deadline_start(struct deadline *deadline, struct call *call);
