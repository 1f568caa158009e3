/* Accepting blobs. */
#include "gateway/store/put.h"

#include <errno.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/store/state.h"

#define PUTS_STEP_BYTES (2u << 20)       /* copied and summed in about 1 ms; then the loop has a turn */

enum put_outcome {
	PUT_DONE,
	PUT_WAIT,
	PUT_PAUSE,
	PUT_FULL,
};

int puts_init(struct puts *puts, struct store *store)
{
	list_init(&puts->queue);
	return resolve_init(&puts->resolve, store, RESOLVE_MAX);
}

void puts_fini(struct puts *puts)
{
	resolve_fini(&puts->resolve);
}

static void put_finish(struct store *store, struct store_put *put, int result)
{
	struct puts *puts = &store->puts;

	puts->state = PUTS_IDLE;
	puts->full = false;
	store->space.puts_starve = false;
	list_remove(&put->link);
	put->result = result;
	put->fn(put);
}

static void put_on_resolve(struct resolve *resolve)
{
	struct store *store = resolve->store;

	CHECK(store->puts.state == PUTS_RESOLVING);
	store->puts.state = PUTS_WRITING;
	store_step(store);
}

static void put_begin_slice(struct store *store, struct store_put *put)
{
	struct puts *puts = &store->puts;
	size_t end = put->next;

	while (end < put->count && end - put->next < RESOLVE_MAX)
		end++;
	puts->slice_begin = puts->slice_at = put->next;
	puts->slice_end = end;
	puts->state = PUTS_RESOLVING;
	puts->resolve.scope = put->scope;
	puts->resolve.hashes = put->items[put->next].digest.hash;
	puts->resolve.stride = sizeof(*put->items);
	puts->resolve.count = end - put->next;
	puts->resolve.fn = put_on_resolve;
	resolve_start(&puts->resolve);
}

/* The bytes are in a slot: from now on siblings find the blob. */
static void put_accept_blob(struct store *store, const struct store_put *put, const struct digest *digest)
{
	struct pending *open = &store_open_generation(store)->pending;
	const struct record *record = &store->puts.append.record;
	struct place place = { record->segment, record->generation, record->offset };
	struct pending_entry *entry = pending_blob(open, digest->hash);

	evict_arrived_blob(store, digest);
	if (entry && entry->kind == PENDING_GONE) {
		entry->kind = PENDING_BLOB;
		entry->purge = true;
		entry->place = place;
		entry->size = (uint32_t)digest->size;
		entry->tenant = put->scope.tenant;
		entry->instance = put->scope.instance;
		return;
	}
	entry = pending_add(open, PENDING_BLOB, digest, &put->scope, place);
	CHECK(entry);
}

static enum put_outcome put_write(struct store *store, struct store_put *put, const struct store_item *item)
{
	struct puts *puts = &store->puts;

	if (!puts->appending) {
		/* While an eviction needs the last segment for its copies, nobody else may fill it. */
		if (store->writer.appending || commit_waits(store) ||
		    (evict_copies(store) && space_available(store) == 0))
			return PUT_WAIT;
		puts->append = (struct append){
			.record = {
				.tenant = put->scope.tenant,
				.instance = put->scope.instance,
				.digest = item->digest,
				.payload_sum = record_sum(item->data),
			},
			.payload = item->data,
		};
	}
	switch (writer_append(&store->writer, &puts->append)) {
	case WRITER_DONE:
		puts->appending = false;
		store->again = true;             /* others may have waited for the record to end */
		put_accept_blob(store, put, &item->digest);
		put->bytes_new += item->digest.size;
		store->status.puts_new++;
		store->status.bytes_new += item->digest.size;
		return PUT_DONE;
	case WRITER_NO_SLOT:
		puts->appending = puts->append.placed;
		return PUT_WAIT;
	case WRITER_NO_SEGMENT:
		store->again |= !store->space.puts_starve;
		store->space.puts_starve = true;
		return puts->full ? PUT_FULL : PUT_WAIT;
	}
	CHECK(!"an outcome of the writer");
	return PUT_WAIT;
}

/* Its entry is damaged, as the digest has one size only. */
static void put_condemn(struct store *store, const struct digest *digest, const struct sight *sight)
{
	char text[DIGEST_TEXT_MAX];

	log_event(LOG_ERROR, "blob of another size", LOG_TEXT("digest", digest_text(digest, text)), LOG_U64("bytes", sight->size),
	          LOG_U64("segment", sight->place.segment), LOG_U64("generation", sight->place.generation),
	          LOG_U64("offset", sight->place.offset));
	read_quarantine(store, digest, sight->place);
}

static enum put_outcome put_item(struct store *store, struct store_put *put, const struct store_item *item)
{
	struct pending *open = &store_open_generation(store)->pending;
	struct sight sight;

	if (store->puts.appending)
		return put_write(store, put, item);
	if (item->digest.size == 0)
		return PUT_DONE;
	sight = resolve_sight(&store->puts.resolve, store->puts.slice_at - store->puts.slice_begin);
	if (sight.visible && sight.size == item->digest.size) {
		store_used(store, sight.place.segment);
		return PUT_DONE;
	}
	if (open->count >= store->pending_limit) {
		commit_want(store);
		return PUT_WAIT;
	}
	if (sight.exists && sight.size != item->digest.size) {
		put_condemn(store, &item->digest, &sight);
		return put_write(store, put, item);
	}
	if (!sight.exists)
		return put_write(store, put, item);
	/* Somebody else brought it: the bytes are kept once, but the wait for the next commit is the same. */
	CHECK(pending_add(open, PENDING_SIGHT, &item->digest, &put->scope, sight.place));
	evict_pinned_blob(store, item->digest.hash);
	store_used(store, sight.place.segment);
	return PUT_DONE;
}

static enum put_outcome put_write_slice(struct store *store, struct store_put *put)
{
	struct puts *puts = &store->puts;

	while (puts->slice_at < puts->slice_end) {
		const struct store_item *item = &put->items[puts->slice_at];
		enum put_outcome outcome;

		if (!puts->appending && resolve_stale(&puts->resolve)) {
			puts->slice_end = puts->slice_at;        /* what is left is looked up again */
			break;
		}
		if (puts->step_bytes > PUTS_STEP_BYTES)
			return PUT_PAUSE;
		outcome = put_item(store, put, item);
		if (outcome != PUT_DONE)
			return outcome;
		puts->step_bytes += item->digest.size;
		store->status.puts++;
		store->status.bytes_put += item->digest.size;
		puts->slice_at++;
	}
	commit_accepted(store);
	put->next = puts->slice_end;
	puts->state = PUTS_IDLE;
	return PUT_DONE;
}

/* The index must have room, or get some by an eviction, before more is accepted. */
static enum put_outcome puts_admit(struct store *store)
{
	if (!store_index_tight(store))
		return PUT_DONE;
	if (store->puts.full || !evict_start(store))
		return PUT_FULL;
	return PUT_WAIT;
}

static enum put_outcome puts_step_one(struct store *store, struct store_put *put)
{
	struct puts *puts = &store->puts;
	enum put_outcome outcome;

	switch (puts->state) {
	case PUTS_IDLE:
		outcome = puts_admit(store);
		if (outcome == PUT_DONE)
			put_begin_slice(store, put);
		return outcome;
	case PUTS_RESOLVING:
		return PUT_WAIT;
	case PUTS_WRITING:
		if (puts->resolve.result) {
			store_fail(store, puts->resolve.result, "index look-up", UINT32_MAX);
			return PUT_DONE;
		}
		return put_write_slice(store, put);
	}
	CHECK(!"a state of puts");
	return PUT_WAIT;
}

void puts_step(struct store *store)
{
	struct puts *puts = &store->puts;

	if (store_pauses(store, STORE_PART_PUTS))
		return;
	while (!list_empty(&puts->queue)) {
		struct store_put *put = container_of(puts->queue.next, struct store_put, link);

		if (store->failed && puts->state != PUTS_RESOLVING) {
			put_finish(store, put, store->failed);
			continue;
		}
		if (put->next == put->count) {
			put_finish(store, put, STORE_OK);
			continue;
		}
		switch (puts_step_one(store, put)) {
		case PUT_DONE:
			continue;
		case PUT_FULL:
			put_finish(store, put, space_still_lacks(store) ? store->space.lack : STORE_FULL);
			continue;
		case PUT_PAUSE:
			puts->step_bytes = 0;
			store_pause(store, STORE_PART_PUTS);
			return;
		case PUT_WAIT:
			return;
		}
	}
}

void store_put(struct store *store, struct store_put *put)
{
	CHECK(put->count <= STORE_BATCH_MAX);
	CHECK(put->scope.tenant);
	put->next = 0;
	put->bytes_new = 0;
	put->result = 0;
	for (size_t i = 0; i < put->count && !put->result; i++) {
		CHECK(put->items[i].digest.size == put->items[i].data.size);
		if (put->items[i].digest.size > STORE_BLOB_BYTES_MAX)
			put->result = ERR_RAISE(-EFBIG);
	}
	if (put->result) {
		put->fn(put);
		return;
	}
	if (list_empty(&store->puts.queue))
		store->puts.full = false;
	list_append(&store->puts.queue, &put->link);
	store_step(store);
}
