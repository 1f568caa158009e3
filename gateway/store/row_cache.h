/*
 * row_cache: rows of INDEX_BLOBS that were lately written or asked for. A row is one line of the CPU's cache here, where a search in
 * LMDB's pages touches a dozen. Bounded; of two rows that meet in a place the one that is asked for stays. One thread.
 */
#pragma once

#include <stdint.h>

#include "gateway/store/rows.h"

struct row_cache_line;

struct row_cache {
	struct row_cache_line *lines;    /* NULL: it keeps nothing */
	uint64_t mask;
};

/* For at least so many rows, 64 bytes each, up to ROW_CACHE_ROWS_MAX; memory is taken as it fills. -ENOMEM: it keeps nothing. */
#define ROW_CACHE_ROWS_MAX (UINT64_C(1) << 19)
int row_cache_init(struct row_cache *cache, uint64_t rows);
void row_cache_fini(struct row_cache *cache);
/* The row's ROW_BLOB_BYTES, until the next call that changes the cache; NULL: not known. `hash`: DIGEST_HASH_BYTES. */
const uint8_t *row_cache_find(struct row_cache *cache, const uint8_t *hash);
void row_cache_put(struct row_cache *cache, const uint8_t *hash, const uint8_t *row);
void row_cache_forget(struct row_cache *cache, const uint8_t *hash);
void row_cache_forget_all(struct row_cache *cache);
/* Before any of these: fetches what it will look at. */
void row_cache_prefetch(const struct row_cache *cache, const uint8_t *hash);
