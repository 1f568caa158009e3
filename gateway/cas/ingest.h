/*
 * ingest: plain files, whose bytes come in any split, many files at a time and interleaved as they please: cut, hashed
 * and put into the store here, and named by content as `sluice push` names them. Small files share blocks of memory,
 * hash batches (chunker/sha256.h) and store_put()s; large ones are cut as they come, and never held whole.
 *
 * One ingest an owner (a DiffCopy call), which bounds what that one may have in memory: INGEST_BLOCKS_MAX blocks, the
 * recipes of the large files that are open (at most one a block, about 1 MiB a GiB of file) and some 200 KB of lists;
 * what is not used is given back when nothing is pending. Nothing is allocated a packet.
 *
 *	ingest_file_begin -> ingest_file_write … -> ingest_file_end -> on_named, once
 *	       \___________________\___________________\-> ingest_file_abandon: no event
 *
 * All on the ring's thread. Events come from the loop, never from inside a call of this header.
 */
#pragma once

#include "chunker/cutter.h"
#include "gateway/cas/cas.h"
#include "gateway/cas/content_name.h"

#define INGEST_BLOCK_BYTES (256u << 10)  /* the longest chunk that a file may be cut into here */
#define INGEST_BLOCKS_MAX  12
#define INGEST_DELAY_NS    2000000       /* the longest that a file's end waits for others to be hashed with */
#define INGEST_FULL_NS     20000000      /* until what did not fit is offered again */

/* Positive results of a file; besides STORE_OK, STORE_FULL and a negative errno. */
enum { INGEST_CROWDED = 64 };            /* so many files were open that none could get on: this one was given up */

struct ingest;
struct ingest_file;
struct ingest_block;

struct ingest_events {
	/*
	 * The file ended, and all of it is in the store (`result` STORE_OK, `name` is set: visible to the tenant, durable
	 * with the next store_sync()), or it is not (see `result`). The file is the owner's again; it may be begun anew.
	 */
	void (*on_named)(struct ingest_file *file);
	/* Something that was refused by ingest_file_write() may fit now. */
	void (*on_room)(struct ingest *ingest);
	/*
	 * These blobs are in the store, chunks and small files first, from `recipes_first` on recipes and parts of some; before
	 * on_named of what is made of them. `files` of the former: whose each is; NULL: abandoned. From inside other code's calls
	 * of the store: note them, and do no more. Optional.
	 */
	void (*on_put)(struct ingest *ingest, const struct store_item *items, struct ingest_file *const *files, size_t count,
	               size_t recipes_first);
	/* The store is full, and a patient ingest waits for room: the owner lets go of what it can. Optional. */
	void (*on_full)(struct ingest *ingest);
};

struct ingest_file {
	/*
	 * To be read at any time: STORE_OK so far; else the file was given up, its further bytes are taken and dropped, and
	 * on_named comes after its end all the same: STORE_FULL, INGEST_CROWDED, -EFBIG (longer than recipes go), -errno.
	 */
	int result;
	struct content_name name;        /* on_named with STORE_OK */
	/* What follows is ingest's. All-zero: not begun. */
	struct ingest *ingest;
	struct list link;
	uint8_t state;
	bool cut;                        /* longer than RECIPE_WHOLE_MAX: has a recipe */
	uint32_t pieces_out;             /* not yet hashed and in the store */
	uint64_t bytes, size_hint;
	struct ingest_block *block;      /* where its pending bytes are */
	uint8_t *data;                   /* the first of them */
	size_t have, capacity, fed;
	struct cutter cutter;
	uint32_t profile;
	struct recipe_maker *maker;           /* of one that is cut */
};

/*
 * `cas`: its ring, store and hasher are used, and outlive the ingest. `scope`: who the files belong to. NULL: no memory.
 */
struct ingest *ingest_create(struct cas *cas, const struct scope *scope, const struct ingest_events *events, void *owner);
/* Abandons what is open. What is on its way into the store goes on; memory is released after it. NULL is accepted. */
void ingest_destroy(struct ingest *ingest);
void *ingest_owner(const struct ingest *ingest);

/*
 * From now on every blob that is put is held as well, before it is visible to others: what was named stays until the
 * hold ends. What is on its way into the store is held by both the former hold and this one, also when the former one ends
 * meanwhile. `hold` has to last until ingest_destroy() or the next call of this has returned; NULL: not (the start). A hold
 * that is full makes files fail with -ENOSPC.
 */
void ingest_set_hold(struct ingest *ingest, struct store_hold *hold);

/*
 * What the store is too full for is offered again, until it has had no room for so long; the start is 0: files fail with
 * STORE_FULL at once. For owners whose holds are what fills it, and end as they go on.
 */
void ingest_set_patience(struct ingest *ingest, uint64_t patience_ns);

/*
 * `file` is not begun, or was named or abandoned. `size_hint`: how long it will probably be; a wrong one costs a copy.
 * Never refused.
 */
void ingest_file_begin(struct ingest *ingest, struct ingest_file *file, uint64_t size_hint);

/*
 * The file's next bytes; copied. Returns how many were taken: all, or fewer, even none: then on_room comes, after which
 * the rest is to be offered again. Other files' bytes need not be kept back meanwhile: when so many are open that no
 * file can get on, the one that is written to is given up, and the memory goes to the others.
 */
size_t ingest_file_write(struct ingest_file *file, struct span data);

/* The file ends with what was taken. on_named follows. Never refused. */
void ingest_file_end(struct ingest_file *file);

/* No event comes for it any more; the owner may release it. At any time, also when it is not begun (all-zero). */
void ingest_file_abandon(struct ingest_file *file);

/* Does not wait for more files to hash together: what has ended is on its way with the next turn of the loop. */
void ingest_flush(struct ingest *ingest);

struct ingest_totals {
	uint64_t files, files_cut, bytes, chunks, bytes_new, crowded, batches, refusals;
};
/* Since its creation. bytes_new: what the store did not have; not to be shown to a tenant. */
const struct ingest_totals *ingest_totals(const struct ingest *ingest);
/* Blocks and recipes in memory, for tests of the bound. */
size_t ingest_memory(const struct ingest *ingest);
