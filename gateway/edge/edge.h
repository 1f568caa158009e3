/*
 * edge: `sluice edge` put together: the daemon next to buildx, with a gateway as its upstream. Each connection of buildx gets
 * one of its own to the gateway, and its calls are carried there, header fields and bytes as they are, with the edge's
 * credential. Only BuildKit's session is taken apart (gateway/session/session.h), for the sake of the one inner call that the
 * edge answers itself, Context/Give: there it gives the gateway a context by content (giver.h).
 *
 * It needs no privileges, keeps none, and runs nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/client/client.h"
#include "gateway/ring/ring.h"

struct edge_config {
	const char *listen;              /* unix:///path */
	uint32_t unix_mode;              /* of the socket: who may use the edge's credential */
	struct client_config upstream;   /* as a client's command would connect to it */
	const char *store_path;
	uint64_t ceiling_bytes;          /* of contents kept; 0, or too little: the smallest store there is */
	bool mtime_distrust;             /* files are read anew by each build, whatever their stat says */
	bool mtime_client;               /* the gateway tells executors the client's own times */
	const char *admin;               /* "127.0.0.1:8374"; NULL: none */
	enum ring_engine engine;
	uint64_t drain_timeout_ns;
	uint32_t connections_max;        /* of buildx; on a link fewer than LINK_CHANNELS_MAX in any case. Others wait */
};

/* Runs until SIGTERM or SIGINT and the drain that follows. 0, or -errno with `why` when it could not start. */
int edge_run(const struct edge_config *config, char *why, size_t why_size);
