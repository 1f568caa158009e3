/*
 * message: protobuf messages as C structs by table: each field of the struct names its number and kind, and one
 * decoder and one encoder serve them all. For messages off the hot path; hot ones read pb.h themselves.
 *
 * Spans in a decoded struct are borrowed from the message. Unknown fields are skipped. A field of the wrong wire type
 * makes the message malformed.
 */
#pragma once

#include "proto/buffer.h"
#include "proto/digest.h"

enum message_kind {
	MESSAGE_BOOL,                    /* bool */
	MESSAGE_UINT32,                  /* uint32_t */
	MESSAGE_INT32,                   /* int32_t */
	MESSAGE_UINT64,                  /* uint64_t */
	MESSAGE_INT64,                   /* int64_t */
	MESSAGE_BYTES,                   /* struct span: bytes, string, or a nested message as its bytes */
	MESSAGE_SET,                     /* uint32_t: of a repeated enum, packed or not, a bit for each value below 32 that is in it */
	MESSAGE_DIGEST,                  /* struct digest, with a REAPI Digest nested; absent: all zero */
	MESSAGE_PRESENT,                 /* struct span that is written also when empty, if `data` is not NULL */
	MESSAGE_LIST,                    /* struct message_list: a repeated bytes, string or message field */
	MESSAGE_MAP,                     /* struct message_list: a map from string to string, bytes or message */
};

struct message_list {
	struct span message;             /* decoded: the whole outer message. To encode: the elements' own encoding */
	uint32_t number;
	uint32_t count;
};

struct message_field {
	uint32_t number;
	enum message_kind kind;
	size_t offset;
};

struct message_type {
	const struct message_field *fields;
	size_t count;
	size_t size;                     /* of the struct */
};

#define MESSAGE_FIELD(type, field, n, k) { .number = (n), .kind = (k), .offset = offsetof(type, field) }
#define MESSAGE_TYPE(name, type, ...)                                                                                  \
	static const struct message_field name##_fields[] = { __VA_ARGS__ };                                           \
	const struct message_type name = { name##_fields, sizeof(name##_fields) / sizeof(name##_fields[0]),            \
	                                   sizeof(type) }

/* Zeroes `out` and fills it in. False: malformed. */
bool message_decode(const struct message_type *type, struct span bytes, void *out);

/* Appends the fields of `in`. Lists: `message` is appended as it is (made with pb_put_bytes_always or message_nest). */
void message_encode(const struct message_type *type, struct buffer *out, const void *in);

/* Appends `in` as a nested message with this field number. */
void message_nest(const struct message_type *type, struct buffer *out, uint32_t number, const void *in);

/* Walks a list: true and `element` for each. Start with a zeroed cursor. */
struct message_cursor {
	struct span rest;
	bool begun;
};
bool message_list_next(const struct message_list *list, struct message_cursor *cursor, struct span *element);

/*
 * A map is a list whose elements are pairs; decoding one as MESSAGE_MAP checks each pair, so that walking has no
 * malformed one to deal with. Of two pairs with one key the later counts.
 */
struct message_pair {
	struct span key, value;
};
bool message_pair_decode(struct span element, struct message_pair *pair);
/* As message_list_next(): every pair, in the order given. A malformed one in a list that nothing checked ends it. */
bool message_map_next(const struct message_list *map, struct message_cursor *cursor, struct message_pair *pair);
/* The value of `key`; false, and `value` is left as it was, when the map has none. */
bool message_map_find(const struct message_list *map, const char *key, struct span *value);
/* Appends a pair as the field `number`, its key and value also when they are empty. */
void message_put_pair(struct buffer *out, uint32_t number, const struct message_pair *pair);

/* REAPI Digest from its nested bytes; false when the hash is not 64 lower-case hex digits or the size is negative. */
bool message_digest(struct span bytes, struct digest *digest);
void message_put_digest(struct buffer *out, uint32_t number, const struct digest *digest);
