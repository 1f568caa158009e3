/*
 * walk: a tree of the store, entry by entry, in the order in which fsutil sends STATs: depth first, the children of a
 * directory by the bytes of their names, a directory before what is in it. The tree's own root is no entry.
 *
 * The owner pulls. Directories are read ahead of him, several at a time. In memory are those on the way from the root to
 * the present entry and those read ahead; past WALK_BYTES_MAX none is read ahead any more, and of those on the way only
 * the nearest stay: the others are read again on the way back.
 *
 * All on the ring's thread. on_more comes from the loop, never from inside a call of this header.
 */
#pragma once

#include "gateway/cas/cas.h"
#include "gateway/cas/content_name.h"
#include "proto/fsutil.h"
#include "proto/tree.h"

#define WALK_READS_MAX 16                /* directories read at a time */
#define WALK_AHEAD_MAX 16                /* read ahead of those in one directory */
#define WALK_BYTES_MAX (8u << 20)

struct walk;

struct walk_entry {
	enum tree_kind kind;
	/* As fsutil's sender makes it, but for mod_time_ns (0). Spans are borrowed until the next call. */
	struct fsutil_stat stat;
	struct content_name name;        /* a file's, or a directory's own digest */
	bool data;                       /* a file under its first name: somebody may ask for `name` */
};

enum walk_outcome {
	WALK_ENTRY = 0,
	WALK_WAIT = 1,                   /* on_more follows */
	WALK_END = 2,
	WALK_MISSING = 3,                /* a directory is not in the store, or no longer: walk_retry() once it is */
	WALK_MALFORMED = 4,              /* a directory is not one, or goes too deep */
};                                       /* negative: errno of the disk, -ENOMEM */

/* 0 or -ENOMEM. `cas`: its ring and store are used, and outlive the walk. What the tree needs is held by the owner. */
int walk_create(struct walk **walk, struct cas *cas, const struct scope *scope, const struct digest *root,
                void (*on_more)(void *owner), void *owner);
/* Memory is released when the last read has landed. NULL is accepted. */
void walk_destroy(struct walk *walk);

int walk_next(struct walk *walk, struct walk_entry *entry);
/* What was missing is read again. */
void walk_retry(struct walk *walk);

/* Bytes of directories in memory, for tests of the bound. */
size_t walk_memory(const struct walk *walk);
