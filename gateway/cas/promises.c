/* A hash table of promises; each is also in its promiser's list, and has a list of those who wait for it. */
#include "gateway/cas/promises.h"

#include <stdlib.h>

#include "gateway/base/check.h"

#define BUCKETS (PROMISES_MAX / 4)

enum promise_kind { PROMISE_BLOB, PROMISE_ROOT };

struct promise {
	enum promise_kind kind;
	struct digest digest;
	struct promiser *promiser;
	struct promise *next;            /* of its bucket */
	struct list mine;                /* link in the promiser's list */
	struct list waiters;             /* promisers */
};

void promises_init(struct promises *promises, struct ring *ring)
{
	*promises = (struct promises){
		.ring = ring, .stall_ns = PROMISES_STALL_NS, .wait_ns = PROMISES_WAIT_NS, .count_max = PROMISES_MAX,
		.awaited_max = PROMISES_AWAITED_MAX,
	};
}

void promises_fini(struct promises *promises)
{
	CHECK(promises->count == 0);
	free(promises->buckets);
	promises->buckets = NULL;
}

static bool promises_make(struct promises *promises)
{
	if (promises->buckets)
		return true;
	promises->buckets = calloc(BUCKETS, sizeof(*promises->buckets));
	promises->secret = digest_secret_make();
	return promises->buckets != NULL;
}

/* What is promised need not exist: a client that could pick names that meet here would hold all others up. */
static struct promise **bucket_of(const struct promises *promises, const struct digest *digest)
{
	return &promises->buckets[digest_hash(digest, &promises->secret) % BUCKETS];
}

static struct promise *promises_find(const struct promises *promises, enum promise_kind kind, const struct scope *scope,
                                     const struct digest *digest)
{
	if (promises->count == 0)
		return NULL;
	for (struct promise *promise = *bucket_of(promises, digest); promise; promise = promise->next)
		if (promise->kind == kind && digest_equal(&promise->digest, digest) &&
		    scope_same(&promise->promiser->scope, scope))
			return promise;
	return NULL;
}

/* Kept or lapsed: those who wait for it look again. */
static void promise_end(struct promise *promise)
{
	struct promises *promises = promise->promiser->promises;
	struct promise **at = bucket_of(promises, &promise->digest);
	struct list *link;

	while (*at != promise)
		at = &(*at)->next;
	*at = promise->next;
	promises->count--;
	list_remove(&promise->mine);
	while ((link = list_take(&promise->waiters))) {
		struct promiser *waiter = container_of(link, struct promiser, waiting);

		waiter->on_change(waiter);
	}
	free(promise);
}

static void promise_make(struct promiser *promiser, enum promise_kind kind, const struct digest *digest)
{
	struct promises *promises = promiser->promises;
	struct promise *promise, **bucket;

	if (promises->count == promises->count_max || !promises_make(promises))
		return;
	promise = calloc(1, sizeof(*promise));
	if (!promise)
		return;
	promise->kind = kind;
	promise->digest = *digest;
	promise->promiser = promiser;
	list_init(&promise->waiters);
	bucket = bucket_of(promises, digest);
	promise->next = *bucket;
	*bucket = promise;
	list_append(&promiser->promised, &promise->mine);
	promises->count++;
}

/* Looked at only by those who wait, so that a push that nobody waits for costs nothing. */
static bool promiser_stalls(struct promiser *promiser)
{
	uint64_t now = ring_now_ns(promiser->promises->ring);

	if (promiser->busy || promiser->seen_ns == 0 || promiser->call->bytes_received != promiser->seen_bytes) {
		promiser->seen_bytes = promiser->call->bytes_received;
		promiser->seen_ns = now;
		return false;
	}
	return now - promiser->seen_ns >= promiser->promises->stall_ns;
}

static bool promise_holds(const struct promise *promise, const struct promiser *asker)
{
	return promise && promise->promiser != asker && !promiser_stalls(promise->promiser);
}

/* ---- promisers ---- */

void promiser_init(struct promiser *promiser, struct promises *promises, const struct scope *scope,
                   const struct call *call, void (*on_change)(struct promiser *promiser))
{
	*promiser = (struct promiser){ .promises = promises, .scope = *scope, .call = call, .on_change = on_change };
	list_init(&promiser->promised);
}

static void promiser_drop(struct promiser *promiser, bool roots)
{
	list_for_each_safe(link, after, &promiser->promised) {
		struct promise *promise = container_of(link, struct promise, mine);

		if (roots || promise->kind == PROMISE_BLOB)
			promise_end(promise);
	}
}

void promiser_fini(struct promiser *promiser)
{
	if (!promiser->promises)
		return;
	promiser_drop(promiser, true);
	list_remove(&promiser->waiting);
	promiser->promises->awaited -= promiser->awaited.count + promiser->settling.count;
	digest_set_fini(&promiser->awaited_once);
	digest_vector_fini(&promiser->awaited);
	digest_vector_fini(&promiser->settling);
}

void promiser_release(struct promiser *promiser)
{
	promiser_drop(promiser, false);
}

/* ---- blobs ---- */

static bool promiser_await(struct promiser *promiser, const struct digest *digest)
{
	int r;

	if (digest_set_has(&promiser->awaited_once, digest))
		return true;
	if (promiser->promises->awaited == promiser->promises->awaited_max)
		return false;
	r = digest_set_add(&promiser->awaited_once, digest);
	if (r < 0 || digest_vector_add(&promiser->awaited, digest) < 0)
		return false;
	promiser->promises->awaited++;
	promiser->awaited_open = promiser->awaited.count;
	return true;
}

bool promiser_claim(struct promiser *promiser, const struct digest *digest, bool patient)
{
	struct promise *promise = promises_find(promiser->promises, PROMISE_BLOB, &promiser->scope, digest);

	if (digest->size == 0 || (promise && promise->promiser == promiser))
		return false;
	if (patient && promise_holds(promise, promiser) && promiser_await(promiser, digest))
		return true;
	if (promise)
		promise_end(promise);
	promise_make(promiser, PROMISE_BLOB, digest);
	return false;
}

void promises_kept(struct promises *promises, const struct scope *scope, const struct digest *digests, size_t count)
{
	for (size_t i = 0; i < count && promises->count; i++) {
		struct promise *promise = promises_find(promises, PROMISE_BLOB, scope, &digests[i]);

		if (promise)
			promise_end(promise);
	}
}

bool promiser_waits(struct promiser *promiser)
{
	list_remove(&promiser->waiting);
	/* From the end: what was asked about last is likely to come last. What does not come any more is not looked at again. */
	for (; promiser->awaited_open; promiser->awaited_open--) {
		const struct digest *digest = &promiser->awaited.items[promiser->awaited_open - 1];
		struct promise *promise = promises_find(promiser->promises, PROMISE_BLOB, &promiser->scope, digest);

		if (!promise_holds(promise, promiser))
			continue;
		list_append(&promise->waiters, &promiser->waiting);
		return true;
	}
	return false;
}

size_t promiser_settling(struct promiser *promiser, size_t max)
{
	if (promiser->settling.count == 0) {
		struct digest_vector swap = promiser->settling;

		promiser->settling = promiser->awaited;
		promiser->awaited = swap;
		promiser->awaited_open = 0;
		digest_set_fini(&promiser->awaited_once);
	}
	return promiser->settling.count < max ? promiser->settling.count : max;
}

void promiser_settle(struct promiser *promiser, struct digest *digests, size_t count)
{
	CHECK(count > 0 && count <= promiser->settling.count);
	promiser->settling.count -= count;
	promiser->promises->awaited -= count;
	memcpy(digests, promiser->settling.items + promiser->settling.count, count * sizeof(*digests));
}

/* ---- roots ---- */

bool promiser_claim_root(struct promiser *promiser, const struct digest *root, bool patient)
{
	struct promise *promise = promises_find(promiser->promises, PROMISE_ROOT, &promiser->scope, root);

	list_remove(&promiser->waiting);
	if (promise && promise->promiser == promiser)
		return false;
	if (patient && promise_holds(promise, promiser)) {
		if (!list_empty(&promiser->promised))
			return false;            /* others may wait for this one: it does not */
		list_append(&promise->waiters, &promiser->waiting);
		return true;
	}
	if (promise)
		promise_end(promise);
	promise_make(promiser, PROMISE_ROOT, root);
	return false;
}

void promises_kept_root(struct promises *promises, const struct scope *scope, const struct digest *root)
{
	struct promise *promise = promises_find(promises, PROMISE_ROOT, scope, root);

	if (promise)
		promise_end(promise);
}
