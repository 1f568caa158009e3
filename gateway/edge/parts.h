/* parts: what a running edge is made of. For the files of this folder. */
#pragma once

#include "gateway/edge/channel.h"
#include "gateway/edge/edge.h"

struct edge {
	const struct edge_config *config;
	struct ring *ring;
	struct upstream upstream;
	struct channels channels;
	struct header session_headers[2];
	struct server *server;
	struct signals *signals;
	struct admin *admin;
	struct op observe_timer;
	bool draining, drained;
};

/* Once a second, a copy of all numbers for the admin port. 0 or -errno with `why`. */
int edge_observe_start(struct edge *edge, char *why, size_t why_size);
void edge_observe_ready(struct edge *edge);
/* Runs the ring until nothing of it is in flight. */
void edge_observe_stop(struct edge *edge);
