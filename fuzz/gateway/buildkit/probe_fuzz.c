/*
 * return_is_empty: any bytes as an LLBBridge/Return, whose probe is answered here and seen by no daemon when it returns nothing.
 * What is taken for that is none any more with a result or an error put before it or behind it (protobuf merges the two), and
 * two that return nothing make one.
 */
#include "gateway/buildkit/binding.h"

#include <stdlib.h>
#include "proto/buffer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

static bool empty_together(struct span a, struct span b)
{
	struct buffer both = buffer_heap(a.size + b.size + 1);
	bool empty;

	buffer_put(&both, a.data, a.size);
	buffer_put(&both, b.data, b.size);
	REQUIRE(!both.failed);
	empty = probe_return_is_empty(buffer_span(&both));
	buffer_fini(&both);
	return empty;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct span something[] = {
		{ (const uint8_t *)"\x0a\x05\x1a\x03\x0a\x01x", 7 },             /* result{ref{id: "x"}} */
		{ (const uint8_t *)"\x0a\x03\x0a\x01x", 5 },                     /* result{refDeprecated: "x"} */
		{ (const uint8_t *)"\x0a\x05\x52\x03\x0a\x01k", 7 },             /* result{metadata{"k"}} */
		{ (const uint8_t *)"\x12\x02\x08\x02", 4 },                      /* error{code: UNKNOWN} */
	};
	struct span message = span_make(data, size);

	if (!probe_return_is_empty(message))
		return 0;
	REQUIRE(empty_together(message, message));
	for (size_t i = 0; i < sizeof(something) / sizeof(something[0]); i++) {
		REQUIRE(!empty_together(message, something[i]));
		REQUIRE(!empty_together(something[i], message));
	}
	return 0;
}
