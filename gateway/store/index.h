/*
 * index: the ordered tables behind a store, as an asynchronous interface: an operation may complete inline or later
 * (a database over the network, a delaying engine in tests). Operations are embedded in their owners, who keep them
 * and what they point to until `fn`. All calls on the ring's thread, except `prepare` and `next` of an apply, which
 * may run on a worker while the owner keeps what they read unchanged.
 */
#pragma once

#include "gateway/base/list.h"
#include "gateway/ring/ring.h"
#include "proto/span.h"

enum index_table {
	INDEX_BLOBS,                     /* hash -> place; hash + scope -> "": others that see it */
	INDEX_RECORDS,                   /* segment, offset -> hash, size */
	INDEX_MARKS,                     /* scope, hash -> sequence, segments rested on */
	INDEX_PINS,                      /* scope, hash -> size, expiry, note */
	INDEX_NOTES,                     /* scope, key -> value */
	INDEX_SEGMENTS,                  /* number -> state */
	INDEX_META,
	INDEX_TABLES,
};

#define INDEX_KEY_MAX   96
#define INDEX_VALUE_MAX 1024

struct index;

/* Looks up `count` keys of one size. */
struct index_get {
	enum index_table table;
	const uint8_t *keys;
	size_t key_size, key_stride, count;
	uint8_t *values;                 /* out: value i at values + i * value_stride */
	size_t value_stride;             /* a longer value is cut */
	int32_t *sizes;                  /* out: the value's full size, -1: not there */
	void (*fn)(struct index_get *get);
	int result;                      /* 0 or -errno */
	struct list link;                /* the engine's */
};

/* Rows in key order, from `key` on, whose keys begin with the first `prefix_size` bytes of it. */
struct index_scan {
	enum index_table table;
	uint8_t key[INDEX_KEY_MAX];
	size_t key_size, prefix_size;
	uint8_t *rows;                   /* room for the answer, at least INDEX_SCAN_ROW_MAX */
	size_t rows_capacity, rows_max;
	size_t rows_size, count;         /* out */
	bool more;                       /* out: `key` is where to go on */
	void (*fn)(struct index_scan *scan);
	int result;
	struct list link;
};
#define INDEX_SCAN_ROW_MAX (4 + INDEX_KEY_MAX + INDEX_VALUE_MAX)

struct index_row {
	struct span key, value;
};
/* Walks the answer: `*at` starts at 0. False at the end. */
bool index_scan_next(const struct index_scan *scan, size_t *at, struct index_row *row);

enum index_change_kind {
	INDEX_PUT,
	INDEX_DELETE,                    /* what is not there is no error */
	INDEX_DELETE_SAME,               /* if `value` is its value still */
	INDEX_DELETE_GROUP,              /* every key that begins with `key`, if key's own value begins with `value` */
};

struct index_change {
	enum index_change_kind kind;
	enum index_table table;
	uint8_t key[INDEX_KEY_MAX];
	size_t key_size;
	struct span value;               /* may point into `storage`, or to what the owner keeps */
	uint8_t storage[INDEX_VALUE_MAX];
};

struct index_usage {
	uint64_t map_bytes, used_bytes, blobs, marks, notes;
};

/* A durable, atomic set of changes. Applies run one after another, in the order they were given. */
struct index_apply {
	void (*prepare)(struct index_apply *apply);      /* may be NULL; before the first `next`, perhaps more than once */
	bool (*next)(struct index_apply *apply, struct index_change *change);
	void (*fn)(struct index_apply *apply);
	int result;                      /* 0; -ENOSPC: no room in the index, nothing was applied; else -errno */
	struct index_usage usage;        /* out */
	struct list link;
};

struct index_config {
	struct ring *ring;               /* NULL: only the _now calls are used (fsck) */
	int dir_fd;                      /* the store's directory */
	uint64_t map_bytes;
	bool create;                     /* else a missing index is -ENOENT */
	bool sparse;                     /* do not take the room on disk at once */
};

struct index_engine {
	const char *name;
	int (*open)(struct index **index, const struct index_config *config);    /* blocking */
	void (*close)(struct index *index);              /* nothing in flight; NULL is accepted */
	void (*get)(struct index *index, struct index_get *get);
	void (*scan)(struct index *index, struct index_scan *scan);
	void (*apply)(struct index *index, struct index_apply *apply);
	/* Blocking; for opening, fsck and single rows. Their `fn` is not called. */
	int (*scan_now)(struct index *index, struct index_scan *scan);
	int (*apply_now)(struct index *index, struct index_apply *apply);
	void (*usage)(struct index *index, struct index_usage *usage);
};

extern const struct index_engine index_lmdb;
