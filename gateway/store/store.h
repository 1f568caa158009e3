/*
 * store: blobs on local disk: segments (append-only files, recycled) and an index. One daemon a store.
 *
 * A blob is put verified: whoever calls store_put() has checked the digest. It is visible to siblings from the in-memory
 * table at once, and durable after store_sync(): records written -> fdatasync of their segments -> index committed.
 * A tenant sees a blob only if it put it itself; bytes are kept once.
 *
 * Every operation is a struct embedded in its owner with a completion handler `fn`; it may complete inline (before the
 * call returns) or later, from ring_run(). Owners keep it, and what it points to, until `fn`. All on the ring's thread.
 */
#pragma once

#include "gateway/base/list.h"
#include "gateway/ring/ring.h"
#include "gateway/tenant/scope.h"
#include "proto/digest.h"

#define STORE_BLOB_BYTES_MAX   (4u << 20)        /* the longest blob kept as one record */
#define STORE_BATCH_MAX        16384             /* digests a lookup, items a put */
#define STORE_READ_EXTRA_BYTES 96                /* a read's buffer: digest.size plus this, which is free again before the blob */
#define STORE_SEGMENTS_MAX     4096

struct store;

enum store_outcome {
	STORE_OK = 0,
	STORE_MISSING = 1,               /* not there, or not this tenant's */
	STORE_CORRUPT = 2,               /* was there; its checksum failed, or the disk cannot read it; quarantined now, ask for it again */
	STORE_FULL = 3,                  /* pins fill the ceiling, or the disk is full; reads go on */
};                                       /* a negative value: errno of a failing disk */

/* Which references a blob of this kind holds is told by `references` in the config. */
enum store_kind { STORE_DATA, STORE_DIRECTORY, STORE_RECIPE };

struct store_reference {
	struct digest digest;
	enum store_kind kind;
};

struct store_config {
	const char *path;                /* directory; made (0700) when missing */
	uint64_t ceiling_bytes;          /* segments + index together; at least 64 MiB. Later ones may not be lower. More than
	                                    STORE_SEGMENTS_MAX segments take, of the size that it was made with, is not used: a warning */
	uint64_t segment_bytes;          /* 0: ceiling/64 within 8 MiB..1 GiB */
	uint64_t commit_interval_ns;     /* accepted blobs are durable after this at the latest; 0: 250 ms */
	uint64_t bad_read_ns;            /* a place that could not be read and cannot, so much later, is damaged; 0: 5 s */
	uint32_t slots;                  /* 1 MiB write slots; 0: 8 */
	bool direct;                     /* O_DIRECT where the filesystem takes it */
	/*
	 * Calls `visit` for each blob that `blob` names. Returns false when `blob` is not of that kind. Used to find what a
	 * pinned root needs. Called on the ring's thread or in ring_work.
	 */
	bool (*references)(enum store_kind kind, struct span blob,
	                   void (*visit)(void *context, const struct store_reference *reference), void *context);
	const struct index_engine *index;        /* NULL: LMDB. Tests give a delaying one */
};

/*
 * Opens or makes the store, blocking, before the loop runs. 0; -EBUSY: another daemon has it; -EPROTONOSUPPORT: a
 * format this version does not know; else errno. `why` gets one sentence that says what to do.
 */
int store_open(struct store **store, struct ring *ring, const struct store_config *config, char *why, size_t why_size);

/*
 * Makes everything accepted durable, then releases; `fn` last, from the loop. No operation of others may be in flight,
 * and no hold be left.
 */
void store_close(struct store *store, void (*fn)(void *context), void *context);

/* The number of a tenant's and an instance's name, kept for ever in this store. Blocking, cached; 0 or -errno. */
int store_scope(struct store *store, struct span tenant, struct span instance, uint32_t rights, struct scope *scope);
/* The same of names that it has; -ENOENT: it has one of them not. */
int store_scope_find(struct store *store, struct span tenant, struct span instance, uint32_t rights, struct scope *scope);

/* ---- blobs ---- */

struct store_lookup {
	struct scope scope;
	const struct digest *digests;
	size_t count;                    /* at most STORE_BATCH_MAX */
	uint32_t *places;                /* out: 0 missing; else for store_rest_add(); all of one moment. To keep what is
	                                  * there from eviction, take a hold before `fn` returns */
	uint64_t *sizes;                 /* out, may be NULL: how long they are; then `digests` need not say it */
	void (*fn)(struct store_lookup *lookup);
	int result;                      /* 0 or -errno */
	struct list link;                /* the store's */
};
void store_lookup(struct store *store, struct store_lookup *lookup);

struct store_item {
	struct digest digest;
	struct span data;                /* verified by the caller; kept alive until fn */
};

/*
 * Accepts all items (written or queued for writing, visible to the tenant's siblings) or fails as a whole; waits for
 * write slots by itself, which is the back-pressure.
 */
struct store_put {
	struct scope scope;
	const struct store_item *items;
	size_t count;                    /* at most STORE_BATCH_MAX */
	void (*fn)(struct store_put *put);
	int result;                      /* STORE_OK, STORE_FULL or -errno */
	uint64_t bytes_new;              /* out: what was not in the store at all; never shown to a tenant */
	size_t next;                     /* the rest is the store's */
	void *private;
	struct list link;
};
void store_put(struct store *store, struct store_put *put);

/* Reads one blob whole. */
struct store_read {
	struct scope scope;
	struct digest digest;
	uint8_t *buffer;                 /* digest.size + STORE_READ_EXTRA_BYTES */
	void (*fn)(struct store_read *read);
	int result;                      /* STORE_OK, STORE_MISSING, STORE_CORRUPT or -errno */
	struct span blob;                /* out: inside `buffer`, checked, at its end; what is before it is the owner's again */
	struct op op;                    /* the rest is the store's */
	uint32_t segment;
	struct list link;
	void *private;
};
void store_read(struct store *store, struct store_read *read);

/*
 * Reads begun between these two are looked up together. Of those in the order in which they lie in a segment, as they were put, the
 * ones whose buffers lie behind each other, store_read_bytes() apart, come with one read of the disk. They nest. Blobs that
 * need no look-up (the empty one) are told at once, all others after the last store_reads_start().
 */
void store_reads_gather(struct store *store);
void store_reads_start(struct store *store);
/* From the beginning of a buffer to that of the next one, at least `size` + STORE_READ_EXTRA_BYTES: what a blob takes in a segment. */
static inline size_t store_read_bytes(size_t size)
{
	return (size + STORE_READ_EXTRA_BYTES + 7) & ~(size_t)7;
}

/* Completes when all that was accepted before the call is on disk and in the index. Same wait whether or not it was new. */
struct store_sync {
	void (*fn)(struct store_sync *sync);
	int result;                      /* STORE_OK or -errno */
	uint64_t ticket;
	struct list link;
};
void store_sync(struct store *store, struct store_sync *sync);

/* ---- closure marks: "this directory is whole" ---- */

/* The segments that a closure rests on: a set, as the mark keeps it. `store_rest_bytes(store)` bytes each. */
size_t store_rest_bytes(const struct store *store);
void store_rest_add(uint8_t *rest, uint32_t place);      /* a place as store_lookup gave it */
void store_rest_union(const struct store *store, uint8_t *rest, const uint8_t *other);

struct store_marks {
	struct scope scope;
	const struct digest *directories;
	size_t count;
	bool *whole;                     /* out (lookup): the mark is there and fresh */
	uint8_t *rests;                  /* lookup: out, may be NULL; write: in. count * store_rest_bytes */
	void (*fn)(struct store_marks *marks);
	int result;
	uint64_t sequence;               /* the store's */
	struct list link;
};
/* Fresh marks also count as use: their segments are the last to be evicted. */
void store_marks_lookup(struct store *store, struct store_marks *marks);
/* To be called for closures found whole by lookups made since `store_marks_begin()` returned `sequence`. */
uint64_t store_marks_begin(const struct store *store);
void store_marks_write(struct store *store, struct store_marks *marks);

/* ---- pins ---- */

/*
 * A transaction's hold: what was told to be present stays until the hold ends. Loose blobs, and roots with all below
 * them: directories, and recipes. What a directory names by the digest of a blob longer than a record is held by its recipe alone.
 * In memory only. Bounded: STORE_HOLD_MAX entries, then -ENOSPC (the caller answers RESOURCE_EXHAUSTED).
 */
#define STORE_HOLD_MAX (1u << 21)
struct store_hold;
struct store_hold *store_hold_create(struct store *store, const struct scope *scope);
int store_hold_blobs(struct store_hold *hold, const struct digest *digests, size_t count);
int store_hold_root(struct store_hold *hold, const struct digest *directory);
int store_hold_recipe(struct store_hold *hold, const struct digest *recipe);     /* and its chunks */
void store_hold_release(struct store_hold *hold);        /* NULL is accepted */

/*
 * `sluice pin`: kept across restarts until `expires_wall_ns` (UINT64_MAX: for ever; 0: unpin, STORE_MISSING when there is
 * none). A scope has one pin a hash: one with another size takes its place. -EDQUOT: the tenant has STORE_TENANT_PINS_MAX, in all
 * its instances; -ENOSPC: there are STORE_PINS_MAX.
 */
#define STORE_PINS_MAX        4096
#define STORE_TENANT_PINS_MAX (STORE_PINS_MAX / 4 * 3)   /* leaves room for the others */
struct store_pin {
	struct scope scope;
	struct digest root;
	uint64_t expires_wall_ns;
	char note[64];
	void (*fn)(struct store_pin *pin);
	int result;
	struct list link;
};
void store_pin(struct store *store, struct store_pin *pin);
/* Calls `visit` for each pin of the scope; blocking, small. */
int store_pins_list(struct store *store, const struct scope *scope,
                    void (*visit)(void *context, const struct store_pin *pin), void *context);

/* ---- notes: small values by key, e.g. cached action results ---- */

#define STORE_NOTE_KEY_MAX   64
#define STORE_NOTE_VALUE_MAX 1024
struct store_note {
	struct scope scope;
	uint8_t key[STORE_NOTE_KEY_MAX];
	size_t key_size;
	uint8_t value[STORE_NOTE_VALUE_MAX];
	size_t value_size;
	void (*fn)(struct store_note *note);
	int result;                      /* get: STORE_OK or STORE_MISSING; put: STORE_OK once it is durable */
	struct list link;
};
void store_note_get(struct store *store, struct store_note *note);
/* The first note whose key begins with `key`: its own key is put there. */
void store_note_find(struct store *store, struct store_note *note);
/* Durable together with everything accepted before it. */
void store_note_put(struct store *store, struct store_note *note);

/* ---- state, for metrics and `sluice status` ---- */

struct store_status {
	uint64_t ceiling_bytes, segment_bytes, segments_used, segments_max, bytes_live, index_bytes,
	         blobs, puts, puts_new, bytes_put, bytes_new, reads, disk_reads, bytes_read, read_errors, corrupt, commits, syncs,
	         evicted_segments, evicted_blobs, moved_blobs, slots_waits, pending_blobs, holds, marks, marks_stale,
	         commit_ns_max, copied_bytes_slots, copied_bytes_slots_read,
	         failed;                 /* 1: the disk failed, and nothing is accepted until a restart */
};
void store_status(const struct store *store, struct store_status *status);
