/*
 * cutter_split_invariance: whatever the limits, the bytes and the pieces, the streaming cutter cuts where fastcdc_cut()
 * cuts the whole file; and that cuts where it would without a sieve.
 *
 * Input: 8 bytes of parameters, one byte n, n bytes of piece lengths (used in turn, 0 counts as 256), the file. The
 * smallest limits that are allowed, and a file that repeats when a bit says so, so that a short input makes many chunks.
 */
#include <stdlib.h>
#include <string.h>

#include "chunker/cutter.h"

#define PARAM_BYTES  8
#define REPEAT_BYTES 16384

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct pieces {
	const uint8_t *lengths;
	size_t count;
	size_t next;
};

static size_t pieces_next(struct pieces *pieces)
{
	uint8_t length = pieces->count ? pieces->lengths[pieces->next++ % pieces->count] : 0;

	return length ? length : 256;
}

static bool params_read(struct fastcdc *fastcdc, const uint8_t *data)
{
	const struct fastcdc_params params = {
		.min = 64 + (data[0] | (data[1] & 3u) << 8),
		.average = 1024,
		.max = 1025 + (data[2] | (data[3] & 15u) << 8),
		.seed = data[4] | (uint32_t)data[5] << 8 | (uint32_t)data[6] << 24,
		.level = data[7] & 3,
	};

	return fastcdc_init(fastcdc, &params);
}

static void expect(bool holds)
{
	if (!holds)
		abort();
}

static void check(const struct fastcdc *fastcdc, struct pieces *pieces, const uint8_t *file, size_t size)
{
	struct fastcdc plain = *fastcdc;
	struct cutter cutter;
	size_t chunk = 0, fed = 0, end = 0;

	plain.sieve = NULL;
	cutter_init(&cutter, fastcdc);
	while (end < size) {
		size_t piece = pieces_next(pieces);

		end = size - end < piece ? size : end + piece;
		while (fed < end) {
			size_t length = cutter_feed(&cutter, file + fed, end - fed);

			if (!length) {
				fed = end;
				break;
			}
			expect(length == fastcdc_cut(fastcdc, file + chunk, size - chunk));
			expect(length == fastcdc_cut(&plain, file + chunk, size - chunk));
			expect(chunk + length + 1 >= fed);
			chunk += length;
			fed = chunk;
		}
		expect(cutter_pending(&cutter) == fed - chunk);
	}
	expect(cutter_finish(&cutter) == size - chunk);
	expect(size - chunk == fastcdc_cut(fastcdc, file + chunk, size - chunk));
	expect(size - chunk == fastcdc_cut(&plain, file + chunk, size - chunk));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fastcdc fastcdc;
	struct pieces pieces = { 0 };
	const uint8_t *params = data;
	uint8_t *repeated;

	if (size < PARAM_BYTES + 1 || !params_read(&fastcdc, params))
		return 0;
	pieces.count = data[PARAM_BYTES];
	data += PARAM_BYTES + 1;
	size -= PARAM_BYTES + 1;
	if (pieces.count > size)
		return 0;
	pieces.lengths = data;
	data += pieces.count;
	size -= pieces.count;
	if (!(params[7] & 4) || !size) {
		check(&fastcdc, &pieces, data, size);
		return 0;
	}
	repeated = malloc(REPEAT_BYTES + size);
	expect(repeated);
	/* Of a length that the input decides, too: odd tails. */
	for (size_t i = 0; i < REPEAT_BYTES + size; i++)
		repeated[i] = data[i % size] ^ (uint8_t)(params[7] & 8 ? i / size : 0);
	check(&fastcdc, &pieces, repeated, REPEAT_BYTES + size);
	free(repeated);
	return 0;
}
