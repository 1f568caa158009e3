/*
 * spool: what a client says in an Upload/Pull call, kept as it goes to the executor. A client says it once (a context from
 * stdin is behind it), so another executor that asks for the same is answered from here: header fields, bytes and trailers
 * as they came.
 *
 *	KEEPING -> KEPT                  the client has said all; it can be read again until the session ends
 *	KEEPING -> PASSING -> SPENT      longer than a spool may be: it goes through to who reads it now, and is forgotten
 *	KEEPING, PASSING -> SPENT        the client gave it up, or the executor did
 *
 * While it is KEEPING the client is read as fast as it sends, whether its executor reads, sleeps or is lost. PASSING, a byte is
 * acknowledged when all readers have it. Room for what the client may have under way is made before its window opens, so
 * that nothing it was allowed to send is without a place.
 *
 * On the ring's thread. Source: research/buildkit-tricks.md F, moby/buildkit session/upload.
 */
#pragma once

#include "gateway/base/list.h"
#include "proto/grpc.h"

#define SPOOL_PATH          "/moby.upload.v1.Upload/Pull"
#define SPOOL_BYTES_MAX     (64u << 20)          /* of one */
#define SPOOL_ALL_BYTES_MAX (1u << 30)           /* of all sessions together; half of it one tenant's */
#define SPOOLS_MAX          64                   /* a session */

/* What the spools of all sessions share. */
struct spool_room {
	const char *directory;           /* where long ones go; outlives them. NULL: they stay in memory */
	uint64_t bytes;                  /* taken now */
	uint64_t bytes_max, spool_bytes_max;
	struct list owners;              /* the spools'; all-zero at first */
};

/* Those of one session. */
struct spool_owner {
	struct spool_room *room;         /* NULL: nothing is kept */
	struct list link;                /* room.owners */
	uint32_t tenant;
	uint64_t bytes;                  /* of room.bytes */
	struct list spools;
	size_t count;
};

enum spool_outcome {
	SPOOL_UNKEPT = 1,                /* not taken: it goes to the client, who may answer that it came already */
};

void spool_owner_init(struct spool_owner *owner, struct spool_room *room, uint32_t tenant);
/* After the streams of both sides have closed. */
void spool_owner_fini(struct spool_owner *owner);
/*
 * Inside on_stream of `from`, an executor's: takes it over until it has closed, and answers it from what is kept, or asks
 * `client`. 0, SPOOL_UNKEPT, or what h2_open() says and `from` is to be refused.
 */
int spool_open(struct spool_owner *owner, struct h2 *client, struct stream *from, const struct grpc_request *request);
/* Another executor would get all that was asked for so far. */
bool spool_owner_can_repeat(const struct spool_owner *owner);
