/*
 * A recipe is checked before it is played: read, part after part, and its chunks held and looked up, many playbacks in
 * one look-up. What is ready is so to its end, unless the disk says otherwise.
 */
#include "gateway/cas/playback_private.h"

#include <errno.h>

#include "gateway/base/err.h"

static void playing_check(struct playing *playing)
{
	playing->playback->state = PLAYBACK_CHECKING;
	list_remove(&playing->link);
	playing->touched = false;
	list_append(&playing->playbacks->checks, &playing->link);
	playbacks_schedule(playing->playbacks);
}

/* Everything is here: to the beginning again, to be played. */
static void playing_checked(struct playing *playing)
{
	struct playback *playback = playing->playback;
	uint64_t said = playing->top ? playing->parts_bytes : playing->part_reader.head.file_size;
	int r;

	if (said != playback->name.size) {
		playing_fail(playing, STORE_MISSING);
		return;
	}
	if (playing->top)
		recipe_open(&playing->top_reader, playing->top->read.blob);
	else
		recipe_open(&playing->part_reader, playing->part->read.blob);
	playback->state = PLAYBACK_PLAYING;
	r = playback_ended(playback) ? 0 : playing_fill(playing);
	if (r)
		playing_fail(playing, r);
	else
		playing_ready(playing);
}

/* The next part, to be checked; none: all was. */
static void playing_check_part(struct playing *playing)
{
	playing->playback->state = PLAYBACK_RECIPE;
	switch (playing_part_next(playing)) {
	case NEXT_WAIT:
		return;
	case NEXT_END:
		playing_checked(playing);
		return;
	case NEXT_MEMORY:
		playing_fail(playing, ERR_RAISE(-ENOMEM));
		return;
	default:
		playing_fail(playing, STORE_MISSING);
	}
}

void playing_on_recipe(struct playing *playing)
{
	int r = playing_recipe_loaded(playing);

	if (r) {
		playing_fail(playing, r);
	} else if (playing->part) {
		playing->parts_bytes += playing->part_reader.head.file_size;
		playing_check(playing);
	} else {
		playing_check_part(playing);
	}
}

/* Takes digests of the part into the look-up, as many as there is room for. 0, or what is wrong. */
static int share_fill(struct playbacks *playbacks, struct share *share, size_t *at)
{
	struct playing *playing = share->playing;

	while (*at < CHECK_DIGESTS_MAX) {
		struct digest *digest = &playbacks->digests[*at];
		int r;

		if (!recipe_next(&playing->part_reader, digest)) {
			share->ends = true;
			return playing->part_reader.failed ? STORE_MISSING : 0;
		}
		r = store_hold_blobs(playing->hold, digest, 1);
		if (r < 0)
			return r;
		++*at;
		share->count++;
	}
	return 0;
}

static void checks_on_lookup(struct store_lookup *lookup);

void playbacks_check(struct playbacks *playbacks)
{
	size_t at = 0;

	/* What an answer has come for is told first: its turn is posted. */
	if (playbacks->checking || playbacks->shares_count || playbacks->closing || list_empty(&playbacks->checks))
		return;
	playbacks->shares_count = 0;
	while (at < CHECK_DIGESTS_MAX && !list_empty(&playbacks->checks)) {
		struct list *link = list_take(&playbacks->checks);
		struct share share = { .playing = container_of(link, struct playing, link) };
		size_t begin = at;
		int r = share_fill(playbacks, &share, &at);

		if (r) {
			at = begin;
			playing_fail(share.playing, r);
			if (playbacks->closing)
				return;
			continue;
		}
		playbacks->shares[playbacks->shares_count++] = share;
	}
	if (playbacks->shares_count == 0)
		return;
	playbacks->checking = true;
	playbacks->lookup = (struct store_lookup){
		.scope = playbacks->scope, .digests = playbacks->digests, .count = at, .places = playbacks->answers,
		.fn = checks_on_lookup,
	};
	store_lookup(playbacks->cas->store, &playbacks->lookup);
}

/* Looked at in the turn, as everything. */
static void checks_on_lookup(struct store_lookup *lookup)
{
	struct playbacks *playbacks = container_of(lookup, struct playbacks, lookup);

	playbacks->checking = false;
	if (playbacks->closing)
		playbacks_close_join(playbacks);
	else
		playbacks_schedule(playbacks);
}

void playbacks_answer(struct playbacks *playbacks)
{
	size_t at = 0;

	for (size_t i = 0; i < playbacks->shares_count && !playbacks->closing; i++) {
		struct share share = playbacks->shares[i];
		bool whole = true;

		for (size_t end = at + share.count; at < end; at++)
			whole = whole && playbacks->answers[at];
		if (!share.playing)
			continue;
		playbacks->shares[i].playing = NULL;
		if (playbacks->lookup.result < 0)
			playing_fail(share.playing, playbacks->lookup.result);
		else if (!whole)
			playing_fail(share.playing, STORE_MISSING);
		else if (!share.ends)
			playing_check(share.playing);
		else if (share.playing->top)
			playing_check_part(share.playing);
		else
			playing_checked(share.playing);
	}
	playbacks->shares_count = 0;
}
