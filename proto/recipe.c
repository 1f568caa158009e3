/* Writes and reads recipes. */
#include "proto/recipe.h"

#include "proto/pb.h"

#include <assert.h>

#define HEAD_BYTES 3                     /* version, profile, level */

void recipe_begin(struct buffer *out, const struct recipe_head *head)
{
	uint8_t bytes[HEAD_BYTES + PB_VARINT_BYTES_MAX] = {RECIPE_VERSION, (uint8_t)head->profile,
							   (uint8_t)head->level};
	uint8_t *end = pb_varint_write(bytes + HEAD_BYTES, head->file_size);

	assert(head->profile <= UINT8_MAX && head->level <= 1 && head->file_size > 0);
	buffer_put(out, bytes, (size_t)(end - bytes));
}

void recipe_add(struct buffer *out, const struct digest *entry)
{
	uint8_t bytes[DIGEST_HASH_BYTES + PB_VARINT_BYTES_MAX];
	uint8_t *end = pb_varint_write(bytes + DIGEST_HASH_BYTES, entry->size);

	assert(entry->size > 0);
	memcpy(bytes, entry->hash, DIGEST_HASH_BYTES);
	buffer_put(out, bytes, (size_t)(end - bytes));
}

/* A varint in its one minimal form: a recipe is named by its bytes, so the same chunks must not have two. */
static const uint8_t *read_minimal(const uint8_t *p, const uint8_t *end, uint64_t *value)
{
	const uint8_t *next = pb_varint_read(p, end, value);

	return next && (size_t)(next - p) == pb_varint_size(*value) ? next : NULL;
}

bool recipe_open(struct recipe_reader *reader, struct span blob)
{
	const uint8_t *end = blob.data + blob.size, *p;
	uint64_t file_size;

	*reader = (struct recipe_reader){ .failed = true };
	if (blob.size <= HEAD_BYTES || blob.size > RECIPE_BYTES_MAX)
		return false;
	if (blob.data[0] != RECIPE_VERSION || blob.data[2] > 1)
		return false;
	p = read_minimal(blob.data + HEAD_BYTES, end, &file_size);
	if (!p || p == end || file_size == 0)
		return false;
	*reader = (struct recipe_reader){
		.head = { .profile = blob.data[1], .level = blob.data[2], .file_size = file_size },
		.rest = span_make(p, (size_t)(end - p)),
	};
	return true;
}

static bool read_entry(struct recipe_reader *reader, struct digest *entry)
{
	const uint8_t *end = reader->rest.data + reader->rest.size, *p;

	if (reader->rest.size <= DIGEST_HASH_BYTES)
		return false;
	p = read_minimal(reader->rest.data + DIGEST_HASH_BYTES, end, &entry->size);
	if (!p || entry->size == 0)
		return false;
	memcpy(entry->hash, reader->rest.data, DIGEST_HASH_BYTES);
	reader->rest = span_make(p, (size_t)(end - p));
	if (reader->head.level == 1)
		return entry->size <= RECIPE_BYTES_MAX;
	return !__builtin_add_overflow(reader->sum, entry->size, &reader->sum) && reader->sum <= reader->head.file_size;
}

bool recipe_next(struct recipe_reader *reader, struct digest *entry)
{
	struct digest read;

	if (reader->failed)
		return false;
	if (reader->rest.size == 0) {
		reader->failed = reader->head.level == 0 && reader->sum != reader->head.file_size;
		return false;
	}
	if (!read_entry(reader, &read)) {
		reader->failed = true;
		return false;
	}
	*entry = read;
	return true;
}
