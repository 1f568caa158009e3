/*
 * Shows that fastcdc_cut() cuts where everybody else's FastCDC-2020 cuts: the published vectors of the algorithm's test
 * image (odd max, two seeds, four levels), 64 vectors made with fastcdc-rs (odd sizes, tails, a deployed average), and
 * a plain transcription of the rule over data of every kind. And that the gear table is what its recipe says.
 */
#include "chunker/fastcdc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "chunker/gear_table.h"
#include "chunker/sha256.h"
#include "tests/unit/chunker/fastcdc_vectors.h"
#include "tests/unit/chunker/inputs.h"

#define IMAGE_BYTES 109466

static uint8_t image[IMAGE_BYTES];

static void hex_of(const uint8_t *data, size_t size, char hex[static 65])
{
	uint8_t digest[SHA256_BYTES];

	sha256_once(data, size, digest);
	for (size_t i = 0; i < SHA256_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

static void test_gear_table(void **state)
{
	for (int byte = 0; byte < 256; byte++) {
		uint8_t message[64], digest[16];
		uint64_t expected = 0;

		memset(message, byte, sizeof(message));
		assert_int_equal(EVP_Digest(message, sizeof(message), digest, NULL, EVP_md5(), NULL), 1);
		for (int i = 0; i < 8; i++)
			expected = expected << 8 | digest[i];
		assert_int_equal(gear_table[byte], expected);
	}
	assert_int_equal(gear_table[0], 0x3b5d3c7d207e37dc);
	assert_int_equal(gear_table[255], 0xaabd2b2a451504e1);
}

static void test_params_refused(void **state)
{
	static const struct fastcdc_params refused[] = {
		{ .min = 0, .average = 0, .max = 0, .level = 2 },
		{ .min = 256, .average = 512, .max = 4096, .level = 2 },              /* average too small */
		{ .min = 4 << 20, .average = 16 << 20, .max = 32 << 20, .level = 2 }, /* and too large */
		{ .min = 4096, .average = 16383, .max = 65536, .level = 2 },          /* no power of two */
		{ .min = 4096, .average = 16385, .max = 65536, .level = 2 },
		{ .min = 63, .average = 16384, .max = 65536, .level = 2 },
		{ .min = 16385, .average = 16384, .max = 65536, .level = 2 },
		{ .min = 4096, .average = 16384, .max = 16384, .level = 2 },
		{ .min = 4096, .average = 16384, .max = FASTCDC_CHUNK_MAX + 1, .level = 2 },
		{ .min = 4096, .average = 16384, .max = 65536, .level = 4 },
		{ .min = 2 << 20, .average = 8 << 20, .max = 32 << 20, .level = 3 }, /* no mask that strict */
	};
	struct fastcdc fastcdc;
	struct fastcdc_params params;

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		assert_false(fastcdc_init(&fastcdc, &refused[i]));
	for (uint32_t average = FASTCDC_AVERAGE_MIN; average <= FASTCDC_AVERAGE_MAX; average *= 2) {
		params = fastcdc_params_reapi(average, 0);
		assert_true(fastcdc_init(&fastcdc, &params));
		assert_int_equal(fastcdc.min, average / 4);
		assert_int_equal(fastcdc.max, average * 4);
	}
	params = fastcdc_params_reapi(1u << 30, 0);
	assert_false(fastcdc_init(&fastcdc, &params));
	params = fastcdc_params_reapi(1u << 31, 0);
	assert_false(fastcdc_init(&fastcdc, &params));
}

/* The masks that REAPI's deployed average of 512 KiB leads to. */
static void test_masks(void **state)
{
	struct fastcdc_params params = fastcdc_params_reapi(512 << 10, 0);
	struct fastcdc fastcdc;

	assert_true(fastcdc_init(&fastcdc, &params));
	assert_int_equal(fastcdc.mask_small, 0xd91767537000);
	assert_int_equal(fastcdc.mask_large, 0xd90703537000);
}

static void test_generated_vectors(void **state)
{
	const size_t count = sizeof(fastcdc_vectors) / sizeof(fastcdc_vectors[0]);

	assert_int_equal(count, 64);
	for (size_t i = 0; i < count; i++) {
		const struct fastcdc_vector *vector = &fastcdc_vectors[i];
		struct fastcdc_params params = fastcdc_params_reapi(vector->average, vector->seed);
		const uint8_t *data = input_bytes(vector->kind);
		size_t room = vector->chunks * 9 + 1; /* a number of up to 8 digits and a space a chunk */
		size_t offset = 0, chunks = 0, used = 0;
		char *text = malloc(room);
		struct fastcdc fastcdc;
		char hex[65];

		assert_non_null(text);
		hex_of(data, vector->bytes, hex);
		assert_string_equal(hex, vector->input);
		assert_true(fastcdc_init(&fastcdc, &params));
		while (offset < vector->bytes) {
			size_t length = fastcdc_cut(&fastcdc, data + offset, vector->bytes - offset);

			assert_true(length > 0);
			assert_true(++chunks <= vector->chunks);
			used += (size_t)snprintf(text + used, room - used, "%s%zu", offset ? " " : "", length);
			offset += length;
		}
		hex_of((const uint8_t *)text, used, hex);
		free(text);
		assert_int_equal(offset, vector->bytes);
		assert_int_equal(chunks, vector->chunks);
		assert_string_equal(hex, vector->lengths);
	}
}

/* Published with REAPI: offset, length, digest. */
static const struct {
	uint32_t seed;
	size_t offset;
	size_t length;
	const char *digest;
} image_chunks[] = {
	{ 0, 0, 19186, "0f9efa589121d5d9e9e2c4ace91337d77cae866537143f6f15a0ffd525a77c2d" },
	{ 0, 19186, 19279, "c7c86a165573c16448cda35c9169742e85645af42be22889f8b96b8ee0ec7cb0" },
	{ 0, 38465, 17354, "bc88521e28a8b4479cdea5f75aa721a24f3a0a7d0be903aa6d505c574e51e89d" },
	{ 0, 55819, 16387, "4b8dac2652e4685c629d2bb1ae9d4448e676b86f2e67ca0b2fff3d9580184b79" },
	{ 0, 72206, 19940, "c0a7062da6f2386c28e086ee0cedd5732252741269838773cff1ddb05b2df6ed" },
	{ 0, 92146, 17320, "7fa5b12134dc75cd2ac8dc60d3a8f3c8d22f0ee9d4cf74a4aa937e2a0d2d79a5" },
	{ 666, 0, 17635, "cb3a9d80a3569772d4ed331ca37ab0c862c759897b890fc1aac90a4f2ea3a407" },
	{ 666, 17635, 17334, "d758c6b7b0b7eef1e996f8ccd17de6c645360b03a26c35541e7581348ac08944" },
	{ 666, 34969, 19136, "24846aefd89e510594bae3e9d7d5ea5012067601512610fed126a3c57ba993f5" },
	{ 666, 54105, 17467, "efa785e1fefb49f190e665f72fd246c1442079874508c312196da1fb3040d00b" },
	{ 666, 71572, 23593, "a2f557bdd8d40d8faada963ad5f91ec54b10ccee7c5ae72754a65137592dc607" },
	{ 666, 95165, 14301, "e131100b4a7147ccad19dc63c4a2fac1f5d8b644e1373eeb6803825024234efc" },
};

static void test_image_published(void **state)
{
	for (size_t i = 0; i < sizeof(image_chunks) / sizeof(image_chunks[0]); i++) {
		const struct fastcdc_params params = {
			.min = 4096, .average = 16384, .max = 65535, .seed = image_chunks[i].seed, .level = 2
		};
		size_t offset = image_chunks[i].offset;
		struct fastcdc fastcdc;
		char hex[65];

		assert_true(fastcdc_init(&fastcdc, &params));
		assert_int_equal(fastcdc_cut(&fastcdc, image + offset, IMAGE_BYTES - offset), image_chunks[i].length);
		hex_of(image + offset, image_chunks[i].length, hex);
		assert_string_equal(hex, image_chunks[i].digest);
	}
}

/* The image at other levels and sizes, as the algorithm's own tests have it. */
static void test_image_levels(void **state)
{
	static const struct {
		struct fastcdc_params params;
		size_t lengths[7];
	} cases[] = {
		{ { 4096, 16384, 65535, 0, 1 }, { 21325, 17140, 28084, 18217, 24700 } },
		{ { 4096, 16384, 65535, 666, 1 }, { 10605, 55745, 11346, 5883, 11586, 14301 } },
		{ { 4096, 16384, 65535, 0, 0 }, { 6634, 59915, 25597, 5237, 12083 } },
		{ { 8192, 16384, 32768, 0, 3 }, { 17350, 19911, 17426, 17519, 19940, 17320 } },
		{ { 8192, 32768, 131072, 0, 1 }, { 66549, 42917 } },
		{ { 16384, 65536, 262144, 0, 1 }, { 109466 } },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fastcdc fastcdc;
		size_t offset = 0;

		assert_true(fastcdc_init(&fastcdc, &cases[i].params));
		for (const size_t *length = cases[i].lengths; *length; length++) {
			assert_int_equal(fastcdc_cut(&fastcdc, image + offset, IMAGE_BYTES - offset), *length);
			offset += *length;
		}
		assert_int_equal(offset, IMAGE_BYTES);
	}
}

/* The rule of chunker/fastcdc.h, a byte at a time and without a thought of speed. */
static size_t plain_cut(const struct fastcdc *fastcdc, const uint8_t *data, size_t size)
{
	size_t limit = size < fastcdc->max ? size : fastcdc->max;
	uint64_t hash = 0;

	if (size <= fastcdc->min)
		return size;
	for (size_t i = fastcdc->min & ~1u; i < (limit & ~(size_t)1); i++) {
		hash = (hash << 1) + fastcdc->gear[data[i]];
		if (!(hash & (i < fastcdc->average ? fastcdc->mask_small : fastcdc->mask_large)))
			return i;
	}
	return limit;
}

static struct fastcdc_params random_params(uint64_t *random)
{
	uint32_t average = 1024u << input_random(random) % 5;

	return (struct fastcdc_params){
		.min = 64 + (uint32_t)(input_random(random) % (average - 63)),
		.average = average,
		.max = average + 1 + (uint32_t)(input_random(random) % (4 * average)),
		.seed = (uint32_t)input_random(random),
		.level = (uint32_t)(input_random(random) % (FASTCDC_LEVEL_MAX + 1)),
	};
}

static void test_plain_rule(void **state)
{
	uint64_t random = 20201;

	for (int run = 0; run < 300; run++) {
		const struct fastcdc_params params = random_params(&random);
		const uint8_t *data = input_bytes((enum input_kind)(run % INPUT_KINDS));
		size_t begin = input_random(&random) % (INPUT_BYTES_MAX / 2);
		size_t size = input_random(&random) % (20 * params.average);
		struct fastcdc fastcdc;

		assert_true(fastcdc_init(&fastcdc, &params));
		for (size_t offset = 0; offset < size;) {
			const uint8_t *rest = data + begin + offset;
			size_t length = fastcdc_cut(&fastcdc, rest, size - offset);

			assert_int_equal(length, plain_cut(&fastcdc, rest, size - offset));
			assert_true(length > 0);
			offset += length;
		}
	}
}

/* `max` bytes are enough to know a cut, and a cut never reads past what it was given (a sanitizer watches). */
static void test_edges(void **state)
{
	const struct fastcdc_params params = fastcdc_params_reapi(1024, 0);
	const uint8_t *data = input_bytes(INPUT_COUNTER);
	struct fastcdc fastcdc;

	assert_true(fastcdc_init(&fastcdc, &params));
	assert_int_equal(fastcdc_cut(&fastcdc, NULL, 0), 0);
	for (size_t size = 1; size <= 5000; size++) {
		uint8_t *exact = malloc(size);
		size_t length;

		memcpy(exact, data, size);
		length = fastcdc_cut(&fastcdc, exact, size);
		free(exact);
		assert_true(length >= 1 && length <= size && length <= params.max);
		if (size <= params.min)
			assert_int_equal(length, size);
		if (size >= params.max)
			assert_int_equal(length, fastcdc_cut(&fastcdc, data, INPUT_BYTES_MAX));
	}
	/* One value throughout never hits with this table: every chunk is the longest. */
	assert_int_equal(fastcdc_cut(&fastcdc, input_bytes(INPUT_ZERO), INPUT_BYTES_MAX), params.max);
}

static int read_image(const char *path)
{
	FILE *file = path ? fopen(path, "rb") : NULL;
	size_t size = file ? fread(image, 1, sizeof(image), file) : 0;

	if (file)
		fclose(file);
	if (size == IMAGE_BYTES)
		return 0;
	fprintf(stderr, "usage: fastcdc_test IMAGE\n");
	return 1;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gear_table),     cmocka_unit_test(test_params_refused),
		cmocka_unit_test(test_masks),          cmocka_unit_test(test_generated_vectors),
		cmocka_unit_test(test_image_published), cmocka_unit_test(test_image_levels),
		cmocka_unit_test(test_plain_rule),     cmocka_unit_test(test_edges),
	};

	if (read_image(argv[1]))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
