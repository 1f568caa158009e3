/* Connections to executors. */
#include "gateway/buildkit/buildkit_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/buildkitd/executor_process.h"

/* buildkitd's own limits are dynamic; these let a context through at the speed of the link. */
#define STREAM_WINDOW_BYTES     (1u << 20)
#define CONNECTION_WINDOW_BYTES (8u << 20)
#define STREAMS_MAX             256
#define ERRAND_IDLE_NS          2000000000ull
#define LEASED_IDLE_NS          (UINT64_MAX / 4)         /* the lease decides */

static void uplink_on_ready(struct conn *conn)
{
	struct uplink *uplink = conn_owner(conn);

	uplink->ready = true;
	uplink->process = executor_process_of(conn_peer(conn));
	log_event(LOG_DEBUG, "executor connected", LOG_U64("conn", conn_id(conn)), LOG_TEXT("executor", uplink->executor));
	binding_on_uplink_ready(uplink->binding, uplink);
}

static void uplink_on_closed(struct conn *conn, const char *reason)
{
	struct uplink *uplink = conn_owner(conn);
	struct binding *binding = uplink->binding;
	struct buildkit *buildkit = binding->buildkit;

	CHECK(buildkit->uplinks_count > 0);
	buildkit->uplinks_count--;
	list_remove(&uplink->link);
	uplink->conn = NULL;
	binding_on_uplink_gone(binding, uplink, reason);
	free(uplink);
	binding_join(binding);
}

/* Of a proxy's, say, which keeps the calls that there are: the next one takes another connection. */
static void uplink_on_goaway(void *owner, uint32_t code)
{
	((struct uplink *)owner)->leaving = true;
}

static const struct conn_events uplink_events = { .on_ready = uplink_on_ready, .on_closed = uplink_on_closed };
static const struct h2_events uplink_h2_events = { .on_goaway = uplink_on_goaway };

int uplink_open(struct uplink **opened, struct binding *binding, struct executor *executor, bool errand, char *why,
                size_t why_size)
{
	struct uplink *uplink = calloc(1, sizeof(*uplink));
	struct conn_config config = {
		.h2 = {
			.events = &uplink_h2_events, .owner = uplink, .streams_max = STREAMS_MAX,
			.stream_window_bytes = STREAM_WINDOW_BYTES, .connection_window_bytes = CONNECTION_WINDOW_BYTES,
		},
		.events = &uplink_events, .owner = uplink,
		.idle_timeout_ns = errand ? ERRAND_IDLE_NS : LEASED_IDLE_NS,
	};
	int r;

	if (!uplink) {
		snprintf(why, why_size, "out of memory");
		return ERR_RAISE(-ENOMEM);
	}
	uplink->binding = binding;
	uplink->errand = errand;
	snprintf(uplink->executor, sizeof(uplink->executor), "%s", executor_name(executor));
	r = executor_connect(executor, &uplink->conn, &config, why, why_size);
	if (r < 0) {
		free(uplink);
		return ERR_RAISE(r);
	}
	binding->buildkit->uplinks_count++;
	list_append(&binding->uplinks, &uplink->link);
	*opened = uplink;
	return 0;
}

void uplink_leave(struct uplink *uplink)
{
	uplink->errand = false;
	conn_drain(uplink->conn);
}

/* An executor that says goodbye keeps its present calls; the next goes over a new connection. */
bool uplink_usable(const struct uplink *uplink)
{
	return uplink->conn && conn_end(uplink->conn) == CONN_END_NONE && !uplink->leaving;
}

int uplink_for(struct uplink **found, struct binding *binding, struct executor *executor, char *why, size_t why_size)
{
	list_for_each(link, &binding->uplinks) {
		struct uplink *uplink = container_of(link, struct uplink, link);

		if ((uplink->errand || uplink == binding->uplink) && uplink_usable(uplink) &&
		    strcmp(uplink->executor, executor_name(executor)) == 0) {
			*found = uplink;
			return 0;
		}
	}
	return uplink_open(found, binding, executor, true, why, why_size);
}
