/*
 * grpc_message: any text survives encoding and decoding and travels as printable ASCII; decoding takes anything, never
 * makes it longer, and stops cleanly where the room ends.
 */
#include "proto/grpc.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buffer wire = buffer_heap(3 * size + 1), plain = buffer_heap(size + 1);
	uint8_t storage[16];
	struct buffer tight = buffer_over(storage, size % sizeof(storage));

	grpc_message_encode(&wire, span_make(data, size));
	REQUIRE(!wire.failed);
	for (size_t i = 0; i < wire.size; i++)
		REQUIRE(wire.data[i] >= 0x20 && wire.data[i] <= 0x7e);
	grpc_message_decode(&plain, buffer_span(&wire));
	REQUIRE(!plain.failed && span_equal(buffer_span(&plain), span_make(data, size)));

	buffer_clear(&plain);
	grpc_message_decode(&plain, span_make(data, size));
	REQUIRE(!plain.failed && plain.size <= size);
	grpc_message_decode(&tight, span_make(data, size));
	REQUIRE(tight.size <= plain.size);
	REQUIRE(tight.size == 0 || memcmp(tight.data, plain.data, tight.size) == 0);
	buffer_fini(&wire);
	buffer_fini(&plain);
	return 0;
}
