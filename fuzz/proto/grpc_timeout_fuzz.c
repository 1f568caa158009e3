/* grpc_timeout: what is read is written again as a time-out that reads as no less; eight bytes of input as a time too. */
#include "proto/grpc.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

static void round_trip(uint64_t ns)
{
	char text[16];
	size_t size = grpc_timeout_format(ns, text);
	uint64_t again;

	REQUIRE(size >= 2 && size <= 9 && text[size] == 0);
	REQUIRE(grpc_timeout_parse(span_make(text, size), &again));
	REQUIRE(again >= ns && again - ns <= ns / 10000 + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t ns;

	if (grpc_timeout_parse(span_make(data, size), &ns)) {
		REQUIRE(size <= 9);
		round_trip(ns);
	}
	if (size >= sizeof(ns)) {
		memcpy(&ns, data, sizeof(ns));
		round_trip(ns);
	}
	return 0;
}
