/*
 * SHA-256's compression by the CPU's SHA instructions, two messages at a time.
 *
 * One message is a chain: each sha256rnds2 (two rounds) waits for the one before, about 4 cycles, of which the unit is
 * idle for 2 or 3. A second, independent message fills them, and needs just the registers that are left. Compiled with
 * the instructions allowed (meson.build); sha256_x86.c says where it may run.
 */
#include "chunker/sha256_lanes.h"

#include <immintrin.h>

/* For tests on CPUs without these instructions: functions that do the same, and another name for what is made of them. */
#ifdef SHA256_SHA_MODEL
#include SHA256_SHA_MODEL
#endif
#ifndef SHA256_ADVANCE
#define SHA256_ADVANCE sha256_advance_shani
#endif

#define QUADS  16 /* the 64 rounds in groups of 4, as many as a register holds words */
#define RING   4  /* quads of the message schedule that later ones are made from */
#define UPPERS 0x0e /* shuffle: the upper two words of four to the bottom */

static const uint32_t round_constants[QUADS][4] __attribute__((aligned(16))) = {
	{ 0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5 }, { 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5 },
	{ 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3 }, { 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174 },
	{ 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc }, { 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da },
	{ 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7 }, { 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967 },
	{ 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13 }, { 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85 },
	{ 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3 }, { 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070 },
	{ 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5 }, { 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3 },
	{ 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208 }, { 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2 },
};

/* The chaining value as the instructions want it: the words a, b, e, f and c, d, g, h, the first uppermost. */
struct chain {
	__m128i abef, cdgh;
};

static inline struct chain chain_load(const struct sha256_lanes *lanes, size_t lane)
{
	int word[SHA256_WORDS];

	for (size_t i = 0; i < SHA256_WORDS; i++)
		word[i] = (int)lanes->words[i][lane];
	return (struct chain){
		.abef = _mm_set_epi32(word[0], word[1], word[4], word[5]),
		.cdgh = _mm_set_epi32(word[2], word[3], word[6], word[7]),
	};
}

static inline void chain_store(struct sha256_lanes *lanes, size_t lane, const struct chain *chain)
{
	lanes->words[0][lane] = (uint32_t)_mm_extract_epi32(chain->abef, 3);
	lanes->words[1][lane] = (uint32_t)_mm_extract_epi32(chain->abef, 2);
	lanes->words[4][lane] = (uint32_t)_mm_extract_epi32(chain->abef, 1);
	lanes->words[5][lane] = (uint32_t)_mm_extract_epi32(chain->abef, 0);
	lanes->words[2][lane] = (uint32_t)_mm_extract_epi32(chain->cdgh, 3);
	lanes->words[3][lane] = (uint32_t)_mm_extract_epi32(chain->cdgh, 2);
	lanes->words[6][lane] = (uint32_t)_mm_extract_epi32(chain->cdgh, 1);
	lanes->words[7][lane] = (uint32_t)_mm_extract_epi32(chain->cdgh, 0);
}

/* The next four words of the message: from the block, then from the last 16. `ring` holds those. */
static inline __m128i message_next(__m128i ring[RING], const uint8_t *block, int quad)
{
	const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
	__m128i words;

	if (quad < RING) {
		words = _mm_loadu_si128((const __m128i *)block + quad);
		words = _mm_shuffle_epi8(words, big_endian);
	} else {
		const __m128i last = ring[(quad + 3) % RING];

		words = _mm_sha256msg1_epu32(ring[quad % RING], ring[(quad + 1) % RING]);
		words = _mm_add_epi32(words, _mm_alignr_epi8(last, ring[(quad + 2) % RING], 4));
		words = _mm_sha256msg2_epu32(words, last);
	}
	ring[quad % RING] = words;
	return words;
}

static inline void chain_rounds(struct chain *chain, __m128i words, int quad)
{
	words = _mm_add_epi32(words, *(const __m128i *)round_constants[quad]);
	chain->cdgh = _mm_sha256rnds2_epu32(chain->cdgh, chain->abef, words);
	chain->abef = _mm_sha256rnds2_epu32(chain->abef, chain->cdgh, _mm_shuffle_epi32(words, UPPERS));
}

static inline void chain_add(struct chain *chain, const struct chain *before)
{
	chain->abef = _mm_add_epi32(chain->abef, before->abef);
	chain->cdgh = _mm_add_epi32(chain->cdgh, before->cdgh);
}

void SHA256_ADVANCE(struct sha256_lanes *lanes, size_t blocks)
{
	struct chain first = chain_load(lanes, 0), second = chain_load(lanes, 1);
	const uint8_t *first_block = lanes->data[0], *second_block = lanes->data[1];

	for (size_t block = 0; block < blocks; block++) {
		const struct chain first_before = first, second_before = second;
		__m128i first_ring[RING], second_ring[RING];

#pragma GCC unroll 16
		for (int quad = 0; quad < QUADS; quad++) {
			chain_rounds(&first, message_next(first_ring, first_block, quad), quad);
			chain_rounds(&second, message_next(second_ring, second_block, quad), quad);
		}
		chain_add(&first, &first_before);
		chain_add(&second, &second_before);
		first_block += SHA256_BLOCK_BYTES;
		second_block += SHA256_BLOCK_BYTES;
	}
	chain_store(lanes, 0, &first);
	chain_store(lanes, 1, &second);
}
