/*
 * claims_file: any bytes as a claims file, with head and checksums put right so that the claims are reached (but those of the last
 * record, as given). What is accepted is a table in which a claim that is made again is known or new, and no (path, size,
 * mtime) is given to a second content.
 */
#include "gateway/play/claims_file.h"

#include <stdlib.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)
#define BYTES_MAX 65536

static const struct claims_file_head head = { .id = "fuzz", .owner = "fuzz" };

static size_t put_right(uint8_t *bytes, size_t size)
{
	const uint64_t magic = 0x736d6c6369756c73ull;
	const uint32_t numbers[2] = { CLAIMS_FILE_VERSION, CLAIMS_FILE_RECORD_BYTES };
	uint64_t id;

	if (size < CLAIMS_FILE_HEAD_BYTES)
		return size;
	memcpy(bytes, &magic, sizeof(magic));
	memcpy(bytes + 8, numbers, sizeof(numbers));
	memcpy(bytes + 16, &head, sizeof(head));
	memcpy(&id, head.id, sizeof(id));
	for (size_t at = CLAIMS_FILE_HEAD_BYTES; at + 2 * CLAIMS_FILE_RECORD_BYTES <= size; at += CLAIMS_FILE_RECORD_BYTES) {
		uint64_t sum = XXH3_64bits_withSeed(bytes + at, CLAIM_BYTES, id ^ at);

		memcpy(bytes + at + CLAIM_BYTES, &sum, sizeof(sum));
	}
	return size;
}

static void make_again(struct claims *claims, const uint8_t *bytes, uint64_t end)
{
	for (uint64_t at = CLAIMS_FILE_HEAD_BYTES; at < end; at += CLAIMS_FILE_RECORD_BYTES) {
		struct claim claim, other;
		int64_t mtime_ns;
		int r;

		memcpy(&claim, bytes + at, sizeof(claim));
		REQUIRE(claims_latest(claims, &claim.path, &mtime_ns));
		other = claim;
		other.content.bytes[0] ^= 0x55;
		r = claims_make(claims, &other);
		REQUIRE(r != CLAIMS_MADE || other.mtime_ns > claim.mtime_ns);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t bytes[BYTES_MAX];
	struct claims claims;
	uint64_t end = 0;

	size = size < sizeof(bytes) ? size : sizeof(bytes);
	if (size)
		memcpy(bytes, data, size);
	put_right(bytes, size);
	claims_init(&claims, 1, NULL);
	if (claims_file_parse(&claims, span_make(bytes, size), &head, &end) == CLAIMS_FILE_OK) {
		REQUIRE(end <= size && claims.records == (end - CLAIMS_FILE_HEAD_BYTES) / CLAIMS_FILE_RECORD_BYTES);
		make_again(&claims, bytes, end);
	}
	claims_fini(&claims);
	return 0;
}
