/*
 * fastcdc: where a file is cut into chunks. FastCDC-2020 as the Remote Execution API fixes it, so that any two
 * implementations cut the same bytes at the same places.
 *
 * The rule, for a chunk that starts where `remaining` bytes of the file are left:
 *   - n = min(remaining, max); when remaining <= min the chunk is all that remains;
 *   - a gear hash starts at 0 at offset min and takes in one byte after the other: h = (h << 1) + gear[byte];
 *   - the chunk ends before the first byte i at which (h & mask) == 0; the mask is the strict one below the average, and
 *     the loose one from there on; so the byte that was hit already belongs to the next chunk;
 *   - bytes are tested in pairs from the even offset min & ~1: the last byte of an odd n is never tested;
 *   - when no byte hits, the chunk is n bytes.
 *
 * A `struct fastcdc` is plain memory, never changes after its init, and may be shared between threads. Nothing here
 * allocates. For data that comes in pieces see chunker/cutter.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FASTCDC_AVERAGE_MIN (1u << 10)
#define FASTCDC_AVERAGE_MAX (8u << 20)
#define FASTCDC_LEVEL_REAPI 2
#define FASTCDC_LEVEL_MAX   3
/* No parameters are accepted whose largest chunk is larger. */
#define FASTCDC_CHUNK_MAX (4 * FASTCDC_AVERAGE_MAX)
#define FASTCDC_PLANES    4

struct fastcdc_params {
	uint32_t min;     /* at least 64 */
	uint32_t average; /* a power of two from FASTCDC_AVERAGE_MIN to FASTCDC_AVERAGE_MAX */
	uint32_t max;     /* above the average, at most FASTCDC_CHUNK_MAX */
	uint32_t seed;    /* XORed onto every entry of the gear table; 0 is the plain table */
	uint32_t level;   /* of normalisation, 0 to FASTCDC_LEVEL_MAX: how many bits the two masks are away from the average */
};

struct fastcdc_sifted;

struct fastcdc {
	uint32_t min;
	uint32_t average;
	uint32_t max;
	uint64_t mask_small; /* strict: below the average */
	uint64_t mask_large; /* loose: from the average on */
	uint64_t gear[256];
	uint64_t gear_shifted[256]; /* gear << 1: two bytes a step */
	/*
	 * The fastest that this CPU has, see chunker/fastcdc_sieve.h; NULL: every byte is tested by the plain loop. The cuts
	 * are the same. Whoever measures or tests may set another before the first cut.
	 */
	void (*sieve)(const uint8_t planes[static FASTCDC_PLANES][256], uint32_t mask, const uint8_t *data, size_t stretch,
		      struct fastcdc_sifted *out);
	uint8_t planes[FASTCDC_PLANES][256]; /* byte p of each gear entry: for the sieve */
};

/* What REAPI derives from an average: min = average / 4, max = average * 4, level 2. Any average; init judges it. */
struct fastcdc_params fastcdc_params_reapi(uint32_t average, uint32_t seed);

/* False, and nothing written, when `params` break a bound named above. */
bool fastcdc_init(struct fastcdc *fastcdc, const struct fastcdc_params *params);

/*
 * The length of the chunk that starts at `data`. `data` is the whole rest of the file, or at least `max` bytes of it.
 * 0 only when `size` is 0.
 */
size_t fastcdc_cut(const struct fastcdc *fastcdc, const uint8_t *data, size_t size);

/*
 * Whether the chunk that starts at `data` ends behind `length` bytes, if no earlier byte makes it end: a few operations,
 * whatever the length. `data` as for fastcdc_cut(). For those who know that none does (chunker/guide.c).
 */
bool fastcdc_may_end(const struct fastcdc *fastcdc, const uint8_t *data, size_t size, size_t length);

/*
 * For those who carry a hash from one piece of a chunk to the next (chunker/cutter.c). `data` are the bytes from offset
 * `position` of a chunk on; `position` (at least min & ~1) and `size` are even. Returns the index in `data` of the byte
 * before which the chunk ends, or `size` when no byte hits; then `*hash` has taken all of them in.
 */
size_t fastcdc_scan(const struct fastcdc *fastcdc, size_t position, const uint8_t *data, size_t size, uint64_t *hash);

/* The first offset of a chunk that is tested. */
static inline size_t fastcdc_scan_start(const struct fastcdc *fastcdc)
{
	return fastcdc->min & ~1u;
}
