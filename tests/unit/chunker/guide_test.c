/*
 * Shows that a guide's cuts are exactly those of a full scan, digests included, whatever became of the file since its
 * recipe was made: random edits of all kinds, over data with and without structure, odd limits and tails, windows of
 * any size, and recipes of other files. And that it is worth it: what did not change is proposed, not scanned.
 */
#include "chunker/guide.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "chunker/profile.h"
#include "tests/unit/chunker/inputs.h"

#define FILE_BYTES_MAX (1u << 20)
#define CHUNKS_MAX     (FILE_BYTES_MAX / 64 + 1)

struct file {
	uint8_t *data;
	size_t size;
};

struct recipe {
	size_t count;
	size_t sizes[CHUNKS_MAX];
	uint8_t digests[CHUNKS_MAX][SHA256_BYTES];
};

static struct recipe former, expected;
static struct sha256_job jobs[CHUNKS_MAX], out[CHUNKS_MAX];
static struct guide_reason reasons[CHUNKS_MAX];
static struct sha256 hasher;

static struct guide_chunk former_chunk(const void *context, size_t index)
{
	const struct recipe *recipe = context;

	assert_true(index < recipe->count);
	return (struct guide_chunk){ recipe->digests[index], recipe->sizes[index] };
}

static void recipe_make(struct recipe *recipe, const struct fastcdc *fastcdc, const struct file *file)
{
	recipe->count = 0;
	for (size_t at = 0; at < file->size; recipe->count++) {
		size_t size = fastcdc_cut(fastcdc, file->data + at, file->size - at);

		assert_true(recipe->count < CHUNKS_MAX);
		recipe->sizes[recipe->count] = size;
		sha256_once(file->data + at, size, recipe->digests[recipe->count]);
		at += size;
	}
}

/* Where the chunks of one window end up: compared with the full scan's. Returns how many bytes they are. */
static size_t window_check(const struct sha256_job *chunks, size_t count, size_t *index, const uint8_t *data)
{
	size_t at = 0;

	for (size_t i = 0; i < count; i++, (*index)++) {
		assert_true(*index < expected.count);
		assert_ptr_equal(chunks[i].data, data + at);
		assert_int_equal(chunks[i].size, expected.sizes[*index]);
		assert_memory_equal(chunks[i].digest, expected.digests[*index], SHA256_BYTES);
		at += chunks[i].size;
	}
	return at;
}

/* Cuts `file` by `former`, a window at a time as the digester does, and compares. */
static struct guide guided_check(const struct fastcdc *fastcdc, const struct file *file, size_t window)
{
	struct guide guide;
	size_t at = 0, index = 0;

	recipe_make(&expected, fastcdc, file);
	guide_init(&guide, fastcdc, former_chunk, &former, former.count);
	while (at < file->size) {
		size_t size = file->size - at < window ? file->size - at : window;
		bool ended = size < window;
		/* Exact memory: a byte read past the window is seen. */
		uint8_t *data = malloc(size);
		size_t count;

		assert_non_null(data);
		memcpy(data, file->data + at, size);
		count = guide_propose(&guide, data, size, ended || at + size == file->size, jobs, reasons, CHUNKS_MAX);
		assert_true(count > 0);
		sha256_batch(&hasher, jobs, count);
		count = guide_confirm(&guide, data, size, ended || at + size == file->size, jobs, reasons, count,
				      &hasher, out, CHUNKS_MAX);
		assert_true(count > 0);
		at += window_check(out, count, &index, data);
		free(data);
	}
	assert_int_equal(at, file->size);
	assert_int_equal(index, expected.count);
	return guide;
}

static void file_splice(struct file *file, size_t at, size_t removed, const uint8_t *bytes, size_t size)
{
	if (file->size - removed + size > FILE_BYTES_MAX)
		return;
	memmove(file->data + at + size, file->data + at + removed, file->size - at - removed);
	memcpy(file->data + at, bytes, size);
	file->size += size - removed;
}

static size_t below(uint64_t *random, size_t bound)
{
	return bound ? input_random(random) % bound : 0;
}

/* One of: bytes overwritten, inserted, removed, zeroed, a part doubled, cut off at the end, appended. */
static void file_edit(struct file *file, uint64_t *random)
{
	const uint8_t *bytes = input_bytes(INPUT_COUNTER) + below(random, 1000000);
	size_t at = below(random, file->size + 1), rest = file->size - at;
	size_t size = 1 + below(random, (size_t)1 << below(random, 16)), within = size < rest ? size : rest;

	switch (below(random, 7)) {
	case 0:
		file_splice(file, at, within, bytes, within);
		break;
	case 1:
		file_splice(file, at, 0, bytes, size);
		break;
	case 2:
		file_splice(file, at, within, bytes, 0);
		break;
	case 3:
		memset(file->data + at, 0, within);
		break;
	case 4:
		bytes = input_bytes(INPUT_HEX) + 63;
		file_splice(file, at, 0, bytes, size);
		break;
	case 5:
		file->size -= within;
		break;
	case 6:
		file_splice(file, file->size, 0, bytes, size);
		break;
	}
}

static struct fastcdc random_cuts(uint64_t *random)
{
	const struct fastcdc_params params = {
		.min = 64 + (uint32_t)below(random, 961),
		.average = 1024,
		.max = 1025 + (uint32_t)below(random, 6000),
		.seed = (uint32_t)input_random(random),
		.level = (uint32_t)below(random, 4),
	};
	struct fastcdc fastcdc;

	assert_true(fastcdc_init(&fastcdc, &params));
	return fastcdc;
}

static void test_random_edits(void **state)
{
	struct file file = { .data = malloc(FILE_BYTES_MAX) };
	uint64_t random = 20200;
	uint64_t proposed = 0, refuted = 0;

	assert_non_null(file.data);
	for (int run = 0; run < 4000; run++) {
		struct fastcdc fastcdc = random_cuts(&random);
		enum input_kind kind = run % 3 ? INPUT_COUNTER : (enum input_kind)below(&random, INPUT_KINDS);
		struct guide guide;

		file.size = below(&random, (size_t)1 << (8 + below(&random, 12)));
		memcpy(file.data, input_bytes(kind) + below(&random, 1000000), file.size);
		recipe_make(&former, &fastcdc, &file);
		for (size_t edits = below(&random, 12); edits; edits--)
			file_edit(&file, &random);
		guide = guided_check(&fastcdc, &file, fastcdc.max + 1 + below(&random, 200000));
		proposed += guide.proposed;
		refuted += guide.refuted;
	}
	free(file.data);
	/* Both ways were gone. */
	assert_true(proposed > 50000);
	assert_true(refuted > 1000);
	print_message("proposed %zu, refuted %zu\n", (size_t)proposed, (size_t)refuted);
}

/*
 * The last byte of an odd tail is never tested. So a file that is cut before its byte `cut`, an even one, is not cut there
 * when it ends with that byte; and the tail that it then has is not a chunk when the file goes on, although it has the
 * same bytes and, with some bytes behind it, an end that hits.
 */
static void test_tails(void **state)
{
	struct fastcdc_params params = fastcdc_params_reapi(FASTCDC_AVERAGE_MIN, 0);
	struct file file = { .data = malloc(FILE_BYTES_MAX) };
	struct fastcdc fastcdc;
	uint64_t random = 99;
	int tried = 0;

	params.level = FASTCDC_LEVEL_MAX;
	assert_true(fastcdc_init(&fastcdc, &params));
	for (int run = 0; run < 200; run++) {
		size_t cut;

		memcpy(file.data, input_bytes(INPUT_COUNTER) + below(&random, 1000000), 10000);
		cut = fastcdc_cut(&fastcdc, file.data, 10000);
		if (cut % 2 || cut < fastcdc.average || cut == fastcdc.max)
			continue;
		tried++;
		file.size = 10000;
		recipe_make(&former, &fastcdc, &file);
		file.size = cut + 1;
		guided_check(&fastcdc, &file, 20000);
		assert_int_equal(expected.count, 1);
		recipe_make(&former, &fastcdc, &file);
		file.size = 10000;
		for (int byte = 0; byte < 256; byte++) {
			file.data[cut + 1] = (uint8_t)byte;
			guided_check(&fastcdc, &file, 20000);
			assert_int_equal(expected.sizes[0], cut);
		}
	}
	assert_true(tried > 10);
	free(file.data);
}

/* A recipe that has nothing to do with the file: its proposals are refuted, the cuts are right. */
static void test_other_file(void **state)
{
	struct file file = { .data = malloc(FILE_BYTES_MAX), .size = 300001 };
	uint64_t random = 7;

	for (int run = 0; run < 20; run++) {
		struct fastcdc fastcdc = random_cuts(&random);

		memcpy(file.data, input_bytes((enum input_kind)(run % INPUT_KINDS)), file.size);
		recipe_make(&former, &fastcdc, &file);
		memcpy(file.data, input_bytes(INPUT_COUNTER) + 1000000, file.size);
		guided_check(&fastcdc, &file, 100000);
		/* Bytes of before, their digests not: as if each chunk were another with the same end. */
		recipe_make(&former, &fastcdc, &file);
		memset(former.digests, 0xee, sizeof(former.digests));
		guided_check(&fastcdc, &file, 100000);
		/* A length that no recipe has. */
		former.sizes[former.count / 2] = 0;
		former.sizes[former.count / 3] = SIZE_MAX;
		guided_check(&fastcdc, &file, 100000);
	}
	free(file.data);
}

/* The native profile, 4 MiB windows: how many chunks are proposed when nothing, one byte, some bytes in the midst change. */
static void test_worth(void **state)
{
	const struct fastcdc *fastcdc = profile_fastcdc(PROFILE_NATIVE);
	struct file file = { .data = malloc(FILE_BYTES_MAX * 8), .size = FILE_BYTES_MAX * 7 };
	struct guide guide;

	memcpy(file.data, input_bytes(INPUT_COUNTER), file.size);
	recipe_make(&former, fastcdc, &file);
	guide = guided_check(fastcdc, &file, 4u << 20);
	assert_int_equal(guide.proposed, former.count);
	assert_int_equal(guide.refuted, 0);
	file.data[file.size / 2] ^= 1;
	guide = guided_check(fastcdc, &file, 4u << 20);
	assert_true(guide.proposed + 1 >= former.count);
	/* Some bytes more: everything behind them is somewhere else. */
	memmove(file.data + 1000007, file.data + 1000000, file.size - 1000007);
	guide = guided_check(fastcdc, &file, 4u << 20);
	assert_true(guide.proposed + 4 >= former.count);
	/* A MiB less. */
	memcpy(file.data, input_bytes(INPUT_COUNTER), file.size);
	memmove(file.data + 2000000, file.data + 3000000, file.size - 3000000);
	file.size -= 1000000;
	guide = guided_check(fastcdc, &file, 4u << 20);
	assert_true(guide.proposed + 4 >= expected.count);
	free(file.data);
}

/* Where fastcdc_cut() ends a chunk it may end; at no place before. */
static void test_may_end(void **state)
{
	uint64_t random = 3;

	for (int run = 0; run < 300; run++) {
		struct fastcdc fastcdc = random_cuts(&random);
		size_t size = below(&random, 2 * (size_t)fastcdc.max) + 1;
		const uint8_t *data = input_bytes(INPUT_COUNTER) + below(&random, 1000000);
		size_t cut = fastcdc_cut(&fastcdc, data, size);

		assert_true(fastcdc_may_end(&fastcdc, data, size, cut));
		for (size_t length = 0; length < cut; length++)
			assert_false(fastcdc_may_end(&fastcdc, data, size, length));
		assert_false(fastcdc_may_end(&fastcdc, data, size, size + 1));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_may_end),
		cmocka_unit_test(test_random_edits),
		cmocka_unit_test(test_tails),
		cmocka_unit_test(test_other_file),
		cmocka_unit_test(test_worth),
	};

	sha256_init(&hasher, SHA256_OPENSSL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
