/*
 * Shows that what is told by a base comes back whole, found with its bytes or by its signature, what that costs, that room is
 * respected, and that edits which reach anywhere else are refused.
 */
#include "proto/delta.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define TEXT_BYTES 20000u

/* Bytes as random as text is: every line another one. */
static void fill(uint8_t *bytes, size_t size, uint32_t seed)
{
	for (size_t i = 0; i < size; i++) {
		seed = seed * 1664525 + 1013904223;
		bytes[i] = (uint8_t)("etaoin shrdlu\n{};"[seed >> 27 & 15]);
	}
}

/* Exactly as long as it says, so that a byte beyond is noticed. */
static struct span exact(const void *bytes, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	memcpy(copy, bytes, size);
	return span_make(copy, size);
}

static void drop(struct span span)
{
	free((void *)span.data);
}

/* The size of the edits; what they make is what it should be. */
static size_t told(struct span base, struct span target, bool by_signature)
{
	struct buffer edits = buffer_heap(2u << 20), hashes = buffer_heap(1u << 20);
	struct delta_signature signatures[2];
	size_t half = base.size / 3, size;
	uint8_t *out = malloc(target.size ? target.size : 1);
	struct span copy;

	buffer_put(&edits, "before", 6);
	if (by_signature) {
		/* Of two blobs that follow each other. */
		delta_sign(&hashes, span_make(base.data, half));
		signatures[0] = (struct delta_signature){ .hashes.size = hashes.size, .size = half };
		delta_sign(&hashes, span_make(base.data + half, base.size - half));
		signatures[1] = (struct delta_signature){ .hashes.size = hashes.size - signatures[0].hashes.size, .size = base.size - half };
		signatures[0].hashes.data = hashes.data;
		if (signatures[1].hashes.size)
			signatures[1].hashes.data = hashes.data + signatures[0].hashes.size;
		assert_int_equal(signatures[1].hashes.size, delta_signature_size(base.size - half));
		assert_true(delta_encode_signed(&edits, signatures, 2, target));
	} else {
		assert_true(delta_encode(&edits, base, target));
	}
	assert_memory_equal(edits.data, "before", 6);
	size = edits.size - 6;
	copy = exact(edits.data + 6, size);
	memset(out, 0xaa, target.size);
	assert_true(delta_apply(base, copy, out, target.size));
	assert_memory_equal(out, target.data, target.size);
	assert_false(delta_apply(base, copy, out, target.size + 1));
	if (target.size)
		assert_false(delta_apply(base, copy, out, target.size - 1));
	drop(copy);
	free(out);
	buffer_fini(&edits);
	buffer_fini(&hashes);
	return size;
}

static void test_what_it_costs(void **state)
{
	static uint8_t base[TEXT_BYTES], target[TEXT_BYTES + 100];
	struct span whole = span_make(base, sizeof(base));

	fill(base, sizeof(base), 1);
	assert_in_range(told(whole, whole, false), 1, 8);
	/* One byte put in, at the front, in the middle and at the end. */
	for (size_t at = 0; at <= TEXT_BYTES; at += TEXT_BYTES / 2) {
		memcpy(target, base, at);
		target[at] = '!';
		memcpy(target + at + 1, base + at, TEXT_BYTES - at);
		assert_in_range(told(whole, span_make(target, TEXT_BYTES + 1), false), 1, 16);
		assert_in_range(told(whole, span_make(target, TEXT_BYTES + 1), true), 1, 3 * DELTA_BLOCK_BYTES + 32);
	}
	/* Halves the other way round. */
	memcpy(target, base + TEXT_BYTES / 2, TEXT_BYTES / 2);
	memcpy(target + TEXT_BYTES / 2, base, TEXT_BYTES / 2);
	assert_in_range(told(whole, span_make(target, TEXT_BYTES), false), 1, 16);
	assert_in_range(told(whole, span_make(target, TEXT_BYTES), true), 1, 6 * DELTA_BLOCK_BYTES);
	/* Nothing in common: hardly more than the target. */
	fill(target, TEXT_BYTES, 2);
	assert_in_range(told(whole, span_make(target, TEXT_BYTES), false), TEXT_BYTES, TEXT_BYTES + 8);
	assert_in_range(told(whole, span_make(target, TEXT_BYTES), true), TEXT_BYTES, TEXT_BYTES + 8);
}

static void test_every_length(void **state)
{
	uint8_t base[200], target[200];

	fill(base, sizeof(base), 3);
	memcpy(target, base + 40, 100);
	memcpy(target + 100, base, 100);
	for (size_t i = 0; i <= sizeof(base); i += 7)
		for (size_t j = 0; j <= sizeof(target); j++) {
			struct span one = exact(base, i), other = exact(target, j);

			told(one, other, false);
			told(one, other, true);
			drop(one);
			drop(other);
		}
}

/* Bytes that repeat themselves: neither time nor bytes run away. */
static void test_repeats(void **state)
{
	size_t size = 1u << 20;
	uint8_t *zeros = calloc(2, size);
	struct span base = span_make(zeros, size);

	assert_in_range(told(base, base, false), 1, 16);
	assert_in_range(told(base, base, true), 1, 3 * DELTA_BLOCK_BYTES);
	for (size_t i = 0; i < size; i++)
		zeros[size + i] = (uint8_t)(i % 23 == 0);
	told(base, span_make(zeros + size, size - 1), false);
	told(span_make(zeros + size, size - 1), base, false);
	told(span_make(zeros + size, size - 1), base, true);
	free(zeros);
}

static void test_room(void **state)
{
	uint8_t base[4096], target[4096], room[64];
	struct buffer out = buffer_over(room, sizeof(room)), hashes = buffer_heap(256);
	struct delta_signature signature = { .size = sizeof(base) };

	fill(base, sizeof(base), 4);
	fill(target, sizeof(target), 5);
	buffer_put(&out, "x", 1);
	assert_false(delta_encode(&out, span_make(base, sizeof(base)), span_make(target, sizeof(target))));
	assert_int_equal(out.size, 1);
	assert_false(out.failed);
	delta_sign(&hashes, span_make(base, sizeof(base)));
	signature.hashes = buffer_span(&hashes);
	assert_false(delta_encode_signed(&out, &signature, 1, span_make(target, sizeof(target))));
	assert_int_equal(out.size, 1);
	assert_true(delta_encode(&out, span_make(base, sizeof(base)), span_make(base, sizeof(base))));
	buffer_fini(&hashes);
}

/* No hash of a block says anything of another one: chance matches would only cost, but cheaply made ones cost always. */
static void test_signature_tells_apart(void **state)
{
	uint8_t base[DELTA_BLOCK_BYTES * 3] = { 0 };
	struct buffer hashes = buffer_heap(256);

	base[DELTA_BLOCK_BYTES] = 1;                     /* first byte of the second block */
	base[3 * DELTA_BLOCK_BYTES - 1] = 1;             /* last of the third */
	delta_sign(&hashes, span_make(base, sizeof(base) - 1));
	assert_int_equal(hashes.size, 2 * DELTA_HASH_BYTES);
	buffer_clear(&hashes);
	delta_sign(&hashes, span_make(base, sizeof(base)));
	assert_int_equal(hashes.size, 3 * DELTA_HASH_BYTES);
	assert_memory_not_equal(hashes.data, hashes.data + DELTA_HASH_BYTES, DELTA_HASH_BYTES);
	assert_memory_not_equal(hashes.data, hashes.data + 2 * DELTA_HASH_BYTES, DELTA_HASH_BYTES);
	assert_memory_not_equal(hashes.data + DELTA_HASH_BYTES, hashes.data + 2 * DELTA_HASH_BYTES, DELTA_HASH_BYTES);
	buffer_fini(&hashes);
}

static void test_refused(void **state)
{
	static const struct {
		uint8_t edits[24];
		size_t size, makes;
	} cases[] = {
		{ { 0x80 }, 1, 1 },                              /* a varint cut short */
		{ { 5, 'a' }, 2, 5 },                            /* fewer bytes than it gives */
		{ { 0 }, 1, 0 },                                 /* gives nothing and ends */
		{ { 0, 0 }, 2, 0 },                              /* copies nothing */
		{ { 0, 4 }, 2, 4 },                              /* from where? */
		{ { 0, 9, 0 }, 3, 9 },                           /* longer than the base */
		{ { 0, 4, 10 }, 3, 4 },                          /* over its end */
		{ { 0, 1, 16 }, 3, 1 },                          /* at its end */
		{ { 0, 1, 1 }, 3, 1 },                           /* before its beginning */
		{ { 0, 4, 0, 0, 5, 0 }, 6, 9 },                  /* the second over its end */
		{ { 0, 4, 0, 0, 4, 9 }, 6, 8 },                  /* or before its beginning */
		{ { 0, 8, 0 }, 3, 7 },                           /* more than it is to make */
		{ { 2, 'a', 'b' }, 3, 1 },
		{ { 1, 'a' }, 2, 2 },                            /* less */
		{ { 0, 4, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1 }, 12, 4 },    /* an offset of 2^63 - 1 */
		{ { 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2 }, 12, 4 },    /* a length of 2^64 - 1 */
		{ { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 'a' }, 11, 4 },     /* the same, given */
	};
	struct span base = exact("abcdefgh", 8);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct span edits = exact(cases[i].edits, cases[i].size);
		uint8_t *out = malloc(cases[i].makes ? cases[i].makes : 1);

		if (delta_apply(base, edits, out, cases[i].makes))
			fail_msg("case %zu was accepted", i);
		free(out);
		drop(edits);
	}
	drop(base);
}

/* What is copied is told as places of the target; edits that break off end it. */
static void test_copies(void **state)
{
	static const uint8_t edits[] = { 0, 24, 0, 1, '!', 26, 0, 2, 'a', 'b' }, broken[] = { 0, 24, 0, 5, 'a' };
	struct delta_copies copies = { .rest = span_make(edits, sizeof(edits)) };

	assert_true(delta_copies_next(&copies));
	assert_int_equal(copies.begin, 0);
	assert_int_equal(copies.end, 24);
	assert_true(delta_copies_next(&copies));
	assert_int_equal(copies.begin, 25);
	assert_int_equal(copies.end, 51);
	assert_false(delta_copies_next(&copies));
	copies = (struct delta_copies){ .rest = span_make(broken, sizeof(broken)) };
	assert_true(delta_copies_next(&copies));
	assert_false(delta_copies_next(&copies));
	copies = (struct delta_copies){ 0 };
	assert_false(delta_copies_next(&copies));
}

/* The vector of docs/delta.md. */
static void test_vector(void **state)
{
	static const uint8_t edits[] = { 0, 24, 0, 1, '!', 26, 0 };
	const char *base = "abcdefghijklmnopqrstuvwxABCDEFGHIJKLMNOPQRSTUVWXYZ";
	const char *target = "abcdefghijklmnopqrstuvwx!ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	struct buffer out = buffer_heap(64);

	assert_true(delta_encode(&out, span_text(base), span_text(target)));
	assert_int_equal(out.size, sizeof(edits));
	assert_memory_equal(out.data, edits, sizeof(edits));
	buffer_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_it_costs),
		cmocka_unit_test(test_every_length),
		cmocka_unit_test(test_repeats),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_signature_tells_apart),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_vector),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
