/*
 * rows: keys and values of the index's tables as bytes (docs/store.md). Pure. Keys are big-endian so that rows of one
 * segment, or of one scope, lie together; all that is known of one blob lies together, too.
 */
#pragma once

#include "gateway/store/index.h"
#include "gateway/store/store.h"

struct place {
	uint32_t segment, generation, offset;
};

static inline bool place_equal(struct place a, struct place b)
{
	return a.segment == b.segment && a.generation == b.generation && a.offset == b.offset;
}

/* INDEX_BLOBS: hash -> where it lies and who brought it first; hash + scope -> "" for others who brought it. */
#define ROW_BLOB_BYTES       24
#define ROW_BLOB_PLACE_BYTES 12
#define ROW_SIGHT_KEY_BYTES  40
struct row_blob {
	struct place place;              /* first, so that a row can be matched by its place alone */
	uint32_t size;
	uint32_t tenant, instance;
};
void row_blob_encode(uint8_t value[static ROW_BLOB_BYTES], const struct row_blob *blob);
bool row_blob_decode(struct row_blob *blob, struct span value);
void row_sight_key(uint8_t key[static ROW_SIGHT_KEY_BYTES], const uint8_t *hash, uint32_t tenant, uint32_t instance);

/* INDEX_RECORDS: segment, offset -> hash, size. */
#define ROW_RECORD_KEY_BYTES 8
#define ROW_RECORD_BYTES     36
void row_record_key(uint8_t key[static ROW_RECORD_KEY_BYTES], uint32_t segment, uint32_t offset);
uint32_t row_record_key_segment(const uint8_t *key);
uint32_t row_record_key_offset(const uint8_t *key);
void row_record_encode(uint8_t value[static ROW_RECORD_BYTES], const uint8_t *hash, uint32_t size);
bool row_record_decode(struct digest *digest, struct span value);

/* INDEX_MARKS, INDEX_PINS: scope, hash. INDEX_NOTES: scope, then the note's own key. */
#define ROW_SCOPED_KEY_BYTES 40
void row_scoped_key(uint8_t key[static ROW_SCOPED_KEY_BYTES], const struct scope *scope, const uint8_t *hash);

#define ROW_PIN_BYTES 80
void row_pin_encode(uint8_t value[static ROW_PIN_BYTES], const struct store_pin *pin);
bool row_pin_decode(struct store_pin *pin, const struct index_row *row);

/* INDEX_SEGMENTS: number -> state. */
#define ROW_SEGMENT_KEY_BYTES 4
#define ROW_SEGMENT_BYTES     32
enum segment_state {
	SEGMENT_ABSENT,                  /* no file yet; never stored */
	SEGMENT_FREE = 1,                /* a file with nothing in it that counts */
	SEGMENT_OPEN = 2,                /* being written */
	SEGMENT_SEALED = 3,              /* full */
	SEGMENT_EVICTING = 4,            /* its entries are being deleted: nothing in it counts any more */
};
struct row_segment {
	enum segment_state state;
	uint32_t generation;
	uint64_t durable;                /* all records below were on disk before their entries were written */
	uint64_t disturbed;              /* the sequence at which something was last taken out */
	uint64_t used;                   /* for the order of eviction */
};
void row_segment_encode(uint8_t value[static ROW_SEGMENT_BYTES], const struct row_segment *segment);
bool row_segment_decode(struct row_segment *segment, struct span value);

/* INDEX_META: the sequence; and "", while a repair has not come to its end. */
#define ROW_SEQUENCE_KEY   "sequence"
#define ROW_SEQUENCE_BYTES 8
#define ROW_REPAIRING_KEY  "repairing"
