/*
 * upload: gives a gateway what it lacks of a manifest and commits the root; what `sluice push`, `sluice run` and an
 * executor's outputs share. Blocking, over a client; gateway/upload/uploader.h does the work.
 *
 * What the last root committed to this gateway already held is assumed to be there and not asked about; when the
 * gateway then finds a hole, everything is negotiated from the root down by closure marks.
 */
#pragma once

#include "gateway/client/client.h"
#include "gateway/context/manifest.h"

enum upload_phase { UPLOAD_NEGOTIATING, UPLOAD_SENDING, UPLOAD_COMMITTING };

struct upload_piece {
	struct digest digest;
	struct span bytes;               /* what goes out: the blob's, or with `delta` the edits that make it (proto/delta.h) */
	bool delta;
};

struct upload_options {
	struct client *client;
	struct manifest *manifest;       /* NULL: `build` makes it */
	/*
	 * Builds a manifest on another thread, while the connection is kept. What is handed to `taker` goes to the gateway meanwhile
	 * (ahead.h). The manifest is lent, as the other one is, until the upload has returned; NULL ends the upload with UPLOAD_UNBUILT.
	 */
	struct manifest *(*build)(void *context, const struct digester_taker *taker);
	/*
	 * Nothing goes before the manifest is there, and `taker` is NULL: for a directory that has a snapshot, whose former tree helps
	 * with what is sent.
	 */
	bool build_first;
	struct span gateway_id;          /* names the gateway in the snapshot: its address as the user gave it */
	int level;                       /* zstd; 0: none; LEVEL_AUTO: by the line (gateway/upload/level.h) */
	void (*progress)(void *context, enum upload_phase phase, uint64_t bytes_done, uint64_t bytes_total);
	void *context;
	/*
	 * Finds out what would be sent and sends no content: nothing is stored and nothing committed. Packs are made and
	 * compressed all the same, so that their sizes are known.
	 */
	bool predict;
	/* Each pack when it goes out (or would): its blobs with what is sent of them, and the size of its message on the wire. NULL: none. */
	void (*on_pack)(void *context, const struct upload_piece *pieces, size_t count, uint64_t wire_bytes);
	void *on_pack_context;
};

struct upload_totals {
	uint64_t blobs_asked, blobs_sent, bytes_packed, packs, commits, negotiate_ns, send_ns, commit_ns;
	uint64_t messages_sent, messages_received;       /* bytes of all messages on the wire, packs among them */
	uint64_t messages_predicted;     /* of packs that were measured and not sent; not in messages_sent */
	bool unchanged;                  /* the gateway had the root whole */
};

enum upload_outcome {
	UPLOAD_OK = 0,
	UPLOAD_STALE = 1,                /* a file changed since the scan: build the manifest again (`why` names it) */
	UPLOAD_REFUSED = 2,              /* the gateway answered with a status: *status, `why` */
	UPLOAD_INTERRUPTED = 3,
	UPLOAD_UNBUILT = 4,              /* `build` returned nothing: why, it has said itself */
};                                       /* negative: errno */

int upload(const struct upload_options *options, struct upload_totals *totals, enum grpc_status *status, char *why,
           size_t why_size);

/* Sends a few loose blobs (an Action, a Command) without a commit. Digests are computed here into `digests`. */
int upload_blobs(struct client *client, const struct span *blobs, struct digest *digests, size_t count,
                 enum grpc_status *status, char *why, size_t why_size);
/* The same, of digests that are known; SLUICE_PACK_BYTES in all at most. */
int upload_hashed_blobs(struct client *client, const struct span *blobs, const struct digest *digests, size_t count,
                        enum grpc_status *status, char *why, size_t why_size);
