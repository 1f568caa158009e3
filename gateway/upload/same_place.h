/* same_place: which chunks of a file's former content a chunk of the new one is likely to resemble. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SAME_PLACE_PART 4                /* they share a part so small of the shorter of the two */

/* Both end within 2^63. */
static inline bool same_place(uint64_t offset, uint64_t size, uint64_t former_offset, uint64_t former_size)
{
	uint64_t first = offset > former_offset ? offset : former_offset;
	uint64_t end = offset + size, former_end = former_offset + former_size;
	uint64_t last = end < former_end ? end : former_end;

	return last > first && (last - first) * SAME_PLACE_PART >= (size < former_size ? size : former_size);
}
