/*
 * tidy: keeps marks and notes within bounds, a few rows at a time: stale marks are deleted after evictions made them
 * so, all of them before the index is said to be full; when there are more notes than their share, some go, and others the
 * next time, in the order of their keys and round again.
 */
#pragma once

#include "gateway/store/index.h"

struct store;

enum tidy_state {
	TIDY_IDLE,
	TIDY_SCANNING,
	TIDY_DELETING,
};

#define TIDY_ROWS_MAX 256

struct tidy {
	enum tidy_state state;
	bool notes;                      /* this round is about notes, not marks */
	uint32_t marks_pages;            /* still to be looked through */
	bool all;                        /* and all marks from the first one on, as soon as the index is tight */
	uint64_t all_sequence, all_marks;        /* of the store, when all were looked through: before, and after it */
	struct tidy_place {              /* where a round goes on; size 0: at the beginning */
		uint8_t key[INDEX_KEY_MAX];
		size_t size;
	} marks_next, notes_next;
	struct index_scan scan;
	struct index_apply apply;
	uint8_t *rows;
	size_t at;
	bool started;                    /* with notes */
	bool scanned, applied;
};

int tidy_init(struct tidy *tidy);
void tidy_fini(struct tidy *tidy);
void tidy_step(struct store *store);
/* After an eviction: some marks are stale now. */
void tidy_marks(struct store *store);
/* Looks through all marks. False: this was done, and nothing has made others stale since. */
bool tidy_all_marks(struct store *store);
/* Stale marks are being looked for, and the index has little room without: store_step() when that is over. */
bool tidy_makes_room(const struct store *store);
