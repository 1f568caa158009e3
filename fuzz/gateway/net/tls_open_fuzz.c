/*
 * tls_open_round_trip: records of any types, sizes and paddings, sealed and then received in pieces, are what was sealed, up to the
 * first that was changed on the way; that one is refused. What follows the records is any bytes at all: refused, or waited for.
 * Input: size of a piece, then seven bytes a record, then those bytes.
 */
#include "gateway/net/tls_open.h"
#include "gateway/net/tls_seal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)
#define OP_BYTES     7
#define OPS_MAX      20
#define RECORD_MAX   16384

struct op {
	uint8_t type, padding, damage;   /* damage: 0, or what changes a byte */
	size_t size, damage_at;
};

static uint8_t content[RECORD_MAX], room[TLS_OPEN_ROOM_BYTES];

static struct op op_read(const uint8_t *data)
{
	struct op op = { .type = data[0], .size = (size_t)(data[1] << 8 | data[2]) % RECORD_MAX, .padding = data[3],
		         .damage = data[4] > 240 ? data[5] : 0, .damage_at = data[6] };

	if (op.type == 0)
		op.type = 23;
	if (op.size + 1 + op.padding > RECORD_MAX)
		op.padding = 0;
	return op;
}

/* The record's own type is the last byte that is no zero: with padding, what is sealed as type is a zero behind it. */
static void op_seal(struct tls_keys *keys, const struct op *op, struct buffer *out)
{
	static const uint8_t zeros[256];
	uint8_t tail[257] = { op->type };
	size_t begin = out->size;

	memcpy(tail + 1, zeros, op->padding);
	if (op->padding)
		REQUIRE(tls_seal_put(keys, 0, span_make(content, op->size), span_make(tail, op->padding), out) == 0);
	else
		REQUIRE(tls_seal_put(keys, op->type, span_make(content, op->size), (struct span){ 0 }, out) == 0);
	if (op->damage)
		out->data[begin + 5 + op->damage_at % (out->size - begin - 5)] ^= op->damage;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t secret[32] = { 1, 2, 3 };
	struct buffer wire = buffer_heap(1u << 20);
	struct op ops[OPS_MAX];
	size_t count = 0, seen = 0, piece, at = 1;
	struct tls_keys keys;
	struct tls_open open;
	struct tls_record record;
	struct span rest;
	int r = 0;

	if (size < 1)
		return 0;
	piece = data[0] ? data[0] * 37u : SIZE_MAX;
	for (size_t i = 0; i < sizeof(content); i++)
		content[i] = (uint8_t)(i * 7 + i / 256);
	REQUIRE(tls_keys_init(&keys, 0x1301, span_make(secret, sizeof(secret)), true) == 0);
	REQUIRE(tls_open_init(&open, 0x1301, span_make(secret, sizeof(secret))) == 0);
	for (; count < OPS_MAX && size - at >= OP_BYTES; at += OP_BYTES) {
		ops[count] = op_read(data + at);
		op_seal(&keys, &ops[count++], &wire);
	}
	buffer_put(&wire, data + at, size - at);
	for (size_t fed = 0; r >= 0 && fed < wire.size; fed += piece < wire.size - fed ? piece : wire.size - fed) {
		rest = span_make(wire.data + fed, piece < wire.size - fed ? piece : wire.size - fed);
		while (r >= 0 && rest.size) {
			r = tls_open_next(&open, &rest, room, &record);
			if (r == 0)
				REQUIRE(rest.size == 0);
			if (r <= 0)
				continue;
			REQUIRE(seen < count && !ops[seen].damage && record.type == ops[seen].type);
			REQUIRE(span_equal(record.content, span_make(content, ops[seen].size)));
			seen++;
		}
		tls_open_trim(&open);
	}
	REQUIRE(seen == count || (r < 0 && ops[seen].damage));
	tls_open_fini(&open);
	tls_keys_fini(&keys);
	buffer_fini(&wire);
	return 0;
}
