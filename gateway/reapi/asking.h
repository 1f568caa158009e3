/*
 * asking: a call whose request has not come, or not all of it. Who sends nothing of it for REAPI_WRITE_IDLE_NS, or for REAPI_CROWDED_NS
 * while others are refused, is told so, and loses the call: it is one of so many, and what has come of its request is in memory. On
 * the ring's thread.
 */
#pragma once

#include "gateway/reapi/reapi.h"

struct asking {
	struct call *call;
	uint64_t received;               /* message bytes, when it was last looked at */
	uint64_t moved_ns;               /* when some were last seen to come */
	struct list link;                /* reapi.askings */
};

void asking_begin(struct asking *asking, struct reapi *reapi, struct call *call);
/* The request is there; also of an all-zero one. */
void asking_end(struct asking *asking);
/* Ends what does not come. */
void askings_sweep(struct reapi *reapi, uint64_t now);
