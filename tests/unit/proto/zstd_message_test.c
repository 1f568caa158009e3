/*
 * Shows that messages come back from zstd as they were, that what does not pay is not compressed, and that hostile
 * input (bombs, cuts, foreign bytes; with and without a size in the frame) costs no more than the bound.
 */
#include "proto/zstd_message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdlib.h>
#include <zstd.h>

#define SIZE ((size_t)300000)

static uint8_t *half_random(void)
{
	uint8_t *data = malloc(SIZE);
	uint32_t seed = 5;

	for (size_t i = 0; i < SIZE; i++) {
		seed = seed * 1664525 + 1013904223;
		data[i] = i % 2 ? 0 : (uint8_t)(seed >> 24);
	}
	return data;
}

/* A frame that does not say its size, as streaming encoders write. */
static struct buffer deflate_unsized(const uint8_t *data, size_t size)
{
	struct buffer buffer = buffer_heap(1 << 20);
	ZSTD_CCtx *context = ZSTD_createCCtx();
	ZSTD_outBuffer to = { .dst = buffer_reserve(&buffer, 1 << 20), .size = 1 << 20 };
	ZSTD_inBuffer from = { .src = data, .size = size };

	while (from.pos < from.size)
		ZSTD_compressStream2(context, &to, &from, ZSTD_e_continue);
	while (ZSTD_compressStream2(context, &to, &from, ZSTD_e_end))
		continue;
	ZSTD_freeCCtx(context);
	buffer.size = to.pos;
	assert_true(ZSTD_getFrameContentSize(buffer.data, buffer.size) == ZSTD_CONTENTSIZE_UNKNOWN);
	return buffer;
}

static void check(const struct buffer *wire, const uint8_t *data)
{
	struct buffer out = buffer_heap(SIZE);
	struct buffer small = buffer_heap(SIZE - 1);

	assert_int_equal(zstd_message_inflate(&out, buffer_span(wire)), ZSTD_MESSAGE_OK);
	assert_int_equal(out.size, SIZE);
	assert_memory_equal(out.data, data, SIZE);
	assert_int_equal(zstd_message_inflate(&small, buffer_span(wire)), ZSTD_MESSAGE_TOO_LARGE);
	assert_true(small.capacity < SIZE);
	for (size_t cut = 0; cut < wire->size; cut += 1 + cut / 7)
		assert_int_equal(zstd_message_inflate(&out, span_make(wire->data, cut)), ZSTD_MESSAGE_CORRUPT);
	buffer_fini(&out);
	buffer_fini(&small);
}

static void test_round_trip_and_cuts(void **state)
{
	uint8_t *data = half_random();
	struct buffer sized = buffer_heap(2 * SIZE), unsized = deflate_unsized(data, SIZE);

	assert_true(zstd_message_deflate(&sized, span_make(data, SIZE), 3));
	check(&sized, data);
	check(&unsized, data);
	buffer_fini(&sized);
	buffer_fini(&unsized);
	free(data);
}

/* Two frames one after another are one message. */
static void test_two_frames(void **state)
{
	uint8_t *data = half_random();
	struct buffer first = buffer_heap(SIZE), second = deflate_unsized(data + SIZE / 2, SIZE / 2);

	assert_true(zstd_message_deflate(&first, span_make(data, SIZE / 2), 1));
	buffer_put(&first, second.data, second.size);
	check(&first, data);
	buffer_put_text(&first, "rest");
	assert_int_equal(zstd_message_inflate(&second, buffer_span(&first)), ZSTD_MESSAGE_CORRUPT);
	buffer_fini(&first);
	buffer_fini(&second);
	free(data);
}

static void test_what_does_not_pay(void **state)
{
	struct buffer out = buffer_heap(2 * SIZE);
	uint8_t *data = malloc(SIZE);
	uint32_t seed = 5;

	for (size_t i = 0; i < SIZE; i++) {
		seed = seed * 1664525 + 1013904223;
		data[i] = (uint8_t)(seed >> 24);
	}
	/* The probe speaks for the whole: its end would compress well, but that is not looked at. */
	memset(data + ZSTD_MESSAGE_PROBE_BYTES, 0, SIZE - ZSTD_MESSAGE_PROBE_BYTES);
	assert_false(zstd_message_deflate(&out, span_make(data, SIZE), 3));
	assert_false(zstd_message_deflate(&out, span_make(data, 1000), 3));
	assert_false(zstd_message_deflate(&out, span_make(data, 1), 3));
	assert_false(zstd_message_deflate(&out, span_make(NULL, 0), 3));
	memset(data, 0, 1000);
	assert_true(zstd_message_deflate(&out, span_make(data, 1000), 3));
	buffer_fini(&out);
	free(data);
}

static void test_foreign_bytes(void **state)
{
	struct buffer out = buffer_heap(1000);

	assert_int_equal(zstd_message_inflate(&out, span_text("not zstd at all")), ZSTD_MESSAGE_CORRUPT);
	assert_int_equal(zstd_message_inflate(&out, span_make(NULL, 0)), ZSTD_MESSAGE_CORRUPT);
	/* A frame that claims 2^62 bytes. */
	assert_int_equal(zstd_message_inflate(&out, span_make("\x28\xb5\x2f\xfd\xe0\0\0\0\0\0\0\0\x40\1\0\0", 16)),
	                 ZSTD_MESSAGE_TOO_LARGE);
	buffer_fini(&out);
}

/* A frame names the window that its reader has to keep: as much as a message may have bytes, or what encoders ask for anyway. */
static void test_windows(void **state)
{
	static const struct {
		unsigned log;
		size_t size_max;
		enum zstd_message outcome;
	} rows[] = {
		{ 23, 1000, ZSTD_MESSAGE_OK }, { 24, 1000, ZSTD_MESSAGE_CORRUPT }, { 24, 8u << 20, ZSTD_MESSAGE_CORRUPT },
		{ 24, (8u << 20) + 1, ZSTD_MESSAGE_OK }, { 27, 64u << 20, ZSTD_MESSAGE_CORRUPT },
		{ 27, (64u << 20) + 1, ZSTD_MESSAGE_OK }, { 28, (size_t)1 << 30, ZSTD_MESSAGE_CORRUPT },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		/* Magic number, no size and no checksum, the window; the last block, raw, of one byte. */
		const uint8_t frame[] = { 0x28, 0xb5, 0x2f, 0xfd, 0, (uint8_t)((rows[i].log - 10) << 3), 9, 0, 0, 'x' };
		struct buffer out = buffer_heap(rows[i].size_max);

		assert_int_equal(zstd_message_inflate(&out, span_make(frame, sizeof(frame))), rows[i].outcome);
		if (rows[i].outcome == ZSTD_MESSAGE_OK)
			assert_true(span_is(buffer_span(&out), "x"));
		buffer_fini(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip_and_cuts),
		cmocka_unit_test(test_two_frames),
		cmocka_unit_test(test_what_does_not_pay),
		cmocka_unit_test(test_foreign_bytes),
		cmocka_unit_test(test_windows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
