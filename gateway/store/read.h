/* read: one blob whole: resolve, read header and payload, check both, hand out or quarantine. */
#pragma once

#include "gateway/store/resolve.h"

#define READS_MAX 64                     /* reads under way; more of them wait */

struct reader {
	struct store *store;
	struct store_read *read;
	struct resolve resolve;
	struct place place;
	struct list link;
};

struct reads {
	struct reader *readers;
	struct list idle, waiting;
	uint32_t active;
};

int reads_init(struct reads *reads, struct store *store);
void reads_fini(struct reads *reads);
void reads_step(struct store *store);
/* Takes a blob whose bytes at `place` are damaged out of sight, if it still lies there. */
void read_quarantine(struct store *store, const struct digest *digest, struct place place);
