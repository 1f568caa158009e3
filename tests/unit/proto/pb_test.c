/*
 * Shows that the writer's bytes are those of protobuf's own documentation and come back from the reader; that every
 * cut of a message is either a shorter valid message or refused; and each malformed form, one by one.
 */
#include "proto/pb.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define BYTES(...) span_make((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static void assert_span(struct span actual, struct span expected)
{
	assert_int_equal(actual.size, expected.size);
	assert_memory_equal(actual.data, expected.data, expected.size);
}

static void test_documented_encodings(void **state)
{
	uint8_t storage[64];
	struct buffer buffer = buffer_over(storage, sizeof(storage));
	size_t mark;

	pb_put_varint(&buffer, 1, 150);
	assert_span(buffer_span(&buffer), BYTES(0x08, 0x96, 0x01));
	buffer_clear(&buffer);
	pb_put_text(&buffer, 2, "testing");
	assert_span(buffer_span(&buffer), BYTES(0x12, 0x07, 't', 'e', 's', 't', 'i', 'n', 'g'));
	buffer_clear(&buffer);
	mark = pb_begin(&buffer, 3);
	pb_put_varint(&buffer, 1, 150);
	pb_end(&buffer, mark);
	assert_span(buffer_span(&buffer), BYTES(0x1a, 0x03, 0x08, 0x96, 0x01));
	buffer_clear(&buffer);
	pb_put_int64(&buffer, 1, -2);
	assert_span(buffer_span(&buffer), BYTES(0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01));
}

static void test_defaults_are_skipped(void **state)
{
	uint8_t storage[64];
	struct buffer buffer = buffer_over(storage, sizeof(storage));

	pb_put_varint(&buffer, 1, 0);
	pb_put_int64(&buffer, 1, 0);
	pb_put_bool(&buffer, 2, false);
	pb_put_bytes(&buffer, 5, span_make(NULL, 0));
	pb_put_text(&buffer, 6, "");
	assert_int_equal(buffer.size, 0);
	pb_put_varint_always(&buffer, 1, 0);
	pb_put_bytes_always(&buffer, 5, span_make(NULL, 0));
	pb_end(&buffer, pb_begin(&buffer, 7));
	assert_span(buffer_span(&buffer), BYTES(0x08, 0, 0x2a, 0, 0x3a, 0));
}

static void test_varint_edges(void **state)
{
	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t values[] = { (uint64_t)1 << bit, ((uint64_t)1 << bit) - 1, UINT64_MAX >> bit };

		for (size_t i = 0; i < 3; i++) {
			uint8_t bytes[PB_VARINT_BYTES_MAX];
			size_t size = (size_t)(pb_varint_write(bytes, values[i]) - bytes);
			uint64_t read = ~values[i];

			assert_int_equal(size, pb_varint_size(values[i]));
			assert_ptr_equal(pb_varint_read(bytes, bytes + size, &read), bytes + size);
			assert_true(read == values[i]);
			for (size_t cut = 0; cut < size; cut++)
				assert_null(pb_varint_read(bytes, bytes + cut, &read));
		}
	}
}

/* The gap that pb_end closes: bodies on both sides of each length's own length. */
static void test_nested_lengths_are_minimal(void **state)
{
	static const size_t sizes[] = { 0, 1, 125, 126, 127, 128, 16000, 16383, 16384, 70000 };
	static uint8_t body[70000];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct buffer nested = buffer_heap(1 << 20), plain = buffer_heap(1 << 20);
		size_t outer = pb_begin(&nested, 1);
		size_t inner = pb_begin(&nested, 2);

		memset(body, (int)i + 1, sizeof(body));
		buffer_put(&nested, body, sizes[i]);
		pb_end(&nested, inner);
		pb_put_varint(&nested, 3, 7);
		pb_end(&nested, outer);

		outer = pb_begin(&plain, 1);
		pb_put_bytes_always(&plain, 2, span_make(body, sizes[i]));
		pb_put_varint(&plain, 3, 7);
		pb_end(&plain, outer);
		assert_span(buffer_span(&nested), buffer_span(&plain));
		/* Tag, minimal length, body, nothing else. */
		assert_int_equal(plain.size, 1 + pb_varint_size(plain.size - 1 - pb_varint_size(sizes[i] + 5)) +
		                 1 + pb_varint_size(sizes[i]) + sizes[i] + 2);
		buffer_fini(&nested);
		buffer_fini(&plain);
	}
}

/* Nothing here writes these; others may. */
static const uint8_t fixed32[] = { 2 << 3 | 5, 4, 3, 2, 1 }, fixed64[] = { 4 << 3 | 1, 8, 7, 6, 5, 4, 3, 2, 1 };

static void test_fixed_numbers(void **state)
{
	struct pb_reader reader = pb_reader_make(span_make(fixed32, sizeof(fixed32)));
	struct pb_field field;

	assert_true(pb_next(&reader, &field));
	assert_true(field.number == 2 && field.wire == PB_FIXED32 && field.value == 0x01020304);
	assert_false(pb_next(&reader, &field) || reader.failed);
	reader = pb_reader_make(span_make(fixed64, sizeof(fixed64)));
	assert_true(pb_next(&reader, &field));
	assert_true(field.number == 4 && field.wire == PB_FIXED64 && field.value == 0x0102030405060708);
	assert_false(pb_next(&reader, &field) || reader.failed);
}

static void test_every_cut(void **state)
{
	uint8_t storage[64];
	struct buffer buffer = buffer_over(storage, sizeof(storage));
	bool boundary[64] = { true };

	pb_put_varint(&buffer, 1, 300);
	boundary[buffer.size] = true;
	buffer_put(&buffer, fixed32, sizeof(fixed32));
	boundary[buffer.size] = true;
	pb_put_text(&buffer, 3000, "text");
	boundary[buffer.size] = true;
	buffer_put(&buffer, fixed64, sizeof(fixed64));
	boundary[buffer.size] = true;
	for (size_t cut = 0; cut <= buffer.size; cut++) {
		struct pb_reader reader = pb_reader_make(span_make(storage, cut));
		struct pb_field field;

		while (pb_next(&reader, &field))
			continue;
		assert_int_equal(reader.failed, !boundary[cut]);
		assert_false(pb_next(&reader, &field));
	}
}

/* Of each beginning of a message, its whole fields; up to the first that is enough; none from a malformed one on. */
static void test_whole_fields(void **state)
{
	static const uint8_t malformed[] = { 8, 1, 0, 0 };       /* field 1, then a field number that there is not */
	uint8_t storage[64];
	struct buffer message = buffer_over(storage, sizeof(storage));
	size_t ends[4] = { 0 };

	pb_put_varint(&message, 1, 300);
	ends[1] = message.size;
	pb_put_text(&message, 2, "abc");
	ends[2] = message.size;
	buffer_put(&message, fixed64, sizeof(fixed64));
	ends[3] = message.size;
	for (size_t size = 0; size <= message.size; size++) {
		size_t last = size >= ends[3] ? 3 : size >= ends[2] ? 2 : size >= ends[1] ? 1 : 0;

		assert_int_equal(pb_whole(span_make(storage, size), SIZE_MAX), ends[last]);
	}
	for (size_t enough = 0; enough <= message.size; enough++) {
		size_t first = enough > ends[2] ? 3 : enough > ends[1] ? 2 : enough > 0 ? 1 : 0;

		assert_int_equal(pb_whole(buffer_span(&message), enough), ends[first]);
	}
	assert_int_equal(pb_whole(span_make(malformed, sizeof(malformed)), SIZE_MAX), 2);
}

static void test_malformed(void **state)
{
	const struct span bad[] = {
		BYTES(0x00, 0x01),                                               /* field number 0 */
		BYTES(0x80, 0x80, 0x80, 0x80, 0x10, 0x01),                       /* field number 2^29 */
		BYTES(0x0b), BYTES(0x0c), BYTES(0x0e), BYTES(0x0f),              /* groups, wire types 6 and 7 */
		BYTES(0x08), BYTES(0x08, 0x80), BYTES(0x80),                     /* cut varints */
		BYTES(0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02),         /* 65 bits */
		BYTES(0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00),   /* eleven bytes */
		BYTES(0x12, 0x02, 'a'),                                          /* length beyond the end */
		BYTES(0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),         /* length 2^64-1 */
		BYTES(0x09, 1, 2, 3, 4, 5, 6, 7), BYTES(0x0d, 1, 2, 3),          /* cut fixed */
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct pb_reader reader = pb_reader_make(bad[i]);
		struct pb_field field;

		if (pb_next(&reader, &field) || !reader.failed)
			fail_msg("case %zu was not refused", i);
	}
}

/* A message nested deeper than the limit is refused at the limit, whatever is below. */
static void test_depth_limit(void **state)
{
	struct buffer buffer = buffer_heap(1 << 16);
	size_t marks[PB_DEPTH_MAX + 4];
	struct pb_reader reader;
	struct pb_field field;
	unsigned depth = 0;

	for (size_t i = 0; i < PB_DEPTH_MAX + 4; i++)
		marks[i] = pb_begin(&buffer, 1);
	for (size_t i = PB_DEPTH_MAX + 4; i-- > 0;)
		pb_end(&buffer, marks[i]);
	reader = pb_reader_make(buffer_span(&buffer));
	while (pb_next(&reader, &field)) {
		reader = pb_enter(&reader, &field);
		depth++;
	}
	assert_true(reader.failed);
	assert_int_equal(depth, PB_DEPTH_MAX);
	buffer_fini(&buffer);
}

static void test_typed_values(void **state)
{
	uint8_t storage[64];
	struct buffer buffer = buffer_over(storage, sizeof(storage));
	struct pb_reader reader;
	struct pb_field field;
	int64_t wide;
	int32_t narrow;
	uint32_t cut;
	bool yes;
	struct span bytes;

	pb_put_int64(&buffer, 1, -5);
	pb_put_text(&buffer, 2, "x");
	reader = pb_reader_make(buffer_span(&buffer));
	assert_true(pb_next(&reader, &field));
	assert_true(pb_as_int64(&reader, &field, &wide) && wide == -5);
	assert_true(pb_as_int32(&reader, &field, &narrow) && narrow == -5);
	assert_true(pb_as_uint32(&reader, &field, &cut) && cut == (uint32_t)-5);
	assert_true(pb_as_bool(&reader, &field, &yes) && yes);
	assert_false(pb_as_bytes(&reader, &field, &bytes));
	assert_true(reader.failed);
	reader.failed = false;
	assert_true(pb_next(&reader, &field));
	assert_true(pb_as_bytes(&reader, &field, &bytes) && span_is(bytes, "x"));
	assert_false(pb_as_int64(&reader, &field, &wide));
	assert_true(reader.failed);
	assert_true(pb_enter(&reader, &(struct pb_field){ .number = 1, .wire = PB_VARINT }).failed);
}

static void test_full_buffer(void **state)
{
	uint8_t storage[8];

	for (size_t capacity = 0; capacity < sizeof(storage); capacity++) {
		struct buffer buffer = buffer_over(storage, capacity);

		pb_end(&buffer, pb_begin(&buffer, 1));
		pb_put_bytes(&buffer, 1, span_text("abcd"));
		assert_true(buffer.failed);
		assert_true(buffer.size <= capacity);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_documented_encodings),
		cmocka_unit_test(test_defaults_are_skipped),
		cmocka_unit_test(test_varint_edges),
		cmocka_unit_test(test_nested_lengths_are_minimal),
		cmocka_unit_test(test_fixed_numbers),
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_whole_fields),
		cmocka_unit_test(test_depth_limit),
		cmocka_unit_test(test_typed_values),
		cmocka_unit_test(test_full_buffer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
