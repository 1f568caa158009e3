/* What an eviction must leave: everything that is reached from what holds and pins name. */
#include "gateway/store/evict_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/store/bytes.h"

bool evict_keeps(const struct store *store, const uint8_t *hash)
{
	return fingerprints_has(&store->evict.pinned, hash) || holds_blob(store, hash) ||
	       pending_has(&store_open_generation(store)->pending, hash) ||
	       pending_has(&store_frozen_generation(store)->pending, hash);
}

/* A copy of it must still be made. */
static bool evict_owes(const struct evict *evict, const uint8_t *hash)
{
	return fingerprints_has(&evict->members, hash) && !fingerprints_has(&evict->moved, hash);
}

static void evict_push(struct store *store, const struct store_reference *reference)
{
	struct evict *evict = &store->evict;

	if (evict->stack_count == evict->stack_capacity) {
		size_t capacity = evict->stack_capacity ? evict->stack_capacity * 2 : 256;
		struct store_reference *grown = reallocarray(evict->stack, capacity, sizeof(*grown));

		if (!grown) {
			store_fail(store, -ENOMEM, "eviction", UINT32_MAX);
			return;
		}
		evict->stack = grown;
		evict->stack_capacity = capacity;
	}
	evict->stack[evict->stack_count++] = *reference;
}

/*
 * A blob may be a file here and a directory there, and what names it may give a wrong size: each of these is a reference of its own,
 * and none takes the protection off what is below another.
 */
struct walked_key {
	uint8_t bytes[DIGEST_HASH_BYTES + 8 + 1];
};

static struct walked_key walked_key(const struct store_reference *reference)
{
	struct walked_key key;

	memcpy(key.bytes, reference->digest.hash, DIGEST_HASH_BYTES);
	bytes_put64(key.bytes + DIGEST_HASH_BYTES, reference->digest.size);
	key.bytes[DIGEST_HASH_BYTES + 8] = (uint8_t)reference->kind;
	return key;
}

static int evict_add_walked(struct evict *evict, const struct store_reference *reference)
{
	struct walked_key key = walked_key(reference);

	return fingerprints_add_key(&evict->walked, key.bytes, sizeof(key.bytes));
}

static void evict_pin_reference(struct store *store, const struct store_reference *reference)
{
	struct evict *evict = &store->evict;
	int r = fingerprints_add(&evict->pinned, reference->digest.hash);

	if (r > 0 && evict_owes(evict, reference->digest.hash))
		evict->late = true;
	if (r >= 0 && reference->kind != STORE_DATA && reference->digest.size > 0) {
		r = evict_add_walked(evict, reference);
		if (r > 0)
			evict_push(store, reference);
	}
	if (r < 0)
		store_fail(store, r, "eviction", UINT32_MAX);
}

static bool evict_listens(const struct evict *evict)
{
	return evict->state != EVICT_IDLE && evict->state != EVICT_DELETING && evict->state != EVICT_LEAVING;
}

void evict_pinned_blob(struct store *store, const uint8_t *hash)
{
	struct evict *evict = &store->evict;

	/* Whether it stays is asked of its hold when its turn comes; only what was passed already needs another round. */
	if (evict_listens(evict) && evict_owes(evict, hash))
		evict->late = true;
}

void evict_pinned_root(struct store *store, const struct store_reference *root)
{
	if (evict_listens(&store->evict))
		evict_pin_reference(store, root);
}

/* If it was walked, then in vain, and whoever holds it once more changes nothing: it counts as walked. */
void evict_arrived_blob(struct store *store, const struct digest *digest)
{
	static const enum store_kind kinds[] = { STORE_DIRECTORY, STORE_RECIPE };
	struct evict *evict = &store->evict;

	if (!evict_listens(evict))
		return;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		struct store_reference reference = { .digest = *digest, .kind = kinds[i] };
		struct walked_key key = walked_key(&reference);

		if (fingerprints_has_key(&evict->walked, key.bytes, sizeof(key.bytes)))
			evict_push(store, &reference);
	}
}

/* ---- walking ---- */

static void evict_visit(void *context, const struct store_reference *reference)
{
	evict_pin_reference(context, reference);
}

void evict_walk(struct store *store)
{
	struct evict *evict = &store->evict;

	if (evict->reading)
		return;
	if (evict->read_done) {
		evict->read_done = false;
		/* No bad sector, which is damage: what is below it is not known, and may not be given up. Tried again a little later. */
		if (evict->read.result < 0) {
			log_event(LOG_ERROR, "nothing is evicted: what is held cannot be read", LOG_TEXT("error", err_report(evict->read.result)));
			evict_full(store);
			return;
		}
		/* What is missing or damaged cannot be kept; nor what is below it be known, unless it comes: evict_arrived_blob(). */
		if (evict->read.result == STORE_OK && store->config.references)
			store->config.references(evict->read_kind, evict->read.blob, evict_visit, store);
	}
	if (evict->stack_count > 0) {
		struct store_reference reference = evict->stack[--evict->stack_count];

		if (reference.digest.size <= STORE_BLOB_BYTES_MAX) {
			evict->read_kind = reference.kind;
			evict_read(store, &reference.digest);
		}
		store->again = true;
		return;
	}
	evict_enter(evict, evict->victim ? EVICT_COPYING : EVICT_MEASURING);
	evict->copied = evict->ticket = 0;
	evict->late = false;
	store->again = true;
}
