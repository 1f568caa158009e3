/*
 * Property: a resource name is refused with a sentence, or what it says, written down again, says the same. The instance and the
 * UUID lie inside the name.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/reapi_resource.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool lies_inside(struct span part, struct span name)
{
	return part.size == 0 || (part.data >= name.data && part.data + part.size <= name.data + name.size);
}

static void names_an_operation(const struct reapi_resource *resource, struct span name, bool upload)
{
	assert(!upload && lies_inside(resource->operation, name) && resource->stream < 2);
	assert(resource->operation.data == name.data && resource->operation.size == name.size - sizeof("/stdout") + 1);
}

static void says_the_same(const struct reapi_resource *resource, bool upload)
{
	char text[REAPI_RESOURCE_BYTES_MAX + 128], hex[DIGEST_HEX_BYTES];
	struct reapi_resource again;
	int length;

	digest_hex(&resource->digest, hex);
	length = snprintf(text, sizeof(text), "%.*s%s%s%.*s%s%s/%.*s/%llu", (int)resource->instance.size,
	                  (const char *)resource->instance.data, resource->instance.data ? "/" : "", upload ? "uploads/" : "",
	                  (int)resource->uuid.size, (const char *)resource->uuid.data, upload ? "/" : "",
	                  resource->zstd ? "compressed-blobs/zstd" : "blobs", DIGEST_HEX_BYTES, hex,
	                  (unsigned long long)resource->digest.size);
	assert(length > 0 && (size_t)length < sizeof(text));
	assert(!reapi_resource_parse(&again, span_make(text, (size_t)length), upload));
	assert(digest_equal(&again.digest, &resource->digest) && again.zstd == resource->zstd);
	assert(span_equal(again.instance, resource->instance) && span_equal(again.uuid, resource->uuid));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span name = span_make(data, size);

	if (memchr(data, 0, size))               /* printf would end there */
		return 0;
	for (int upload = 0; upload < 2; upload++) {
		struct reapi_resource resource;

		if (reapi_resource_parse(&resource, name, upload))
			continue;
		assert(lies_inside(resource.instance, name) && lies_inside(resource.uuid, name));
		if (resource.operation.size)
			names_an_operation(&resource, name, upload);
		else
			says_the_same(&resource, upload);
	}
	return 0;
}
