/*
 * blob_reads: many blobs read from the store, several at a time, each handed over when it is there. For a scope without the right
 * to read none is. On the ring's thread; one start, one `fn`.
 */
#pragma once

#include "gateway/store/store.h"

#define BLOB_READS_MAX 8                 /* at a time */

struct blob_reads;

struct blob_one_read {
	struct blob_reads *reads;
	size_t place;
	bool busy;
	struct store_read read;
};

struct blob_reads {
	/* The owner's, before the start. */
	struct store *store;
	struct scope scope;
	const struct digest *digests;    /* kept until `fn` */
	size_t count;
	/* A blob is there, borrowed; or it is not to be had, and `data` is NULL. In any order. */
	void (*on_blob)(struct blob_reads *reads, size_t place, struct span blob);
	void (*fn)(struct blob_reads *reads);    /* all were handed over, or `result` is negative; may come inline */
	/*
	 * 0, or -errno of memory or the disk, the last one. From then on nothing more is read; what is under way is still handed
	 * over. Negative before the start: nothing is read at all, and `fn` comes inline.
	 */
	int result;
	/* The rest is its own. */
	size_t next, under_way;
	bool stepping, told;
	struct blob_one_read one[BLOB_READS_MAX];
};

void blob_reads_start(struct blob_reads *reads);
