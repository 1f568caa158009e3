/*
 * sha_model: the three SHA instructions as plain functions, word by word as Intel's manual defines them, so that
 * chunker/sha256_shani.c is tested on CPUs (and under tools) that lack them. Replaces the intrinsics of the same names.
 */
#pragma once

#include <immintrin.h>
#include <stdint.h>

struct sha_model_words {
	uint32_t word[4]; /* the lowest first */
};

static inline struct sha_model_words sha_model_open(__m128i value)
{
	struct sha_model_words words;

	_mm_storeu_si128((__m128i *)words.word, value);
	return words;
}

static inline __m128i sha_model_close(struct sha_model_words words)
{
	return _mm_loadu_si128((const __m128i *)words.word);
}

static inline uint32_t sha_model_rotate(uint32_t value, int bits)
{
	return value >> bits | value << (32 - bits);
}

/* sha256rnds2: two rounds. `cdgh` and `abef` are the state before, the result is what a, b, e, f are behind them. */
static inline __m128i sha_model_rounds(__m128i cdgh, __m128i abef, __m128i words)
{
	struct sha_model_words low = sha_model_open(cdgh), high = sha_model_open(abef), w = sha_model_open(words);
	uint32_t a = high.word[3], b = high.word[2], e = high.word[1], f = high.word[0];
	uint32_t c = low.word[3], d = low.word[2], g = low.word[1], h = low.word[0];

	for (int round = 0; round < 2; round++) {
		uint32_t choice = (e & f) ^ (~e & g), majority = (a & b) ^ (a & c) ^ (b & c);
		uint32_t sum_e = sha_model_rotate(e, 6) ^ sha_model_rotate(e, 11) ^ sha_model_rotate(e, 25);
		uint32_t sum_a = sha_model_rotate(a, 2) ^ sha_model_rotate(a, 13) ^ sha_model_rotate(a, 22);
		uint32_t t = h + sum_e + choice + w.word[round];

		h = g;
		g = f;
		f = e;
		e = d + t;
		d = c;
		c = b;
		b = a;
		a = t + sum_a + majority;
	}
	return sha_model_close((struct sha_model_words){ { f, e, b, a } });
}

/* sha256msg1: w[t - 16] + sigma0(w[t - 15]) for four t. */
static inline __m128i sha_model_message_1(__m128i first, __m128i second)
{
	struct sha_model_words a = sha_model_open(first), b = sha_model_open(second), out;

	for (int i = 0; i < 4; i++) {
		uint32_t next = i < 3 ? a.word[i + 1] : b.word[0];

		out.word[i] = a.word[i] + (sha_model_rotate(next, 7) ^ sha_model_rotate(next, 18) ^ next >> 3);
	}
	return sha_model_close(out);
}

/* sha256msg2: adds sigma1(w[t - 2]), of which the later two are made here. */
static inline __m128i sha_model_message_2(__m128i sum, __m128i last)
{
	struct sha_model_words a = sha_model_open(sum), b = sha_model_open(last), out;

	for (int i = 0; i < 4; i++) {
		uint32_t before = i < 2 ? b.word[i + 2] : out.word[i - 2];

		out.word[i] = a.word[i] + (sha_model_rotate(before, 17) ^ sha_model_rotate(before, 19) ^ before >> 10);
	}
	return sha_model_close(out);
}

#undef _mm_sha256rnds2_epu32
#undef _mm_sha256msg1_epu32
#undef _mm_sha256msg2_epu32
#define _mm_sha256rnds2_epu32(cdgh, abef, words) sha_model_rounds(cdgh, abef, words)
#define _mm_sha256msg1_epu32(first, second)      sha_model_message_1(first, second)
#define _mm_sha256msg2_epu32(sum, last)          sha_model_message_2(sum, last)
