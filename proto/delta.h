/*
 * delta: a blob told by another one, its *base*: runs that are copied from there and runs that are given. What is made of it
 * has to be verified by its digest, so neither who writes it nor who applies it needs to be believed.
 *
 * Wire (*edits*): runs, each
 *	varint count, as many bytes: given; then, unless the edits end here,
 *	varint count (not 0) of bytes copied, zigzag varint: where from, relative to the end of the run copied before (first: 0)
 * A run that gives nothing and copies nothing is malformed. Edits are not compressed: the message that carries many is.
 *
 * Who has the base finds runs of DELTA_RUN_LEAST bytes and more, wherever they begin. Who has only its *signature* (a hash a
 * block of DELTA_BLOCK_BYTES, made by whoever has it) finds whole blocks. Pure.
 */
#pragma once

#include "proto/buffer.h"

#define DELTA_BASE_BYTES_MAX (64u << 20) /* offsets stay far from their bounds */
#define DELTA_RUN_LEAST      24          /* copied; shorter ones cost more than they save once all is compressed */
#define DELTA_BLOCK_BYTES    512         /* of a signature */
#define DELTA_HASH_BYTES     5           /* a block; chance matches are caught by the digest */

/* Makes the `size` bytes at `out`. False: malformed edits, a run beyond the base, or another length than `size`. */
bool delta_apply(struct span base, struct span edits, uint8_t *out, size_t size);

/*
 * Appends the edits that make `target` of `base`. False: not in `out`'s room, or out of memory; `out` is as it was. Both at
 * most DELTA_BASE_BYTES_MAX long.
 */
bool delta_encode(struct buffer *out, struct span base, struct span target);

/* Runs of a target that edits copy, in order; begun with `rest` at the edits. False: there are no more, or they are malformed. */
struct delta_copies {
	struct span rest;
	uint64_t begin, end;             /* of the run, in the target */
};
bool delta_copies_next(struct delta_copies *copies);

/* Bytes in the signature of a base so long. */
static inline size_t delta_signature_size(uint64_t base_size)
{
	return (size_t)(base_size / DELTA_BLOCK_BYTES) * DELTA_HASH_BYTES;
}

/* Appends the signature: of whole blocks only, so a short rest is never copied. */
void delta_sign(struct buffer *out, struct span base);

/* As delta_encode(), of a base that is known by signatures: of `count` blobs that follow each other in it. */
struct delta_signature {
	struct span hashes;              /* delta_signature_size(size) */
	uint64_t size;                   /* of the blob */
};
bool delta_encode_signed(struct buffer *out, const struct delta_signature *signatures, size_t count, struct span target);
