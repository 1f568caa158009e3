/* What a sieve lets through, tested by the whole hash. */
#include "chunker/fastcdc_sieve.h"

#include <string.h>

#define QUAD 4 /* rows of hits that are looked at together */

/* The bits of a mask end at 47: of the hash 16 bytes earlier, its low half suffices. */
#define STEPS      16
#define STEPS_FULL 48

static bool is_hit(const struct fastcdc *fastcdc, uint64_t mask, const uint8_t *end, uint64_t hash, size_t steps)
{
	for (size_t i = steps; i > 0; i--)
		hash = (hash << 1) + fastcdc->gear[*(end - i)];
	return !(hash & mask);
}

/* Byte `i` of lane `lane`, which is the one before `end`. */
static bool confirm(const struct fastcdc *fastcdc, uint64_t mask, const uint8_t *end, const struct fastcdc_sifted *sifted,
		    size_t i, size_t lane)
{
	if (i < STEPS)
		return is_hit(fastcdc, mask, end, 0, STEPS_FULL);
	return is_hit(fastcdc, mask, end, sifted->low[i - STEPS][lane], STEPS);
}

/* Which quads have hits. Without a branch: where the next one is cannot be foretold. */
static size_t find_quads(const struct fastcdc_sifted *sifted, size_t stretch,
			 uint16_t quads[static FASTCDC_STRETCH_MAX / QUAD])
{
	size_t count = 0;

	for (size_t i = 0; i < stretch; i += QUAD) {
		uint64_t hits;

		memcpy(&hits, sifted->hits + i, sizeof(hits));
		quads[count] = (uint16_t)i;
		count += hits != 0;
	}
	return count;
}

/* The first hit of all lanes; FASTCDC_LANES * stretch when there is none. */
static size_t first_hit(const struct fastcdc *fastcdc, uint64_t mask, const uint8_t *data, size_t stretch,
			const struct fastcdc_sifted *sifted)
{
	uint16_t quads[FASTCDC_STRETCH_MAX / QUAD];
	size_t count = find_quads(sifted, stretch, quads);
	size_t first = FASTCDC_LANES * stretch;

	for (size_t q = 0; q < count; q++) {
		uint64_t hits;

		memcpy(&hits, sifted->hits + quads[q], sizeof(hits));
		do {
			unsigned bit = (unsigned)__builtin_ctzll(hits);
			size_t i = quads[q] + bit / FASTCDC_LANES, lane = bit % FASTCDC_LANES;
			size_t at = lane * stretch + i;

			if (confirm(fastcdc, mask, data + at + 1, sifted, i, lane) && at < first)
				first = at;
			hits &= hits - 1;
		} while (hits);
	}
	return first;
}

bool fastcdc_sieve_scan(const struct fastcdc *fastcdc, uint64_t mask, const uint8_t *data, size_t size, size_t *at)
{
	struct fastcdc_sifted sifted;

	*at = 0;
	for (;;) {
		size_t stretch = (size - *at) / (FASTCDC_LANES * FASTCDC_STRETCH) * FASTCDC_STRETCH;
		size_t first;

		if (!stretch)
			return false;
		if (stretch > FASTCDC_STRETCH_MAX)
			stretch = FASTCDC_STRETCH_MAX;
		fastcdc->sieve(fastcdc->planes, (uint32_t)mask, data + *at, stretch, &sifted);
		first = first_hit(fastcdc, mask, data + *at, stretch, &sifted);
		*at += first;
		if (first < FASTCDC_LANES * stretch)
			return true;
	}
}
