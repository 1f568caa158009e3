/*
 * sending: a blob, a batch of them or what is said of one, on its way to a client that asked for it, until the last byte is out. Who takes nothing of it for
 * REAPI_READ_IDLE_NS loses the call, so that others get the memory. On the ring's thread.
 */
#pragma once

#include "gateway/reapi/reapi.h"

struct sending {
	struct loan loan;                /* the owner's; when one is with the call, it tells how far it is */
	struct call *call;
	size_t left;                     /* that was not taken, when it was last looked at */
	uint64_t moved_ns;               /* when something of it was last seen to go */
	struct list link;                /* reapi.sendings */
};

void sending_begin(struct sending *sending, struct reapi *reapi, struct call *call);
/* A message more went to the call, or out of it. */
void sending_moved(struct sending *sending, const struct reapi *reapi);
/* No more of it; also of an all-zero one. */
void sending_end(struct sending *sending);
/* Ends what nobody takes. */
void sendings_sweep(struct reapi *reapi, uint64_t now);
