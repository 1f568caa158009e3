/*
 * tokens_parse: any text is taken as a whole or refused with a reason; rows that come out have a name and rights that the
 * rest of the program may rely on, in the order of their hashes, each once.
 */
#include "gateway/tenant/tokens.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct token_row *rows = NULL;
	size_t count = 0;
	char why[256] = "";

	if (tokens_parse(&rows, &count, span_make(data, size), why, sizeof(why)) < 0) {
		REQUIRE(!rows && why[0]);
		return 0;
	}
	for (size_t i = 0; i < count; i++) {
		REQUIRE(tenant_name_valid(span_text(rows[i].tenant)));
		REQUIRE(rows[i].rights && !(rows[i].rights & ~(uint32_t)SCOPE_ALL));
		REQUIRE(i == 0 || memcmp(rows[i - 1].hash, rows[i].hash, TOKEN_HASH_BYTES) < 0);
	}
	free(rows);
	return 0;
}
