/* One decoder and one encoder for all messages that a table describes. */
#include "proto/message.h"

#include <assert.h>

#include "proto/pb.h"

enum { DIGEST_FIELD_HASH = 1, DIGEST_FIELD_SIZE = 2 };
enum { PAIR_FIELD_KEY = 1, PAIR_FIELD_VALUE = 2 };

bool message_digest(struct span bytes, struct digest *digest)
{
	struct pb_reader reader = pb_reader_make(bytes);
	struct pb_field field;
	struct span hash = { 0 };
	int64_t size = 0;

	while (pb_next(&reader, &field)) {
		if (field.number == DIGEST_FIELD_HASH && !pb_as_bytes(&reader, &field, &hash))
			return false;
		if (field.number == DIGEST_FIELD_SIZE && !pb_as_int64(&reader, &field, &size))
			return false;
	}
	if (reader.failed || size < 0 || hash.size != DIGEST_HEX_BYTES || !digest_from_hex(digest, hash))
		return false;
	digest->size = (uint64_t)size;
	return true;
}

void message_put_digest(struct buffer *out, uint32_t number, const struct digest *digest)
{
	char hex[DIGEST_HEX_BYTES];
	size_t mark = pb_begin(out, number);

	digest_hex(digest, hex);
	pb_put_bytes(out, DIGEST_FIELD_HASH, span_make(hex, sizeof(hex)));
	pb_put_varint(out, DIGEST_FIELD_SIZE, digest->size);
	pb_end(out, mark);
}

static const struct message_field *message_find(const struct message_type *type, uint32_t number)
{
	for (size_t i = 0; i < type->count; i++)
		if (type->fields[i].number == number)
			return &type->fields[i];
	return NULL;
}

static void set_add(uint32_t *set, uint64_t value)
{
	if (value < 32)
		*set |= 1u << value;
}

/* Readers of proto3 take both forms. */
static bool message_set_add(uint32_t *set, const struct pb_field *field)
{
	const uint8_t *at = field->bytes.data;
	uint64_t value;

	if (field->wire == PB_VARINT) {
		set_add(set, field->value);
		return true;
	}
	if (field->wire != PB_BYTES)
		return false;
	while (at && at < field->bytes.data + field->bytes.size) {
		at = pb_varint_read(at, field->bytes.data + field->bytes.size, &value);
		if (at)
			set_add(set, value);
	}
	return at || !field->bytes.size;
}

static bool message_list_add(struct message_list *list, const struct pb_field *field, struct span message)
{
	if (field->wire != PB_BYTES)
		return false;
	list->message = message;
	list->number = field->number;
	list->count++;
	return true;
}

static bool message_map_add(struct message_list *map, const struct pb_field *field, struct span message)
{
	struct message_pair pair;

	return message_list_add(map, field, message) && message_pair_decode(field->bytes, &pair);
}

static bool message_store(const struct message_field *at, struct pb_reader *reader, const struct pb_field *field,
                          struct span message, void *out)
{
	void *value = (char *)out + at->offset;

	switch (at->kind) {
	case MESSAGE_BOOL:
		return pb_as_bool(reader, field, value);
	case MESSAGE_UINT32:
		return pb_as_uint32(reader, field, value);
	case MESSAGE_INT32:
		return pb_as_int32(reader, field, value);
	case MESSAGE_UINT64:
		return pb_as_uint64(reader, field, value);
	case MESSAGE_INT64:
		return pb_as_int64(reader, field, value);
	case MESSAGE_BYTES:
	case MESSAGE_PRESENT:
		return pb_as_bytes(reader, field, value);
	case MESSAGE_SET:
		return message_set_add(value, field);
	case MESSAGE_DIGEST:
		return field->wire == PB_BYTES && message_digest(field->bytes, value);
	case MESSAGE_LIST:
		return message_list_add(value, field, message);
	case MESSAGE_MAP:
		return message_map_add(value, field, message);
	}
	return false;
}

bool message_decode(const struct message_type *type, struct span bytes, void *out)
{
	struct pb_reader reader = pb_reader_make(bytes);
	struct pb_field field;

	memset(out, 0, type->size);
	while (pb_next(&reader, &field)) {
		const struct message_field *at = message_find(type, field.number);

		if (at && !message_store(at, &reader, &field, bytes, out))
			return false;
	}
	return !reader.failed;
}

static bool digest_is_absent(const struct digest *digest)
{
	static const struct digest absent;

	return digest_equal(digest, &absent);
}

static void message_put_set(struct buffer *out, uint32_t number, uint32_t set)
{
	uint8_t packed[32];
	size_t count = 0;

	for (uint8_t i = 0; i < 32; i++)
		if (set & 1u << i)
			packed[count++] = i;
	pb_put_bytes(out, number, span_make(packed, count));
}

static void message_put(const struct message_field *at, struct buffer *out, const void *in)
{
	const void *value = (const char *)in + at->offset;

	switch (at->kind) {
	case MESSAGE_BOOL:
		pb_put_bool(out, at->number, *(const bool *)value);
		return;
	case MESSAGE_UINT32:
		pb_put_varint(out, at->number, *(const uint32_t *)value);
		return;
	case MESSAGE_INT32:
		pb_put_int64(out, at->number, *(const int32_t *)value);
		return;
	case MESSAGE_UINT64:
		pb_put_varint(out, at->number, *(const uint64_t *)value);
		return;
	case MESSAGE_INT64:
		pb_put_int64(out, at->number, *(const int64_t *)value);
		return;
	case MESSAGE_BYTES:
		pb_put_bytes(out, at->number, *(const struct span *)value);
		return;
	case MESSAGE_PRESENT:
		if (((const struct span *)value)->data)
			pb_put_bytes_always(out, at->number, *(const struct span *)value);
		return;
	case MESSAGE_SET:
		message_put_set(out, at->number, *(const uint32_t *)value);
		return;
	case MESSAGE_DIGEST:
		if (!digest_is_absent(value))
			message_put_digest(out, at->number, value);
		return;
	case MESSAGE_LIST:
	case MESSAGE_MAP:
		buffer_put(out, ((const struct message_list *)value)->message.data,
		           ((const struct message_list *)value)->message.size);
		return;
	}
}

void message_encode(const struct message_type *type, struct buffer *out, const void *in)
{
	for (size_t i = 0; i < type->count; i++)
		message_put(&type->fields[i], out, in);
}

void message_nest(const struct message_type *type, struct buffer *out, uint32_t number, const void *in)
{
	size_t mark = pb_begin(out, number);

	message_encode(type, out, in);
	pb_end(out, mark);
}

bool message_list_next(const struct message_list *list, struct message_cursor *cursor, struct span *element)
{
	struct pb_reader reader;
	struct pb_field field;

	if (!cursor->begun)
		*cursor = (struct message_cursor){ .rest = list->message, .begun = true };
	reader = pb_reader_make(cursor->rest);
	while (list->count && pb_next(&reader, &field)) {
		if (field.number != list->number)
			continue;
		cursor->rest = reader.rest;
		*element = field.bytes;
		return true;
	}
	cursor->rest = (struct span){ 0 };
	return false;
}

bool message_pair_decode(struct span element, struct message_pair *pair)
{
	struct pb_reader reader = pb_reader_make(element);
	struct pb_field field;

	*pair = (struct message_pair){ 0 };
	while (pb_next(&reader, &field)) {
		if (field.number == PAIR_FIELD_KEY && !pb_as_bytes(&reader, &field, &pair->key))
			return false;
		if (field.number == PAIR_FIELD_VALUE && !pb_as_bytes(&reader, &field, &pair->value))
			return false;
	}
	return !reader.failed;
}

bool message_map_next(const struct message_list *map, struct message_cursor *cursor, struct message_pair *pair)
{
	struct span element;

	return message_list_next(map, cursor, &element) && message_pair_decode(element, pair);
}

bool message_map_find(const struct message_list *map, const char *key, struct span *value)
{
	struct message_cursor cursor = { 0 };
	struct message_pair pair;
	bool found = false;

	while (message_map_next(map, &cursor, &pair)) {
		if (!span_is(pair.key, key))
			continue;
		*value = pair.value;
		found = true;
	}
	return found;
}

void message_put_pair(struct buffer *out, uint32_t number, const struct message_pair *pair)
{
	size_t mark = pb_begin(out, number);

	pb_put_bytes_always(out, PAIR_FIELD_KEY, pair->key);
	pb_put_bytes_always(out, PAIR_FIELD_VALUE, pair->value);
	pb_end(out, mark);
}
