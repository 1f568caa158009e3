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

	relay->owner->lost += forward->lost;
	list_remove(&relay->link);
	free(relay);
}

static const struct forward_events relay_events = { .on_gone = relay_on_gone };

void relay_owner_init(struct relay_owner *owner, const char *executor)
{
	*owner = (struct relay_owner){ .executor = executor };
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
		relay->forward.lost_text = owner->lost_text;
		r = forward_open(&relay->forward, to, owner->executor);
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
