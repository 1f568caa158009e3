/*
 * explain: what a push costs, entry by entry, and why. It watches the packs of an upload (explain_on_pack() is its
 * on_pack), finds the entry that each blob is of, and gives the blob its share of the message that carried it.
 *
 * The share: a pack is compressed as a whole, so no byte of it is anybody's. A blob is weighed by what it would be alone,
 * compressed as fast as possible, and by its name in the pack; the shares of a pack add up to its message exactly. What
 * several entries hold is the first one's. Blocking; one thread. Lives between manifest_build() and the manifest's end,
 * but for what explain_finish() made, which lasts until explain_destroy().
 */
#pragma once

#include "gateway/context/upload.h"

/* In the order of how much they say. */
enum explain_why {
	EXPLAIN_UNCHANGED,               /* and nothing of it was sent: never in a list */
	EXPLAIN_NEW,                     /* was not there at the last push to this gateway */
	EXPLAIN_RETYPED,                 /* was something else: a file, a symlink, a directory */
	EXPLAIN_EDITED,                  /* other content or target; a directory: something in it differs */
	EXPLAIN_MODE,                    /* the mode alone: costs the directory around it */
	EXPLAIN_XATTRS,                  /* likewise */
	EXPLAIN_REMOVED,                 /* is there no more; of a directory, with all below */
	EXPLAIN_EVICTED,                 /* as it was, but the gateway has lost it */
	EXPLAIN_NEVER_SEEN,              /* no push from here to this gateway is remembered, and it had not got it otherwise */
};

struct explain_entry {
	const char *path;                /* from the root; "" is the root itself */
	bool directory;
	enum explain_why why;
	uint64_t bytes_sent;             /* share of the messages on the wire */
	uint64_t bytes_raw;              /* of the blobs that were sent, uncompressed */
	uint64_t bytes;                  /* of the file; of a directory, its message */
	uint32_t chunks_sent, chunks;    /* pieces of content; a small file is one */
	uint32_t blobs_evicted;          /* sent again because the gateway had lost them */
};

struct explain_totals {
	uint64_t files, files_bytes;     /* entries that cost something, and what */
	uint64_t directories, directories_bytes;
	uint64_t bytes_raw;
	uint64_t evicted;                /* blobs */
};

struct explain;

/* Compares the manifest with the snapshot that it came from. 0 or -ENOMEM. */
int explain_create(struct explain **explain, struct manifest *manifest, struct span gateway_id);
void explain_destroy(struct explain *explain);           /* NULL is accepted */

/* `context`: the explain. Before manifest_committed(), which changes what is known. */
void explain_on_pack(void *context, const struct upload_piece *pieces, size_t count, uint64_t wire_bytes);

/* No more packs: makes the list, the costliest first, then by path. 0 or -ENOMEM. The manifest may go after it. */
int explain_finish(struct explain *explain);
const struct explain_entry *explain_entries(const struct explain *explain, size_t *count);
const struct explain_totals *explain_totals(const struct explain *explain);
/* The last push was to this gateway: there is something to compare with. */
bool explain_compared(const struct explain *explain);
