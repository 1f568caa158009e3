/*
 * upload: one blob that comes in, in any split, until it is verified and in the store. A blob of one record is kept in
 * memory until it is whole; a longer one is cut as REAPI's clients cut, its bytes are hashed together with those of others
 * (verifier.h), its chunks put as they come, and at its end, when its own digest is right, the pair (gateway/cas/pair.h)
 * makes it visible. Nothing of a wrong one ever is.
 *
 *	upload_create -> on_room -> upload_write ... -> upload_finish -> on_done
 *
 * Events may come from inside the calls below; they may call back in. On the ring's thread.
 */
#pragma once

#include "chunker/cutter.h"
#include "gateway/cas/pair.h"
#include "gateway/cas/recipe_maker.h"
#include "gateway/reapi/reapi.h"

#define UPLOAD_BUFFER_BYTES (4u << 20)           /* of a blob that is cut: two of the longest chunks */
#define UPLOAD_FIRST_BYTES  (64u << 10)          /* of memory, until more than that has come */
#define UPLOAD_BATCH_BYTES  (1u << 20)           /* of chunks that are put together, if there are as many */
#define UPLOAD_CHUNKS_MAX   33                   /* in the buffer: none but the last is shorter than 128 KiB */
#define UPLOAD_UUID_BYTES_MAX 128

/* Positive results besides STORE_OK and STORE_FULL. */
enum { UPLOAD_WRONG = 64, UPLOAD_TOO_LONG = 65, UPLOAD_CROWDED = 66 };   /* the last: no memory to go on; to be tried again */

enum upload_stage {
	UPLOAD_COMING,
	UPLOAD_HASHED,                   /* of one that is not cut: its digest is known */
	UPLOAD_VERIFIED,                 /* all chunks are put, and its digest is the one that was said */
	UPLOAD_LISTED,                   /* its recipe is put */
	UPLOAD_KEPT,                     /* the pair, or the whole blob */
};

struct upload {
	struct reapi *reapi;
	struct scope scope;
	struct digest digest;
	bool unnamed;                    /* of `digest` the size is said and no more: the hash is set before on_done */
	void (*on_room)(struct upload *upload);  /* what upload_write() refused may fit now */
	void (*on_done)(struct upload *upload);  /* after upload_finish() */
	void *owner;
	int result;                      /* STORE_OK so far; else why it was given up: further bytes are taken and dropped */
	struct digest actual;            /* UPLOAD_WRONG */
	uint64_t bytes;                  /* taken */
	/* Of ByteStream's, so that it can be gone on with. */
	char uuid[UPLOAD_UUID_BYTES_MAX];
	size_t uuid_size;
	uint64_t orphaned_ns;
	struct list link;                /* reapi.orphans */
	/* The rest is upload's. */
	struct budget_share share;
	enum upload_stage stage;
	bool granted, refused, finishing, destroyed, stepping;
	bool busy;                       /* the store is at work for it */
	uint8_t *data;
	size_t have, capacity, capacity_max;
	struct sha256_stream whole;
	struct cutter cutter;
	size_t fed, cut_bytes;           /* of the pending chunk; of those that are cut and not put */
	uint32_t lengths[UPLOAD_CHUNKS_MAX];
	size_t cut;
	struct recipe_maker maker;
	struct verification verification;
	/* Of one that is cut: bytes that both digests have seen; chunks among them, of how many bytes; the one that has not ended. */
	size_t hashed, named, named_bytes;
	size_t hashing, naming;          /* what the first two will be behind the verifier's turn */
	uint8_t names[UPLOAD_CHUNKS_MAX][SHA256_BYTES];
	struct sha256_stream parts_open[2];      /* a chunk may end and the next one begin in one turn of the verifier */
	unsigned part_open;
	struct store_hold *hold;         /* chunks stay until the pair is there */
	struct store_item items[2 * UPLOAD_CHUNKS_MAX];
	struct buffer parts[UPLOAD_CHUNKS_MAX];
	size_t parts_count;
	size_t putting, putting_bytes;   /* chunks of the put under way */
	struct store_put put;
	struct pair pair;
};

/* What an upload will ask of reapi.uploads at first: all that it can need, or what an unknown part of it needs. */
static inline uint64_t upload_memory(const struct digest *digest, bool whole)
{
	uint64_t most = pair_wanted(digest) ? UPLOAD_BUFFER_BYTES : digest->size;

	return whole || most < UPLOAD_FIRST_BYTES ? most : UPLOAD_FIRST_BYTES;
}

/* NULL: out of memory. The digest's size is at most REAPI_BLOB_BYTES_MAX. */
struct upload *upload_create(struct reapi *reapi, const struct scope *scope, const struct digest *digest,
                             void (*on_room)(struct upload *upload), void (*on_done)(struct upload *upload), void *owner);
/*
 * Asks for memory; on_room follows, perhaps from inside. `whole`: of all that it can need, for who may wait in line. Otherwise more
 * memory is taken as more comes, and where there is none the upload is given up: who waited for it in mid-blob might hold what
 * others need to come to their end.
 */
void upload_start(struct upload *upload, bool whole);
/* How many bytes were taken; fewer than all: on_room follows. */
size_t upload_write(struct upload *upload, struct span data);
void upload_finish(struct upload *upload);
/* No event comes any more. Memory is released when what is in flight has landed. NULL is accepted. */
void upload_destroy(struct upload *upload);
