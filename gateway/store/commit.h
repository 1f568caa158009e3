/*
 * commit: group commit. What was accepted since the last one (the open generation) becomes the frozen one; its slots
 * land, each dirty segment is synced once, then all its entries go into the index in one transaction, and everyone who
 * waited for it is told. Meanwhile puts go on into the next generation.
 *
 *	IDLE -> FLUSHING -> SYNCING -> INDEXING -> IDLE
 */
#pragma once

#include "gateway/store/pending.h"
#include "gateway/store/segment.h"

enum commit_state {
	COMMIT_IDLE,
	COMMIT_FLUSHING,                 /* slots are on their way to the disk's cache */
	COMMIT_SYNCING,                  /* fdatasync of each dirty segment */
	COMMIT_INDEXING,                 /* the index's transaction */
};

/* What one commit writes. */
struct generation {
	struct pending pending;
	struct list marks, pins, notes;  /* struct store_marks, store_pin, store_note: durable with it */
};

struct commit_row {
	uint32_t number;
	struct row_segment row;
};

/* Where the index's transaction stands in the frozen generation. */
struct commit_cursor {
	int stage;
	size_t at;
	struct list *link;
};

struct commit {
	enum commit_state state;
	uint64_t ticket;                 /* of the open generation */
	uint64_t done;                   /* all generations up to it are durable */
	bool wanted;
	bool forced;                     /* even if there is nothing new but full segments */
	struct op timer;
	uint64_t flushed;                /* slots that must land first */
	uint32_t syncing;
	struct segment **segments;       /* that this commit syncs */
	uint64_t *durable;               /* and what is durable of each then */
	uint32_t segments_count;
	struct commit_row *rows;
	uint32_t rows_count;
	uint32_t used_from;              /* the segment from which on uses are noted next: all have their turns */
	uint64_t sequence;
	struct index_apply apply;
	bool applied;                    /* the index has answered */
	bool without_marks;              /* which the index had no room for */
	struct commit_cursor cursor;
	struct list waiting;             /* struct store_sync */
	uint64_t started_ns;
};

int commit_init(struct commit *commit, struct store *store);
void commit_fini(struct commit *commit);
void commit_step(struct store *store);
/* Something was accepted: it is to be durable within the interval. */
void commit_accepted(struct store *store);
/* The next commit is to start as soon as it can; store_step() starts it. */
void commit_want(struct store *store);
/* One is due, and no record may begin before it has: else, with few slots, there would always be one half-way. */
bool commit_waits(struct store *store);
/* Likewise if nobody waits for it: so that full segments may be evicted. */
void commit_force(struct store *store);
