/*
 * ahead: what a scan reads goes to the gateway while the scan goes on, from the memory that it was read into; so nothing of a
 * directory that was never pushed is read or hashed a second time, and its scan costs next to no time.
 *
 *	threads of the scan                        the ring's thread
 *	room -> give (digester.h)  --- blocks -->  feed -> the uploader asks -> source.read -> room for the next
 *
 * A block is DIGESTER_BATCH_BYTES of contents. The first alone is asked about at first: where the gateway has most of it, it is
 * likely to have the tree, which its root alone may show, and no more is asked about ahead of that. A scan that is faster than the
 * gateway waits for a block to become free, but not for long: when that was in vain, what follows is read again after the scan, as
 * all is without this.
 *
 * Until ahead_scanned() the source can read what it holds and nothing else.
 */
#pragma once

#include "gateway/context/digester.h"
#include "gateway/context/manifest_source.h"

#define AHEAD_BLOCKS_MAX  12             /* 48 MiB */
#define AHEAD_PATIENCE_NS 1000000000     /* a line of 34 Mbit/s sends a block in that time, uncompressed */

struct ahead;

/* `feed` comes on the ring's thread, with contents for uploader_feed(). 0, -ENOMEM, -EAGAIN. */
int ahead_create(struct ahead **ahead, struct ring *ring, void (*feed)(void *owner, const struct digest *digests, size_t count),
                 void *owner);
/* The scan has ended, and so has the uploader. NULL is accepted. */
void ahead_destroy(struct ahead *ahead);

/* For the scan: room() and give() may be called by any thread. */
struct digester_taker ahead_taker(struct ahead *ahead);
/* For the uploader. */
struct uploader_source *ahead_source(struct ahead *ahead);

/* ---- on the ring's thread ---- */

/* So many of those fed were asked about and answered so far, and of these the gateway lacks so many. */
void ahead_answered(struct ahead *ahead, uint64_t answered, uint64_t lacking);
/* These of those fed will not be read (any more). */
void ahead_settled(struct ahead *ahead, const struct digest *digests, size_t count);
/* No more is taken, and no thread waits. */
void ahead_stop(struct ahead *ahead);
/* The scan has ended well: what it gave is fed, or dropped; from now on all can be read, through `from`, which is borrowed. */
void ahead_scanned(struct ahead *ahead, struct manifest_source *from);
/* Nothing is on its way to the ring's thread. */
bool ahead_is_idle(struct ahead *ahead);
