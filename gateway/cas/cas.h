/*
 * cas: the services that keep and give blobs: sluice.v1.Store. One set of these a gateway, on its reactor.
 */
#pragma once

#include "chunker/sha256.h"
#include "gateway/cas/access.h"
#include "gateway/cas/gate.h"
#include "gateway/cas/promises.h"
#include "gateway/net/server.h"

#define CAS_CALLS_MAX    4096            /* Push, Fetch and Pin calls at a time; more are refused, to be tried again */
#define CAS_TENANT_CALLS_MAX (CAS_CALLS_MAX / 2) /* of one tenant */
#define CAS_PUSH_IDLE_NS  600000000000u          /* a push in which nothing comes ends, and one whose answers are not taken */
#define CAS_FETCH_IDLE_NS 120000000000u          /* as does a fetch of which nothing is taken */
#define CAS_FETCH_SILENT_NS 600000000000u        /* and one that is asked nothing, at first or any more */
#define CAS_PIN_IDLE_NS   120000000000u          /* and a Pin whose request does not come, or whose answer is not taken */
#define CAS_PACKS_MAX    8               /* packs that are checked and written at a time, see cas.packs */
#define CAS_DELTAS_MAX   2               /* packs with deltas among them: their bases are in memory, too */
#define CAS_CLOSURES_MAX 8               /* trees that are verified at a time */
#define CAS_TREES_MAX    4               /* results with Trees, of RESULT_TREE_BYTES_MAX each, that are looked into at a time */

struct cas_counters {
	uint64_t pushes, pushes_unchanged, pushes_joined, commits, commits_refused, packs, blobs_received, bytes_received,
	         blobs_rejected, blobs_promised, deltas_received, deltas_refused, fetches, blobs_sent, bytes_sent, blobs_missing,
	         blobs_corrupt, pushes_expired, fetches_expired, copied_bytes_ingest, copied_bytes_serve;
};

struct cas {
	struct ring *ring;
	struct store *store;
	struct access access;
	const struct sha256 *hasher;             /* of the reactor's thread */
	uint64_t link_timeout_ns;                /* a client's link may have no connection for so long; 0: LINK_TIMEOUT_NS */
	/* What follows is cas_init()'s. */
	struct cas_counters counters;
	unsigned pushes_open, fetches_open, pins_open;
	struct list calls;                       /* those (open_call.h), the one begun first in front */
	struct list watched;                     /* of those, and of calls that others count */
	struct op sweep;                         /* the timer that looks at these; in flight while there are any */
	unsigned ingests_open, playbacks_open, walks_open;       /* whose memory was not released yet */
	struct gate packs;                       /* what waits here keeps its message, of SLUICE_MESSAGE_BYTES_MAX at most */
	struct gate deltas;
	struct buffer spares[CAS_PACKS_MAX];     /* memory of packs that were, for those that come */
	struct gate closures, trees;
	struct promises promises;                /* what pushes in progress are going to send */
};

/*
 * Blobs that come in are hashed and stored so many bytes at a time: enough for the hasher's lanes, and as far as that goes still in the
 * core's cache, which `beside` lots share that come at the same time.
 */
size_t cas_lot_bytes(const struct cas *cas, size_t beside);

/* The first five fields are the caller's to fill in, before. */
void cas_init(struct cas *cas);
/* It is idle. */
void cas_fini(struct cas *cas);
/* No call is open, and nothing that its owner left waits for the store: the store may be closed. */
bool cas_idle(const struct cas *cas);

/* Room for one more call; false with `why` for RESOURCE_EXHAUSTED. */
bool cas_admits(const struct cas *cas, char *why, size_t why_size);

/* struct server_method.start of each method; `context` is the struct cas. */
int cas_push_start(void *context, const struct server_request *request, char *why, size_t why_size);
int cas_fetch_start(void *context, const struct server_request *request, char *why, size_t why_size);
int cas_pin_start(void *context, const struct server_request *request, char *why, size_t why_size);
