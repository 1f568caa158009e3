/* The protobuf wire format: reader and writer. */
#include "proto/pb.h"

#include <assert.h>

/* A length is at most 2 GiB in protobuf, so its varint is at most 5 bytes; see pb_begin. */
#define LENGTH_BYTES_MAX 5
#define MESSAGE_BYTES_MAX ((uint64_t)INT32_MAX)

struct pb_reader pb_reader_make(struct span message)
{
	return (struct pb_reader){ .rest = message };
}

size_t pb_varint_size(uint64_t value)
{
	return (size_t)(63 - __builtin_clzll(value | 1)) / 7 + 1;
}

uint8_t *pb_varint_write(uint8_t *p, uint64_t value)
{
	while (value >= 0x80) {
		*p++ = (uint8_t)(value | 0x80);
		value >>= 7;
	}
	*p++ = (uint8_t)value;
	return p;
}

const uint8_t *pb_varint_read(const uint8_t *p, const uint8_t *end, uint64_t *value)
{
	uint64_t result = 0;

	for (unsigned shift = 0; shift < 70 && p < end; shift += 7) {
		uint8_t byte = *p++;

		/* The tenth byte has room for bit 63 only. */
		if (shift == 63 && byte > 1)
			return NULL;
		result |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*value = result;
			return p;
		}
	}
	return NULL;
}

static uint64_t little_endian(const uint8_t *p, size_t bytes)
{
	uint64_t value = 0;

	for (size_t i = 0; i < bytes; i++)
		value |= (uint64_t)p[i] << (8 * i);
	return value;
}

static const uint8_t *read_fixed(const uint8_t *p, const uint8_t *end, size_t bytes, uint64_t *value)
{
	if ((size_t)(end - p) < bytes)
		return NULL;
	*value = little_endian(p, bytes);
	return p + bytes;
}

static const uint8_t *read_bytes(const uint8_t *p, const uint8_t *end, struct span *bytes)
{
	uint64_t size;

	p = pb_varint_read(p, end, &size);
	if (!p || size > MESSAGE_BYTES_MAX || size > (uint64_t)(end - p))
		return NULL;
	*bytes = span_make(p, (size_t)size);
	return p + size;
}

static const uint8_t *read_value(const uint8_t *p, const uint8_t *end, struct pb_field *field)
{
	switch (field->wire) {
	case PB_VARINT:
		return pb_varint_read(p, end, &field->value);
	case PB_FIXED64:
		return read_fixed(p, end, 8, &field->value);
	case PB_BYTES:
		return read_bytes(p, end, &field->bytes);
	case PB_FIXED32:
		return read_fixed(p, end, 4, &field->value);
	}
	return NULL;
}

static const uint8_t *read_field(const uint8_t *p, const uint8_t *end, struct pb_field *field)
{
	uint64_t tag;

	p = pb_varint_read(p, end, &tag);
	if (!p || tag >> 3 == 0 || tag >> 3 > PB_FIELD_NUMBER_MAX)
		return NULL;
	*field = (struct pb_field){ .number = (uint32_t)(tag >> 3), .wire = (enum pb_wire)(tag & 7) };
	return read_value(p, end, field);
}

size_t pb_whole(struct span bytes, size_t enough)
{
	const uint8_t *at = bytes.data, *next;
	struct pb_field field;
	size_t whole = 0;

	while (whole < bytes.size && whole < enough) {
		next = read_field(at, bytes.data + bytes.size, &field);
		if (!next)
			break;
		at = next;
		whole = (size_t)(at - bytes.data);
	}
	return whole;
}

bool pb_next(struct pb_reader *reader, struct pb_field *field)
{
	const uint8_t *end, *next;

	if (reader->failed || reader->rest.size == 0)
		return false;
	end = reader->rest.data + reader->rest.size;
	next = read_field(reader->rest.data, end, field);
	if (!next) {
		reader->failed = true;
		return false;
	}
	reader->rest = span_make(next, (size_t)(end - next));
	return true;
}

struct pb_reader pb_enter(const struct pb_reader *reader, const struct pb_field *field)
{
	if (field->wire != PB_BYTES || reader->depth + 1 >= PB_DEPTH_MAX)
		return (struct pb_reader){ .failed = true };
	return (struct pb_reader){ .rest = field->bytes, .depth = (uint8_t)(reader->depth + 1) };
}

bool pb_as_uint64(struct pb_reader *reader, const struct pb_field *field, uint64_t *value)
{
	if (field->wire != PB_VARINT) {
		reader->failed = true;
		return false;
	}
	*value = field->value;
	return true;
}

bool pb_as_int64(struct pb_reader *reader, const struct pb_field *field, int64_t *value)
{
	uint64_t bits;

	if (!pb_as_uint64(reader, field, &bits))
		return false;
	*value = (int64_t)bits;
	return true;
}

bool pb_as_uint32(struct pb_reader *reader, const struct pb_field *field, uint32_t *value)
{
	uint64_t bits;

	if (!pb_as_uint64(reader, field, &bits))
		return false;
	*value = (uint32_t)bits;
	return true;
}

bool pb_as_int32(struct pb_reader *reader, const struct pb_field *field, int32_t *value)
{
	uint64_t bits;

	if (!pb_as_uint64(reader, field, &bits))
		return false;
	*value = (int32_t)(uint32_t)bits;
	return true;
}

bool pb_as_bool(struct pb_reader *reader, const struct pb_field *field, bool *value)
{
	uint64_t bits;

	if (!pb_as_uint64(reader, field, &bits))
		return false;
	*value = bits != 0;
	return true;
}

bool pb_as_bytes(struct pb_reader *reader, const struct pb_field *field, struct span *value)
{
	if (field->wire != PB_BYTES) {
		reader->failed = true;
		return false;
	}
	*value = field->bytes;
	return true;
}

static uint8_t *write_tag(uint8_t *p, uint32_t number, enum pb_wire wire)
{
	assert(number > 0 && number <= PB_FIELD_NUMBER_MAX);
	return pb_varint_write(p, (uint64_t)number << 3 | wire);
}

/* One field of fixed parts is built here and put in one piece, so that a buffer that is full has all of it or none. */
void pb_put_varint_always(struct buffer *buffer, uint32_t number, uint64_t value)
{
	uint8_t field[2 * PB_VARINT_BYTES_MAX];
	uint8_t *end = pb_varint_write(write_tag(field, number, PB_VARINT), value);

	buffer_put(buffer, field, (size_t)(end - field));
}

void pb_put_varint(struct buffer *buffer, uint32_t number, uint64_t value)
{
	if (value)
		pb_put_varint_always(buffer, number, value);
}

void pb_put_int64(struct buffer *buffer, uint32_t number, int64_t value)
{
	pb_put_varint(buffer, number, (uint64_t)value);
}

void pb_put_bool(struct buffer *buffer, uint32_t number, bool value)
{
	pb_put_varint(buffer, number, value);
}

void pb_put_bytes_always(struct buffer *buffer, uint32_t number, struct span bytes)
{
	uint8_t head[2 * PB_VARINT_BYTES_MAX];
	uint8_t *end = pb_varint_write(write_tag(head, number, PB_BYTES), bytes.size);
	size_t head_size = (size_t)(end - head);
	uint8_t *room;

	if (bytes.size > MESSAGE_BYTES_MAX) {
		buffer->failed = true;
		return;
	}
	room = buffer_reserve(buffer, head_size + bytes.size);
	if (!room)
		return;
	memcpy(room, head, head_size);
	if (bytes.size)
		memcpy(room + head_size, bytes.data, bytes.size);
	buffer->size += head_size + bytes.size;
}

void pb_put_bytes(struct buffer *buffer, uint32_t number, struct span bytes)
{
	if (bytes.size)
		pb_put_bytes_always(buffer, number, bytes);
}

void pb_put_text(struct buffer *buffer, uint32_t number, const char *text)
{
	pb_put_bytes(buffer, number, span_text(text));
}

size_t pb_begin(struct buffer *buffer, uint32_t number)
{
	uint8_t tag[PB_VARINT_BYTES_MAX];
	size_t tag_size = (size_t)(write_tag(tag, number, PB_BYTES) - tag);
	uint8_t *room = buffer_reserve(buffer, tag_size + LENGTH_BYTES_MAX);

	if (!room)
		return 0;
	memcpy(room, tag, tag_size);
	buffer->size += tag_size + LENGTH_BYTES_MAX;
	return buffer->size;
}

void pb_end(struct buffer *buffer, size_t mark)
{
	uint8_t *body;
	size_t body_size, length_size;

	if (buffer->failed)
		return;
	assert(mark >= LENGTH_BYTES_MAX && mark <= buffer->size);
	body = buffer->data + mark;
	body_size = buffer->size - mark;
	if (body_size > MESSAGE_BYTES_MAX) {
		buffer->failed = true;
		return;
	}
	length_size = pb_varint_size(body_size);
	memmove(body - LENGTH_BYTES_MAX + length_size, body, body_size);
	pb_varint_write(body - LENGTH_BYTES_MAX, body_size);
	buffer->size -= LENGTH_BYTES_MAX - length_size;
}
