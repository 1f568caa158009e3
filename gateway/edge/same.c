/* Entries as hashes, and the few listings of them that are kept. */
#include "gateway/edge/same.h"

#include <stdlib.h>
#include <xxhash.h>

static uint64_t same_bytes(const struct same_entries *entries)
{
	return entries->count * sizeof(entries->hashes[0]);
}

void sames_init(struct sames *sames, uint64_t seed)
{
	*sames = (struct sames){ .seed = seed };
	list_init(&sames->kept);
}

static void let_go(struct sames *sames)
{
	struct same_entries *entries = container_of(list_take(&sames->kept), struct same_entries, link);

	sames->count--;
	sames->bytes -= same_bytes(entries);
	sames_put(entries);
}

void sames_fini(struct sames *sames)
{
	while (!list_empty(&sames->kept))
		let_go(sames);
}

struct same_entries *sames_get(struct sames *sames, const struct digest *root)
{
	for (struct list *at = sames->kept.next; at != &sames->kept; at = at->next) {
		struct same_entries *entries = container_of(at, struct same_entries, link);

		if (!digest_equal(&entries->root, root))
			continue;
		list_remove(&entries->link);
		list_append(&sames->kept, &entries->link);
		entries->users++;
		return entries;
	}
	return NULL;
}

void sames_put(struct same_entries *entries)
{
	if (entries && --entries->users == 0)
		free(entries);
}

void sames_keep(struct sames *sames, struct same_entries *entries)
{
	struct same_entries *before = entries ? sames_get(sames, &entries->root) : NULL;

	if (!entries || before) {
		sames_put(before);
		sames_put(entries);
		return;
	}
	list_append(&sames->kept, &entries->link);
	sames->count++;
	sames->bytes += same_bytes(entries);
	while (sames->count > SAME_LISTINGS_MAX || sames->bytes > SAME_BYTES_MAX)
		let_go(sames);
}

/* By its name and depth, since all before it are the same. A directory's digest is of what is below, and not known in time. */
static uint64_t entry_hash(const struct sames *sames, const struct listing *listing, uint32_t number)
{
	const struct listing_entry *entry = listing_at(listing, number);
	const bool data = entry->flags & LISTING_DATA;
	const struct content_name name = data ? listing_content(entry) : (struct content_name){ 0 };
	const uint64_t numbers[] = { entry->mode, entry->depth, entry->hardlink, entry->name_size, entry->target_size,
		                     entry->xattrs_count, name.size, name.digest.size, name.recipe };
	struct span xattrs = listing_xattrs(listing, entry);
	uint64_t hash = XXH3_64bits_withSeed(numbers, sizeof(numbers), sames->seed);

	hash = XXH3_64bits_withSeed(name.digest.hash, sizeof(name.digest.hash), hash);
	hash = XXH3_64bits_withSeed(listing->texts.data + entry->name, entry->name_size, hash);
	if (entry->target_size)
		hash = XXH3_64bits_withSeed(listing->texts.data + entry->target, entry->target_size, hash);
	return xattrs.size ? XXH3_64bits_withSeed(xattrs.data, xattrs.size, hash) : hash;
}

struct same_entries *same_make(const struct sames *sames, const struct listing *listing)
{
	struct same_entries *entries;

	if (listing->count < SAME_STEP || listing->count > SAME_BYTES_MAX / sizeof(entries->hashes[0]))
		return NULL;
	entries = malloc(sizeof(*entries) + listing->count * sizeof(entries->hashes[0]));
	if (!entries)
		return NULL;
	*entries = (struct same_entries){ .root = listing->root, .count = listing->count, .users = 1 };
	for (uint32_t i = 0; i < listing->count; i++)
		entries->hashes[i] = entry_hash(sames, listing, i);
	return entries;
}

bool same_is(const struct sames *sames, const struct same_entries *entries, const struct listing *listing, uint32_t number)
{
	return number < entries->count && entries->hashes[number] == entry_hash(sames, listing, number);
}
