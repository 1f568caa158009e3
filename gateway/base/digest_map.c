/* Open addressing over entries that begin with their digests; half of the slots are free at least. */
#include "gateway/base/digest_map.h"

#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 64u

static bool is_free(const void *entry)
{
	static const struct digest none;

	return digest_equal(entry, &none);
}

/* Its own, or the free one where it belongs. */
static void *place_of(const struct digest_map *map, const struct digest *digest)
{
	size_t i = digest_hash(digest, &map->secret) & (map->capacity - 1);

	for (;; i = (i + 1) & (map->capacity - 1)) {
		void *entry = map->entries + i * map->entry_size;

		if (is_free(entry) || digest_equal(entry, digest))
			return entry;
	}
}

static bool grow(struct digest_map *map)
{
	struct digest_map grown = *map;

	grown.capacity = map->capacity ? map->capacity * 2 : CAPACITY_MIN;
	grown.entries = calloc(grown.capacity, map->entry_size);
	if (!grown.entries)
		return false;
	if (!map->capacity)
		grown.secret = digest_secret_make();
	for (size_t i = 0; i < map->capacity; i++) {
		const void *entry = map->entries + i * map->entry_size;

		if (!is_free(entry))
			memcpy(place_of(&grown, entry), entry, map->entry_size);
	}
	free(map->entries);
	*map = grown;
	return true;
}

void digest_map_fini(struct digest_map *map)
{
	free(map->entries);
	*map = (struct digest_map){ .entry_size = map->entry_size };
}

void *digest_map_find(const struct digest_map *map, const struct digest *digest)
{
	void *entry = map->capacity ? place_of(map, digest) : NULL;

	return entry && !is_free(entry) ? entry : NULL;
}

void *digest_map_add(struct digest_map *map, const struct digest *digest, bool *added)
{
	void *entry;

	if (map->count * 2 >= map->capacity && !grow(map))
		return NULL;
	entry = place_of(map, digest);
	*added = is_free(entry);
	if (*added) {
		memcpy(entry, digest, sizeof(*digest));
		map->count++;
	}
	return entry;
}
