/* A forward that belongs to itself. */
#include "gateway/session/relay.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/err.h"

struct relay {
	struct forward forward;
	struct relay_owner *owner;
	struct list link;
};

static void relay_on_gone(struct forward *forward)
{
	struct relay *relay = container_of(forward, struct relay, forward);
	struct relay_owner *owner = relay->owner;

	owner->lost += forward->lost;
	list_remove(&relay->link);
	free(relay);
	if (owner->on_idle && list_empty(&owner->relays))
		owner->on_idle(owner);
}

static const char *relay_lost_text(struct forward *forward)
{
	struct relay_owner *owner = container_of(forward, struct relay, forward)->owner;

	return owner->lost_text(owner);
}

static const struct forward_events relay_events = { .lost_text = relay_lost_text, .on_gone = relay_on_gone };

void relay_owner_init(struct relay_owner *owner, const char *(*lost_text)(struct relay_owner *owner))
{
	*owner = (struct relay_owner){ .lost_text = lost_text };
	list_init(&owner->relays);
}

int relay_open(struct relay_owner *owner, struct h2 *to, struct stream *from, const struct grpc_request *request)
{
	struct relay *relay = calloc(1, sizeof(*relay));
	int r;

	if (!relay)
		return ERR_RAISE(-ENOMEM);
	relay->owner = owner;
	r = forward_init(&relay->forward, &relay_events, &owner->account, from, request);
	if (r == 0) {
		r = forward_open(&relay->forward, to, "");
		if (r < 0)
			forward_abandon(&relay->forward);
	}
	if (r < 0) {
		free(relay);
		return r;
	}
	list_append(&owner->relays, &relay->link);
	owner->opened++;
	return 0;
}
