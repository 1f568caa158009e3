/*
 * Shows that the streaming cutter cuts exactly where fastcdc_cut() cuts the whole file, however the file falls into
 * pieces: byte by byte, in two at every position, and in random pieces, with odd and even limits and odd tails. The
 * driver below is the caller that chunker/cutter.h describes; it hands over exact allocations, so a sanitizer sees any
 * byte read past a piece.
 */
#include "chunker/cutter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "chunker/profile.h"
#include "tests/unit/chunker/fastcdc_vectors.h"
#include "tests/unit/chunker/inputs.h"

/* One file being fed; what the cutter reports is compared with the whole-file cut at once. */
struct feed {
	struct cutter cutter;
	const struct fastcdc *fastcdc;
	const uint8_t *data;
	size_t size;
	size_t chunk; /* where the pending chunk starts */
	size_t fed;   /* how far the cutter has absorbed */
};

static void feed_init(struct feed *feed, const struct fastcdc *fastcdc, const uint8_t *data, size_t size)
{
	*feed = (struct feed){ .fastcdc = fastcdc, .data = data, .size = size };
	cutter_init(&feed->cutter, fastcdc);
}

static void feed_chunk(struct feed *feed, size_t length)
{
	size_t expected = fastcdc_cut(feed->fastcdc, feed->data + feed->chunk, feed->size - feed->chunk);

	assert_int_equal(length, expected);
	feed->chunk += length;
	feed->fed = feed->chunk;
}

/* The next piece ends at `end`. */
static void feed_to(struct feed *feed, size_t end)
{
	while (feed->fed < end) {
		size_t before = feed->fed;
		size_t length = cutter_feed(&feed->cutter, feed->data + before, end - before);

		if (length) {
			/* What the header promises of a cut that lies before `data`. */
			assert_true(feed->chunk + length + 1 >= before);
			assert_true(feed->chunk + length <= end);
			feed_chunk(feed, length);
			assert_int_equal(cutter_pending(&feed->cutter), 0);
		} else {
			size_t pending = cutter_pending(&feed->cutter);

			/* No assert_*(): they are slow, and this runs a hundred million times. */
			if (pending != end - feed->chunk || pending >= feed->fastcdc->max)
				fail_msg("%zu bytes pending of %zu", pending, end - feed->chunk);
			feed->fed = end;
		}
	}
}

static void feed_end(struct feed *feed)
{
	size_t length = cutter_finish(&feed->cutter);

	if (length)
		feed_chunk(feed, length);
	assert_int_equal(feed->chunk, feed->size);
	assert_int_equal(cutter_finish(&feed->cutter), 0);
}

static void feed_steps(const struct fastcdc *fastcdc, const uint8_t *data, size_t size, size_t step)
{
	struct feed feed;

	feed_init(&feed, fastcdc, data, size);
	for (size_t end = 0; end < size;) {
		end = size - end < step ? size : end + step;
		feed_to(&feed, end);
	}
	feed_end(&feed);
}

static void feed_random(const struct fastcdc *fastcdc, const uint8_t *data, size_t size, uint64_t *random)
{
	struct feed feed;

	feed_init(&feed, fastcdc, data, size);
	for (size_t end = 0; end < size;) {
		/* Short pieces, long ones, and all between. */
		size_t step = input_random(random) % ((size_t)2 << input_random(random) % 20);

		end = size - end < step ? size : end + step;
		feed_to(&feed, end);
	}
	feed_end(&feed);
}

static void test_vectors(void **state)
{
	uint64_t random = 77;

	for (size_t i = 0; i < sizeof(fastcdc_vectors) / sizeof(fastcdc_vectors[0]); i++) {
		const struct fastcdc_vector *vector = &fastcdc_vectors[i];
		struct fastcdc_params params = fastcdc_params_reapi(vector->average, vector->seed);
		const uint8_t *data = input_bytes(vector->kind);
		struct fastcdc fastcdc;

		assert_true(fastcdc_init(&fastcdc, &params));
		feed_steps(&fastcdc, data, vector->bytes, 1);
		feed_steps(&fastcdc, data, vector->bytes, vector->bytes);
		feed_random(&fastcdc, data, vector->bytes, &random);
	}
}

/* Limits of every parity, every kind of data, every length of tail. */
static void test_parameters(void **state)
{
	uint64_t random = 4711;

	for (int run = 0; run < 400; run++) {
		const struct fastcdc_params params = {
			.min = 64 + (uint32_t)(input_random(&random) % 961),
			.average = 1024,
			.max = 1025 + (uint32_t)(input_random(&random) % 3072),
			.seed = (uint32_t)input_random(&random),
			.level = (uint32_t)(input_random(&random) % (FASTCDC_LEVEL_MAX + 1)),
		};
		const uint8_t *data = input_bytes((enum input_kind)(run % INPUT_KINDS));
		size_t size = input_random(&random) % 40000;
		struct fastcdc fastcdc;

		data += input_random(&random) % (INPUT_BYTES_MAX - 40000);
		assert_true(fastcdc_init(&fastcdc, &params));
		feed_steps(&fastcdc, data, size, 1);
		feed_steps(&fastcdc, data, size, 2);
		feed_steps(&fastcdc, data, size, 3);
		feed_random(&fastcdc, data, size, &random);
	}
}

/* One piece ends, and so may the file, at every position: exact allocations on both sides. */
static void test_every_split(void **state)
{
	static const uint32_t limits[][2] = { { 64, 1025 }, { 255, 2047 }, { 256, 4096 }, { 301, 1500 } };
	enum { SIZE = 2600 };

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		const struct fastcdc_params params = {
			.min = limits[i][0], .average = 1024, .max = limits[i][1], .level = 2
		};
		struct fastcdc fastcdc;

		assert_true(fastcdc_init(&fastcdc, &params));
		for (size_t split = 0; split <= SIZE; split++) {
			uint8_t *file = malloc(split + 1);
			struct feed feed;

			memcpy(file, input_bytes(INPUT_COUNTER) + 12345, split + 1);
			feed_init(&feed, &fastcdc, file, split + 1);
			feed_to(&feed, split);
			feed_to(&feed, split + 1);
			feed_end(&feed);
			free(file);
		}
	}
}

/* A cutter that has finished one file cuts the next as a new one does; empty files and empty pieces cut nothing. */
static void test_reuse(void **state)
{
	const struct fastcdc *fastcdc = profile_fastcdc(PROFILE_FINE);
	const uint8_t *data = input_bytes(INPUT_COUNTER);
	struct cutter cutter;
	size_t first;

	cutter_init(&cutter, fastcdc);
	assert_int_equal(cutter_finish(&cutter), 0);
	assert_int_equal(cutter_feed(&cutter, NULL, 0), 0);
	assert_int_equal(cutter_feed(&cutter, data, 12001), 0);
	assert_int_equal(cutter_feed(&cutter, NULL, 0), 0);
	assert_int_equal(cutter_pending(&cutter), 12001);
	assert_int_equal(cutter_finish(&cutter), 12001);
	first = cutter_feed(&cutter, data, INPUT_BYTES_MAX);
	assert_int_equal(first, fastcdc_cut(fastcdc, data, INPUT_BYTES_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_parameters),
		cmocka_unit_test(test_every_split),
		cmocka_unit_test(test_reuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
