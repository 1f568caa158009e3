/*
 * Shows that a sieve changes no cut: this CPU's fills what a plain transcription of its contract fills, for every stretch,
 * up to the last byte before memory that may not be read; and with either of them files of every kind are cut as the loop
 * without one cuts them, with limits and masks of every size, many hits in one go among them.
 */
#include "chunker/fastcdc_sieve.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/chunker/inputs.h"

#define RUNS 400

/* The contract, byte by byte. */
static void sieve_plain(const uint8_t planes[static FASTCDC_PLANES][256], uint32_t mask, const uint8_t *data,
			size_t stretch, struct fastcdc_sifted *out)
{
	memset(out, 0, sizeof(*out));
	for (size_t lane = 0; lane < FASTCDC_LANES; lane++) {
		const uint8_t *begin = data + lane * stretch;
		uint32_t low = 0;

		for (const uint8_t *at = begin - 32; at < begin + stretch; at++) {
			uint32_t gear = 0;

			for (size_t plane = 0; plane < FASTCDC_PLANES; plane++)
				gear |= (uint32_t)planes[plane][*at] << 8 * plane;
			low = (low << 1) + gear;
			if (at < begin)
				continue;
			out->low[at - begin][lane] = low;
			if (!(low & mask))
				out->hits[at - begin] |= (uint16_t)(1u << lane);
		}
	}
}

static struct fastcdc random_fastcdc(uint64_t *random)
{
	uint32_t average = 1024u << input_random(random) % 7;
	struct fastcdc_params params = {
		.min = 64 + (uint32_t)(input_random(random) % (average - 63)),
		.average = average,
		.max = average + 1 + (uint32_t)(input_random(random) % (4 * average)),
		.seed = (uint32_t)input_random(random),
		.level = (uint32_t)(input_random(random) % (FASTCDC_LEVEL_MAX + 1)),
	};
	struct fastcdc fastcdc;

	assert_true(fastcdc_init(&fastcdc, &params));
	return fastcdc;
}

/* `size` bytes that end where the next one may not be read. */
static uint8_t *before_nothing(size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t room = (size + page - 1) / page * page;
	uint8_t *memory = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(memory != MAP_FAILED);
	assert_int_equal(mprotect(memory + room, page, PROT_NONE), 0);
	return memory + room - size;
}

static void test_same_as_plain(void **state)
{
	static struct fastcdc_sifted sifted, expected;
	fastcdc_sieve *sieve = fastcdc_sieve_find();
	uint64_t random = 7;

	if (!sieve) {
		print_message("SKIPPED: this CPU has no sieve\n");
		skip();
	}
	for (size_t stretch = FASTCDC_STRETCH; stretch <= FASTCDC_STRETCH_MAX; stretch += FASTCDC_STRETCH) {
		size_t size = 32 + FASTCDC_LANES * stretch;
		uint8_t *data = before_nothing(size);
		struct fastcdc fastcdc = random_fastcdc(&random);
		uint32_t masks[] = { 0, UINT32_MAX, 1, 1u << 31, (uint32_t)fastcdc.mask_small, (uint32_t)fastcdc.mask_large };

		memcpy(data, input_bytes(stretch % 32 ? INPUT_COUNTER : INPUT_HEX) + input_random(&random) % 4096, size);
		for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
			sieve((const uint8_t(*)[256])fastcdc.planes, masks[i], data + 32, stretch, &sifted);
			sieve_plain((const uint8_t(*)[256])fastcdc.planes, masks[i], data + 32, stretch, &expected);
			assert_memory_equal(sifted.low, expected.low, stretch * sizeof(sifted.low[0]));
			assert_memory_equal(sifted.hits, expected.hits, stretch * sizeof(sifted.hits[0]));
		}
	}
}

static void check_cuts(fastcdc_sieve *sieve)
{
	uint64_t random = 20201;

	for (int run = 0; run < RUNS; run++) {
		const uint8_t *data = input_bytes((enum input_kind)(run % INPUT_KINDS));
		struct fastcdc plain = random_fastcdc(&random), sieved = plain;
		size_t begin = input_random(&random) % (INPUT_BYTES_MAX / 2);
		size_t size = input_random(&random) % (20 * plain.average);

		plain.sieve = NULL;
		sieved.sieve = sieve;
		for (size_t offset = 0; offset < size;) {
			const uint8_t *rest = data + begin + offset;
			size_t length = fastcdc_cut(&sieved, rest, size - offset);

			assert_int_equal(length, fastcdc_cut(&plain, rest, size - offset));
			offset += length;
		}
	}
}

static void test_plain_cuts(void **state)
{
	check_cuts(sieve_plain);
}

static void test_cuts(void **state)
{
	if (!fastcdc_sieve_find()) {
		print_message("SKIPPED: this CPU has no sieve\n");
		skip();
	}
	check_cuts(fastcdc_sieve_find());
}

/* The hash that goes on behind a piece is the same, so pieces may be sieved one after the other. */
static void test_hash_goes_on(void **state)
{
	uint64_t random = 3;

	for (size_t size = 64; size < 3000; size += 2) {
		const uint8_t *data = input_bytes(INPUT_COUNTER) + size;
		struct fastcdc plain = random_fastcdc(&random), sieved = plain;
		uint64_t before = input_random(&random), hashes[2] = { before, before };
		size_t start = fastcdc_scan_start(&plain), found;

		plain.sieve = NULL;
		sieved.sieve = sieve_plain;
		found = fastcdc_scan(&plain, start, data, size, &hashes[0]);
		assert_int_equal(fastcdc_scan(&sieved, start, data, size, &hashes[1]), found);
		if (found == size)
			assert_int_equal(hashes[0], hashes[1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_as_plain),
		cmocka_unit_test(test_plain_cuts),
		cmocka_unit_test(test_cuts),
		cmocka_unit_test(test_hash_goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
