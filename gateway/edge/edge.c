/* The edge, put together; its loop, and the way out: stop listening, let calls end, close what is left. */
#include "gateway/edge/edge.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/daemon/privileges.h"
#include "gateway/daemon/signals.h"
#include "gateway/edge/parts.h"
#include "gateway/ring/probe.h"
#include "proto/sluice_context.h"

#define CHANNELS_SPARE 8                         /* for pushes, and connections that end while the next is there */

static const struct server_method edge_methods[] = { { NULL, NULL } };

static int edge_on_request(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return channels_start(&((struct edge *)context)->channels, request, why, why_size);
}

static void edge_on_conn_closed(void *context, struct conn *conn)
{
	channels_conn_closed(&((struct edge *)context)->channels, conn);
}

static void edge_on_drained(void *context)
{
	((struct edge *)context)->drained = true;
}

/* ---- starting ---- */

static int edge_open_ring(struct edge *edge, char *why, size_t why_size)
{
	struct ring_config ring = { .engine = edge->config->engine, .gather = true };
	int r = ring_create(&edge->ring, &ring);

	if (r < 0)
		ring_refusal_tell(r, ring.engine, why, why_size);
	return r;
}

/* Each takes a channel of the link: where there is none left calls would fail, so who comes then waits to be accepted. */
static uint32_t connections_max(const struct edge_config *config)
{
	const uint32_t most = LINK_CHANNELS_MAX - CHANNELS_SPARE;

	return config->upstream.link_conns && config->connections_max > most ? most : config->connections_max;
}

static int edge_open_server(struct edge *edge, char *why, size_t why_size)
{
	struct server_config server = {
		.methods = edge_methods, .unknown = edge_on_request, .context = edge, .on_drained = edge_on_drained,
		.on_conn_closed = edge_on_conn_closed, .connections_max = connections_max(edge->config),
		.unix_mode = edge->config->unix_mode,
	};
	int r = server_create(&edge->server, edge->ring, &server);

	if (r < 0)
		snprintf(why, why_size, "out of memory");
	return r;
}

static int edge_listen(struct edge *edge, char *why, size_t why_size)
{
	const char *text = edge->config->listen;
	struct address address;
	char bound[ADDRESS_TEXT_MAX];
	int r;

	if (!address_parse(&address, text, why, why_size))
		return ERR_RAISE(-EINVAL);
	if (!address.local) {
		snprintf(why, why_size, "an edge listens on unix:///PATH only, not on %s: whoever reaches it has its credential", text);
		return ERR_RAISE(-EINVAL);
	}
	r = server_listen(edge->server, &address, NULL, bound, sizeof(bound), why, why_size);
	if (r < 0)
		return r;
	log_event(LOG_INFO, "listening", LOG_TEXT("address", bound), LOG_TEXT("upstream", edge->upstream.name),
	          LOG_TEXT("engine", ring_engine_name(edge->ring)));
	return 0;
}

static int edge_on_inner(void *context, struct session *session, uint32_t uid, struct stream *stream,
                         const struct grpc_request *head)
{
	struct edge *edge = context;

	return span_is(head->path, SLUICE_GIVE) ? giver_open(&edge->giver, session, uid, stream, head) : SESSION_PASS;
}

static void edge_make_channels(struct edge *edge)
{
	edge->session_headers[0] = (struct header){
		.name = span_text("x-docker-expose-session-grpc-method"), .value = span_text(SLUICE_GIVE),
	};
	edge->session_headers[1] = (struct header){
		.name = span_text("sluice-edge-mtime"), .value = span_text(edge->config->mtime_client ? "client" : "stable"),
	};
	edge->channels.session_headers = edge->session_headers;
	edge->channels.session_headers_count = 2;
	edge->channels.on_inner = edge_on_inner;
	edge->channels.context = edge;
	edge->channels.ring = edge->ring;
	edge->channels.upstream = &edge->upstream;
	channels_init(&edge->channels);
}

/* ---- the loop and the end ---- */

static void edge_drain(struct edge *edge)
{
	if (edge->draining) {
		log_event(LOG_WARNING, "second signal, closing at once");
		server_drain(edge->server, 0);
		return;
	}
	edge->draining = true;
	edge_observe_draining(edge);
	notify_send(&edge->notify, "STOPPING=1");
	log_event(LOG_INFO, "draining", LOG_U64("timeout_s", edge->config->drain_timeout_ns / 1000000000u));
	server_drain(edge->server, edge->config->drain_timeout_ns);
}

static void edge_on_signal(void *context, int number)
{
	if (number == SIGTERM || number == SIGINT)
		edge_drain(context);
}

static void edge_close(struct edge *edge)
{
	signals_destroy(edge->signals);
	edge_observe_stop(edge);
	while (edge->server && (!edge->drained || !channels_idle(&edge->channels)))
		ring_run(edge->ring, UINT64_MAX);
	server_destroy(edge->server);
	edge_store_close(edge);
	upstream_close(&edge->upstream);
	while (!upstream_idle(&edge->upstream))
		ring_run(edge->ring, UINT64_MAX);
	upstream_fini(&edge->upstream);
	ring_destroy(edge->ring);
}

static int edge_start(struct edge *edge, char *why, size_t why_size)
{
	int r;

	privileges_raise_limits();
	signals_block();
	r = edge_open_ring(edge, why, why_size);
	if (r == 0)
		r = upstream_init(&edge->upstream, edge->ring, &edge->config->upstream, why, why_size);
	if (r == 0)
		r = edge_store_open(edge, why, why_size);
	if (r == 0)
		r = edge_open_server(edge, why, why_size);
	if (r < 0)
		return r;
	edge_make_channels(edge);
	r = signals_create(&edge->signals, edge->ring, edge_on_signal, edge);
	if (r < 0)
		snprintf(why, why_size, "no thread for signals: %s", err_text(r));
	if (r == 0)
		r = edge_observe_start(edge, why, why_size);
	if (r == 0)
		r = edge_listen(edge, why, why_size);
	return r;
}

int edge_run(const struct edge_config *config, char *why, size_t why_size)
{
	struct edge *edge = calloc(1, sizeof(*edge));
	int r;

	if (!edge) {
		snprintf(why, why_size, "out of memory");
		return ERR_RAISE(-ENOMEM);
	}
	edge->config = config;
	notify_open(&edge->notify);
	r = edge_start(edge, why, why_size);
	if (r == 0) {
		/* Also when the gateway is out of reach: the machine's start does not wait for another one. */
		notify_send(&edge->notify, "READY=1");
		while (!edge->drained)
			ring_run(edge->ring, UINT64_MAX);
		log_event(LOG_INFO, "stopped");
	} else if (edge->server) {
		server_drain(edge->server, 0);
	}
	edge_close(edge);
	notify_close(&edge->notify);
	free(edge);
	return r;
}
