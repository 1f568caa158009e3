/*
 * writer: appends records to the open segment through a few 1 MiB slots, each written by one ring_write() from memory
 * that the ring made. One record is appended at a time; it may wait in the middle for a slot (that is the
 * back-pressure). Slots are released in order, so what lies on disk of a segment is always a prefix.
 */
#pragma once

#include "gateway/store/record.h"
#include "gateway/store/segment.h"

#define WRITER_SLOT_BYTES (1u << 20)

enum slot_state {
	SLOT_FREE,
	SLOT_FILLING,
	SLOT_WRITING,
	SLOT_WRITTEN,                    /* waits for earlier ones */
};

struct slot {
	enum slot_state state;
	struct writer *writer;
	uint8_t *memory;
	struct segment *segment;
	uint64_t base;                   /* where memory[0] belongs */
	size_t filled, capacity;
	struct op write;
	struct list link;
};

/* One record on its way; all-zero before the first writer_append(). */
struct append {
	struct record record;            /* digest, tenant, instance, payload_sum: the caller's; the rest: the writer's */
	struct span payload;
	uint8_t header[RECORD_HEADER_BYTES];
	uint64_t done;                   /* bytes of the record that are in slots */
	bool placed;
};

enum writer_outcome {
	WRITER_DONE = 0,
	WRITER_NO_SLOT = 1,              /* call again when a slot came free */
	WRITER_NO_SEGMENT = 2,           /* call again after writer_open() */
};

struct writer {
	struct store *store;
	struct segment *segment;         /* NULL: none open */
	struct slot *slots;
	uint32_t slots_count;
	struct list busy;                /* in order of base; the last one may be FILLING */
	struct list free;
	struct append *appending;        /* a record half-way */
	uint64_t flushed, released;      /* slots handed to the ring, and landed, ever */
	uint64_t waits;
};

int writer_init(struct writer *writer, struct store *store, uint32_t slots_count);
void writer_fini(struct writer *writer);

/* `segment` is open for writing from its tail on. The one before must be sealed. */
void writer_open(struct writer *writer, struct segment *segment);
/* No more records into the open segment. */
void writer_seal(struct writer *writer);

enum writer_outcome writer_append(struct writer *writer, struct append *append);

/* Hands the slot being filled to the ring, padded to a block. Not while a record is half-way. */
void writer_flush(struct writer *writer);
/* All that was flushed before `flushed` was read is on its way no more. */
static inline bool writer_landed(const struct writer *writer, uint64_t flushed)
{
	return writer->released >= flushed;
}
static inline bool writer_idle(const struct writer *writer)
{
	return writer->released == writer->flushed;
}

/*
 * Copies what is still in slots of [offset, offset + size) of a segment to its place in `out`. Returns how many of the
 * first bytes are not, and must be read from disk.
 */
size_t writer_copy(const struct writer *writer, const struct segment *segment, uint64_t offset, size_t size,
                   uint8_t *out);
