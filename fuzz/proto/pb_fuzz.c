/*
 * pb_reader: any bytes are walked, descending into every length-delimited field that could be a message. Each span
 * must lie inside the input, a walk must end, and what was read must survive being written and read again.
 */
#include "proto/pb.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

struct walk {
	const uint8_t *begin, *end;
	unsigned fields_left;                    /* descending into every field is quadratic at worst: bounded */
};

static void require_inside(const struct walk *walk, struct span bytes)
{
	REQUIRE(bytes.data >= walk->begin && bytes.data <= walk->end);
	REQUIRE(bytes.size <= (size_t)(walk->end - bytes.data));
}

/* A field written anew reads back equal. */
static void round_trip(const struct pb_field *field)
{
	struct buffer buffer = buffer_heap((size_t)1 << 20);
	struct pb_reader reader;
	struct pb_field again;

	if (field->wire == PB_VARINT)
		pb_put_varint_always(&buffer, field->number, field->value);
	else if (field->wire == PB_BYTES)
		pb_put_bytes_always(&buffer, field->number, field->bytes);
	if (!buffer.failed && buffer.size) {
		reader = pb_reader_make(buffer_span(&buffer));
		REQUIRE(pb_next(&reader, &again));
		REQUIRE(again.number == field->number && again.wire == field->wire && again.value == field->value);
		REQUIRE(span_equal(again.bytes, field->bytes));
		REQUIRE(!pb_next(&reader, &again) && !reader.failed);
	}
	buffer_fini(&buffer);
}

static void walk_message(struct walk *walk, struct pb_reader reader)
{
	struct pb_field field;
	size_t before = reader.rest.size;

	REQUIRE(reader.depth < PB_DEPTH_MAX);
	while (walk->fields_left && pb_next(&reader, &field)) {
		walk->fields_left--;
		REQUIRE(reader.rest.size < before);
		before = reader.rest.size;
		REQUIRE(field.number > 0 && field.number <= PB_FIELD_NUMBER_MAX);
		round_trip(&field);
		if (field.wire == PB_BYTES) {
			struct pb_reader nested = pb_enter(&reader, &field);

			require_inside(walk, field.bytes);
			if (!nested.failed)
				walk_message(walk, nested);
		}
	}
}

/* The fields that are whole are read to their end, and what is behind them is none. */
static void require_whole(struct span bytes)
{
	size_t whole = pb_whole(bytes, SIZE_MAX);
	struct pb_reader reader;
	struct pb_field field;

	REQUIRE(whole <= bytes.size);
	reader = pb_reader_make(span_make(bytes.data, whole));
	while (pb_next(&reader, &field))
		continue;
	REQUIRE(!reader.failed);
	reader = pb_reader_make(span_make(bytes.data + whole, bytes.size - whole));
	REQUIRE(!pb_next(&reader, &field));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct walk walk = { .begin = data, .end = data + size, .fields_left = 4096 };

	walk_message(&walk, pb_reader_make(span_make(data, size)));
	require_whole(span_make(data, size));
	return 0;
}
