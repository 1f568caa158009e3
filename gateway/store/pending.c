/* The table of accepted blobs that are not in the index yet. */
#define XXH_INLINE_ALL
#include "gateway/store/pending.h"

#include <errno.h>
#include <stdlib.h>
#include <xxhash.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/store/bytes.h"

#define PENDING_BUCKETS (2 * PENDING_MAX)
_Static_assert((PENDING_BUCKETS & (PENDING_BUCKETS - 1)) == 0, "a power of two");

/* A bucket says which entry it has, and some bits of the name's own: most others are told without a look at their entries. */
#define BUCKET_ENTRY_BITS 16
#define BUCKET_ENTRY      ((1u << BUCKET_ENTRY_BITS) - 1)
_Static_assert(PENDING_MAX <= BUCKET_ENTRY, "1 + an entry's index fits a bucket");

int pending_init(struct pending *pending, uint64_t secret)
{
	*pending = (struct pending){
		.entries = calloc(PENDING_MAX, sizeof(*pending->entries)),
		.table = calloc(PENDING_BUCKETS, sizeof(*pending->table)),
		.order = calloc(2 * PENDING_MAX, sizeof(*pending->order)),
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

/* Where a name is looked for. */
struct probe {
	uint32_t at;
	uint32_t own;                    /* the upper bits of buckets that may have it */
};

static struct probe pending_probe(const struct pending *pending, const uint8_t *hash)
{
	uint64_t sum = XXH3_64bits_withSeed(hash, DIGEST_HASH_BYTES, pending->secret);

	return (struct probe){
		.at = (uint32_t)sum & (PENDING_BUCKETS - 1),
		.own = (uint32_t)(sum >> 32) & ~BUCKET_ENTRY,
	};
}

/* The next entry with this hash, from `*probe` on; NULL: no more. */
static struct pending_entry *pending_next(const struct pending *pending, const uint8_t *hash, struct probe *probe)
{
	uint32_t bucket;

	while ((bucket = pending->table[probe->at])) {
		struct pending_entry *entry = &pending->entries[(bucket & BUCKET_ENTRY) - 1];

		probe->at = (probe->at + 1) & (PENDING_BUCKETS - 1);
		if ((bucket & ~BUCKET_ENTRY) == probe->own && entry->kind != PENDING_NOTHING &&
		    memcmp(entry->hash, hash, DIGEST_HASH_BYTES) == 0)
			return entry;
	}
	return NULL;
}

struct pending_entry *pending_blob(const struct pending *pending, const uint8_t *hash)
{
	struct pending_entry *entry;
	struct probe probe;

	if (!pending->count)
		return NULL;
	probe = pending_probe(pending, hash);
	while ((entry = pending_next(pending, hash, &probe)))
		if (entry->kind != PENDING_SIGHT)
			return entry;
	return NULL;
}

bool pending_sees(const struct pending *pending, const uint8_t *hash, const struct scope *scope)
{
	struct pending_entry *entry;
	struct probe probe;

	if (!pending->count)
		return false;
	probe = pending_probe(pending, hash);
	while ((entry = pending_next(pending, hash, &probe)))
		if (entry->kind != PENDING_GONE && entry->tenant == scope->tenant &&
		    entry->instance == scope->instance)
			return true;
	return false;
}

bool pending_has(const struct pending *pending, const uint8_t *hash)
{
	struct probe probe;

	if (!pending->count)
		return false;
	probe = pending_probe(pending, hash);
	return pending_next(pending, hash, &probe) != NULL;
}

struct pending_entry *pending_add(struct pending *pending, enum pending_kind kind, const struct digest *digest,
                                  const struct scope *scope, struct place place)
{
	struct pending_entry *entry;
	struct probe probe;

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
	probe = pending_probe(pending, digest->hash);
	while (pending->table[probe.at])
		probe.at = (probe.at + 1) & (PENDING_BUCKETS - 1);
	pending->table[probe.at] = probe.own | pending->count;
	return entry;
}

void pending_turn_gone(struct pending *pending, struct pending_entry *blob)
{
	struct pending_entry *entry;
	struct probe probe = pending_probe(pending, blob->hash);

	while ((entry = pending_next(pending, blob->hash, &probe)))
		if (entry->kind == PENDING_SIGHT)
			entry->kind = PENDING_NOTHING;
	/* One that came in place of one that was gone is in no row yet: that of the former one is what has to go. */
	if (!blob->purge)
		blob->gone = blob->place;
	blob->kind = PENDING_GONE;
}

/* A byte at a time, the last one first: each pass keeps the order of the one before. */
void pending_sort(struct pending *pending)
{
	struct pending_order *from = pending->order, *to = pending->order + PENDING_MAX, *sorted;

	for (uint32_t i = 0; i < pending->count; i++)
		from[i] = (struct pending_order){ .begin = bytes_get32_key(pending->entries[i].hash), .entry = i };
	for (unsigned shift = 0; shift < 32; shift += 8) {
		uint32_t ends[257] = { 0 };

		for (uint32_t i = 0; i < pending->count; i++)
			ends[(uint8_t)(from[i].begin >> shift) + 1]++;
		for (size_t byte = 1; byte < 257; byte++)
			ends[byte] += ends[byte - 1];
		for (uint32_t i = 0; i < pending->count; i++)
			to[ends[(uint8_t)(from[i].begin >> shift)]++] = from[i];
		sorted = to;
		to = from;
		from = sorted;
	}
}
