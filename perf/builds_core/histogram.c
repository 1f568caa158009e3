/* Cells are the value's leading seven bits. */
#include "perf/builds_core/histogram.h"

#define BITS 6u                          /* HISTOGRAM_HALF is 2 to this */

static size_t cell_of(uint64_t value)
{
	unsigned shift = 0;
	size_t cell;

	if (value >= 2 * HISTOGRAM_HALF)
		shift = 63u - (unsigned)__builtin_clzll(value) - BITS;
	cell = (size_t)shift * HISTOGRAM_HALF + (size_t)(value >> shift);
	return cell < HISTOGRAM_CELLS ? cell : HISTOGRAM_CELLS - 1;
}

/* The greatest value of a cell. */
static uint64_t cell_most(size_t cell)
{
	size_t shift = cell < 2 * HISTOGRAM_HALF ? 0 : cell / HISTOGRAM_HALF - 1;

	return ((uint64_t)(cell - shift * HISTOGRAM_HALF + 1) << shift) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t ns)
{
	histogram->cells[cell_of(ns)]++;
	if (!histogram->count || ns < histogram->least)
		histogram->least = ns;
	if (ns > histogram->most)
		histogram->most = ns;
	histogram->count++;
}

uint64_t histogram_at(const struct histogram *histogram, double share)
{
	double wanted = share * (double)histogram->count;
	uint64_t seen = 0;

	for (size_t i = 0; i < HISTOGRAM_CELLS; i++) {
		seen += histogram->cells[i];
		if (histogram->cells[i] && (double)seen >= wanted) {
			uint64_t most = cell_most(i);

			return most < histogram->most ? most : histogram->most;
		}
	}
	return histogram->most;
}
