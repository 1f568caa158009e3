/*
 * pb: the protobuf wire format over spans. The reader walks one message's fields in place and copies nothing; nested
 * messages are read by a reader over the field's bytes, at most PB_DEPTH_MAX deep (the caller counts, see pb_enter).
 * The writer appends to a struct buffer and tests nothing in between: `buffer.failed` says at the end if all fitted.
 * Source: protobuf.dev "Encoding". Groups (wire types 3 and 4) are refused; proto3 has none.
 */
#pragma once

#include "proto/buffer.h"

#define PB_DEPTH_MAX        16
#define PB_FIELD_NUMBER_MAX ((1u << 29) - 1)
#define PB_VARINT_BYTES_MAX 10

enum pb_wire {
	PB_VARINT = 0,
	PB_FIXED64 = 1,
	PB_BYTES = 2,
	PB_FIXED32 = 5,
};

struct pb_field {
	uint32_t number;
	enum pb_wire wire;
	uint64_t value;                          /* PB_VARINT, PB_FIXED64, PB_FIXED32 */
	struct span bytes;                       /* PB_BYTES: borrowed from the message */
};

struct pb_reader {
	struct span rest;
	bool failed;
	uint8_t depth;                           /* 0: the outermost message */
};

struct pb_reader pb_reader_make(struct span message);

/*
 * The next field. False at the end, and on malformed input (then `failed`): field number 0 or beyond 2^29 - 1, a
 * group, a length beyond the end, a varint cut short or longer than 64 bits. After a failure it stays false.
 */
bool pb_next(struct pb_reader *reader, struct pb_field *field);

/*
 * How many bytes from the front of `bytes`, which may be the beginning of a message, are whole fields; it stops at the first
 * field's end that is `enough` or more. Fewer when a field is malformed, too: then pb_next() will not take it either.
 */
size_t pb_whole(struct span bytes, size_t enough);

/*
 * A reader over a nested message, one level deeper than `reader`. When `field` is no PB_BYTES or PB_DEPTH_MAX is
 * reached, it is born failed and yields nothing.
 */
struct pb_reader pb_enter(const struct pb_reader *reader, const struct pb_field *field);

/*
 * Typed values: false, with `reader->failed` set, when the field has another wire type. Integers are truncated as
 * protobuf does; a bool is any varint but 0.
 */
bool pb_as_uint64(struct pb_reader *reader, const struct pb_field *field, uint64_t *value);
bool pb_as_int64(struct pb_reader *reader, const struct pb_field *field, int64_t *value);
bool pb_as_uint32(struct pb_reader *reader, const struct pb_field *field, uint32_t *value);
bool pb_as_int32(struct pb_reader *reader, const struct pb_field *field, int32_t *value);
bool pb_as_bool(struct pb_reader *reader, const struct pb_field *field, bool *value);
bool pb_as_bytes(struct pb_reader *reader, const struct pb_field *field, struct span *value);

/* The plain ones skip defaults (0, false, empty), as proto3 does. */
void pb_put_varint(struct buffer *buffer, uint32_t number, uint64_t value);
void pb_put_int64(struct buffer *buffer, uint32_t number, int64_t value);       /* negative: ten bytes */
void pb_put_bool(struct buffer *buffer, uint32_t number, bool value);
void pb_put_bytes(struct buffer *buffer, uint32_t number, struct span bytes);
void pb_put_text(struct buffer *buffer, uint32_t number, const char *text);

/* For repeated elements, `optional` and oneof members, and messages that are set but empty. */
void pb_put_varint_always(struct buffer *buffer, uint32_t number, uint64_t value);
void pb_put_bytes_always(struct buffer *buffer, uint32_t number, struct span bytes);

/*
 * A nested message of unknown length: what is written between the two is its body. pb_begin leaves room for the
 * longest length, pb_end writes the minimal one and closes the gap, so that the encoding is canonical. Nests.
 * An empty body is written as a set-but-empty message.
 */
size_t pb_begin(struct buffer *buffer, uint32_t number);
void pb_end(struct buffer *buffer, size_t mark);

/* Bytes that `value` takes as a varint: 1 to 10. */
size_t pb_varint_size(uint64_t value);
/* Writes at most PB_VARINT_BYTES_MAX bytes; returns the place after them. */
uint8_t *pb_varint_write(uint8_t *p, uint64_t value);
/* Reads one varint; returns the place after it, or NULL when it is cut short or holds more than 64 bits. */
const uint8_t *pb_varint_read(const uint8_t *p, const uint8_t *end, uint64_t *value);
