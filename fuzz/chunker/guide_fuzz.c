/*
 * guide_invariance: whatever a file becomes, cutting it by its former recipe gives the cuts and digests of a full scan.
 *
 * Input: 8 bytes of parameters, one byte n, n edits of 4 bytes (kind and length, place, fill), the file's bytes, which
 * are repeated with a shift so that a short input makes many chunks.
 */
#include <stdlib.h>
#include <string.h>

#include "chunker/guide.h"

#define PARAM_BYTES 8
#define EDIT_BYTES  4
#define FILE_BYTES  32768
#define SPACE_BYTES 65536
#define CHUNKS_MAX  (SPACE_BYTES / 64 + 1)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct recipe {
	size_t count;
	size_t sizes[CHUNKS_MAX];
	uint8_t digests[CHUNKS_MAX][SHA256_BYTES];
};

static struct recipe former, expected;
static struct sha256_job jobs[CHUNKS_MAX], out[CHUNKS_MAX];
static struct guide_reason reasons[CHUNKS_MAX];
static uint8_t file[SPACE_BYTES];

static void expect(bool holds)
{
	if (!holds)
		abort();
}

static struct guide_chunk former_chunk(const void *context, size_t index)
{
	expect(index < former.count);
	return (struct guide_chunk){ former.digests[index], former.sizes[index] };
}

static void recipe_make(struct recipe *recipe, const struct fastcdc *fastcdc, size_t size)
{
	recipe->count = 0;
	for (size_t at = 0; at < size; recipe->count++) {
		size_t length = fastcdc_cut(fastcdc, file + at, size - at);

		recipe->sizes[recipe->count] = length;
		sha256_once(file + at, length, recipe->digests[recipe->count]);
		at += length;
	}
}

static size_t edit(const uint8_t step[static EDIT_BYTES], size_t size)
{
	size_t length = 1 + (step[0] >> 2) * 37u, at = (size_t)step[1] * 257 % (size + 1);
	size_t within = length < size - at ? length : size - at;

	switch (step[0] & 3) {
	case 0:
		memset(file + at, step[3], within);
		return size;
	case 1:
		if (size + length > SPACE_BYTES)
			return size;
		memmove(file + at + length, file + at, size - at);
		memset(file + at, step[3], length);
		return size + length;
	case 2:
		memmove(file + at, file + at + within, size - at - within);
		return size - within;
	default:
		return at;
	}
}

static void check(const struct fastcdc *fastcdc, size_t size, size_t window)
{
	struct sha256 hasher;
	struct guide guide;
	size_t at = 0, index = 0;

	sha256_init(&hasher, SHA256_OPENSSL);
	guide_init(&guide, fastcdc, former_chunk, NULL, former.count);
	while (at < size) {
		size_t part = size - at < window ? size - at : window;
		bool ended = part == size - at;
		size_t count = guide_propose(&guide, file + at, part, ended, jobs, reasons, CHUNKS_MAX);

		sha256_batch(&hasher, jobs, count);
		count = guide_confirm(&guide, file + at, part, ended, jobs, reasons, count, &hasher, out, CHUNKS_MAX);
		expect(count > 0);
		for (size_t i = 0; i < count; i++, index++) {
			expect(index < expected.count && out[i].data == file + at);
			expect(out[i].size == expected.sizes[index]);
			expect(memcmp(out[i].digest, expected.digests[index], SHA256_BYTES) == 0);
			at += out[i].size;
		}
	}
	expect(index == expected.count && at == size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *params = data, *edits;
	size_t edit_count, length = FILE_BYTES;
	struct fastcdc fastcdc;

	if (size < PARAM_BYTES + 1)
		return 0;
	if (!fastcdc_init(&fastcdc, &(struct fastcdc_params){ .min = 64 + (params[0] | (params[1] & 3u) << 8),
			  .average = 1024, .max = 1025 + (params[2] | (params[3] & 15u) << 8),
			  .seed = params[4] | (uint32_t)params[5] << 24, .level = params[7] & 3 }))
		return 0;
	edit_count = data[PARAM_BYTES];
	edits = data + PARAM_BYTES + 1;
	size -= PARAM_BYTES + 1;
	if (edit_count * EDIT_BYTES >= size)
		return 0;
	data = edits + edit_count * EDIT_BYTES;
	size -= edit_count * EDIT_BYTES;
	for (size_t i = 0; i < length; i++)
		file[i] = data[i % size] ^ (uint8_t)(params[6] & 1 ? i / size : 0);
	length -= params[6];
	recipe_make(&former, &fastcdc, length);
	for (size_t i = 0; i < edit_count; i++)
		length = edit(edits + i * EDIT_BYTES, length);
	recipe_make(&expected, &fastcdc, length);
	check(&fastcdc, length, fastcdc.max + 1 + params[7] * 64u);
	return 0;
}
