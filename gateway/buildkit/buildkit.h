/*
 * buildkit: calls of BuildKit's own services, from stock buildx and buildctl, carried to a buildkitd. Each client
 * connection is bound to one connection to the executor, made at its first such call and closed with it: what a build
 * opens belongs together (session, solve, status), and all of it is found at one daemon.
 *
 * One executor with a fixed address so far; a session is carried as bytes, so its health checks reach the client.
 * Source: DESIGN.md "How a stock buildx build flows".
 */
#pragma once

#include "gateway/cas/access.h"

struct buildkit;

struct buildkit_config {
	struct ring *ring;
	const struct access *access;
	const char *executor;            /* as buildkit_address() takes it; lives as long */
	const char *tenant;              /* whose it is: a daemon's cache is one tenant's (DESIGN.md decision 10) */
};

/* "tcp://host:port" (h2c), "unix:///path", or an address.h form without TLS. False with `why`. */
bool buildkit_address(struct address *address, const char *text, char *why, size_t why_size);

/* 0, -EINVAL (the address) or -ENOMEM, with `why`. Connects to nothing yet. */
int buildkit_create(struct buildkit **buildkit, const struct buildkit_config *config, char *why, size_t why_size);
/* Only when idle. NULL is accepted. */
void buildkit_destroy(struct buildkit *buildkit);

/*
 * As server_method.start, for paths that nothing here answers. The caller needs the right to execute. Refusals: those
 * of access_scope(); FAILED_PRECONDITION when the caller's tenant has no executor; UNAVAILABLE when the executor cannot be reached or takes no more calls; RESOURCE_EXHAUSTED.
 */
int buildkit_start(struct buildkit *buildkit, const struct server_request *request, char *why, size_t why_size);
/* A client's connection has gone, after its streams: its binding ends. */
void buildkit_conn_closed(struct buildkit *buildkit, const struct conn *client);
/* No binding and no connection to an executor is left. */
bool buildkit_idle(const struct buildkit *buildkit);

struct buildkit_status {
	uint64_t bindings, calls, calls_total, calls_lost;
};
void buildkit_status(const struct buildkit *buildkit, struct buildkit_status *status);
