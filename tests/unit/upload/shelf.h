/*
 * shelf: a tree in memory as the source of an uploader: directories with small files, one file by recipe, a small one of
 * its own, and a directory that is there twice. It can read later, have blobs that are stale, and fail.
 */
#pragma once

#include "gateway/upload/uploader.h"

#define SHELF_DIRECTORIES 6
#define SHELF_FILES       40             /* a directory */
#define SHELF_CHUNKS      50
#define SHELF_BLOBS       (SHELF_DIRECTORIES * (SHELF_FILES + 1) + SHELF_CHUNKS + 3)

struct shelf_read {
	struct op timer;
	struct shelf *shelf;
	struct uploader_read *read;      /* NULL: free */
};

struct shelf {
	struct uploader_source source;
	struct ring *ring;
	struct buffer blobs[SHELF_BLOBS];
	struct digest digests[SHELF_BLOBS];
	size_t count;
	size_t contents, chunks;         /* the first so many blobs are contents; so many of these, at the end, the chunks */
	size_t mark, recipe, root;       /* places */
	uint64_t bytes;

	bool later;                      /* reads are done by a timer, not at once */
	bool known;                      /* all but `unknown` was in the last tree */
	const struct digest *unknown;
	const struct digest *stale;      /* not to be had; NULL: none */
	const struct shelf *former;      /* its blobs are the bases of those in the same places; NULL: no bases */
	bool former_lost;                /* but none of their bytes are to be had */
	uint8_t edit;                    /* in the middle of each content */
	size_t edit_only;                /* or of this one, counted from 1 */
	int error;                       /* of the next read */
	struct shelf_read reads[UPLOADER_PACKS_MAX];
	unsigned reading, reading_max;

	struct digest lent[SHELF_FILES + SHELF_DIRECTORIES + SHELF_CHUNKS + 2];
	bool lent_recipes[SHELF_FILES + 2];
};

/* The same tree for the same `seed`; sizes are such that it takes some packs. */
void shelf_make(struct shelf *shelf, struct ring *ring, uint32_t seed);
/* The same but for the file of its own, and so the root. */
void shelf_make_marked(struct shelf *shelf, struct ring *ring, uint32_t seed, uint32_t mark);
/* The tree of this seed with a byte changed in each content; `edit` is not 0. */
void shelf_make_edited(struct shelf *shelf, struct ring *ring, uint32_t seed, uint8_t edit);
/* The same of one content alone, by its place. */
void shelf_make_touched(struct shelf *shelf, struct ring *ring, uint32_t seed, size_t place);
void shelf_fini(struct shelf *shelf);
