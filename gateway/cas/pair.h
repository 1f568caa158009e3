/*
 * pair: what tells where a blob is that is longer than one record: its digest, and the recipe that its chunks are listed by.
 * Written by whoever has verified that the chunks, one after the other, are the blob; kept as a note of the scope, so it is
 * durable, and may be lost to eviction like a blob: then the blob is not there.
 *
 * One rule: a blob of at most STORE_BLOB_BYTES_MAX is a record, a longer one a pair.
 */
#pragma once

#include "gateway/cas/gate.h"
#include "gateway/cas/closure.h"
#include "gateway/store/store.h"

static inline bool pair_wanted(const struct digest *blob)
{
	return blob->size > STORE_BLOB_BYTES_MAX;
}

struct pair {
	struct scope scope;
	struct digest blob;
	struct digest recipe;            /* pair_find(): out */
	void (*fn)(struct pair *pair);   /* inline or later */
	int result;                      /* find: STORE_OK, STORE_MISSING, -errno; keep: STORE_OK once it is durable */
	struct store_note note;          /* the rest is pair's */
};

/* The first two fields and `fn` are the caller's. That there is a pair does not yet say that its chunks are there. */
void pair_find(struct store *store, struct pair *pair);
/* The same by the blob's hash alone: its size is found, too. */
void pair_find_sized(struct store *store, struct pair *pair);
/* And `recipe`. Visible to siblings at once. */
void pair_keep(struct store *store, struct pair *pair);
