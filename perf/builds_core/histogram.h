/*
 * histogram: how often which latency was seen, in nanoseconds, in cells whose width grows with the value: 1/64 of it at most,
 * so that a percentile is right to 1.6 % from a microsecond to a minute (the idea of HdrHistogram). What is beyond the last
 * cell counts as the last.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_HALF  64u              /* cells a doubling */
#define HISTOGRAM_CELLS (34u * HISTOGRAM_HALF)

struct histogram {
	uint64_t cells[HISTOGRAM_CELLS];
	uint64_t count, least, most;
};

void histogram_add(struct histogram *histogram, uint64_t ns);
/* The value that `share` (0 to 1) of all are at or below; 0 when there are none. */
uint64_t histogram_at(const struct histogram *histogram, double share);
