/*
 * push_deltas: the deltas of one Pack, made into blobs: their bases are read from the store as the pusher may read them, and the
 * edits applied. What a tenant does not have is not there, whoever else has it, nor is anything for who may not read: such a delta
 * is not made, as is one whose edits do not fit its base.
 *
 * Memory: what they make (SLUICE_PACK_BYTES at most), their bases (SLUICE_BASES_BYTES), and what is being read. On the
 * ring's thread; one start, one `fn`.
 */
#pragma once

#include "gateway/cas/blob_reads.h"
#include "proto/sluice_v1.h"

struct push_delta {
	struct digest digest;
	struct span edits;               /* borrowed from the pack */
	uint8_t *data;                   /* room for digest.size bytes */
	struct span base;
	bool lacking;                    /* a base is not to be had */
	bool made;                       /* out; to be verified still */
};

struct push_deltas {
	struct push_delta *items;
	size_t count;
	int result;                      /* 0, or -errno: of memory or the disk */
	/* The rest is its own. */
	void (*fn)(struct push_deltas *deltas);
	uint8_t *bytes, *bases_bytes;
	struct digest *bases;            /* of all of them, in order */
	struct push_delta_base { uint8_t *data; size_t delta; } *places; /* parallel: where its bytes go, whose it is */
	struct blob_reads reads;
};

/* What a pack's deltas come to. */
struct push_deltas_shape {
	size_t deltas, bytes, bases, bases_bytes;
};

/*
 * `pack` has well-formed deltas (delta_next()) of that shape, which keeps the bounds of a pack; it is kept until `fn`, which may
 * come inline.
 */
void push_deltas_start(struct push_deltas *deltas, struct store *store, const struct scope *scope, struct span pack,
                       const struct push_deltas_shape *shape, void (*fn)(struct push_deltas *deltas));
/* Lets go of what was made. Not between start and `fn`; all-zero is accepted. */
void push_deltas_fini(struct push_deltas *deltas);
