/* Sets of blob names, by keyed 64-bit hashes. */
#define XXH_INLINE_ALL
#include "gateway/store/fingerprints.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "gateway/base/err.h"
#include "proto/digest.h"

#define FINGERPRINTS_BUCKETS_LEAST 64

void fingerprints_fini(struct fingerprints *set)
{
	free(set->table);
	*set = fingerprints_make(set->secret);
}

void fingerprints_clear(struct fingerprints *set)
{
	if (set->count)
		memset(set->table, 0, set->buckets * sizeof(*set->table));
	set->count = 0;
}

static uint64_t fingerprint(const struct fingerprints *set, const uint8_t *key, size_t key_size)
{
	uint64_t value = XXH3_64bits_withSeed(key, key_size, set->secret);

	return value ? value : 1;        /* 0 marks an empty bucket */
}

static uint64_t *bucket_of(const struct fingerprints *set, uint64_t value)
{
	size_t at = (size_t)value & (set->buckets - 1);

	while (set->table[at] && set->table[at] != value)
		at = (at + 1) & (set->buckets - 1);
	return &set->table[at];
}

static int fingerprints_grow(struct fingerprints *set)
{
	struct fingerprints grown = *set;

	grown.buckets = set->buckets ? set->buckets * 2 : FINGERPRINTS_BUCKETS_LEAST;
	grown.table = calloc(grown.buckets, sizeof(*grown.table));
	if (!grown.table)
		return ERR_RAISE(-ENOMEM);
	for (size_t i = 0; i < set->buckets; i++)
		if (set->table[i])
			*bucket_of(&grown, set->table[i]) = set->table[i];
	free(set->table);
	*set = grown;
	return 0;
}

int fingerprints_add_key(struct fingerprints *set, const uint8_t *key, size_t key_size)
{
	uint64_t value = fingerprint(set, key, key_size), *bucket;

	if (set->count * 4 >= set->buckets * 3) {
		int r = fingerprints_grow(set);

		if (r)
			return r;
	}
	bucket = bucket_of(set, value);
	if (*bucket)
		return 0;
	*bucket = value;
	set->count++;
	return 1;
}

int fingerprints_add(struct fingerprints *set, const uint8_t *hash)
{
	return fingerprints_add_key(set, hash, DIGEST_HASH_BYTES);
}

bool fingerprints_has_key(const struct fingerprints *set, const uint8_t *key, size_t key_size)
{
	return set->count && *bucket_of(set, fingerprint(set, key, key_size));
}

bool fingerprints_has(const struct fingerprints *set, const uint8_t *hash)
{
	return fingerprints_has_key(set, hash, DIGEST_HASH_BYTES);
}
