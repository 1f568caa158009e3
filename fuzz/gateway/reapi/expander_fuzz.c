/*
 * expander: a byte that says in what pieces, one that says how much memory there is, and zstd of a client's. Each step gets on; no
 * more memory is held than was charged and than there is, whatever window a frame asks for, and all of it is given back. What
 * expands at once expands in pieces to the same, and any bytes come back from having been compressed.
 */
#include "gateway/reapi/expander.h"

#include <stdlib.h>

#include "proto/buffer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)
#define PLAIN_MAX     (4u << 20)         /* a few bytes may ask for gigabytes: more is not looked at */
#define SHARE_MAX     ((1u << EXPANDER_WINDOW_LOG) + (1u << 20))

struct expanding {
	struct budget budget;
	struct expander expander;
	struct buffer plain;
	bool open;                       /* a frame has not ended */
};

static enum expander_outcome take(struct expanding *expanding, struct span bytes)
{
	struct expander *expander = &expanding->expander;

	while (bytes.size || !expander_dry(expander)) {
		struct span plain = expander_plain(expander);
		size_t before = bytes.size;
		enum expander_outcome outcome;

		buffer_put(&expanding->plain, plain.data, plain.size);
		expander_taken(expander, plain.size);
		if (expanding->plain.failed)
			return EXPANDER_CROWDED;
		if (bytes.size == 0 && expander_dry(expander))
			break;
		outcome = expander_step(expander, &bytes);
		REQUIRE(expanding->budget.used == expander->share.bytes && expander->share.bytes <= expanding->budget.max);
		if (outcome != EXPANDER_OK)
			return outcome;
		REQUIRE(ZSTD_sizeof_DCtx(expander->context) < expander->share.bytes && expander->share.bytes <= SHARE_MAX);
		REQUIRE(bytes.size < before || expander_plain(expander).size || before == 0);
	}
	return EXPANDER_OK;
}

/* `piece` 0: all at once. */
static enum expander_outcome expand(struct expanding *expanding, struct span bytes, size_t piece, uint64_t budget)
{
	enum expander_outcome outcome = EXPANDER_OK;

	*expanding = (struct expanding){ .plain = buffer_heap(PLAIN_MAX) };
	budget_init(&expanding->budget, budget);
	expanding->expander.budget = &expanding->budget;
	for (size_t at = 0; at < bytes.size && outcome == EXPANDER_OK;) {
		size_t size = piece && piece < bytes.size - at ? piece : bytes.size - at;

		outcome = take(expanding, span_make(bytes.data + at, size));
		at += size;
	}
	expanding->open = expanding->expander.frame_open;
	expander_drop(&expanding->expander);
	REQUIRE(expanding->budget.used == 0);
	return outcome;
}

static void expand_both_ways(struct span bytes, size_t piece, uint64_t budget)
{
	struct expanding whole, pieces;
	enum expander_outcome outcome = expand(&whole, bytes, 0, budget);

	/* With all of a frame at hand zstd may do without its window, and so without the memory for it. */
	if (expand(&pieces, bytes, piece, budget) == EXPANDER_OK && outcome == EXPANDER_OK) {
		REQUIRE(span_equal(buffer_span(&whole.plain), buffer_span(&pieces.plain)));
		REQUIRE(whole.open == pieces.open);
	}
	buffer_fini(&whole.plain);
	buffer_fini(&pieces.plain);
}

static void come_back(struct span bytes, size_t piece)
{
	size_t bound = ZSTD_compressBound(bytes.size), size;
	uint8_t *packed = malloc(bound);
	struct expanding expanding;

	REQUIRE(packed);
	size = ZSTD_compress(packed, bound, bytes.data, bytes.size, 1);
	REQUIRE(!ZSTD_isError(size));
	if (bytes.size <= PLAIN_MAX) {
		REQUIRE(expand(&expanding, span_make(packed, size), piece, 2 * SHARE_MAX) == EXPANDER_OK);
		REQUIRE(span_equal(buffer_span(&expanding.plain), bytes) && !expanding.open);
		buffer_fini(&expanding.plain);
	}
	free(packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span bytes;
	size_t piece;

	if (size < 2)
		return 0;
	piece = 1 + (size_t)data[0] * data[0];
	bytes = span_make(data + 2, size - 2);
	expand_both_ways(bytes, piece, (uint64_t)data[1] << 16);
	come_back(bytes, piece);
	return 0;
}
