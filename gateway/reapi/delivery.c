/*
 * One blob on its way out.
 *
 *	FINDING -> MEMORY -> FETCHING -> READY
 */
#include "gateway/reapi/delivery.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/base/check.h"

enum delivery_state {
	DELIVERY_FINDING,                /* the pair */
	DELIVERY_MEMORY,
	DELIVERY_FETCHING,
	DELIVERY_READY,                  /* or failed */
};

struct delivery {
	struct reapi *reapi;
	struct scope scope;
	struct digest digest;
	const struct delivery_events *events;
	void *owner;
	enum delivery_state state;
	bool destroyed;
	uint64_t offset;
	struct budget_share share;
	struct store_read read;
	struct pair pair;
	struct playbacks *playbacks;
	struct playback playback;
	struct ahead *lent;
};

static void delivery_free(struct delivery *delivery)
{
	budget_leave(&delivery->reapi->downloads, &delivery->share);
	playback_drop_chunk(delivery->lent);
	playback_stop(&delivery->playback);
	playbacks_destroy(delivery->playbacks);
	free(delivery->read.buffer);
	free(delivery);
}

/* Something that cannot be stopped has landed. True: nobody waits for it any more; the delivery is freed. */
static bool delivery_gone(struct delivery *delivery)
{
	if (!delivery->destroyed)
		return false;
	delivery->reapi->open--;
	delivery_free(delivery);
	return true;
}

static void delivery_ready(struct delivery *delivery, int result)
{
	delivery->state = DELIVERY_READY;
	delivery->events->on_ready(delivery->owner, result);
}

struct span delivery_data(struct delivery *delivery)
{
	if (delivery->playbacks)
		return playback_data(&delivery->playback);
	return span_make(delivery->read.blob.data + delivery->offset, delivery->digest.size - delivery->offset);
}

void delivery_taken(struct delivery *delivery, size_t size)
{
	delivery->offset += size;
	if (delivery->playbacks)
		playback_taken(&delivery->playback, size);
}

struct span delivery_lend(struct delivery *delivery)
{
	struct span data = { 0 };

	CHECK(!delivery->lent);
	if (delivery->playbacks) {
		delivery->lent = playback_take_chunk(&delivery->playback, &data);
		delivery->offset += data.size;
		return data;
	}
	data = delivery_data(delivery);
	delivery_taken(delivery, data.size);
	return data;
}

void delivery_return(struct delivery *delivery)
{
	playback_drop_chunk(delivery->lent);
	delivery->lent = NULL;
}

/* ---- where the bytes come from ---- */

static void on_read(struct store_read *read)
{
	struct delivery *delivery = container_of(read, struct delivery, read);

	if (!delivery_gone(delivery))
		delivery_ready(delivery, read->result);
}

static void on_ready(struct playback *playback, int result)
{
	delivery_ready(container_of(playback, struct delivery, playback), result);
}

static void on_data(struct playback *playback)
{
	struct delivery *delivery = container_of(playback, struct delivery, playback);

	delivery->events->on_data(delivery->owner);
}

static void on_failed(struct playback *playback, int result)
{
	struct delivery *delivery = container_of(playback, struct delivery, playback);

	delivery->events->on_failed(delivery->owner, result);
}

static const struct playback_events playback_events = { .on_ready = on_ready, .on_data = on_data, .on_failed = on_failed };

static void delivery_play(struct delivery *delivery)
{
	struct content_name name = { .digest = delivery->pair.recipe, .size = delivery->digest.size, .recipe = true };

	delivery->playbacks = playbacks_create(delivery->reapi->cas, &delivery->scope, &playback_events, delivery);
	if (!delivery->playbacks) {
		delivery_ready(delivery, -ENOMEM);
		return;
	}
	delivery->state = DELIVERY_FETCHING;
	playback_start(delivery->playbacks, &delivery->playback, &name, delivery->offset);
}

static void on_memory(struct budget_share *share)
{
	struct delivery *delivery = container_of(share, struct delivery, share);

	if (pair_wanted(&delivery->digest)) {
		delivery_play(delivery);
		return;
	}
	delivery->read = (struct store_read){
		.scope = delivery->scope, .digest = delivery->digest, .fn = on_read,
		.buffer = malloc(delivery->digest.size + STORE_READ_EXTRA_BYTES),
	};
	if (!delivery->read.buffer) {
		delivery_ready(delivery, -ENOMEM);
		return;
	}
	delivery->state = DELIVERY_FETCHING;
	store_read(delivery->reapi->cas->store, &delivery->read);
}

static void delivery_want_memory(struct delivery *delivery)
{
	bool pair = pair_wanted(&delivery->digest);

	delivery->state = DELIVERY_MEMORY;
	delivery->share.fn = on_memory;
	budget_enter(&delivery->reapi->downloads, &delivery->share,
	             pair ? DELIVERY_LONG_BYTES : delivery->digest.size + STORE_READ_EXTRA_BYTES);
}

static void on_pair(struct pair *pair)
{
	struct delivery *delivery = container_of(pair, struct delivery, pair);

	if (delivery_gone(delivery))
		return;
	if (pair->result == STORE_OK)
		delivery_want_memory(delivery);
	else
		delivery_ready(delivery, pair->result);
}

/* ---- life ---- */

bool delivery_start(struct delivery **out, struct reapi *reapi, const struct scope *scope, const struct digest *digest,
                    uint64_t offset, const struct delivery_events *events, void *owner)
{
	struct delivery *delivery = calloc(1, sizeof(*delivery));

	if (!delivery)
		return false;
	*delivery = (struct delivery){
		.reapi = reapi, .scope = *scope, .digest = *digest, .offset = offset, .events = events, .owner = owner,
	};
	*out = delivery;
	if (!pair_wanted(digest)) {
		delivery_want_memory(delivery);
		return true;
	}
	delivery->pair.scope = *scope;
	delivery->pair.blob = *digest;
	delivery->pair.fn = on_pair;
	pair_find(reapi->cas->store, &delivery->pair);
	return true;
}

void delivery_destroy(struct delivery *delivery)
{
	bool landing;

	if (!delivery)
		return;
	landing = delivery->state == DELIVERY_FINDING || (delivery->state == DELIVERY_FETCHING && !delivery->playbacks);
	delivery->destroyed = true;
	if (landing)
		delivery->reapi->open++;         /* it goes on after its call, which counts until here */
	else
		delivery_free(delivery);
}
