/*
 * push_deltas: the deltas of one Pack, made into blobs: their bases are read from the store as the pusher may read them, several
 * deltas at a time, and the edits applied. What a tenant does not have is not there, whoever else has it: such a delta is not
 * made, as is one whose edits do not fit its base.
 *
 * Memory: what they make (SLUICE_PACK_BYTES at most), the bases under way and one blob of each again, each at most once:
 * twice SLUICE_BASES_BYTES. On the ring's thread; one start, one `fn`.
 */
#pragma once

#include "gateway/store/store.h"
#include "proto/sluice_v1.h"

#define PUSH_DELTAS_READS_MAX 8          /* deltas whose bases are read at a time */

struct push_deltas;

struct push_delta {
	struct digest digest;
	struct span bases, edits;        /* borrowed from the pack */
	size_t bases_bytes;
	uint8_t *data;                   /* room for digest.size bytes */
	bool made;                       /* out; to be verified still */
};

/* A delta whose bases are being read. */
struct push_delta_read {
	struct push_deltas *deltas;
	struct push_delta *delta;        /* NULL: idle */
	uint8_t *base;                   /* its bases, as far as they were read */
	size_t base_bytes;
	struct store_read read;
};

struct push_deltas {
	struct push_delta *items;
	size_t count;
	int result;                      /* 0, or -errno: of memory or the disk */
	/* The rest is its own. */
	struct store *store;
	struct scope scope;
	void (*fn)(struct push_deltas *deltas);
	uint8_t *bytes;
	size_t next, under_way;
	bool stepping, told;
	struct push_delta_read reads[PUSH_DELTAS_READS_MAX];
};

/*
 * `pack` has `count` well-formed deltas (delta_next()), which make `bytes` bytes and keep the bounds of a pack; it is kept until
 * `fn`, which may come inline.
 */
void push_deltas_start(struct push_deltas *deltas, struct store *store, const struct scope *scope, struct span pack, size_t count,
                       size_t bytes, void (*fn)(struct push_deltas *deltas));
/* Lets go of what was made. Not between start and `fn`; all-zero is accepted. */
void push_deltas_fini(struct push_deltas *deltas);
