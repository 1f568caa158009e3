/*
 * stat_claim: who is fetching a file now. The first claim on a file's content fetches it from its client, the others wait for it
 * instead of asking theirs. Embedded in its owner; between clients of one stat table.
 *
 * All on the ring's thread. Events come from the loop, never from inside a call of this header.
 */
#pragma once

#include "gateway/base/list.h"
#include "gateway/broker/stat_table.h"

struct stat_claim {
	struct stat_table *table;
	struct stat_entry_key key;
	/* Waiter: the fetcher has named it; the claim has ended. */
	void (*on_named)(struct stat_claim *claim, const struct content_name *name);
	/* Waiter: who fetched it could not: you are the fetcher now. */
	void (*on_lost)(struct stat_claim *claim);
	/* The rest is stat_claim's. All-zero: not claimed. */
	uint8_t state;
	struct list link, waiters, tell;
	struct content_name name;
};

enum { STAT_CLAIM_FETCH = 0, STAT_CLAIM_WAIT = 1 };
/*
 * table, key and both handlers are set. Never refused. It looks nothing up: ask stat_table_find() in the same turn, since what
 * somebody named since an earlier look is claimed by nobody any more, and would be fetched again.
 */
int stat_table_claim(struct stat_claim *claim);
/* The fetcher has it in the store: learned, told to the waiters. The claim has ended. */
void stat_claim_named(struct stat_claim *claim, const struct content_name *name);
/*
 * Out of it, fetcher or waiter: the owner goes, or could not. A fetcher's first waiter becomes the fetcher. Also when it
 * was never made, or has ended.
 */
void stat_claim_end(struct stat_claim *claim);
