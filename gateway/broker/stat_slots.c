/* Open addressing, linear probing. */
#include "gateway/broker/stat_slots.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <xxhash.h>

#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "proto/recipe.h"

#define REMOVED UINT32_MAX               /* recipe_bytes of an entry that was removed: others are found behind it */

_Static_assert(sizeof(struct stat_entry) == STAT_ENTRY_BYTES, "an entry has no holes");

/* All its blocks are taken at once: a full disk is an error here, not a signal later. */
static int slots_map(struct stat_slots *slots, size_t bytes, int dir_fd)
{
	CLEANUP(fd_closep) int fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	void *memory;
	int r;

	if (fd < 0)
		return ERR_RAISE(-errno);
	r = posix_fallocate(fd, 0, (off_t)bytes);
	if (r)
		return ERR_RAISE(-r);
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return ERR_RAISE(-errno);
	slots->entries = memory;
	return 0;
}

int stat_slots_init(struct stat_slots *slots, size_t capacity, uint64_t seed, bool mapped, int dir_fd)
{
	struct stat_slots made = { .capacity = capacity, .seed = seed, .mapped = mapped };
	int r = 0;

	CHECK(capacity > 0);
	if (mapped)
		r = slots_map(&made, capacity * sizeof(*made.entries), dir_fd);
	else if (!(made.entries = calloc(capacity, sizeof(*made.entries))))
		r = ERR_RAISE(-ENOMEM);
	if (!r)
		*slots = made;
	return r;
}

void stat_slots_fini(struct stat_slots *slots)
{
	if (slots->mapped)
		munmap(slots->entries, slots->capacity * sizeof(*slots->entries));
	else
		free(slots->entries);
	*slots = (struct stat_slots){ 0 };
}

static size_t slot_first(const struct stat_slots *slots, const struct stat_entry_key *key)
{
	uint64_t hash = XXH3_64bits_withSeed(key->bytes, STAT_ENTRY_PLACE_BYTES, slots->seed);

	return (size_t)((unsigned __int128)hash * slots->capacity >> 64);
}

/* The slot of the key's place, removed or not, or a free one; NULL: none is free. */
static struct stat_entry *slot_of(const struct stat_slots *slots, const struct stat_entry_key *key)
{
	size_t i = slots->capacity ? slot_first(slots, key) : 0;

	for (size_t probes = 0; probes < slots->capacity; probes++) {
		struct stat_entry *entry = &slots->entries[i];

		if (entry->generation == 0 || memcmp(entry->key.bytes, key->bytes, STAT_ENTRY_PLACE_BYTES) == 0)
			return entry;
		i = i + 1 == slots->capacity ? 0 : i + 1;
	}
	return NULL;
}

struct stat_entry *stat_slots_find(const struct stat_slots *slots, const struct stat_entry_key *key)
{
	struct stat_entry *entry = slot_of(slots, key);

	return entry && entry->generation && entry->recipe_bytes != REMOVED ? entry : NULL;
}

struct stat_entry *stat_slots_add(struct stat_slots *slots, const struct stat_entry_key *key)
{
	struct stat_entry *entry = slot_of(slots, key);

	if (!entry)
		return NULL;
	if (entry->generation == 0) {
		entry->key = *key;
		slots->used++;
		slots->live++;
	} else if (entry->recipe_bytes == REMOVED) {
		slots->live++;
	}
	return entry;
}

void stat_slots_remove(struct stat_slots *slots, struct stat_entry *entry)
{
	CHECK(entry->generation && entry->recipe_bytes != REMOVED);
	entry->recipe_bytes = REMOVED;
	slots->live--;
}

bool stat_slots_has(const struct stat_slots *slots, size_t i)
{
	return slots->entries[i].generation && slots->entries[i].recipe_bytes != REMOVED;
}

bool stat_entry_valid(const struct stat_entry *entry)
{
	if (entry->generation == 0)
		return false;
	return entry->recipe_bytes ? entry->recipe_bytes <= RECIPE_BYTES_MAX && entry->size > RECIPE_WHOLE_MAX :
	                             entry->size <= RECIPE_WHOLE_MAX;
}

bool stat_entry_set(struct stat_entry *entry, const struct content_name *name, uint32_t generation)
{
	struct stat_entry set = { .key = entry->key, .size = name->size, .generation = generation };

	if (name->recipe ? name->digest.size == 0 || name->digest.size > RECIPE_BYTES_MAX : name->digest.size != name->size)
		return false;
	set.recipe_bytes = name->recipe ? (uint32_t)name->digest.size : 0;
	memcpy(set.hash, name->digest.hash, sizeof(set.hash));
	if (!stat_entry_valid(&set))
		return false;
	*entry = set;
	return true;
}

struct content_name stat_entry_name(const struct stat_entry *entry)
{
	struct content_name name = { .size = entry->size, .recipe = entry->recipe_bytes != 0 };

	name.digest.size = name.recipe ? entry->recipe_bytes : entry->size;
	memcpy(name.digest.hash, entry->hash, sizeof(entry->hash));
	return name;
}
