/*
 * SHA-256's compression in vector lanes, written with the compilers' generic vectors. SHA256_LANES (8 or 16) and
 * SHA256_ADVANCE (the function's name) come from meson.build, with the instruction set.
 *
 * A block is loaded as one row a lane, transposed to one row a message word, and swapped to big-endian. The 64 rounds
 * keep the last 16 words of the message schedule in a ring.
 */
#include "chunker/sha256_lanes.h"

#include <string.h>

#if SHA256_LANES != 8 && SHA256_LANES != 16
#error "SHA256_LANES must be 8 or 16"
#endif

#if SHA256_LANES == 16 && defined(__AVX512F__)
#include <immintrin.h>
#endif

#define LANES SHA256_LANES
#define WORDS 16 /* of a block */

typedef uint32_t row __attribute__((vector_size(4 * LANES)));
typedef uint8_t row_bytes __attribute__((vector_size(4 * LANES)));

static const uint32_t round_constants[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* Index lists for __builtin_shufflevector: F(column, distance) for each column. */
#define LIST4(F, c, d)  F((c), d), F((c) + 1, d), F((c) + 2, d), F((c) + 3, d)
#define LIST8(F, c, d)  LIST4(F, c, d), LIST4(F, (c) + 4, d)
#define LIST16(F, c, d) LIST8(F, c, d), LIST8(F, (c) + 8, d)
#define LIST32(F, c, d) LIST16(F, c, d), LIST16(F, (c) + 16, d)
#define LIST64(F, c, d) LIST32(F, c, d), LIST32(F, (c) + 32, d)
#if LANES == 8
#define LIST_ROW(F, d)   LIST8(F, 0, d)
#define LIST_BYTES(F, d) LIST32(F, 0, d)
#else
#define LIST_ROW(F, d)   LIST16(F, 0, d)
#define LIST_BYTES(F, d) LIST64(F, 0, d)
#endif

/*
 * One step of a transposition: of rows a and b, `d` apart, swap the blocks of `d` columns that lie off the diagonal.
 * Columns of b count from LANES.
 */
#define UPPER(c, d)   ((c) & (d) ? LANES + (c) - (d) : (c))
#define LOWER(c, d)   ((c) & (d) ? LANES + (c) : (c) + (d))
#define SWAPPED(c, d) ((c) ^ (d))

#define TRANSPOSE_STEP(rows, d)                                                                        \
	for (int i = 0; i < LANES; i++) {                                                              \
		row upper, lower;                                                                      \
                                                                                                       \
		if (i & (d))                                                                           \
			continue;                                                                      \
		upper = __builtin_shufflevector((rows)[i], (rows)[i + (d)], LIST_ROW(UPPER, d));       \
		lower = __builtin_shufflevector((rows)[i], (rows)[i + (d)], LIST_ROW(LOWER, d));       \
		(rows)[i] = upper;                                                                     \
		(rows)[i + (d)] = lower;                                                               \
	}

/* Words [first, first + LANES) of each lane's block, one row a word. */
static inline void load_words(row *words, const uint8_t *const *data, size_t offset)
{
	for (int lane = 0; lane < LANES; lane++)
		memcpy(&words[lane], data[lane] + offset, sizeof(row));
#if LANES == 16
	TRANSPOSE_STEP(words, 8)
#endif
	TRANSPOSE_STEP(words, 4)
	TRANSPOSE_STEP(words, 2)
	TRANSPOSE_STEP(words, 1)
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	for (int i = 0; i < LANES; i++) {
		row_bytes bytes = (row_bytes)words[i];

		words[i] = (row)__builtin_shufflevector(bytes, bytes, LIST_BYTES(SWAPPED, 3));
	}
#endif
}

#define ROTATE(x, n)     (((x) >> (n)) | ((x) << (32 - (n))))
#define SUM_A(x)         (ROTATE(x, 2) ^ ROTATE(x, 13) ^ ROTATE(x, 22))
#define SUM_E(x)         (ROTATE(x, 6) ^ ROTATE(x, 11) ^ ROTATE(x, 25))
#define SIGMA_0(x)       (ROTATE(x, 7) ^ ROTATE(x, 18) ^ ((x) >> 3))
#define SIGMA_1(x)       (ROTATE(x, 17) ^ ROTATE(x, 19) ^ ((x) >> 10))
#define CHOOSE(e, f, g)  ((g) ^ ((e) & ((f) ^ (g))))
/* One instruction, of which gcc makes two when it is not told. */
#if LANES == 16 && defined(__AVX512F__)
#define MAJORITY(a, b, c) ((row)_mm512_ternarylogic_epi32((__m512i)(a), (__m512i)(b), (__m512i)(c), 0xe8))
#else
#define MAJORITY(a, b, c) (((a) & (b)) | ((c) & ((a) | (b))))
#endif

/*
 * Round t + i; the eight variables change places by the caller's order of arguments. `word` may be a step of the
 * schedule: made just before it is used, so that its operations fill the gaps that the rounds' own chain leaves. What is
 * ready first is added first.
 */
#define ROUND(a, b, c, d, e, f, g, h, i, word)                                                         \
	do {                                                                                           \
		row t1 = (h) + ((word) + round_constants[t + (i)]);                                    \
                                                                                                       \
		t1 += CHOOSE(e, f, g);                                                                 \
		t1 += SUM_E(e);                                                                        \
		(d) += t1;                                                                             \
		(h) = t1 + (SUM_A(a) + MAJORITY(a, b, c));                                             \
	} while (0)

#define ROUNDS_8(i, WORD)                                                                              \
	ROUND(a, b, c, d, e, f, g, h, (i), WORD(i));                                                   \
	ROUND(h, a, b, c, d, e, f, g, (i) + 1, WORD((i) + 1));                                         \
	ROUND(g, h, a, b, c, d, e, f, (i) + 2, WORD((i) + 2));                                         \
	ROUND(f, g, h, a, b, c, d, e, (i) + 3, WORD((i) + 3));                                         \
	ROUND(e, f, g, h, a, b, c, d, (i) + 4, WORD((i) + 4));                                         \
	ROUND(d, e, f, g, h, a, b, c, (i) + 5, WORD((i) + 5));                                         \
	ROUND(c, d, e, f, g, h, a, b, (i) + 6, WORD((i) + 6));                                         \
	ROUND(b, c, d, e, f, g, h, a, (i) + 7, WORD((i) + 7))

#define GIVEN(i)    (w[i])
#define SCHEDULE(i) (w[i] += SIGMA_1(w[((i) + 14) & 15]) + w[((i) + 9) & 15] + SIGMA_0(w[((i) + 1) & 15]))

static inline void compress(row state[SHA256_WORDS], row w[WORDS])
{
	row a = state[0], b = state[1], c = state[2], d = state[3];
	row e = state[4], f = state[5], g = state[6], h = state[7];
	int t = 0;

	ROUNDS_8(0, GIVEN);
	ROUNDS_8(8, GIVEN);
	for (t = WORDS; t < 64; t += WORDS) {
		ROUNDS_8(0, SCHEDULE);
		ROUNDS_8(8, SCHEDULE);
	}
	state[0] += a;
	state[1] += b;
	state[2] += c;
	state[3] += d;
	state[4] += e;
	state[5] += f;
	state[6] += g;
	state[7] += h;
}

void SHA256_ADVANCE(struct sha256_lanes *lanes, size_t blocks)
{
	row state[SHA256_WORDS];

	for (int i = 0; i < SHA256_WORDS; i++)
		memcpy(&state[i], lanes->words[i], sizeof(row));
	for (size_t block = 0; block < blocks; block++) {
		row w[WORDS];

		for (int first = 0; first < WORDS; first += LANES)
			load_words(w + first, lanes->data, block * SHA256_BLOCK_BYTES + (size_t)first * 4);
		compress(state, w);
	}
	for (int i = 0; i < SHA256_WORDS; i++)
		memcpy(lanes->words[i], &state[i], sizeof(row));
}
