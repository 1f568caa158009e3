/*
 * executor_address: what is taken for an executor is whole: an address that can be dialled, texts that end, slots and tenant
 * that are allowed, keys only with TLS; and its address reads the same by itself. What is not taken says why.
 */
#include "gateway/buildkitd/executor_address.h"

#include <stdlib.h>
#include <string.h>
#include "gateway/tenant/tenant.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

static void check(const struct executor_address *executor, char *text)
{
	struct executor_address alone;
	char why[512];

	REQUIRE(executor->address.host[0] && memchr(executor->address.host, '\0', sizeof(executor->address.host)));
	REQUIRE(executor->address.local ? executor->address.host[0] == '/' : executor->address.port[0] != '\0');
	REQUIRE(!(executor->dns && executor->address.local));
	REQUIRE(executor->name[0] && memchr(executor->name, '\0', sizeof(executor->name)));
	REQUIRE(!executor->tenant[0] || tenant_name_valid(span_text(executor->tenant)));
	REQUIRE(executor->slots <= EXECUTOR_SLOTS_MAX);
	REQUIRE(executor->address.tls || !(executor->ca[0] || executor->certificate[0] || executor->key[0]));
	REQUIRE(!executor->certificate[0] == !executor->key[0]);
	text[strcspn(text, ",")] = '\0';
	REQUIRE(executor_address_parse(&alone, text, why, sizeof(why)));
	REQUIRE(strcmp(alone.address.host, executor->address.host) == 0 && alone.dns == executor->dns);
	REQUIRE(!alone.named && !alone.tenant[0] && alone.slots == 0 && strcmp(alone.name, text) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct executor_address executor;
	char *text = strndup((const char *)data, size), why[512] = "";

	if (text && executor_address_parse(&executor, text, why, sizeof(why)))
		check(&executor, text);
	else
		REQUIRE(!text || why[0]);
	free(text);
	return 0;
}
