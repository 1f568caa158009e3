/*
 * segment: one file of fixed size, written once from front to back, then recycled under the next generation. Its
 * blocks are taken by fallocate when it is made, and it is never unlinked (that blocked for 1.6 s a GiB).
 *
 *	ABSENT -> FREE -> OPEN -> SEALED -> EVICTING -> FREE
 */
#pragma once

#include "gateway/ring/ring.h"
#include "gateway/store/rows.h"

#define SEGMENT_DIR      "segments"
#define SEGMENT_NAME_MAX 40

struct store;

struct segment {
	struct store *store;
	uint32_t number;
	struct row_segment row;          /* what the index knows, or will with the next commit */
	uint64_t used_saved;             /* row.used as the index has it */
	uint64_t tail;                   /* where the next byte goes */
	uint64_t sealed_ticket;          /* the commit that covers its last record */
	uint32_t pinned_part;            /* of EVICT_WHOLE, as the running eviction measured it; UINT32_MAX: not yet */
	uint32_t readers;
	bool dirty;                      /* bytes written, or about to be, since its last fdatasync */
	bool row_changed;                /* not in the index yet */
	bool copied_from;                /* by an eviction, since the last commit began */
	int read_fd, write_fd;           /* -1: closed */
	struct op sync;
};

/* "segments/0000002a" */
char *segment_name(char name[static SEGMENT_NAME_MAX], uint32_t number);

/* Makes the file with all its blocks, and its name durable. Blocking. 0 or -errno; -ENOSPC leaves nothing behind. */
int segment_create(int dir_fd, uint32_t number, uint64_t bytes);
/* For reading, through the page cache: just-read blobs are read again by the next executor. 0 or -errno. */
int segment_open_read(struct segment *segment, int dir_fd);
/* For writing, past the page cache when `direct` and the filesystem takes it. 0 or -errno. */
int segment_open_write(struct segment *segment, int dir_fd, bool direct);
void segment_close_write(struct segment *segment);
void segment_close(struct segment *segment);
