/* Whole blobs. */
#include "gateway/cas/blob_get.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/base/err.h"

static void get_done(struct blob_get *get, int result)
{
	get->result = result == STORE_CORRUPT ? STORE_MISSING : result;
	get->fn(get);
}

static void on_read(struct store_read *read)
{
	struct blob_get *get = container_of(read, struct blob_get, read);

	get->blob = read->blob;
	get_done(get, read->result);
}

static void get_take(struct blob_get *get)
{
	struct span data;

	while ((data = playback_data(&get->playback)).size) {
		memcpy(get->memory + get->have, data.data, data.size);
		get->have += data.size;
		playback_taken(&get->playback, data.size);
	}
	if (!playback_ended(&get->playback))
		return;
	get->blob = span_make(get->memory, get->have);
	get_done(get, STORE_OK);
}

static void on_ready(struct playback *playback, int result)
{
	struct blob_get *get = container_of(playback, struct blob_get, playback);

	if (result == STORE_OK)
		get_take(get);
	else
		get_done(get, result);
}

static void on_data(struct playback *playback)
{
	get_take(container_of(playback, struct blob_get, playback));
}

static void on_failed(struct playback *playback, int result)
{
	get_done(container_of(playback, struct blob_get, playback), result);
}

static const struct playback_events playback_events = { .on_ready = on_ready, .on_data = on_data, .on_failed = on_failed };

static void on_pair(struct pair *pair)
{
	struct blob_get *get = container_of(pair, struct blob_get, pair);
	struct content_name name = { .digest = pair->recipe, .size = get->digest.size, .recipe = true };

	if (pair->result != STORE_OK) {
		get_done(get, pair->result);
		return;
	}
	get->playbacks = playbacks_create(get->cas, &get->scope, &playback_events, get);
	if (!get->playbacks)
		get_done(get, ERR_RAISE(-ENOMEM));
	else
		playback_start(get->playbacks, &get->playback, &name, 0);
}

void blob_get(struct blob_get *get)
{
	if (get->digest.size > get->bytes_max) {
		get_done(get, -EMSGSIZE);
		return;
	}
	get->memory = malloc(get->digest.size + STORE_READ_EXTRA_BYTES);
	if (!get->memory) {
		get_done(get, ERR_RAISE(-ENOMEM));
		return;
	}
	if (pair_wanted(&get->digest)) {
		get->pair.scope = get->scope;
		get->pair.blob = get->digest;
		get->pair.fn = on_pair;
		pair_find(get->cas->store, &get->pair);
		return;
	}
	get->read = (struct store_read){
		.scope = get->scope, .digest = get->digest, .buffer = get->memory, .fn = on_read,
	};
	store_read(get->cas->store, &get->read);
}

void blob_get_fini(struct blob_get *get)
{
	playback_stop(&get->playback);
	playbacks_destroy(get->playbacks);
	free(get->memory);
	*get = (struct blob_get){ 0 };
}
