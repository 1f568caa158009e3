/*
 * Of a playback: blobs that are read, or were, and lie in memory; the parts of a long recipe, one at a time; and which
 * chunk is read next, as far ahead as the memory of all allows.
 */
#include "gateway/cas/playback_private.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/base/err.h"

/* ---- blobs ---- */

void playback_ahead_free(struct ahead *ahead)
{
	if (!ahead)
		return;
	list_remove(&ahead->link);
	ahead->playbacks->bytes -= ahead->bytes;
	free(ahead);
}

void playback_ahead_leave(struct ahead *ahead)
{
	if (!ahead)
		return;
	list_remove(&ahead->link);
	ahead->playing = NULL;
	if (ahead->landed)
		playback_ahead_free(ahead);
}

static void ahead_on_read(struct store_read *read)
{
	struct ahead *ahead = container_of(read, struct ahead, read);
	struct playbacks *playbacks = ahead->playbacks;

	ahead->landed = true;
	playbacks->reads_out--;
	playbacks->totals.blobs += read->result == STORE_OK;
	playbacks->totals.bytes += read->blob.size;
	if (ahead->playing) {
		playing_touch(ahead->playing);
		return;
	}
	playback_ahead_free(ahead);
	if (playbacks->closing)
		playbacks_close_join(playbacks);
}

static size_t ahead_bytes(const struct digest *digest)
{
	size_t payload = digest->size > STORE_BLOB_BYTES_MAX ? 0 : (size_t)digest->size;

	return sizeof(struct ahead) + payload + STORE_READ_EXTRA_BYTES;
}

struct ahead *playback_ahead_create(struct playing *playing, const struct digest *digest)
{
	size_t bytes = ahead_bytes(digest);
	struct ahead *ahead = malloc(bytes);

	if (!ahead)
		return NULL;
	*ahead = (struct ahead){
		.playbacks = playing->playbacks, .playing = playing, .bytes = bytes,
		.read = { .scope = playing->playbacks->scope, .digest = *digest, .fn = ahead_on_read },
	};
	ahead->read.buffer = ahead->data;
	playing->playbacks->bytes += bytes;
	return ahead;
}

void playback_ahead_read(struct ahead *ahead)
{
	ahead->playbacks->reads_out++;
	store_read(ahead->playbacks->cas->store, &ahead->read);
}

/* ---- what comes next ---- */

enum next_outcome playing_part_next(struct playing *playing)
{
	struct digest digest;

	playback_ahead_leave(playing->part);
	playing->part = NULL;
	if (!playing->top || !recipe_next(&playing->top_reader, &digest))
		return playing->top_reader.failed ? NEXT_MALFORMED : NEXT_END;
	/* Held first, so that what is found there stays. */
	if (store_hold_blobs(playing->hold, &digest, 1) < 0)
		return NEXT_MEMORY;
	playing->loading = playback_ahead_create(playing, &digest);
	if (!playing->loading)
		return NEXT_MEMORY;
	playback_ahead_read(playing->loading);
	return NEXT_WAIT;
}

int playing_recipe_loaded(struct playing *playing)
{
	struct ahead *loaded = playing->loading;
	struct recipe_reader reader;

	playing->loading = NULL;
	if (loaded->read.result != STORE_OK || !recipe_open(&reader, loaded->read.blob)) {
		int result = loaded->read.result;

		playback_ahead_leave(loaded);
		return result ? result : STORE_MISSING;
	}
	if (reader.head.level == 1 && !playing->top && !playing->part) {
		playing->top = loaded;
		playing->top_reader = reader;
		return 0;
	}
	playing->part = loaded;
	playing->part_reader = reader;
	return reader.head.level == 0 ? 0 : STORE_MISSING;
}

/* The chunk to be read next, and where it begins in the file; those before the offset are passed over. */
static enum next_outcome chunk_next(struct playing *playing, struct digest *digest, uint64_t *begin)
{
	const struct playback *playback = playing->playback;

	if (!playback->name.recipe) {
		*digest = playback->name.digest;
		*begin = 0;
		return playing->given ? NEXT_END : NEXT_CHUNK;
	}
	for (;;) {
		enum next_outcome outcome;

		if (playing->loading)
			return NEXT_WAIT;
		while (playing->part && recipe_next(&playing->part_reader, digest)) {
			*begin = playing->position;
			playing->position += digest->size;
			if (playing->position > playback->offset)
				return NEXT_CHUNK;
		}
		if (playing->part_reader.failed)
			return NEXT_MALFORMED;
		outcome = playing_part_next(playing);
		if (outcome != NEXT_WAIT)
			return outcome;
	}
}

int playing_fill(struct playing *playing)
{
	struct playbacks *playbacks = playing->playbacks;

	while (playing->chunks_count <= PLAYBACK_AHEAD) {
		struct recipe_reader before = playing->part_reader;
		uint64_t position = playing->position, begin = 0;
		struct digest digest;
		struct ahead *ahead;

		switch (chunk_next(playing, &digest, &begin)) {
		case NEXT_CHUNK:
			break;
		case NEXT_WAIT:
		case NEXT_END:
			return 0;
		case NEXT_MALFORMED:
			return STORE_MISSING;
		case NEXT_MEMORY:
			return ERR_RAISE(-ENOMEM);
		}
		if ((playing->chunks_count || playbacks->lent) &&
		    playbacks->bytes + ahead_bytes(&digest) > PLAYBACKS_BYTES_MAX) {
			playing->part_reader = before;           /* later */
			playing->position = position;
			return 0;
		}
		ahead = playback_ahead_create(playing, &digest);
		if (!ahead)
			return ERR_RAISE(-ENOMEM);
		playing->given = true;
		if (begin < playing->playback->offset)
			ahead->taken = (size_t)(playing->playback->offset - begin);
		list_append(&playing->chunks, &ahead->link);
		playing->chunks_count++;
		playback_ahead_read(ahead);
	}
	return 0;
}
