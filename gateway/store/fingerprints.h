/*
 * fingerprints: a set of blobs, 8 bytes each: a keyed hash of their names. A false "has" happens once in 2^40 or so
 * and only keeps a blob longer than needed; a false "has not" never.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fingerprints {
	uint64_t *table;
	size_t buckets, count;
	uint64_t secret;
};

static inline struct fingerprints fingerprints_make(uint64_t secret)
{
	return (struct fingerprints){ .secret = secret };
}
void fingerprints_fini(struct fingerprints *set);
void fingerprints_clear(struct fingerprints *set);
/* 1: it is new; 0: it was there; -ENOMEM. */
int fingerprints_add(struct fingerprints *set, const uint8_t *hash);
bool fingerprints_has(const struct fingerprints *set, const uint8_t *hash);
/* The same of what is longer than a name; for sets of that alone. */
int fingerprints_add_key(struct fingerprints *set, const uint8_t *key, size_t key_size);
bool fingerprints_has_key(const struct fingerprints *set, const uint8_t *key, size_t key_size);
