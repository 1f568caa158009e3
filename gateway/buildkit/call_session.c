/* A Session among a client's calls: terminated here (session.h), and carried to the executor of its binding. */
#include "gateway/buildkit/buildkit_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "gateway/base/err.h"
#include "gateway/session/session.h"

/* What ran there is told so; the status of a daemon that ended the session by itself is its own. */
static void session_on_executor_closed(struct session *session, enum grpc_status status, struct span message)
{
	const struct buildkit_call *call = session_owner(session);
	char text[CALL_STATUS_TEXT_MAX + 1];

	if (status == GRPC_UNAVAILABLE && call->losses != call->binding->losses) {
		binding_step(call->binding);     /* its builds go on elsewhere, and it goes with them */
		return;
	}
	if (status == GRPC_UNAVAILABLE)
		snprintf(text, sizeof(text), "the connection to executor %s was lost: start the build again",
		         call->binding->executor);
	else
		snprintf(text, sizeof(text), "%.*s", (int)message.size, (const char *)message.data);
	session_finish(session, status, text);
}

static void session_on_closed(struct session *session)
{
	struct buildkit_call *call = session_owner(session);

	builds_collect(call);
	call->carried = NULL;
	call_gone(call);
}

static void session_on_ready(struct session *session)
{
	const struct buildkit_call *call = session_owner(session);

	binding_step(call->binding);
}

static const struct session_events session_events = {
	.on_executor_closed = session_on_executor_closed, .on_ready = session_on_ready, .on_closed = session_on_closed,
};

/* What is asked over a link that is down is answered when it is up again, or the link ends, and with it the session. */
static uint64_t probe_timeout(const struct buildkit *buildkit, const struct conn *client)
{
	return conn_peer(client)->linked ? buildkit->link_timeout_ns + HEALTH_PROBE_TIMEOUT_NS : HEALTH_PROBE_TIMEOUT_NS;
}

int call_session_accept(struct buildkit_call *call, const struct server_request *request)
{
	struct binding *binding = call->binding;
	struct session_config config = {
		.ring = binding->buildkit->ring, .siblings = &binding->sessions,
		.broker = binding->buildkit->broker, .play = binding->buildkit->play, .scope = binding->scope,
		.tenant = span_text(binding->tenant), .subject = span_text(binding->subject), .events = &session_events,
		.probe_timeout_ns = probe_timeout(binding->buildkit, request->conn), .owner = call,
		.spools = binding->buildkit->replay == REPLAY_SAFE ? &binding->buildkit->spools : NULL,
	};
	int r = session_accept(&call->carried, &config, request->stream, request->head);

	return r < 0 ? ERR_RAISE(r) : 0;
}

/* Of "directory:client". */
static size_t directory_bytes(struct span key)
{
	const uint8_t *colon = key.size ? memrchr(key.data, ':', key.size) : NULL;

	return colon ? (size_t)(colon - key.data) : key.size;
}

void call_session_begin(struct buildkit_call *call)
{
	struct span key = session_shared_key(call->carried);
	char directory[BUILD_DIRECTORY_MAX];

	call_copy(call->session, sizeof(call->session), session_id(call->carried));
	call_copy(call->shared_key, sizeof(call->shared_key), key);
	/* Under a stable key the directory is the same one on whichever machine it lies. */
	if (session_is_stable(call->carried))
		call_copy(directory, sizeof(directory), span_make(key.data, directory_bytes(key)));
	else
		call_copy(directory, sizeof(directory), key);
	call->affinity = key.size ? refs_hash(call->binding->tenant, directory) : 0;
	call->known = true;
}

bool call_session_held(const struct buildkit_call *call)
{
	return call->carried && session_is_held(call->carried);
}

bool call_session_carried(const struct buildkit_call *call)
{
	return call->carried && !session_is_held(call->carried);
}

/* Which of the connection's builds will use it is not known of a session that they share. */
static bool binding_wants_real_times(const struct binding *binding)
{
	list_for_each(link, &binding->calls) {
		const struct buildkit_call *call = container_of(link, struct buildkit_call, link);

		if (call->build && call->build->real_times)
			return true;
	}
	return false;
}

int call_session_open(struct buildkit_call *call, struct uplink *uplink)
{
	if (!session_is_ready(call->carried))
		return -EAGAIN;
	if (binding_wants_real_times(call->binding))
		session_want_real_times(call->carried);
	call->losses = call->binding->losses;
	return session_carry(call->carried, conn_h2(uplink->conn));
}
