/*
 * zstd_message: any bytes are expanded within the bound or refused; taken as a message, they come back from being
 * compressed.
 */
#include "proto/zstd_message.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)
#define MESSAGE_MAX ((size_t)1 << 17)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buffer out = buffer_heap(MESSAGE_MAX), wire = buffer_heap((size_t)1 << 20);

	if (zstd_message_inflate(&out, span_make(data, size)) == ZSTD_MESSAGE_OK)
		REQUIRE(out.size <= MESSAGE_MAX);
	REQUIRE(out.capacity <= MESSAGE_MAX);
	if (size <= MESSAGE_MAX && zstd_message_deflate(&wire, span_make(data, size), 1)) {
		REQUIRE(wire.size < size);
		REQUIRE(zstd_message_inflate(&out, buffer_span(&wire)) == ZSTD_MESSAGE_OK);
		REQUIRE(span_equal(buffer_span(&out), span_make(data, size)));
	}
	buffer_fini(&out);
	buffer_fini(&wire);
	return 0;
}
