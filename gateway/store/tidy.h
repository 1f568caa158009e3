/*
 * tidy: keeps marks and notes within bounds, a few rows at a time: stale marks are deleted after evictions made them
 * so; when there are more notes than their share, some go, and others the next time, in the order of their keys and round again.
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
