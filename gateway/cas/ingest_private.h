/*
 * ingest_private: what ingest.c (the ingest and its loop), ingest_file.c (a file's bytes), ingest_put.c (the store) and what
 * these stand on, ingest_batch.c and ingest_block.c, share. Each calls those that come later in this list, and no other.
 */
#pragma once

#include "gateway/cas/ingest.h"

#define INGEST_BATCH_PIECES_MAX  256
/* A file of RECIPE_PART_ENTRIES chunks or more may end with two blobs more; so many can be open at a time. */
#define INGEST_BATCH_RECIPES_MAX (INGEST_BATCH_PIECES_MAX + 3 * INGEST_BLOCKS_MAX)
#define INGEST_BATCHES_MAX       4

enum ingest_file_state {
	INGEST_FILE_NONE,
	INGEST_FILE_OPEN,
	INGEST_FILE_ENDING,              /* its last piece waits for a batch */
	INGEST_FILE_ENDED,               /* its pieces are on their way */
	INGEST_FILE_NAMING,              /* to be told */
};

struct ingest_block {
	struct list link;                /* while it is free */
	uint32_t refs;                   /* pieces, files that write, and the ingest while it fills it with small files */
	size_t used;                     /* shared: reserved so far */
	uint8_t data[INGEST_BLOCK_BYTES];
};

struct ingest_piece {
	struct ingest_file *file;        /* NULL: abandoned */
	struct ingest_block *block;      /* NULL: of no bytes */
	struct span data;
	bool last;
};

struct ingest_batch {
	struct ingest *ingest;
	struct list link;                /* idle, sealed or refused */
	struct store_put put;
	size_t bytes;
	bool putting;                    /* in the store's hands */
	unsigned pieces_count, recipes_count;
	struct ingest_piece pieces[INGEST_BATCH_PIECES_MAX];
	struct buffer recipes[INGEST_BATCH_RECIPES_MAX];
	struct store_item items[INGEST_BATCH_PIECES_MAX + INGEST_BATCH_RECIPES_MAX];
};

struct ingest {
	struct cas *cas;
	struct scope scope;
	struct ingest_events events;
	void *owner;
	struct store_hold *hold;
	bool closing, running, posted;
	bool room_wanted, room_made;
	struct post turn;
	struct op timer;
	size_t hash_bytes;
	struct list files, ending, naming;       /* begun or ended; INGEST_FILE_ENDING; INGEST_FILE_NAMING */
	struct list blocks_free;
	unsigned blocks_count;
	struct ingest_block *filling;            /* shared by small files */
	struct ingest_batch *batches[INGEST_BATCHES_MAX];
	unsigned batches_count, batches_out;     /* out: sealed, or in the store's hands */
	struct ingest_batch *open;
	struct list batches_idle, sealed, refused;       /* refused: for want of room in the store */
	uint64_t patience_ns, full_since_ns;     /* full_since: 0: it is not */
	struct op again;
	struct ingest_totals totals;
	struct sha256_job jobs[INGEST_BATCH_PIECES_MAX];
};

/* Another turn of the loop is wanted. */
static inline void ingest_schedule(struct ingest *ingest)
{
	if (ingest->posted)
		return;
	ingest->posted = true;
	ring_post(ingest->cas->ring, &ingest->turn);
}

/* ---- ingest_file.c ---- */

/* The last piece goes into a batch. False: none is free. */
bool ingest_file_finish(struct ingest_file *file);
/* Forgotten: no batch knows it any more, and it is not begun. */
void ingest_file_detach(struct ingest_file *file);
/* What a piece of it is called. Its recipe, or a part, is added to `batch` once it is known. 0 or a negative errno. */
int ingest_file_hashed(struct ingest_file *file, struct ingest_batch *batch, const struct ingest_piece *piece,
                       const struct digest *digest);
/* A piece of it is in the store, or is not (`result`), and its bytes are not read any more. */
void ingest_file_landed(struct ingest_file *file);

/* ---- ingest_put.c ---- */

/* Takes a sealed batch. From a turn of the loop: hashing takes a while. */
void ingest_put_batch(struct ingest_batch *batch);
/* What is in the store's hands is held by the present hold. */
void ingest_hold_batches(struct ingest *ingest);
/* What the store was too full for is offered again. */
void ingest_put_again(struct ingest *ingest);

/* ---- ingest_batch.c ---- */

/* The open batch, with room for a piece. NULL: all are out, or no memory. */
struct ingest_batch *ingest_batch_open(struct ingest *ingest);
/* To the open batch, which is sealed when it is full or long enough to be hashed, or else in a while. */
void ingest_batch_add(struct ingest *ingest, const struct ingest_piece *piece);
/* `blob` is the batch's from now on. */
void ingest_batch_add_recipe(struct ingest_batch *batch, const struct buffer *blob, const struct digest *digest);
/* The open one, if anything is in it: a turn of the loop takes it. */
void ingest_batch_seal(struct ingest *ingest);
/* Its blocks are let go, its recipes freed; it is idle. */
void ingest_batch_release(struct ingest_batch *batch);
void ingest_batch_forget(struct ingest_batch *batch, const struct ingest_file *file);
/* All that are not in the store's hands become idle; their pieces are lost. */
void ingest_batches_discard(struct ingest *ingest);
/* Idle ones are freed until no more than `keep` are there. */
void ingest_batches_trim(struct ingest *ingest, unsigned keep);

/* ---- ingest_block.c ---- */

/* With one reference, the caller's. NULL: none left, or no memory. */
struct ingest_block *ingest_block_take(struct ingest *ingest);
/* NULL is accepted. */
void ingest_block_unref(struct ingest *ingest, struct ingest_block *block);
/* The next small file begins another block. */
void ingest_block_leave(struct ingest *ingest);
/* Free ones are freed until no more than `keep` are there. */
void ingest_blocks_trim(struct ingest *ingest, unsigned keep);
