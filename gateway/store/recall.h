/*
 * recall: what is kept in memory of the names in INDEX_BLOBS, so that few questions reach the database: which may be there at all
 * (filter.h), and the rows of those that were lately written or asked for (row_cache.h).
 *
 * On the ring's thread, but for recall_note() and recall_noted(), which are the writer's. Rows are known as of the last change
 * that was taken in: so one that has just been committed may be answered with what it was before, until recall_take() has had the
 * commit's changes.
 */
#pragma once

#include "gateway/store/filter.h"
#include "gateway/store/index.h"
#include "gateway/store/row_cache.h"

struct recall {
	struct filter filter;            /* a name is in it before its row is committed */
	struct row_cache cache;
	bool complete;                   /* the rows that were there at the start are in the filter, too */
};

/* For an index of so many bytes. Without memory for it every name may be there, and no row is known. */
void recall_init(struct recall *recall, uint64_t map_bytes);
void recall_fini(struct recall *recall);

/* ---- asking ---- */

/* Such a question can be answered from here: whole rows of INDEX_BLOBS, by name alone. */
bool recall_understand(const struct index_get *get);

/*
 * Answers what it can of the keys from `from` on, RECALL_SIFT_MAX of them at most, and puts the others (counted from `from`) into
 * `which`; returns how many.
 */
#define RECALL_SIFT_MAX 1024
size_t recall_sift(struct recall *recall, const struct index_get *get, size_t from, size_t count, uint16_t which[static RECALL_SIFT_MAX]);
/* What the database says of a name that was left: its row, all of it. */
void recall_learn(struct recall *recall, const uint8_t *hash, struct span row);
/* A name of the rows that were there at the start; the owner sets `complete` behind the last one. */
void recall_add(struct recall *recall, const uint8_t *hash);

/* ---- changing ---- */

#define RECALL_CHANGES_MAX 16384u         /* of one commit, 1 MiB; beyond, all rows are forgotten */
#define RECALL_AHEAD       12u            /* names on their way into the filter while the memory for it comes */

struct recall_change {
	uint8_t hash[DIGEST_HASH_BYTES];
	uint8_t row[ROW_BLOB_BYTES];
	bool put;                        /* else forgotten */
};

/* What one commit does to rows. All-zero: nothing so far. */
struct recall_changes {
	struct recall_change *changes;
	size_t count, capacity;
	bool lost;                       /* there was no room for all */
	uint8_t adds[RECALL_AHEAD][DIGEST_HASH_BYTES];
	size_t adds_count;               /* so far; the last RECALL_AHEAD of them wait */
};

/* Any change of the commit, in order, before it is committed; and the end of them. On any thread. */
void recall_note(struct recall *recall, struct recall_changes *changes, const struct index_change *change);
void recall_noted(struct recall *recall, struct recall_changes *changes);
/* It is committed, or, if `lost` is set, something else may have become of it. `changes` is all-zero afterwards. */
void recall_take(struct recall *recall, struct recall_changes *changes);
