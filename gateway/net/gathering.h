/*
 * gathering: what the calls of a server keep of messages that have not come whole. Of all of them together there is a bound, and of each
 * connection's a quarter of it, for what exceeds CALL_UNMETERED_BYTES a call. Where it is reached, calls that are between two
 * messages give back what they keep for the next; then a connection that has too much loses the call that wants more, and where all
 * have, it is the one of which nothing has come for longest: whoever holds half a message back keeps nobody out. It ends with
 * RESOURCE_EXHAUSTED. To let calls wait instead would not do: parts of messages would wait for each other. On the ring's thread.
 */
#pragma once

#include "gateway/base/list.h"
#include "proto/call.h"

struct gathering {
	uint64_t bytes_max, bytes;
	uint64_t refused;                /* calls, ever */
	struct list calls;               /* the one that got something last at the end */
};

/* Embedded in what a connection's calls do not outlive. */
struct gathering_conn {
	struct call_meter meter;
	struct gathering *all;
	uint64_t bytes;
};

void gathering_init(struct gathering *gathering, uint64_t bytes_max);
void gathering_conn_init(struct gathering_conn *conn, struct gathering *gathering);
/* Before anything of it has come. */
void gathering_watch(struct gathering_conn *conn, struct call *call);
