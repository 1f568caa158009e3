/*
 * Shows that a record's header and a segment's first block come back as they were written, and that any single bit
 * that differs, another store's secret or another segment's block is refused; that a payload's sum is XXH3-64 at every kind of
 * length, however it is made here, as stores outlive the CPU and the library that made it; that keys of the index sort as numbers;
 * and that the pending table finds what was put into it, up to its bound.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <xxhash.h>
#include "gateway/store/fingerprints.h"
#include "gateway/store/layout.h"
#include "gateway/store/pending.h"
#include "gateway/store/record.h"
#include "gateway/store/rows.h"
#include "tests/unit/store/blobs.h"

static const struct record example = {
	.segment = 7, .generation = 3, .offset = 4096, .tenant = 5, .instance = 2, .digest = { .hash = { 1, 2, 3 }, .size = 99 },
	.payload_sum = 0x123456789abcdef0,
};

static void test_record_header(void **state)
{
	uint8_t header[RECORD_HEADER_BYTES];
	struct record back;

	record_encode(header, &example, 42);
	assert_true(record_decode(&back, header, 42));
	assert_int_equal(back.segment, 7);
	assert_int_equal(back.generation, 3);
	assert_int_equal(back.offset, 4096);
	assert_int_equal(back.tenant, 5);
	assert_int_equal(back.instance, 2);
	assert_true(digest_equal(&back.digest, &example.digest));
	assert_int_equal(back.payload_sum, example.payload_sum);
	assert_false(record_decode(&back, header, 43));
	for (size_t bit = 0; bit < 8 * RECORD_HEADER_BYTES; bit++) {
		header[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		assert_false(record_decode(&back, header, 42));
		header[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
}

static void test_segment_block(void **state)
{
	uint8_t block[RECORD_BLOCK_BYTES];
	uint32_t generation = 0;

	record_encode_segment(block, 7, 3, 8 << 20, 42);
	assert_true(record_decode_segment(block, 7, 42, &generation));
	assert_int_equal(generation, 3);
	assert_false(record_decode_segment(block, 8, 42, &generation));
	assert_false(record_decode_segment(block, 7, 41, &generation));
	block[16] ^= 1;
	assert_false(record_decode_segment(block, 7, 42, &generation));
}

static void test_record_bytes(void **state)
{
	assert_int_equal(record_bytes(0), 96);
	assert_int_equal(record_bytes(1), 104);
	assert_int_equal(record_bytes(8), 104);
	assert_int_equal(record_bytes(9), 112);
}

#define SUMMED_BYTES (1u << 20)

static void assert_sum(const uint8_t *data, size_t size)
{
	assert_int_equal(record_sum(span_make(data, size)), XXH3_64bits(data, size));
}

/* Ways of XXH3 part at 16, 128, 240 and each 1024 bytes; those by wide vectors from 240 on. */
static void test_payload_sum(void **state)
{
	uint8_t *data = malloc(SUMMED_BYTES + 64);

	assert_non_null(data);
	srand(1);
	for (size_t i = 0; i < SUMMED_BYTES + 64; i++)
		data[i] = (uint8_t)rand();
	assert_int_equal(record_sum(span_make(NULL, 0)), 0x2d06800538d394c2);
	assert_int_equal(record_sum(span_text("sluice")), XXH3_64bits("sluice", 6));
	for (size_t size = 0; size <= 1100; size++)
		for (size_t from = 0; from < 64; from += size < 300 ? 1 : 13)
			assert_sum(data + from, size);
	for (size_t blocks = 1; blocks <= SUMMED_BYTES / 1024; blocks = blocks * 2 + 1)
		for (size_t around = 0; around <= 130; around++)
			assert_sum(data + around % 64, blocks * 1024 + around - 65);
	for (int i = 0; i < 200; i++)
		assert_sum(data + rand() % 64, (size_t)rand() % (SUMMED_BYTES + 1));
	free(data);
}

static void test_keys_sort(void **state)
{
	uint8_t a[ROW_RECORD_KEY_BYTES], b[ROW_RECORD_KEY_BYTES];

	row_record_key(a, 1, 0xffffffff);
	row_record_key(b, 2, 0);
	assert_true(memcmp(a, b, sizeof(a)) < 0);
	row_record_key(a, 2, 255);
	row_record_key(b, 2, 256);
	assert_true(memcmp(a, b, sizeof(a)) < 0);
	assert_int_equal(row_record_key_segment(b), 2);
	assert_int_equal(row_record_key_offset(b), 256);
}

/* Every other one differs from its like only where the hash ends. */
static void pending_test_name(struct digest *digest, uint32_t i)
{
	memset(digest->hash, 0, sizeof(digest->hash));
	memcpy(digest->hash + (i % 2 ? 0 : DIGEST_HASH_BYTES - sizeof(i)), &i, sizeof(i));
}

static void test_pending(void **state)
{
	struct pending pending;
	struct scope a = { .tenant = 1, .instance = 1 }, b = { .tenant = 2, .instance = 1 };
	struct place place = { 1, 1, 4096 };
	struct digest digest = { .size = 1 };

	assert_int_equal(pending_init(&pending, 42), 0);
	for (uint32_t i = 0; i < PENDING_MAX; i++) {
		pending_test_name(&digest, i);
		assert_null(pending_blob(&pending, digest.hash));
		assert_non_null(pending_add(&pending, PENDING_BLOB, &digest, &a, place));
	}
	assert_null(pending_add(&pending, PENDING_BLOB, &digest, &a, place));
	for (uint32_t i = 0; i < PENDING_MAX; i++) {
		pending_test_name(&digest, i);
		assert_non_null(pending_blob(&pending, digest.hash));
		assert_true(pending_sees(&pending, digest.hash, &a));
		assert_false(pending_sees(&pending, digest.hash, &b));
	}
	pending_sort(&pending);
	for (uint32_t i = 1; i < PENDING_MAX; i++) {
		struct pending_order before = pending.order[i - 1], after = pending.order[i];
		int order = memcmp(pending.entries[before.entry].hash, pending.entries[after.entry].hash, sizeof(uint32_t));

		assert_true(order < 0 || (order == 0 && before.entry < after.entry));
	}
	pending_clear(&pending);
	assert_null(pending_blob(&pending, digest.hash));
	assert_non_null(pending_add(&pending, PENDING_BLOB, &digest, &a, place));
	assert_non_null(pending_add(&pending, PENDING_SIGHT, &digest, &b, place));
	assert_true(pending_sees(&pending, digest.hash, &b));
	pending_turn_gone(&pending, pending_blob(&pending, digest.hash));
	assert_int_equal(pending_blob(&pending, digest.hash)->kind, PENDING_GONE);
	assert_false(pending_sees(&pending, digest.hash, &a));
	assert_false(pending_sees(&pending, digest.hash, &b));
	pending_fini(&pending);
}

/* It went, came again and went again, all between two commits: the row that the index has is the first one's. */
static void test_pending_that_goes_twice(void **state)
{
	struct pending pending;
	struct scope a = { .tenant = 1, .instance = 1 };
	struct place first = { 1, 1, 4096 }, second = { 2, 1, 8192 };
	struct digest digest = { .size = 1, .hash = { 7 } };
	struct pending_entry *blob;

	assert_int_equal(pending_init(&pending, 42), 0);
	blob = pending_add(&pending, PENDING_GONE, &digest, &a, first);
	pending_turn_gone(&pending, blob);
	assert_true(place_equal(blob->gone, first));
	blob->kind = PENDING_BLOB;               /* as a put does */
	blob->purge = true;
	blob->place = second;
	pending_turn_gone(&pending, blob);
	assert_int_equal(blob->kind, PENDING_GONE);
	assert_true(place_equal(blob->gone, first));
	pending_fini(&pending);
}

static void test_fingerprints(void **state)
{
	struct fingerprints set = fingerprints_make(42);
	uint8_t hash[DIGEST_HASH_BYTES] = { 0 };

	assert_false(fingerprints_has(&set, hash));
	for (uint32_t i = 0; i < 100000; i++) {
		memcpy(hash, &i, sizeof(i));
		assert_int_equal(fingerprints_add(&set, hash), 1);
		assert_int_equal(fingerprints_add(&set, hash), 0);
	}
	for (uint32_t i = 0; i < 200000; i++) {
		memcpy(hash, &i, sizeof(i));
		assert_int_equal(fingerprints_has(&set, hash), i < 100000);
	}
	fingerprints_fini(&set);
}

/* A store's parts fit under its ceiling, and a lowest ceiling is enough for what it was asked for. */
static void test_layout(void **state)
{
	for (uint64_t ceiling = 64ull << 20; ceiling < 1ull << 44; ceiling += ceiling / 7) {
		uint64_t segment = layout_segment_bytes(ceiling);
		uint32_t count = layout_segments_max(ceiling, segment);

		assert_true(segment >= 8 << 20 && segment <= 1 << 30);
		assert_true(count >= 4 && count <= STORE_SEGMENTS_MAX);
		assert_true(layout_map_bytes(ceiling) + count * segment <= ceiling);
		assert_true(layout_segments_max(layout_ceiling_least(segment, 4), segment) >= 4);
		assert_int_equal(layout_segments_max(layout_ceiling_least(segment, STORE_SEGMENTS_MAX), segment), STORE_SEGMENTS_MAX);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_record_header),
		cmocka_unit_test(test_segment_block),
		cmocka_unit_test(test_record_bytes),
		cmocka_unit_test(test_payload_sum),
		cmocka_unit_test(test_keys_sort),
		cmocka_unit_test(test_pending),
		cmocka_unit_test(test_pending_that_goes_twice),
		cmocka_unit_test(test_fingerprints),
		cmocka_unit_test(test_layout),
	};

	return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
