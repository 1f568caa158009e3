/* Asking which blobs are there. */
#include "gateway/store/lookup.h"

#include "gateway/base/check.h"
#include "gateway/store/state.h"

#define LOOKUP_RESTARTS 2                /* then it goes through in one piece: evictions must not keep it from its end */
#define LOOKUP_SLICE 1024                /* sorted by the index, so not too few; about 0.4 ms, then the loop has a turn */

int lookups_init(struct lookups *lookups, struct store *store)
{
	list_init(&lookups->queue);
	return resolve_init(&lookups->resolve, store, LOOKUP_SLICE);
}

void lookups_fini(struct lookups *lookups)
{
	resolve_fini(&lookups->resolve);
}

static void lookup_on_resolve(struct resolve *resolve)
{
	struct lookups *lookups = &resolve->store->lookups;

	lookups->resolving = false;
	lookups->resolved = true;
	store_step(resolve->store);
}

static void lookup_begin_slice(struct store *store, const struct store_lookup *lookup)
{
	struct lookups *lookups = &store->lookups;
	size_t left = lookup->count - lookups->at;

	if (lookups->at == 0)
		lookups->sequence = store->sequence;
	lookups->resolving = true;
	lookups->resolve.scope = lookup->scope;
	lookups->resolve.hashes = lookup->digests[lookups->at].hash;
	lookups->resolve.stride = sizeof(*lookup->digests);
	lookups->resolve.count = left < LOOKUP_SLICE ? left : LOOKUP_SLICE;
	lookups->resolve.fn = lookup_on_resolve;
	resolve_start(&lookups->resolve);
}

static uint32_t lookup_place(struct store *store, const struct digest *digest, size_t i, uint64_t *size)
{
	struct sight sight;

	if (digest->size == 0 && !size)
		return digest_equal(digest, &digest_empty) ? LOOKUP_NOWHERE : 0;
	sight = resolve_sight(&store->lookups.resolve, i);
	if (!sight.visible || (!size && sight.size != digest->size))
		return 0;
	if (size)
		*size = sight.size;
	store_used(store, sight.place.segment);
	return 1 + sight.place.segment;
}

static void lookup_take_slice(struct store *store, struct store_lookup *lookup)
{
	struct lookups *lookups = &store->lookups;

	lookups->resolved = false;
	lookup->result = lookups->resolve.result;
	if (!lookup->result && resolve_stale(&lookups->resolve))
		return;                  /* the same slice again */
	for (size_t i = 0; i < lookups->resolve.count && !lookup->result; i++)
		lookup->places[lookups->at + i] = lookup_place(store, &lookup->digests[lookups->at + i], i,
		                                                   lookup->sizes ? &lookup->sizes[lookups->at + i] : NULL);
	lookups->at += lookups->resolve.count;
}

/* All slices must be true at the same moment: when something was taken out since the first one, begin again. */
static void lookup_finish(struct store *store, struct store_lookup *lookup)
{
	struct lookups *lookups = &store->lookups;

	lookups->at = 0;
	if (!lookup->result && lookups->sequence != store->sequence) {
		lookups->restarts++;
		return;
	}
	lookups->restarts = 0;
	list_remove(&lookup->link);
	lookup->fn(lookup);
}

void lookups_step(struct store *store)
{
	struct lookups *lookups = &store->lookups;

	if (store_pauses(store, STORE_PART_LOOKUPS))
		return;
	while (!list_empty(&lookups->queue) && !lookups->resolving) {
		struct store_lookup *lookup = container_of(lookups->queue.next, struct store_lookup, link);
		bool pause = false;

		if (lookups->resolved) {
			lookup_take_slice(store, lookup);
			pause = lookups->resolve.count == LOOKUP_SLICE && lookups->restarts < LOOKUP_RESTARTS;
		}
		if (lookup->result || lookup->count == 0) {
			lookups->sequence = store->sequence;
			lookup_finish(store, lookup);
		} else if (lookups->at == lookup->count) {
			lookup_finish(store, lookup);
		} else if (pause) {
			store_pause(store, STORE_PART_LOOKUPS);
			return;
		} else {
			lookup_begin_slice(store, lookup);
		}
	}
}

void store_lookup(struct store *store, struct store_lookup *lookup)
{
	CHECK(lookup->count <= STORE_BATCH_MAX);
	lookup->result = 0;
	list_append(&store->lookups.queue, &lookup->link);
	store_step(store);
}
