/* address_round_trip: what is taken for an address reads the same after it was written; what is not says so. */
#include "gateway/net/address.h"

#include <stdlib.h>
#include <string.h>
#include "proto/span.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct address address = { 0 }, again = { 0 };
	char written[ADDRESS_TEXT_MAX], why[128] = "";
	char *text = strndup((const char *)data, size);

	if (text && address_parse(&address, text, why, sizeof(why))) {
		REQUIRE(strlen(address_format(&address, written)) < sizeof(written));
		REQUIRE(address_parse(&again, written, why, sizeof(why)));
		REQUIRE(strcmp(address.host, again.host) == 0 && strcmp(address.port, again.port) == 0);
		REQUIRE(address.tls == again.tls && address.local == again.local);
	} else {
		REQUIRE(!text || why[0]);
	}
	free(text);
	return 0;
}
