/* Generators of test inputs. */
#include "tests/unit/chunker/inputs.h"

#include <assert.h>
#include <string.h>

#include "chunker/sha256.h"

#define TAG        "sluice"
#define TAG_BYTES  6
#define LINE_BYTES 63
#define PERIOD     1000

static uint8_t inputs[INPUT_KINDS][INPUT_BYTES_MAX];
static int made[INPUT_KINDS];

static void make_counter(uint8_t *out)
{
	uint8_t block[SHA256_BYTES];

	for (size_t i = 0; i * SHA256_BYTES < INPUT_BYTES_MAX; i++) {
		size_t offset = i * SHA256_BYTES;
		size_t size = INPUT_BYTES_MAX - offset < SHA256_BYTES ? INPUT_BYTES_MAX - offset : SHA256_BYTES;
		uint8_t message[TAG_BYTES + 8] = TAG;

		for (size_t j = 0; j < 8; j++)
			message[TAG_BYTES + j] = (uint8_t)((uint64_t)i >> (8 * j));
		sha256_once(message, sizeof(message), block);
		memcpy(out + offset, block, size);
	}
}

static void make_hex(uint8_t *out)
{
	const uint8_t *counter = input_bytes(INPUT_COUNTER);
	size_t digit = 0;

	for (size_t i = 0; i < INPUT_BYTES_MAX; i++) {
		if (i % (LINE_BYTES + 1) == LINE_BYTES) {
			out[i] = '\n';
			continue;
		}
		out[i] = (uint8_t)"0123456789abcdef"[(counter[digit / 2] >> (digit % 2 ? 0 : 4)) & 15];
		digit++;
	}
}

static void make_period(uint8_t *out)
{
	const uint8_t *counter = input_bytes(INPUT_COUNTER);

	for (size_t i = 0; i < INPUT_BYTES_MAX; i++)
		out[i] = counter[i % PERIOD];
}

const uint8_t *input_bytes(enum input_kind kind)
{
	static void (*const make[INPUT_KINDS])(uint8_t *) = {
		[INPUT_COUNTER] = make_counter,
		[INPUT_HEX] = make_hex,
		[INPUT_PERIOD] = make_period,
	};

	assert(kind < INPUT_KINDS);
	if (make[kind] && !made[kind])
		make[kind](inputs[kind]);
	made[kind] = 1;
	return inputs[kind];
}
