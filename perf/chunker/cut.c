/*
 * How fast are cuts found, for each profile, of a file that is in memory and of one that comes in 64 KiB pieces, against
 * copying the same bytes?
 */
#include <string.h>

#include "chunker/cutter.h"
#include "chunker/profile.h"
#include "perf/chunker/bench.h"

#define SIZE        (64u << 20)
#define PIECE_BYTES (64u << 10)

static uint8_t *copy;
static volatile size_t cuts; /* keeps the work from being optimised away */

static void run_copy(const uint8_t *data, size_t size, const void *argument)
{
	memcpy(copy, data, size);
	cuts = copy[size / 2];
}

static void run_whole(const uint8_t *data, size_t size, const void *argument)
{
	size_t count = 0;

	for (size_t offset = 0; offset < size; count++)
		offset += fastcdc_cut(argument, data + offset, size - offset);
	cuts = count;
}

static void run_pieces(const uint8_t *data, size_t size, const void *argument)
{
	struct cutter cutter;
	size_t count = 0, chunk = 0, fed = 0;

	cutter_init(&cutter, argument);
	for (size_t end = PIECE_BYTES; end <= size; end += PIECE_BYTES) {
		size_t length;

		while ((length = cutter_feed(&cutter, data + fed, end - fed))) {
			chunk += length;
			fed = chunk;
			count++;
		}
		fed = end;
	}
	cuts = count + (cutter_finish(&cutter) > 0);
}

int main(void)
{
	uint8_t *data = bench_data(SIZE);
	struct bench benches[] = {
		{ .name = "memcpy", .run = run_copy },
		{ .name = "fine 16 KiB, whole", .run = run_whole, .argument = profile_fastcdc(PROFILE_FINE) },
		{ .name = "native 64 KiB, whole", .run = run_whole, .argument = profile_fastcdc(PROFILE_NATIVE) },
		{ .name = "reapi 512 KiB, whole", .run = run_whole, .argument = profile_fastcdc(PROFILE_REAPI) },
		{ .name = "native 64 KiB, in pieces", .run = run_pieces, .argument = profile_fastcdc(PROFILE_NATIVE) },
	};

	copy = malloc(SIZE);
	if (!copy)
		return 1;
	memset(copy, 1, SIZE);
	bench_all(benches, sizeof(benches) / sizeof(benches[0]), data, SIZE);
	free(copy);
	free(data);
	return 0;
}
