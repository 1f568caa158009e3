/* parts: what a running edge is made of. For the files of this folder. */
#pragma once

#include "gateway/admin/counters.h"
#include "gateway/daemon/notify.h"
#include "gateway/edge/channel.h"
#include "gateway/edge/edge.h"
#include "gateway/edge/giver.h"

struct edge {
	const struct edge_config *config;
	struct ring *ring;
	struct upstream upstream;
	struct store *store;
	struct sha256 hasher;
	struct cas cas;                  /* of the store: no service of it is served */
	struct pusher pusher;
	struct giver_service giver;
	struct channels channels;
	struct header session_headers[2];
	struct server *server;
	struct signals *signals;
	struct admin *admin;
	struct op observe_timer;
	struct counters_process process; /* as last seen (observe.c) */
	struct notify notify;
	bool reached, unreached;         /* what was last told of the gateway; at first neither */
	bool draining, drained;
};

/* The store and what gives contexts from it. 0 or -errno with `why`. */
int edge_store_open(struct edge *edge, char *why, size_t why_size);
/* No channel is left. Runs the ring until all of it is closed. */
void edge_store_close(struct edge *edge);

/*
 * Once a second: a copy of all numbers for the admin port, and whether the edge is ready, which it is while its gateway is
 * within reach. 0 or -errno with `why`.
 */
int edge_observe_start(struct edge *edge, char *why, size_t why_size);
/* No more builds are to come: /readyz says so at once. */
void edge_observe_draining(struct edge *edge);
/* Runs the ring until nothing of it is in flight. */
void edge_observe_stop(struct edge *edge);
