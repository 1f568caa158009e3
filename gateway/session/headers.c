/* Header fields that are kept. */
#include "gateway/session/headers.h"

#include <stdlib.h>
#include <string.h>

struct header *headers_copy(const struct header *headers, size_t count, const struct header *before, size_t before_count)
{
	size_t bytes = 0;
	struct header *copies;
	uint8_t *place;

	for (size_t i = 0; i < before_count + count; i++) {
		const struct header *from = i < before_count ? &before[i] : &headers[i - before_count];

		bytes += from->name.size + from->value.size;
	}
	copies = malloc((before_count + count) * sizeof(*copies) + bytes + 1);
	if (!copies)
		return NULL;
	place = (uint8_t *)(copies + before_count + count);
	for (size_t i = 0; i < before_count + count; i++) {
		const struct header *header = i < before_count ? &before[i] : &headers[i - before_count];
		struct span from[2] = { header->name, header->value }, to[2];

		for (size_t k = 0; k < 2; k++) {
			if (from[k].size)
				memcpy(place, from[k].data, from[k].size);
			to[k] = span_make(place, from[k].size);
			place += from[k].size;
		}
		copies[i] = (struct header){ .name = to[0], .value = to[1], .sensitive = header->sensitive };
	}
	return copies;
}

struct span headers_find(const struct header *headers, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (span_is(headers[i].name, name))
			return headers[i].value;
	return (struct span){ 0 };
}
