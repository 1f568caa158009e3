/*
 * stable: stable keys, and the claims made under each. A *lineage* is a directory's history under one key: the key that
 * executors see instead of the client's own, so that a fresh checkout on another machine finds its tree there, and the table
 * that makes this safe (claims.h). Of one directory (tenant and name) there may be several: two projects in directories of one
 * name. A client goes on with the one that it had last; one that is not known, as a new machine is, with the one used last.
 *
 *	key = name ":" HMAC(secret, id)         id: 16 random bytes of the lineage; secret: a file of this folder, 0600
 *
 * A table that is damaged, lost, full or cannot be written takes its id along: the directory goes on with a new lineage, under
 * a key that no executor knows. Nothing is ever told that rests on a claim which is not on the disk.
 *
 * On the ring's thread; files are read and written in ring_work. Events come from the loop, never from inside a call of
 * this header.
 */
#pragma once

#include "gateway/base/list.h"
#include "gateway/play/claims.h"
#include "gateway/ring/ring.h"

#define STABLE_LINEAGES_MAX 1024         /* on disk; the longest unused go, with their keys */
#define STABLE_SHARE        (STABLE_LINEAGES_MAX / 4)    /* a tenant who has used more since the start makes room with his own */
#define STABLE_NAMESAKES    4            /* lineages of one directory */
#define STABLE_IDLE_MAX     8            /* tables in memory that nobody uses */
#define STABLE_UNFIT_MAX    256          /* directories that do not go by stable keys for a while */
#define STABLE_UNFIT_NS     (24ull * 3600 * 1000000000ull)
#define STABLE_KEY_BYTES    320          /* of a key, with the NUL: longer names are cut */
#define STABLE_CLIENT_BYTES 32

struct stable;
struct lineage;

/* `directory` is made (0700) when it is missing; blocking, before the loop runs. 0 or -errno. */
int stable_create(struct stable **stable, struct ring *ring, const char *directory);
/* No lineage is in use, no request open; `fn` last, from the loop. */
void stable_destroy(struct stable *stable, void (*fn)(void *context), void *context);

struct stable_request {
	void (*fn)(struct stable_request *request);
	struct lineage *lineage;         /* out: a reference of the caller's; NULL: there can be none now */
	/* The rest is stable's. All-zero: not asked. */
	struct lineage *asked;
	struct list link;
};
/*
 * The lineage of a directory, made when there is none. `client`: whose directory it is, hashed. Else `fn` does not come:
 * STABLE_UNFIT (lineage_give_up()), or -ENOMEM.
 */
enum { STABLE_UNFIT = 1 };
int stable_get(struct stable *stable, struct stable_request *request, struct span tenant, struct span name,
               const uint8_t client[static STABLE_CLIENT_BYTES]);
/* `fn` does not come any more. Also when it was not asked, or has come. */
void stable_request_cancel(struct stable_request *request);

void lineage_ref(struct lineage *lineage);
void lineage_unref(struct lineage *lineage);     /* NULL is accepted */
/* "name:HEX", with the name of the request that made it. Lives as long as the lineage. */
const char *lineage_key(const struct lineage *lineage);
/* To find in; claims are made by lineage_claim() alone. */
const struct claims *lineage_claims(const struct lineage *lineage);
/* As claims_make(). -EIO: its file cannot be written; the lineage ends. CLAIMS_FULL ends it as well. */
int lineage_claim(struct lineage *lineage, struct claim *claim);
/* As lineage_claim(), by claims_follow(). */
int lineage_follow(struct lineage *lineage, const struct claim *claim);
/* As claims_name(); nobody has to wait for it. */
void lineage_name(struct lineage *lineage, const struct claim *claim);
/*
 * For entries whose contents nobody names: an mtime that its path never had, near the wanted one. Local name, path and size as in
 * claims. False: there can be none.
 */
bool lineage_restat(struct lineage *lineage, struct span name, struct span path, uint64_t size, int64_t *mtime_ns);
/* This client's is another tree than the lineage's: its next build begins a new one, or that of another new client. */
void lineage_set_strange(struct lineage *lineage, const uint8_t client[static STABLE_CLIENT_BYTES]);

/* How many claims were made, and how many of those are on the disk. */
uint64_t lineage_made(const struct lineage *lineage);
uint64_t lineage_durable(const struct lineage *lineage);

/* Asks for all claims made so far to be on the disk. */
struct lineage_sync {
	void (*fn)(struct lineage_sync *sync);
	int result;                      /* 0 or -errno: nothing may rest on them */
	/* The rest is the lineage's. All-zero: not asked. */
	uint64_t made;
	struct list link;
};
void lineage_sync(struct lineage *lineage, struct lineage_sync *sync);
/*
 * An executor will be told of contents that nobody named, so its key is of no use to others: it is given no more, not even
 * after a crash, once `fn` has come; and for a while the directory does not go by a stable key. `passing`: nothing is known to be wrong
 * with the directory itself; then it does so until this comes a second time. Claims can still be made, in memory: as long as it is in
 * use no (path, size, mtime) is given twice.
 */
void lineage_give_up(struct lineage *lineage, struct lineage_sync *sync, bool passing);
void lineage_sync_cancel(struct lineage_sync *sync);     /* also when it is not asked */

struct stable_status {
	uint64_t lineages, loaded, claims, damaged, writes_failed;
};
void stable_status(const struct stable *stable, struct stable_status *status);
