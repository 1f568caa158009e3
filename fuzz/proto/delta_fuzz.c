/*
 * delta: a byte says where the input is cut in two. The one half as edits over the other: nothing beyond what was lent is
 * touched. The one half told by the other, with its bytes and with its signature: what comes back is the same.
 */
#include "proto/delta.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)
#define MADE_MAX 4096

static void walk_copies(struct span edits)
{
	struct delta_copies copies = { .rest = edits };
	uint64_t end = 0;

	while (delta_copies_next(&copies)) {
		REQUIRE(copies.begin >= end && copies.end >= copies.begin);
		end = copies.end;
	}
}

static void apply_any(struct span base, struct span edits)
{
	for (size_t made = 0; made <= MADE_MAX; made = made * 4 + 1) {
		uint8_t *out = malloc(made ? made : 1);

		(void)delta_apply(base, edits, out, made);
		free(out);
	}
}

static void same_again(struct span base, struct span target, struct span edits)
{
	uint8_t *out = malloc(target.size ? target.size : 1);

	REQUIRE(delta_apply(base, edits, out, target.size));
	REQUIRE(span_equal(span_make(out, target.size), target));
	free(out);
}

static void round_trip(struct span base, struct span target)
{
	struct buffer edits = buffer_heap(2 * target.size + 64), hashes = buffer_heap(base.size + 64);
	struct delta_signature signature = { .size = base.size };

	REQUIRE(delta_encode(&edits, base, target));
	same_again(base, target, buffer_span(&edits));
	buffer_clear(&edits);
	delta_sign(&hashes, base);
	signature.hashes = buffer_span(&hashes);
	REQUIRE(delta_encode_signed(&edits, &signature, 1, target));
	/* Equal hashes of other bytes are possible, though nobody finds them here: then the digest tells. */
	same_again(base, target, buffer_span(&edits));
	buffer_fini(&edits);
	buffer_fini(&hashes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span base, rest;
	size_t cut;

	if (size == 0)
		return 0;
	cut = (size - 1) * data[0] / 255;
	base = span_make(data + 1, cut);
	rest = span_make(data + 1 + cut, size - 1 - cut);
	apply_any(base, rest);
	walk_copies(rest);
	round_trip(base, rest);
	return 0;
}
