/*
 * giver: a gateway's Context/Give call, answered at the edge: the same directory is asked of buildx by FileSync/DiffCopy;
 * its entries become a listing, contents that are not known from earlier builds are read, named and kept in the edge's store,
 * what the gateway lacks is pushed, and then it is told the root.
 *
 *	LISTING -> SEALING -> LOADING -> PUSHING -> GIVEN -> OVER        any -> OVER
 *	                |         ^         |         |
 *	                |         '---------'---------'  the gateway lost something, or the connection; the store is full
 *	                '-- the gateway has this very root --^
 *
 * What is known is kept as the gateway's broker keeps it (stat_memory.h): (path, size, mtime) -> content, a table for each user
 * of the socket, shared key and directory name, whatever part of the directory is asked for. Builds that run side by side ask
 * buildx for a file once: the others wait for its name (stat_claim); that each blob is sent once is the gateway's care,
 * which tells one upload what another is sending. Without a shared key nothing is remembered, nor of the Dockerfile and the
 * ignore file (diffcopy_head.h), which are read each time.
 *
 * When the gateway lacks most of it and wants it so, entries go to it once all are listed, and names of contents as it has
 * them, while others are still read (giver_ahead.c): then nothing that goes wrong later can make the context unfit any more,
 * and it is lost. What the executor waits for then comes first (giver_urge.c).
 *
 * When it has what its own directory was as the gateway played it last, it says while buildx lists how far that is the same
 * (giver_same.c), and the gateway plays as much.
 *
 * What was read is held in the store until the gateway has it. So a store may be smaller than a context: past the service's
 * window everything is sent ahead, and buildx waits for the link.
 *
 * buildx's call stays open until the gateway has all that it wants, so that what the edge's store has lost meanwhile can
 * be asked for. Whatever goes wrong before the root was told makes the context *unfit*, with the reason, and the gateway goes
 * on as if there were no edge, with what is left.
 *
 * On the ring's thread. Source: proto/sluice.v1.proto, service Context; fsutil send.go.
 */
#pragma once

#include "gateway/broker/stat_memory.h"
#include "gateway/cas/cas.h"
#include "gateway/edge/known.h"
#include "gateway/edge/pusher.h"
#include "gateway/edge/same.h"
#include "gateway/session/session.h"

#define GIVER_FETCHES_MAX 128            /* files asked of buildx at a time, a call; fsutil's sender queues as many */
#define GIVER_LOADS_MAX   8              /* blobs read from the store at a time for a pack */
#define GIVER_PUSHES_MAX  4              /* times that a push is tried whose connection is lost */
#define GIVER_URGENT_MAX  512            /* files that the executor waits for, and that are hurried at a time */
#define GIVER_SAMPLE_AGAIN 16            /* of what it is presumed to have, each time that the window is full of it */
#define GIVER_FULL_NS      60000000000ull       /* that the edge's store may have no room: what others hold there goes on to the gateway */
#define GIVER_SAMPLE      64             /* blobs asked about before it is known whether the gateway lacks most of them */

struct giver_counters {
	uint64_t gives, gives_unchanged, gives_unfit, entries, files_read, bytes_read, bytes_sent, blobs_asked,
	         files_read_again, pushes_again, files_urged;
};

/* One an edge. All but the counters and what comes behind `givers` is the owner's. */
struct giver_service {
	struct cas *cas;
	struct scope scope;
	struct stat_memory *memory;
	struct known known;
	struct sames sames;
	struct pusher *pusher;
	bool mtime_distrust;             /* as if no file were known: all are read anew */
	const char *directory;           /* where long listings go */
	uint64_t window_bytes;           /* of contents, all calls together: read of buildx and not yet at the gateway; then buildx waits */
	struct giver_counters counters;
	struct list givers;              /* calls; list_init()ed by the owner */
	unsigned open, giving;           /* how many; of them, those before GIVEN */
};

/*
 * Inside on_stream of the gateway's `stream`: takes it over; `uid` is whose socket connection the session came by. 0, -ENOMEM,
 * or as call_start(), and the stream is as before. The session is used until the call is over.
 */
int giver_open(struct giver_service *service, struct session *session, uint32_t uid, struct stream *stream,
               const struct grpc_request *head);
