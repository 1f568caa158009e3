/*
 * The sieve in AVX-512 with VBMI. A step takes one byte of each lane: two additions for 16 of them. What costs is to have
 * their gear entries as 16 words: bytes of 16 stretches are brought together (a transposition of 4 rows by 16 bytes in
 * each quarter of a register), each of four planes of the table is asked with 64 bytes at once, and the planes are
 * interleaved to words. Some 50 instructions for 64 bytes, and no chain longer than two additions a step.
 */
#include "chunker/fastcdc_sieve.h"

#include <immintrin.h>

#define COLUMN_BYTES  16 /* of each lane, in one go */
#define WARM_UP_BYTES 32 /* that decide the low half of a hash */
#define LINE_BYTES    64
#define QUARTERS      4

/* 64 bytes as a step of four wants them: quarter q has lanes 4q to 4q + 3, of each four bytes, all the first ones first. */
struct quads {
	__m512i of[4];
};

struct table {
	__m512i planes[FASTCDC_PLANES][4];
};

/* The columns of lanes m, m + 4, m + 8 and m + 12, from that of lane m on. */
static inline __m512i rows(const uint8_t *at, size_t stretch)
{
	__m512i rows = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)at));

	rows = _mm512_inserti32x4(rows, _mm_loadu_si128((const __m128i *)(at + 4 * stretch)), 1);
	rows = _mm512_inserti32x4(rows, _mm_loadu_si128((const __m128i *)(at + 8 * stretch)), 2);
	return _mm512_inserti32x4(rows, _mm_loadu_si128((const __m128i *)(at + 12 * stretch)), 3);
}

static inline struct quads column(const uint8_t *at, size_t stretch)
{
	__m512i first = rows(at, stretch), second = rows(at + stretch, stretch);
	__m512i third = rows(at + 2 * stretch, stretch), fourth = rows(at + 3 * stretch, stretch);
	__m512i odd_low = _mm512_unpacklo_epi8(first, third), odd_high = _mm512_unpackhi_epi8(first, third);
	__m512i even_low = _mm512_unpacklo_epi8(second, fourth), even_high = _mm512_unpackhi_epi8(second, fourth);

	return (struct quads){ {
		_mm512_unpacklo_epi8(odd_low, even_low),
		_mm512_unpackhi_epi8(odd_low, even_low),
		_mm512_unpacklo_epi8(odd_high, even_high),
		_mm512_unpackhi_epi8(odd_high, even_high),
	} };
}

/* One plane's byte for each of 64; `upper` are those of 128 and more. */
static inline __m512i look_up(const __m512i plane[static 4], __m512i bytes, __mmask64 upper)
{
	return _mm512_mask_blend_epi8(upper, _mm512_permutex2var_epi8(plane[0], bytes, plane[1]),
				      _mm512_permutex2var_epi8(plane[2], bytes, plane[3]));
}

/* The gear entries of four bytes a lane: register i has the words of each lane's byte i. */
static inline struct quads words(const struct table *table, __m512i bytes)
{
	__mmask64 upper = _mm512_movepi8_mask(bytes);
	__m512i lowest = look_up(table->planes[0], bytes, upper), low = look_up(table->planes[1], bytes, upper);
	__m512i high = look_up(table->planes[2], bytes, upper), highest = look_up(table->planes[3], bytes, upper);
	__m512i low_01 = _mm512_unpacklo_epi8(lowest, low), low_23 = _mm512_unpackhi_epi8(lowest, low);
	__m512i high_01 = _mm512_unpacklo_epi8(high, highest), high_23 = _mm512_unpackhi_epi8(high, highest);

	return (struct quads){ {
		_mm512_unpacklo_epi16(low_01, high_01),
		_mm512_unpackhi_epi16(low_01, high_01),
		_mm512_unpacklo_epi16(low_23, high_23),
		_mm512_unpackhi_epi16(low_23, high_23),
	} };
}

static inline __m512i hash_step(__m512i hash, __m512i word)
{
	return _mm512_add_epi32(_mm512_add_epi32(hash, hash), word);
}

static inline __m512i warm_up(const struct table *table, const uint8_t *data, size_t stretch)
{
	__m512i hash = _mm512_setzero_si512();

	for (const uint8_t *at = data - WARM_UP_BYTES; at < data; at += COLUMN_BYTES) {
		struct quads bytes = column(at, stretch);

		for (size_t q = 0; q < QUARTERS; q++) {
			struct quads word = words(table, bytes.of[q]);

			for (size_t i = 0; i < 4; i++)
				hash = hash_step(hash, word.of[i]);
		}
	}
	return hash;
}

/* The next 16 stretches lie behind these, and no prefetcher of the CPU's follows 16 streams in two pages. */
static inline void fetch_ahead(const uint8_t *ahead)
{
	for (size_t i = 0; i < FASTCDC_LANES * COLUMN_BYTES; i += LINE_BYTES)
		__builtin_prefetch(ahead + i);
}

void fastcdc_sieve_vbmi(const uint8_t planes[static FASTCDC_PLANES][256], uint32_t mask, const uint8_t *data,
			size_t stretch, struct fastcdc_sifted *out)
{
	const uint8_t *ahead = data + FASTCDC_LANES * stretch;
	const __m512i masks = _mm512_set1_epi32((int)mask);
	struct table table;
	__m512i hash;

	for (size_t plane = 0; plane < FASTCDC_PLANES; plane++) {
		for (size_t i = 0; i < 4; i++)
			table.planes[plane][i] = _mm512_loadu_si512(planes[plane] + 64 * i);
	}
	hash = warm_up(&table, data, stretch);
	for (size_t at = 0; at < stretch; at += COLUMN_BYTES, ahead += FASTCDC_LANES * COLUMN_BYTES) {
		struct quads bytes = column(data + at, stretch);

		fetch_ahead(ahead);
#pragma GCC unroll 4
		for (size_t q = 0; q < QUARTERS; q++) {
			struct quads word = words(&table, bytes.of[q]);

#pragma GCC unroll 4
			for (size_t i = 0; i < 4; i++) {
				size_t row = at + 4 * q + i;

				hash = hash_step(hash, word.of[i]);
				_mm512_store_si512(out->low[row], hash);
				out->hits[row] = _mm512_testn_epi32_mask(hash, masks);
			}
		}
	}
}
