/*
 * evict: empties the least recently used segment, so that it can be written again. What a hold or a pin names is
 * copied out first; then, in this order: nothing more is found in it, its entries are deleted (durably), its readers
 * leave, and it is free. The next use writes it under the next generation.
 *
 *	IDLE -> WALKING -> MEASURING -> COPYING -> COMMITTING -> DELETING -> LEAVING -> IDLE
 *	           ^__________________________________|  (something was pinned meanwhile)
 */
#pragma once

#include "gateway/store/fingerprints.h"
#include "gateway/store/segment.h"
#include "gateway/store/writer.h"

enum evict_state {
	EVICT_IDLE,
	EVICT_WALKING,                   /* reads pinned directories, to know what they need */
	EVICT_MEASURING,                 /* how much of each candidate is pinned */
	EVICT_COPYING,                   /* pinned records of the victim go to the open segment */
	EVICT_COMMITTING,                /* and become durable there */
	EVICT_DELETING,                  /* the victim's entries leave the index */
	EVICT_LEAVING,                   /* the last readers leave the victim */
};

#define EVICT_ROWS_MAX 256

struct evict {
	enum evict_state state;
	struct segment *victim;
	/* What must stay. */
	struct fingerprints pinned;
	struct fingerprints walked;              /* references other than STORE_DATA that are, or were, on the stack */
	struct fingerprints members, moved;      /* of the victim: seen there, copied out */
	struct store_reference *stack;   /* pinned directories and recipes to be read */
	size_t stack_count, stack_capacity;
	bool late;                       /* a member of the victim was pinned since it was copied */
	/* Reading one blob: a pinned directory, or a record to be copied. */
	struct store_read read;
	enum store_kind read_kind;
	uint8_t *buffer;
	size_t buffer_capacity;
	bool reading, read_done;
	/* Walking the victim's rows. */
	struct index_scan scan;
	uint8_t *rows;
	size_t rows_at;
	bool scanning, scanned;          /* the scan is out; a page of rows is there */
	struct segment *candidate;
	uint64_t candidate_rows, pinned_rows, pinned_bytes;      /* of the candidate, as far as it was walked */
	struct append append;
	struct place from;               /* what is appended is a copy of the record there */
	bool appending;
	uint64_t ticket;
	uint64_t copied;
	/* Deleting. */
	struct index_apply apply;
	bool applying;
	struct row_segment row;          /* of the victim, as the transaction writes it */
	uint64_t sequence;
	size_t delete_at;
	int delete_stage;
	/* When the last attempt found nothing: do not walk it all again until something was released. */
	uint64_t full_epoch;
	uint64_t full_ns;
};

int evict_init(struct evict *evict, struct store *store);
/* Before the loop runs: ends a deletion that a crash interrupted. Blocking. */
int evict_resume(struct store *store, struct segment *segment);
void evict_fini(struct evict *evict);
void evict_step(struct store *store);
/* True: under way, or stale marks go first, which may be enough. False: just tried, and everything is pinned. */
bool evict_start(struct store *store);
/* Something is pinned from now on; a running eviction must know. */
void evict_pinned_blob(struct store *store, const uint8_t *hash);
void evict_pinned_root(struct store *store, const struct store_reference *root);
/* It was not here, or was damaged, and is here now: a running eviction may have looked for it in vain. */
void evict_arrived_blob(struct store *store, const struct digest *digest);
/* Its copies found no segment to go to. */
void evict_give_up(struct store *store);
/* Copies are being made for which the last segments are kept. */
bool evict_copies(const struct store *store);
