/*
 * served: the calls that a buildkitd answers, and the builds and sessions behind them, as far as the wire shows them. For one
 * ring and any number of connections.
 */
#pragma once

#include "gateway/base/list.h"
#include "gateway/net/server.h"

#define SERVED_BUCKETS 4096u

struct served {
	/* The owner's, before served_init(). */
	struct ring *ring;
	uint64_t hold_ns;                /* how long a build lasts once it has its context */
	/* What it is made of. */
	struct list builds[SERVED_BUCKETS], sessions[SERVED_BUCKETS];    /* by the hash of their names */
	struct list waiting;             /* builds whose session has not come */
};

void served_init(struct served *served);
/* Of all paths; their context is a struct served. */
extern const struct server_method served_methods[];
