/*
 * uploader: gives a gateway what it lacks of a tree and commits the tree's root: the client's side of one Push call, on
 * any ring, over whatever HTTP/2 connection its owner opens the call on. Shared by push, run, an executor's outputs
 * (through gateway/context/upload.h, which makes it blocking) and the edge.
 *
 *	feed(contents) … commit(root) -> offer (-> compare) -> walk and ask -> send -> commit -> on_done
 *
 * What is fed before the root is known is asked about and sent ahead, in batches; the negotiation then takes it for
 * settled. What the source `assumes` to be there (since it was part of the last committed tree) is not asked about; when
 * the gateway then finds a hole, everything is negotiated from the root down by closure marks. A source that knows nothing but
 * a root that the gateway has, its `base`, is compared with that first (comparison.h), and then assumes what both have.
 *
 * While there is nothing to say, since the source scans or what was committed is being looked at, it gives word now and then: a
 * gateway ends a Push in which nothing comes for long.
 *
 * Memory: UPLOADER_PACKS_MAX packs that are read and compressed, 9 MiB each at most, and 16 MiB more of each while its blobs are
 * told by bases; one more that waits for the peer's window, and 40 bytes a digest that was ever asked about. Long work (zstd) is done by the ring's helper threads. All
 * calls and events on the ring's thread; events come from the loop or from inside uploader_*() calls.
 */
#pragma once

#include "gateway/ring/ring.h"
#include "proto/call.h"
#include "proto/digest.h"

#define UPLOADER_PACKS_MAX     3         /* read, compressed or ready to be sent at a time */
#define UPLOADER_IN_FLIGHT_MAX 4         /* packs or lists that wait for their answer */
#define UPLOADER_BASES_MAX     4         /* of a blob: SLUICE_BASES_MAX */
#define UPLOADER_WORD_NS       180000000000ull   /* without a request, after which one is made that asks for nothing */
#define UPLOADER_COMMITS_MAX   16        /* a gateway that evicts faster than this is given up on */
#define UPLOADER_WHY_MAX       5120      /* a path and a sentence */

struct uploader;

/* ---- where the tree comes from ---- */

struct uploader_children {               /* of a directory; the empty blob may be left out */
	const struct digest *directories;
	size_t directories_count;
	const struct digest *contents;   /* blobs: whole small files, and recipes of large ones */
	const bool *recipes;             /* parallel to contents */
	size_t contents_count;
};

struct uploader_parts {                  /* of a recipe */
	const struct digest *blobs;
	size_t count;
	bool are_recipes;                /* else chunks */
};

struct uploader_piece {
	struct digest digest;
	uint8_t *buffer;                 /* room for digest.size bytes, the source's to fill */
	bool stale;                      /* out, with UPLOADER_READ_STALE: this one is not to be had */
	/* The rest is the uploader's. */
	bool made;                       /* its edits are, before it is read */
	bool delta;                      /* `edits` (proto/delta.h) go out in place of its bytes; of a base: its signature came */
	struct span edits;
	uint32_t base, bases;            /* the first of its bases in the read's, and how many */
};

enum uploader_read_outcome {
	UPLOADER_READ_OK = 0,
	UPLOADER_READ_STALE = 1,         /* the marked pieces are not to be had now; `why` may say more */
};                                       /* negative: errno, which ends the upload with `why` */

/* The bytes of one pack. The uploader's, until done() is called: once, also from inside read(). */
struct uploader_read {
	struct uploader_piece *pieces;
	size_t count;
	/*
	 * Blobs that the gateway has, as the source said. Any may be stale, whatever the result is: when it pays the gateway is asked
	 * for their signatures.
	 */
	struct uploader_piece *bases;
	size_t bases_count;
	void (*done)(struct uploader_read *read, int result);
	char why[UPLOADER_WHY_MAX];      /* "" unless the source writes into it */
	void *private;                   /* the source's */
};

struct uploader_source;

struct uploader_source_ops {
	/* What lies below; lent until the source is asked again. 0, -ENOENT, -errno. */
	int (*children)(struct uploader_source *source, const struct digest *directory, struct uploader_children *children);
	int (*recipe_children)(struct uploader_source *source, const struct digest *recipe, struct uploader_parts *parts);
	/* Was part of the tree that this gateway committed last. Only asked when `assume` is set. */
	bool (*known)(struct uploader_source *source, const struct digest *blob);
	/*
	 * Blobs that this gateway has and that `blob` is likely to resemble, taken one after the other: it is then told by them. At
	 * most UPLOADER_BASES_MAX; how many. NULL: never.
	 */
	size_t (*bases)(struct uploader_source *source, const struct digest *blob, struct digest bases[static UPLOADER_BASES_MAX]);
	/*
	 * Whether it can be read, now or after a retry. Asked of what a sibling was to send and has not, as that may have been fed and
	 * be of no tree. NULL: all is of the tree.
	 */
	bool (*has)(struct uploader_source *source, const struct digest *blob);
	/* At most UPLOADER_PACKS_MAX at a time. Neighbours in a directory or file are asked for one after the other. */
	void (*read)(struct uploader_source *source, struct uploader_read *read);
	/* Appends the message of a directory below the root, or of the root. 0 or -errno. NULL: `base` is not looked at. */
	int (*encode)(struct uploader_source *source, const struct digest *directory, struct buffer *out);
};

struct uploader_source {                 /* embedded in its owner; it must last until on_closed */
	const struct uploader_source_ops *ops;
	bool assume;                     /* what `known` says is to be believed, as long as no hole shows; looked at by commit */
	struct digest base;              /* without `assume`: a root that the gateway has, and this tree resembles; size 0: none */
};

/* ---- the upload ---- */

enum uploader_phase { UPLOADER_PHASE_NEGOTIATE, UPLOADER_PHASE_SEND, UPLOADER_PHASE_COMMIT };

enum uploader_outcome {
	UPLOADER_OK = 0,
	UPLOADER_REFUSED = 1,            /* the gateway ended the call with `status`, or the connection broke (UNAVAILABLE) */
};                                       /* negative: errno of our own or the source's, or a peer that makes no sense (-EPROTO) */

struct uploader_totals {
	uint64_t blobs_asked, blobs_sent, bytes_packed, packs, commits, negotiate_ns, send_ns, commit_ns;
	uint64_t bytes_sent;             /* packs as sent, compressed where that pays */
	uint64_t blobs_delta;            /* of those sent: told by bases */
	uint64_t blobs_again;            /* of those: sent whole after all, as the gateway did not have the base any more */
	uint64_t blobs_promised;         /* not sent, as a sibling upload was sending them */
	uint64_t blobs_answered, blobs_lacking;  /* of those asked about, directories left out in the latter */
	bool unchanged;                  /* the gateway had the root whole */
};

struct uploader_events {                 /* each may be NULL, but on_done and on_closed */
	/*
	 * These of what was fed are at the gateway now (they were, or have been sent), and stay until the call ends. Those
	 * that another upload of this tenant is sending are told of by the commit alone.
	 */
	void (*on_stored)(struct uploader *uploader, const struct digest *digests, size_t count);
	/* These of what was fed are being sent by another upload of this tenant, and are not read unless that fails to. */
	void (*on_promised)(struct uploader *uploader, const struct digest *digests, size_t count);
	/* The gateway has answered what it was asked about: the totals have it. */
	void (*on_answered)(struct uploader *uploader);
	/* A pack goes out, as a message of `wire_bytes` with its prefix. `pieces` with their bytes, borrowed. */
	void (*on_pack)(struct uploader *uploader, const struct uploader_piece *pieces, size_t count, uint64_t wire_bytes);
	void (*on_progress)(struct uploader *uploader, enum uploader_phase phase, uint64_t bytes_done, uint64_t bytes_total);
	/*
	 * The source does not have these any more. Everything else goes on; the commit waits. When they are there again:
	 * uploader_retry(); when they will not be: uploader_close(). `why` is the source's word.
	 */
	void (*on_stale)(struct uploader *uploader, const struct digest *digests, size_t count, const char *why);
	/*
	 * After commit or finish: UPLOADER_OK. Both may be called again then, for another root. Otherwise the upload is over
	 * (before a commit, too) and is only to be closed. `why` is one sentence, "" when all is well.
	 */
	void (*on_done)(struct uploader *uploader, int outcome, enum grpc_status status, const char *why);
	/* After uploader_close(), when nothing of it is in flight: the source is free again. The uploader is gone then. */
	void (*on_closed)(void *owner);
};

struct uploader_config {
	struct ring *ring;
	struct uploader_source *source;
	const struct uploader_events *events;
	void *owner;
	int level;                       /* zstd; 0: none; LEVEL_AUTO: as the line and this machine want it (level.h) */
	/*
	 * Finds out what would be sent, and sends no content: packs are made and counted, nothing is stored or committed.
	 * Whether `assume` holds nobody tells then.
	 */
	bool predict;
	/*
	 * Starts `call` for SLUICE_PUSH with the given events and owner, as call_start() does, on the connection that is to
	 * be used; `grpc-encoding: zstd` among the header fields lets packs be compressed. 0 or -errno.
	 */
	int (*open)(void *owner, struct call *call, const char *path, size_t message_bytes_max,
	            const struct call_events *events, void *call_owner);
	/* Of the connection that `open` used: bytes a second, as conn_line_rate() says. Optional; used by LEVEL_AUTO. */
	uint64_t (*line_rate)(void *owner);
};

/* Opens the call. 0, -ENOMEM, or what `open` said. */
int uploader_create(struct uploader **uploader, const struct uploader_config *config);
void *uploader_owner(const struct uploader *uploader);
const struct uploader_totals *uploader_totals(const struct uploader *uploader);

/*
 * Blobs that the source can read and that the tree will name: small files, chunks, recipes; each at most 4 MiB. Copied;
 * what was fed before is skipped. 0 or -ENOMEM.
 */
int uploader_feed(struct uploader *uploader, const struct digest *digests, size_t count);
/* The root is known, and everything below it. Nothing is fed from now until on_done. */
void uploader_commit(struct uploader *uploader, const struct digest *root);
/* No root: on_done comes when all that was fed has been stored. */
void uploader_finish(struct uploader *uploader);
/* Of all that waits these are asked about and sent first; what is not among it is left alone. */
void uploader_hurry(struct uploader *uploader, const struct digest *digests, size_t count);
/* What was stale is there again. */
void uploader_retry(struct uploader *uploader);
/* At any time, any number of times; NULL is accepted. No event follows but on_closed, which may come from inside. */
void uploader_close(struct uploader *uploader);
