/*
 * relay: a forward that is opened at once and belongs to itself: for calls of which nobody has to know more than how many
 * there are.
 */
#pragma once

#include "gateway/session/forward.h"

struct relay_owner {
	/* What the caller reads when the other side's connection is lost; borrowed until the next call. */
	const char *(*lost_text)(struct relay_owner *owner);
	/* The last of them has gone: the owner may be freed. Optional. */
	void (*on_idle)(struct relay_owner *owner);
	struct list relays;              /* all that are open */
	struct forward_account account;
	uint64_t opened, lost;           /* ever; of them ended by the loss of the other side */
};

void relay_owner_init(struct relay_owner *owner, const char *(*lost_text)(struct relay_owner *owner));
/*
 * Inside on_stream of `from`: opens the same request on `to` and takes `from` over until both streams have closed; it frees
 * itself then. 0, or what h2_open() says (-EAGAIN, -EPIPE, -ENOMEM; -EINVAL: more header fields than may be sent), and
 * `from` is to be refused.
 */
int relay_open(struct relay_owner *owner, struct h2 *to, struct stream *from, const struct grpc_request *request);
