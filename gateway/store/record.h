/*
 * record: how a blob lies in a segment, and how a segment begins. Pure: bytes in, facts out (docs/store.md).
 *
 * A segment starts with one block that says which segment of which store in which generation it is. After it come
 * records: a header, the payload, zeros up to a multiple of 8; or zeros up to the next block where a commit ended.
 * A header's checksum is seeded with the store's secret, so that uploaded bytes cannot pose as a record.
 */
#pragma once

#include <stdbool.h>
#include "proto/digest.h"

#define RECORD_FORMAT       1
#define RECORD_BLOCK_BYTES  4096u    /* the unit of direct writes; where the first record lies */
#define RECORD_HEADER_BYTES 96u
#define RECORD_ALIGN        8u

struct record {
	uint32_t segment, generation, offset;    /* where it lies: also finds misdirected writes */
	uint32_t tenant, instance;               /* who brought it first */
	struct digest digest;
	uint64_t payload_sum;                    /* XXH3-64 */
};

/* Bytes that a blob takes in a segment. */
static inline uint64_t record_bytes(uint64_t payload_bytes)
{
	return (RECORD_HEADER_BYTES + payload_bytes + RECORD_ALIGN - 1) & ~(uint64_t)(RECORD_ALIGN - 1);
}

static inline uint64_t record_block_ceiling(uint64_t bytes)
{
	return (bytes + RECORD_BLOCK_BYTES - 1) & ~(uint64_t)(RECORD_BLOCK_BYTES - 1);
}

/* XXH3-64, by the widest vectors that pay (record_sum_x86.c, record_sum_plain.c). */
uint64_t record_sum(struct span payload);
void record_encode(uint8_t header[static RECORD_HEADER_BYTES], const struct record *record, uint64_t secret);
/* False: no record header of this store, or a damaged one. */
bool record_decode(struct record *record, const uint8_t header[static RECORD_HEADER_BYTES], uint64_t secret);
/* A quick look, to find the next header in damaged ground. */
bool record_maybe(const uint8_t *header);

/* `block` is filled to RECORD_BLOCK_BYTES. */
void record_encode_segment(uint8_t *block, uint32_t segment, uint32_t generation, uint64_t segment_bytes,
                           uint64_t secret);
/* False: not the first block of that segment of this store. */
bool record_decode_segment(const uint8_t *block, uint32_t segment, uint64_t secret, uint32_t *generation);
