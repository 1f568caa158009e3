/*
 * Claims on files' contents: fetchers in their table's buckets, waiters at their fetcher. What they are told comes in the
 * memory's turn.
 */
#include "gateway/broker/stat_private.h"

#include <string.h>
#include <xxhash.h>

#include "gateway/base/check.h"

enum claim_state { CLAIM_NONE, CLAIM_FETCHER, CLAIM_WAITER, CLAIM_NAMED };

static struct list *claim_bucket(const struct stat_claim *claim)
{
	uint64_t hash = XXH3_64bits_withSeed(claim->key.bytes, sizeof(claim->key.bytes), claim->table->memory->seed);

	return &claim->table->claims[hash % STAT_CLAIM_BUCKETS];
}

static void claim_become_fetcher(struct stat_claim *claim)
{
	claim->state = CLAIM_FETCHER;
	list_init(&claim->waiters);
	list_append(claim_bucket(claim), &claim->link);
	claim->table->memory->totals.claims++;
}

int stat_table_claim(struct stat_claim *claim)
{
	CHECK(claim->state == CLAIM_NONE);
	list_for_each(link, claim_bucket(claim)) {
		struct stat_claim *fetcher = container_of(link, struct stat_claim, link);

		if (memcmp(&fetcher->key, &claim->key, sizeof(claim->key)) != 0)
			continue;
		claim->state = CLAIM_WAITER;
		list_append(&fetcher->waiters, &claim->link);
		claim->table->memory->totals.claims_waiting++;
		return STAT_CLAIM_WAIT;
	}
	claim_become_fetcher(claim);
	return STAT_CLAIM_FETCH;
}

static void claim_tell(struct stat_claim *claim)
{
	list_append(&claim->table->memory->tells, &claim->tell);
	stat_memory_schedule(claim->table->memory);
}

/* Out of every list. A fetcher's waiters are the caller's. */
static void claim_leave(struct stat_claim *claim)
{
	struct stat_memory_status *totals = &claim->table->memory->totals;

	totals->claims -= claim->state == CLAIM_FETCHER;
	totals->claims_waiting -= claim->state == CLAIM_WAITER;
	list_remove(&claim->link);
	list_remove(&claim->tell);
	claim->state = CLAIM_NONE;
}

void stat_claim_named(struct stat_claim *claim, const struct content_name *name)
{
	struct list *link;

	CHECK(claim->state == CLAIM_FETCHER);
	stat_table_learn(claim->table, &claim->key, name);
	claim_leave(claim);
	while (!list_empty(&claim->waiters)) {
		struct stat_claim *waiter = container_of(link = claim->waiters.next, struct stat_claim, link);

		claim_leave(waiter);
		waiter->state = CLAIM_NAMED;
		waiter->name = *name;
		claim_tell(waiter);
	}
}

/* Hands the others' wait over to the one who waited longest. */
static void claim_hand_over(struct stat_claim *claim)
{
	struct stat_claim *next;
	struct list *link;

	if (list_empty(&claim->waiters))
		return;
	next = container_of(claim->waiters.next, struct stat_claim, link);
	claim_leave(next);
	claim_become_fetcher(next);
	while ((link = list_take(&claim->waiters)))
		list_append(&next->waiters, link);
	claim_tell(next);
}

void stat_claim_end(struct stat_claim *claim)
{
	bool fetcher = claim->state == CLAIM_FETCHER;

	if (claim->state == CLAIM_NONE)
		return;
	claim_leave(claim);
	if (fetcher)
		claim_hand_over(claim);
}

void stat_claim_event(struct stat_claim *claim)
{
	struct content_name name = claim->name;

	if (claim->state == CLAIM_FETCHER) {
		claim->on_lost(claim);
		return;
	}
	CHECK(claim->state == CLAIM_NAMED);
	claim->state = CLAIM_NONE;
	claim->on_named(claim, &name);
}
