/* Record and segment headers as bytes. */
#include "gateway/store/record.h"

#include <xxhash.h>
#include "gateway/base/check.h"
#include "gateway/store/bytes.h"

static const uint8_t record_magic[8] = { 's', 'l', 'u', 'i', 'c', 'r', 'e', 'c' };
static const uint8_t segment_magic[8] = { 's', 'l', 'u', 'i', 'c', 's', 'e', 'g' };

enum record_at {
	RECORD_AT_MAGIC = 0,
	RECORD_AT_FORMAT = 8,
	RECORD_AT_SEGMENT = 12,
	RECORD_AT_GENERATION = 16,
	RECORD_AT_OFFSET = 20,
	RECORD_AT_SIZE = 24,
	RECORD_AT_HASH = 32,
	RECORD_AT_TENANT = 64,
	RECORD_AT_INSTANCE = 68,
	RECORD_AT_PAYLOAD_SUM = 72,
	RECORD_AT_RESERVED = 80,
	RECORD_AT_SUM = 88,
};

enum segment_at {
	SEGMENT_AT_MAGIC = 0,
	SEGMENT_AT_FORMAT = 8,
	SEGMENT_AT_SEGMENT = 12,
	SEGMENT_AT_GENERATION = 16,
	SEGMENT_AT_RESERVED = 20,
	SEGMENT_AT_BYTES = 24,
	SEGMENT_AT_SUM = 32,
};

void record_encode(uint8_t header[static RECORD_HEADER_BYTES], const struct record *record, uint64_t secret)
{
	CHECK(record->digest.size <= UINT32_MAX);
	memcpy(header + RECORD_AT_MAGIC, record_magic, sizeof(record_magic));
	bytes_put32(header + RECORD_AT_FORMAT, RECORD_FORMAT);
	bytes_put32(header + RECORD_AT_SEGMENT, record->segment);
	bytes_put32(header + RECORD_AT_GENERATION, record->generation);
	bytes_put32(header + RECORD_AT_OFFSET, record->offset);
	bytes_put64(header + RECORD_AT_SIZE, record->digest.size);
	memcpy(header + RECORD_AT_HASH, record->digest.hash, DIGEST_HASH_BYTES);
	bytes_put32(header + RECORD_AT_TENANT, record->tenant);
	bytes_put32(header + RECORD_AT_INSTANCE, record->instance);
	bytes_put64(header + RECORD_AT_PAYLOAD_SUM, record->payload_sum);
	bytes_put64(header + RECORD_AT_RESERVED, 0);
	bytes_put64(header + RECORD_AT_SUM, XXH3_64bits_withSeed(header, RECORD_AT_SUM, secret));
}

bool record_maybe(const uint8_t *header)
{
	return memcmp(header, record_magic, sizeof(record_magic)) == 0;
}

bool record_decode(struct record *record, const uint8_t header[static RECORD_HEADER_BYTES], uint64_t secret)
{
	if (!record_maybe(header) || bytes_get32(header + RECORD_AT_FORMAT) != RECORD_FORMAT)
		return false;
	if (bytes_get64(header + RECORD_AT_SUM) != XXH3_64bits_withSeed(header, RECORD_AT_SUM, secret))
		return false;
	record->segment = bytes_get32(header + RECORD_AT_SEGMENT);
	record->generation = bytes_get32(header + RECORD_AT_GENERATION);
	record->offset = bytes_get32(header + RECORD_AT_OFFSET);
	record->digest.size = bytes_get64(header + RECORD_AT_SIZE);
	memcpy(record->digest.hash, header + RECORD_AT_HASH, DIGEST_HASH_BYTES);
	record->tenant = bytes_get32(header + RECORD_AT_TENANT);
	record->instance = bytes_get32(header + RECORD_AT_INSTANCE);
	record->payload_sum = bytes_get64(header + RECORD_AT_PAYLOAD_SUM);
	return true;
}

void record_encode_segment(uint8_t *block, uint32_t segment, uint32_t generation, uint64_t segment_bytes,
                           uint64_t secret)
{
	memset(block, 0, RECORD_BLOCK_BYTES);
	memcpy(block + SEGMENT_AT_MAGIC, segment_magic, sizeof(segment_magic));
	bytes_put32(block + SEGMENT_AT_FORMAT, RECORD_FORMAT);
	bytes_put32(block + SEGMENT_AT_SEGMENT, segment);
	bytes_put32(block + SEGMENT_AT_GENERATION, generation);
	bytes_put64(block + SEGMENT_AT_BYTES, segment_bytes);
	bytes_put64(block + SEGMENT_AT_SUM, XXH3_64bits_withSeed(block, SEGMENT_AT_SUM, secret));
}

bool record_decode_segment(const uint8_t *block, uint32_t segment, uint64_t secret, uint32_t *generation)
{
	if (memcmp(block, segment_magic, sizeof(segment_magic)) != 0)
		return false;
	if (bytes_get64(block + SEGMENT_AT_SUM) != XXH3_64bits_withSeed(block, SEGMENT_AT_SUM, secret))
		return false;
	if (bytes_get32(block + SEGMENT_AT_FORMAT) != RECORD_FORMAT || bytes_get32(block + SEGMENT_AT_SEGMENT) != segment)
		return false;
	*generation = bytes_get32(block + SEGMENT_AT_GENERATION);
	return true;
}
