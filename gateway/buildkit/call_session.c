/* A Session among a client's calls: carried to its executor as bytes. */
#include "gateway/buildkit/buildkit_private.h"

static struct buildkit_call *of_forward(struct forward *forward)
{
	return container_of(forward, struct buildkit_call, forward);
}

/* One that no executor has seen is closed by its client: the probe's, or one whose build was cancelled. */
static void session_on_end(struct forward *forward)
{
	forward_finish(forward, GRPC_OK, NULL);
}

static void session_on_gone(struct forward *forward)
{
	call_gone(of_forward(forward));
}

static const struct forward_events session_events = { .on_end = session_on_end, .on_gone = session_on_gone };

int call_session_accept(struct buildkit_call *call, const struct server_request *request)
{
	return forward_init(&call->forward, &session_events, &call->binding->account, request->stream, request->head);
}

void call_session_begin(struct buildkit_call *call)
{
	struct span key = forward_header(&call->forward, "x-docker-expose-session-sharedkey");

	call_copy(call->session, sizeof(call->session), forward_header(&call->forward, "x-docker-expose-session-uuid"));
	call_copy(call->shared_key, sizeof(call->shared_key), key);
	call->affinity = key.size ? refs_hash(call->binding->tenant, call->shared_key) : 0;
	call->known = true;
	forward_start(&call->forward);
}

bool call_session_held(const struct buildkit_call *call)
{
	return call->forward.state == FORWARD_HELD && forward_answerable(&call->forward);
}

int call_session_open(struct buildkit_call *call, struct uplink *uplink)
{
	return forward_open(&call->forward, conn_h2(uplink->conn), uplink->executor);
}
