/* FastCDC-2020: parameters, and the search for one cut. */
#include "chunker/fastcdc.h"

#include <assert.h>

#include "chunker/fastcdc_sieve.h"
#include "chunker/gear_table.h"

#define MASK_BITS_MIN 5
#define MASK_BITS_MAX 25
#define MIN_FLOOR     64
#define STEP_BYTES    8 /* of the loop: so that its own steps do not matter */
/* Fewer are not worth the start of 16 lanes. */
#define SIEVE_BYTES_MIN (FASTCDC_SIEVE_BEFORE + 2 * FASTCDC_LANES * FASTCDC_STRETCH)

/*
 * Masks by the binary logarithm of the distance that they make on average. Fixed by the algorithm: part of every cut
 * that anybody ever made. The bits are spread up to bit 47, so 48 bytes decide.
 */
static const uint64_t masks[MASK_BITS_MAX - MASK_BITS_MIN + 1] = {
	0x0000000001804110, 0x0000000001803110, 0x0000000018035100, 0x0000001800035300, 0x0000019000353000,
	0x0000590003530000, 0x0000d90003530000, 0x0000d90103530000, 0x0000d90303530000, 0x0000d90313530000,
	0x0000d90f03530000, 0x0000d90303537000, 0x0000d90703537000, 0x0000d90707537000, 0x0000d91707537000,
	0x0000d91747537000, 0x0000d91767537000, 0x0000d93767537000, 0x0000d93777537000, 0x0000d93777577000,
	0x0000db3777577000,
};

struct fastcdc_params fastcdc_params_reapi(uint32_t average, uint32_t seed)
{
	return (struct fastcdc_params){
		.min = average / 4,
		.average = average,
		/* An average that would overflow is refused by init, whatever stands here. */
		.max = average <= FASTCDC_AVERAGE_MAX ? average * 4 : 0,
		.seed = seed,
		.level = FASTCDC_LEVEL_REAPI,
	};
}

static bool params_valid(const struct fastcdc_params *params)
{
	if (params->average < FASTCDC_AVERAGE_MIN || params->average > FASTCDC_AVERAGE_MAX)
		return false;
	if (params->average & (params->average - 1))
		return false;
	if (params->min < MIN_FLOOR || params->min > params->average)
		return false;
	if (params->max <= params->average || params->max > FASTCDC_CHUNK_MAX)
		return false;
	if (params->level > FASTCDC_LEVEL_MAX)
		return false;
	return (uint32_t)__builtin_ctz(params->average) + params->level <= MASK_BITS_MAX;
}

bool fastcdc_init(struct fastcdc *fastcdc, const struct fastcdc_params *params)
{
	uint32_t bits;

	if (!params_valid(params))
		return false;
	bits = (uint32_t)__builtin_ctz(params->average);
	fastcdc->min = params->min;
	fastcdc->average = params->average;
	fastcdc->max = params->max;
	fastcdc->mask_small = masks[bits + params->level - MASK_BITS_MIN];
	fastcdc->mask_large = masks[bits - params->level - MASK_BITS_MIN];
	for (size_t i = 0; i < 256; i++) {
		fastcdc->gear[i] = gear_table[i] ^ params->seed;
		fastcdc->gear_shifted[i] = fastcdc->gear[i] << 1;
		for (size_t plane = 0; plane < FASTCDC_PLANES; plane++)
			fastcdc->planes[plane][i] = (uint8_t)(fastcdc->gear[i] >> 8 * plane);
	}
	fastcdc->sieve = fastcdc_sieve_find();
	return true;
}

/*
 * The loop that decides how fast files are cut where there is no sieve. Two bytes a step: the even byte is tested one
 * bit to the left, which takes a shift out of the chain of dependent operations; that it is one operation, not a shift
 * and an addition, is what the empty assembly is for (clang would save an instruction, and a third of the speed). It is
 * bound by about one cycle a byte of latency. More bytes a step with sums made aside shorten the chain, but take more
 * instructions than is won; two regions side by side gain a few per cent on one CPU and layout, and lose as much on the
 * next; vector gathers lose. A branch across a 32-byte line costs half of the speed on some CPUs, hence the assembler
 * option in meson.build.
 */
static size_t scan_pairs(const struct fastcdc *fastcdc, uint64_t mask, const uint8_t *data, size_t size, uint64_t *hash)
{
	const uint64_t mask_shifted = mask << 1;
	const uint8_t *at = data, *end = data + size - size % STEP_BYTES;
	uint64_t h = *hash;

	for (; at < end; at += STEP_BYTES) {
#pragma GCC unroll 4
		for (size_t i = 0; i < STEP_BYTES; i += 2) {
			uint64_t even = fastcdc->gear_shifted[at[i]];

			__asm__("" : "+r"(even));
			h = even + (h << 2);
			if (!(h & mask_shifted))
				return (size_t)(at - data) + i;
			h += fastcdc->gear[at[i + 1]];
			if (!(h & mask))
				return (size_t)(at - data) + i + 1;
		}
	}
	for (end = data + size; at < end; at++) {
		h = (h << 1) + fastcdc->gear[*at];
		if (!(h & mask))
			return (size_t)(at - data);
	}
	*hash = h;
	return size;
}

/* A byte is shifted out of the hash by the 64th behind it. */
static uint64_t hash_before(const struct fastcdc *fastcdc, const uint8_t *end, size_t size)
{
	uint64_t hash = 0;

	for (size_t i = size < 64 ? size : 64; i > 0; i--)
		hash = (hash << 1) + fastcdc->gear[*(end - i)];
	return hash;
}

/* The bytes that a sieve cannot do, before the first lane and behind the last, are tested one by one. */
static size_t scan_sieved(const struct fastcdc *fastcdc, uint64_t mask, const uint8_t *data, size_t size, uint64_t *hash)
{
	size_t at = scan_pairs(fastcdc, mask, data, FASTCDC_SIEVE_BEFORE, hash), sifted;

	if (at < FASTCDC_SIEVE_BEFORE)
		return at;
	if (fastcdc_sieve_scan(fastcdc, mask, data + at, size - at, &sifted))
		return at + sifted;
	at += sifted;
	*hash = hash_before(fastcdc, data + at, at);
	return at + scan_pairs(fastcdc, mask, data + at, size - at, hash);
}

static size_t scan(const struct fastcdc *fastcdc, uint64_t mask, const uint8_t *data, size_t size, uint64_t *hash)
{
	if (fastcdc->sieve && size >= SIEVE_BYTES_MIN)
		return scan_sieved(fastcdc, mask, data, size, hash);
	return scan_pairs(fastcdc, mask, data, size, hash);
}

size_t fastcdc_scan(const struct fastcdc *fastcdc, size_t position, const uint8_t *data, size_t size, uint64_t *hash)
{
	size_t below = 0;

	assert(position >= fastcdc_scan_start(fastcdc));
	assert(position % 2 == 0);
	assert(size % 2 == 0);
	if (position < fastcdc->average) {
		size_t found;

		below = fastcdc->average - position;
		if (below > size)
			below = size;
		found = scan(fastcdc, fastcdc->mask_small, data, below, hash);
		if (found < below)
			return found;
	}
	return below + scan(fastcdc, fastcdc->mask_large, data + below, size - below, hash);
}

size_t fastcdc_cut(const struct fastcdc *fastcdc, const uint8_t *data, size_t size)
{
	size_t start = fastcdc_scan_start(fastcdc);
	size_t limit = size < fastcdc->max ? size : fastcdc->max;
	uint64_t hash = 0;
	size_t found, tested;

	if (size <= fastcdc->min)
		return size;
	tested = (limit & ~(size_t)1) - start;
	found = fastcdc_scan(fastcdc, start, data + start, tested, &hash);
	return found < tested ? start + found : limit;
}

bool fastcdc_may_end(const struct fastcdc *fastcdc, const uint8_t *data, size_t size, size_t length)
{
	size_t start = fastcdc_scan_start(fastcdc);
	size_t limit = size < fastcdc->max ? size : fastcdc->max;
	uint64_t hash;

	if (length == limit)
		return true;
	if (size <= fastcdc->min || length < start || length >= (limit & ~(size_t)1))
		return false;
	hash = hash_before(fastcdc, data + length + 1, length + 1 - start);
	return !(hash & (length < fastcdc->average ? fastcdc->mask_small : fastcdc->mask_large));
}
