/*
 * Property: a listing takes any entries or refuses them with a reason, never reads past them, and what it took is a tree: it
 * can be sealed, each of its entries' Stats makes the same listing again, with the same root, and every directory is found by its
 * digest. The input is an entry list; contents are named by their numbers.
 */
#include <assert.h>
#include <errno.h>
#include <sys/stat.h>

#include "gateway/edge/listing.h"
#include "proto/sluice_context.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool add(struct listing *listing, struct span bytes)
{
	struct fsutil_stat stat;
	int r;

	if (!fsutil_stat_decode(bytes, &stat))
		return false;
	r = listing_add(listing, &stat);
	assert(r == 0 || r == -ENOMEM || (r == -EINVAL && listing->fault));
	return r == 0;
}

static void name_all(struct listing *listing)
{
	for (uint32_t i = 0; i < listing->count; i++) {
		const struct listing_entry *entry = listing_at(listing, i);
		struct content_name name = { .digest = { .hash = { (uint8_t)i, 1 }, .size = entry->size }, .size = entry->size };

		if (!(entry->flags & LISTING_DATA))
			continue;
		if (entry->size > 65536) {
			name.recipe = true;
			name.digest.size = 70;
		}
		listing_set_content(listing, i, &name);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buffer stat = buffer_heap(1 << 20);
	struct listing listing, again;
	struct sha256 hasher;
	struct span rest = span_make(data, size), bytes;
	uint32_t number;

	sha256_init(&hasher, SHA256_OPENSSL);
	listing_init(&listing, NULL);
	listing_init(&again, NULL);
	while (entry_list_next(&rest, &bytes))
		(void)add(&listing, bytes);      /* what is refused leaves it as it was */
	listing_end(&listing);
	name_all(&listing);
	if (listing_seal(&listing, &hasher) == 0) {
		for (uint32_t i = 0; i < listing.count; i++) {
			struct digest digest = listing_digest(listing_at(&listing, i));

			buffer_clear(&stat);
			listing_stat(&listing, i, &stat);
			assert(!stat.failed && add(&again, buffer_span(&stat)));
			if (S_ISDIR(listing_at(&listing, i)->mode))
				assert(listing_find(&listing, &digest, &number));
		}
		listing_end(&again);
		name_all(&again);
		assert(listing_seal(&again, &hasher) == 0);
		assert(digest_equal(&listing.root, &again.root));
	}
	listing_fini(&listing);
	listing_fini(&again);
	buffer_fini(&stat);
	return 0;
}
