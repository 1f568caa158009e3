/* Connections to the gateway, and what goes with each call on them. */
#include "gateway/edge/upstream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/client/conn_fault.h"

#define CONNECT_TIMEOUT_NS 10000000000ull

static int upstream_credential(struct upstream *upstream, const struct client_config *config)
{
	if (config->token) {
		if (asprintf(&upstream->authorization, "Bearer %s", config->token) < 0)
			return ERR_RAISE(-ENOMEM);
		upstream->credential[upstream->credential_count++] = (struct header){
			.name = span_text("authorization"), .value = span_text(upstream->authorization), .sensitive = true,
		};
	}
	if (config->instance)
		upstream->credential[upstream->credential_count++] = (struct header){
			.name = span_text("sluice-instance"), .value = span_text(config->instance),
		};
	return 0;
}

static int upstream_tls(struct upstream *upstream, const struct client_config *config, char *why, size_t why_size)
{
	struct tls_config tls = {
		.certificate_path = config->certificate_path, .key_path = config->key_path, .ca_path = config->ca_path,
	};

	return upstream->address.tls ? tls_context_create(&upstream->tls, &tls, why, why_size) : 0;
}

int upstream_init(struct upstream *upstream, struct ring *ring, const struct client_config *config, char *why, size_t why_size)
{
	int r;

	*upstream = (struct upstream){
		.ring = ring, .address = config->address, .server_name = config->server_name,
		.connect_timeout_ns = config->connect_timeout_ns ? config->connect_timeout_ns : CONNECT_TIMEOUT_NS,
		.link_conns = config->link_conns, .token = config->token,
		.link_timeout_ns = config->link_timeout_ns ? config->link_timeout_ns : LINK_TIMEOUT_NS,
	};
	address_format(&upstream->address, upstream->name);
	if (upstream->address.local)
		snprintf(upstream->authority, sizeof(upstream->authority), "localhost");
	else
		snprintf(upstream->authority, sizeof(upstream->authority), "%s", strstr(upstream->name, "://") + 3);
	r = upstream_credential(upstream, config);
	if (r < 0)
		snprintf(why, why_size, "out of memory");
	else
		r = upstream_tls(upstream, config, why, why_size);
	if (r < 0)
		upstream_fini(upstream);
	return r;
}

void upstream_fini(struct upstream *upstream)
{
	tls_context_destroy(upstream->tls);
	free(upstream->authorization);
	upstream->tls = NULL;
	upstream->authorization = NULL;
}

/* ---- the link ---- */

static void link_on_up(struct link *link)
{
	struct upstream *upstream = link_owner(link);

	if (link == upstream->link)
		upstream->link_up = true;
	log_event(LOG_INFO, "link up", LOG_TEXT("upstream", upstream->name));
	upstream_ready(upstream);
}

static void link_on_down(struct link *link, const char *reason)
{
	const struct upstream *upstream = link_owner(link);

	log_event(LOG_WARNING, "link down", LOG_TEXT("upstream", upstream->name), LOG_TEXT("reason", reason));
}

static void link_on_closed(struct link *link)
{
	struct upstream *upstream = link_owner(link);

	CHECK(upstream->links_open > 0);
	upstream->links_open--;
	if (upstream->link == link)
		upstream->link = NULL;
}

static const struct link_events link_events = {
	.on_up = link_on_up, .on_down = link_on_down, .on_closed = link_on_closed,
};

static int upstream_link(struct upstream *upstream, char *why, size_t why_size)
{
	struct link_config config = {
		.address = upstream->address, .tls = upstream->tls, .server_name = upstream->server_name, .token = upstream->token,
		.conns = upstream->link_conns, .timeout_ns = upstream->link_timeout_ns,
		.connect_timeout_ns = upstream->connect_timeout_ns, .events = &link_events, .owner = upstream,
	};
	int r;

	if (upstream->link && !link_is_lost(upstream->link))
		return 0;
	if (upstream->link)
		link_close(upstream->link);
	upstream->link = NULL;
	upstream->link_up = false;
	r = link_open(&upstream->link, upstream->ring, &config, why, why_size);
	if (r < 0) {
		upstream->link = NULL;
		return ERR_RAISE(r);
	}
	upstream->links_open++;
	return 0;
}

/* The link has time-outs of its own; the channel's are behind them. */
static int connect_channel(struct upstream *upstream, struct conn **conn, struct conn_config *config, char *why, size_t why_size)
{
	int r = upstream_link(upstream, why, why_size), fd;

	if (r < 0)
		return r;
	fd = link_channel_open(upstream->link);
	config->handshake_timeout_ns = upstream->link_timeout_ns + 2 * upstream->connect_timeout_ns;
	config->stall_timeout_ns = UINT64_MAX / 4;
	r = fd < 0 ? fd : conn_adopt(conn, upstream->ring, fd, config);
	if (r < 0)
		snprintf(why, why_size, "no channel to %s: %s", upstream->name, strerror(-r));
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? ERR_RAISE(r) : 0;
}

void upstream_close(struct upstream *upstream)
{
	if (upstream->link)
		link_close(upstream->link);
}

/* ---- connections ---- */

int upstream_connect(struct upstream *upstream, struct conn **conn, const struct conn_config *config, char *why,
                     size_t why_size)
{
	struct conn_config with = *config;

	with.server_name = upstream->server_name;
	with.handshake_timeout_ns = upstream->connect_timeout_ns;
	upstream->connections++;
	if (upstream->link_conns)
		return connect_channel(upstream, conn, &with, why, why_size);
	return conn_connect(conn, upstream->ring, &upstream->address, upstream->tls, &with, why, why_size);
}

void upstream_ready(struct upstream *upstream)
{
	upstream->failing_since_ns = 0;
}

static void note_failure(struct upstream *upstream)
{
	upstream->connections_failed++;
	upstream->failed_ns = ring_now_ns(upstream->ring);
	if (!upstream->failing_since_ns)
		upstream->failing_since_ns = upstream->failed_ns;
}

void upstream_closed(struct upstream *upstream, const struct conn *conn)
{
	enum conn_end end = conn_end(conn);

	if (end != CONN_END_CONNECT && end != CONN_END_HANDSHAKE && end != CONN_END_HANDSHAKE_TIMEOUT)
		return;
	note_failure(upstream);
	upstream_describe(upstream, conn, upstream->failure, sizeof(upstream->failure));
}

bool upstream_is_down(struct upstream *upstream, char *why, size_t why_size)
{
	const struct link *link = upstream->link;
	const char *reason;

	if (!link || !upstream->link_up || link_is_up(link) || link_is_lost(link))
		return false;
	reason = link_reason(link);
	note_failure(upstream);
	snprintf(upstream->failure, sizeof(upstream->failure), "cannot reach %s: the link to it is down: %s", upstream->name,
	         *reason ? reason : "the gateway closed it");
	snprintf(why, why_size, "%s", upstream->failure);
	return true;
}

bool upstream_reach(struct upstream *upstream)
{
	char why[UPSTREAM_TEXT_MAX];
	bool lost = upstream->link && link_is_lost(upstream->link);

	if (!upstream->link_conns)
		return !upstream_unreachable(upstream);
	/* Left for one round: whoever's channel was closed with it still asks it why. */
	if (lost && !upstream->lost_seen) {
		upstream->lost_seen = true;
		return false;
	}
	upstream->lost_seen = false;
	return upstream_link(upstream, why, sizeof(why)) == 0 && link_is_up(upstream->link);
}

const char *upstream_unreachable(const struct upstream *upstream)
{
	uint64_t now = ring_now_ns(upstream->ring);

	if (!upstream->failing_since_ns || now - upstream->failing_since_ns < UPSTREAM_PATIENCE_NS ||
	    now - upstream->failed_ns > UPSTREAM_RETRY_NS)
		return NULL;
	return upstream->failure;
}

void upstream_describe(const struct upstream *upstream, const struct conn *conn, char *text, size_t size)
{
	const struct link *link = upstream->link;
	struct conn_fault fault = conn_fault_of(conn);

	if (link && link_is_lost(link) && (upstream->link_up || link_how_ended(link) == CONN_END_NONE)) {
		snprintf(text, size, "%s", link_reason(link));
		return;
	}
	/* A link that was never up failed as a connection does, and is told as one. */
	if (link && link_is_lost(link))
		fault = (struct conn_fault){ link_how_ended(link), link_conn_error(link), link_reason(link) };
	conn_fault_describe(&fault, &upstream->address, upstream->connect_timeout_ns, text, size);
}

/* A token that a caller shows is meant for the edge, which asks for none: the gateway is not to see it. */
static bool is_replaced(const struct upstream *upstream, struct span name)
{
	for (size_t i = 0; i < upstream->credential_count; i++)
		if (span_equal(name, upstream->credential[i].name))
			return true;
	return span_is(name, "authorization");
}

struct header *upstream_headers(const struct upstream *upstream, const struct grpc_request *head, size_t *count)
{
	struct header *headers = malloc((head->headers_count + upstream->credential_count + 1) * sizeof(*headers));
	size_t used = 0;

	if (!headers)
		return NULL;
	for (size_t i = 0; i < head->headers_count; i++)
		if (!is_replaced(upstream, head->headers[i].name))
			headers[used++] = head->headers[i];
	for (size_t i = 0; i < upstream->credential_count; i++)
		headers[used++] = upstream->credential[i];
	*count = used;
	return headers;
}
