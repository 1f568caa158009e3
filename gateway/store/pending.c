/* The table of accepted blobs that are not in the index yet. */
#define XXH_INLINE_ALL
#include "gateway/store/pending.h"

#include <errno.h>
#include <stdlib.h>
#include <xxhash.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"

#define PENDING_BUCKETS (2 * PENDING_MAX)
_Static_assert((PENDING_BUCKETS & (PENDING_BUCKETS - 1)) == 0, "a power of two");
_Static_assert(PENDING_MAX <= UINT16_MAX, "order is 16 bits wide");

int pending_init(struct pending *pending, uint64_t secret)
{
	*pending = (struct pending){
		.entries = calloc(PENDING_MAX, sizeof(*pending->entries)),
		.table = calloc(PENDING_BUCKETS, sizeof(*pending->table)),
		.order = calloc(PENDING_MAX, sizeof(*pending->order)),
		.secret = secret,
	};
	if (!pending->entries || !pending->table || !pending->order)
		return ERR_RAISE(-ENOMEM);
	return 0;
}

void pending_fini(struct pending *pending)
{
	free(pending->entries);
	free(pending->table);
	free(pending->order);
	*pending = (struct pending){ 0 };
}

void pending_clear(struct pending *pending)
{
	if (pending->count)
		memset(pending->table, 0, PENDING_BUCKETS * sizeof(*pending->table));
	pending->count = 0;
}

static uint32_t pending_bucket(const struct pending *pending, const uint8_t *hash)
{
	return (uint32_t)XXH3_64bits_withSeed(hash, DIGEST_HASH_BYTES, pending->secret) & (PENDING_BUCKETS - 1);
}

/* The next entry with this hash, from bucket `*at` on; NULL: no more. */
static struct pending_entry *pending_next(const struct pending *pending, const uint8_t *hash, uint32_t *at)
{
	while (pending->table[*at]) {
		struct pending_entry *entry = &pending->entries[pending->table[*at] - 1];

		*at = (*at + 1) & (PENDING_BUCKETS - 1);
		if (entry->kind != PENDING_NOTHING && memcmp(entry->hash, hash, DIGEST_HASH_BYTES) == 0)
			return entry;
	}
	return NULL;
}

struct pending_entry *pending_blob(const struct pending *pending, const uint8_t *hash)
{
	struct pending_entry *entry;
	uint32_t at;

	if (!pending->count)
		return NULL;
	at = pending_bucket(pending, hash);
	while ((entry = pending_next(pending, hash, &at)))
		if (entry->kind != PENDING_SIGHT)
			return entry;
	return NULL;
}

bool pending_sees(const struct pending *pending, const uint8_t *hash, const struct scope *scope)
{
	struct pending_entry *entry;
	uint32_t at;

	if (!pending->count)
		return false;
	at = pending_bucket(pending, hash);
	while ((entry = pending_next(pending, hash, &at)))
		if (entry->kind != PENDING_GONE && entry->tenant == scope->tenant &&
		    entry->instance == scope->instance)
			return true;
	return false;
}

bool pending_has(const struct pending *pending, const uint8_t *hash)
{
	uint32_t at;

	if (!pending->count)
		return false;
	at = pending_bucket(pending, hash);
	return pending_next(pending, hash, &at) != NULL;
}

struct pending_entry *pending_add(struct pending *pending, enum pending_kind kind, const struct digest *digest,
                                  const struct scope *scope, struct place place)
{
	struct pending_entry *entry;
	uint32_t at;

	if (pending->count == PENDING_MAX)
		return NULL;
	entry = &pending->entries[pending->count++];
	*entry = (struct pending_entry){
		.size = (uint32_t)digest->size,
		.kind = kind,
		.place = place,
		.tenant = scope->tenant,
		.instance = scope->instance,
	};
	memcpy(entry->hash, digest->hash, DIGEST_HASH_BYTES);
	at = pending_bucket(pending, digest->hash);
	while (pending->table[at])
		at = (at + 1) & (PENDING_BUCKETS - 1);
	pending->table[at] = pending->count;
	return entry;
}

void pending_turn_gone(struct pending *pending, struct pending_entry *blob)
{
	struct pending_entry *entry;
	uint32_t at = pending_bucket(pending, blob->hash);

	while ((entry = pending_next(pending, blob->hash, &at)))
		if (entry->kind == PENDING_SIGHT)
			entry->kind = PENDING_NOTHING;
	blob->gone = blob->place;
	blob->kind = PENDING_GONE;
}

static int pending_compare(const void *left, const void *right, void *context)
{
	const struct pending_entry *entries = context;
	const struct pending_entry *a = &entries[*(const uint16_t *)left], *b = &entries[*(const uint16_t *)right];
	int order = memcmp(a->hash, b->hash, DIGEST_HASH_BYTES);

	if (order)
		return order;
	return (a->kind == PENDING_SIGHT) - (b->kind == PENDING_SIGHT);
}

void pending_sort(struct pending *pending)
{
	for (uint32_t i = 0; i < pending->count; i++)
		pending->order[i] = (uint16_t)i;
	qsort_r(pending->order, pending->count, sizeof(*pending->order), pending_compare, pending->entries);
}
