/* Connections to the gateway, and what goes with each call on them. */
#include "gateway/edge/upstream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/err.h"
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

int upstream_connect(struct upstream *upstream, struct conn **conn, const struct conn_config *config, char *why,
                     size_t why_size)
{
	struct conn_config with = *config;

	with.server_name = upstream->server_name;
	with.handshake_timeout_ns = upstream->connect_timeout_ns;
	upstream->connections++;
	return conn_connect(conn, upstream->ring, &upstream->address, upstream->tls, &with, why, why_size);
}

void upstream_ready(struct upstream *upstream)
{
	upstream->failing_since_ns = 0;
}

void upstream_closed(struct upstream *upstream, const struct conn *conn)
{
	enum conn_end end = conn_end(conn);

	if (end != CONN_END_CONNECT && end != CONN_END_HANDSHAKE && end != CONN_END_HANDSHAKE_TIMEOUT)
		return;
	upstream->connections_failed++;
	upstream->failed_ns = ring_now_ns(upstream->ring);
	if (!upstream->failing_since_ns)
		upstream->failing_since_ns = upstream->failed_ns;
	upstream_describe(upstream, conn, upstream->failure, sizeof(upstream->failure));
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
	conn_fault_describe(conn, &upstream->address, upstream->connect_timeout_ns, text, size);
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
