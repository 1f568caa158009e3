/* Names of directories, by their hashes. */
#include "gateway/session/siblings.h"

#include <string.h>

#include "chunker/sha256.h"

void siblings_init(struct siblings *siblings)
{
	list_init(&siblings->list);
}

void sibling_join(struct sibling *sibling, struct siblings *siblings, struct span shared_key)
{
	*sibling = (struct sibling){ .siblings = siblings, .shared_key = shared_key };
	list_append(&siblings->list, &sibling->link);
}

void sibling_leave(struct sibling *sibling)
{
	list_remove(&sibling->link);
	sibling->names_count = 0;
}

static bool sibling_has(const struct sibling *sibling, const uint8_t *hash)
{
	for (unsigned i = 0; i < sibling->names_count; i++)
		if (memcmp(sibling->names[i], hash, SIBLING_HASH_BYTES) == 0)
			return true;
	return false;
}

bool sibling_takes(struct sibling *sibling, struct span name)
{
	uint8_t hash[SHA256_BYTES];

	if (!sibling->siblings)
		return true;
	sha256_once(name.data, name.size, hash);
	if (sibling_has(sibling, hash))
		return true;
	list_for_each(link, &sibling->siblings->list) {
		const struct sibling *other = container_of(link, struct sibling, link);

		if (span_equal(other->shared_key, sibling->shared_key) && sibling_has(other, hash))
			return false;
	}
	if (sibling->names_count == SIBLING_NAMES_MAX)
		return false;
	memcpy(sibling->names[sibling->names_count++], hash, SIBLING_HASH_BYTES);
	return true;
}
