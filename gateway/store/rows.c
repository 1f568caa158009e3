/* The index's rows as bytes. */
#include "gateway/store/rows.h"

#include "gateway/store/bytes.h"

void row_blob_encode(uint8_t value[static ROW_BLOB_BYTES], const struct row_blob *blob)
{
	bytes_put32(value, blob->place.segment);
	bytes_put32(value + 4, blob->place.generation);
	bytes_put32(value + 8, blob->place.offset);
	bytes_put32(value + 12, blob->size);
	bytes_put32(value + 16, blob->tenant);
	bytes_put32(value + 20, blob->instance);
}

bool row_blob_decode(struct row_blob *blob, struct span value)
{
	if (value.size != ROW_BLOB_BYTES)
		return false;
	blob->place.segment = bytes_get32(value.data);
	blob->place.generation = bytes_get32(value.data + 4);
	blob->place.offset = bytes_get32(value.data + 8);
	blob->size = bytes_get32(value.data + 12);
	blob->tenant = bytes_get32(value.data + 16);
	blob->instance = bytes_get32(value.data + 20);
	return true;
}

void row_sight_key(uint8_t key[static ROW_SIGHT_KEY_BYTES], const uint8_t *hash, uint32_t tenant, uint32_t instance)
{
	memcpy(key, hash, DIGEST_HASH_BYTES);
	bytes_put32_key(key + 32, tenant);
	bytes_put32_key(key + 36, instance);
}

void row_record_key(uint8_t key[static ROW_RECORD_KEY_BYTES], uint32_t segment, uint32_t offset)
{
	bytes_put32_key(key, segment);
	bytes_put32_key(key + 4, offset);
}

uint32_t row_record_key_segment(const uint8_t *key)
{
	return bytes_get32_key(key);
}

uint32_t row_record_key_offset(const uint8_t *key)
{
	return bytes_get32_key(key + 4);
}

void row_record_encode(uint8_t value[static ROW_RECORD_BYTES], const uint8_t *hash, uint32_t size)
{
	memcpy(value, hash, DIGEST_HASH_BYTES);
	bytes_put32(value + 32, size);
}

bool row_record_decode(struct digest *digest, struct span value)
{
	if (value.size != ROW_RECORD_BYTES)
		return false;
	memcpy(digest->hash, value.data, DIGEST_HASH_BYTES);
	digest->size = bytes_get32(value.data + 32);
	return true;
}

void row_scoped_key(uint8_t key[static ROW_SCOPED_KEY_BYTES], const struct scope *scope, const uint8_t *hash)
{
	bytes_put32_key(key, scope->tenant);
	bytes_put32_key(key + 4, scope->instance);
	memcpy(key + 8, hash, DIGEST_HASH_BYTES);
}

void row_pin_encode(uint8_t value[static ROW_PIN_BYTES], const struct store_pin *pin)
{
	bytes_put64(value, pin->root.size);
	bytes_put64(value + 8, pin->expires_wall_ns);
	memcpy(value + 16, pin->note, sizeof(pin->note));
}

bool row_pin_decode(struct store_pin *pin, const struct index_row *row)
{
	if (row->key.size != ROW_SCOPED_KEY_BYTES || row->value.size != ROW_PIN_BYTES)
		return false;
	*pin = (struct store_pin){ 0 };
	pin->scope.tenant = bytes_get32_key(row->key.data);
	pin->scope.instance = bytes_get32_key(row->key.data + 4);
	memcpy(pin->root.hash, row->key.data + 8, DIGEST_HASH_BYTES);
	pin->root.size = bytes_get64(row->value.data);
	pin->expires_wall_ns = bytes_get64(row->value.data + 8);
	memcpy(pin->note, row->value.data + 16, sizeof(pin->note));
	pin->note[sizeof(pin->note) - 1] = 0;
	return true;
}

void row_segment_encode(uint8_t value[static ROW_SEGMENT_BYTES], const struct row_segment *segment)
{
	bytes_put32(value, segment->state);
	bytes_put32(value + 4, segment->generation);
	bytes_put64(value + 8, segment->durable);
	bytes_put64(value + 16, segment->disturbed);
	bytes_put64(value + 24, segment->used);
}

bool row_segment_decode(struct row_segment *segment, struct span value)
{
	uint32_t state;

	if (value.size != ROW_SEGMENT_BYTES)
		return false;
	state = bytes_get32(value.data);
	if (state < SEGMENT_FREE || state > SEGMENT_EVICTING)
		return false;
	segment->state = state;
	segment->generation = bytes_get32(value.data + 4);
	segment->durable = bytes_get64(value.data + 8);
	segment->disturbed = bytes_get64(value.data + 16);
	segment->used = bytes_get64(value.data + 24);
	return true;
}
