/*
 * Contents out of the store: the set, its places, the turn, and the calls of playback.h. Completions only note what
 * has come and touch the playback: everything else, events above all, happens in the turn that a touch posts, since a
 * read may land inside any store call. Checking a recipe is playback_check.c, reading playback_ahead.c.
 */
#include "gateway/cas/playback_private.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/err.h"

static void playbacks_on_turn(struct post *post);

/* ---- the set ---- */

struct playbacks *playbacks_create(struct cas *cas, const struct scope *scope, const struct playback_events *events,
                                   void *owner)
{
	struct playbacks *playbacks = calloc(1, sizeof(*playbacks));

	if (!playbacks)
		return NULL;
	playbacks->cas = cas;
	cas->playbacks_open++;
	playbacks->scope = *scope;
	playbacks->events = *events;
	playbacks->owner = owner;
	playbacks->turn.fn = playbacks_on_turn;
	list_init(&playbacks->waiting);
	list_init(&playbacks->touched);
	list_init(&playbacks->checks);
	return playbacks;
}

void *playbacks_owner(const struct playbacks *playbacks)
{
	return playbacks->owner;
}

const struct playbacks_totals *playbacks_totals(const struct playbacks *playbacks)
{
	return &playbacks->totals;
}

size_t playbacks_memory(const struct playbacks *playbacks)
{
	return playbacks->bytes;
}

void playbacks_close_join(struct playbacks *playbacks)
{
	if (playbacks->running || playbacks->posted || playbacks->checking || playbacks->reads_out ||
	    playbacks->lent)
		return;
	CHECK(playbacks->bytes == 0);
	playbacks->cas->playbacks_open--;
	free(playbacks);
}

void playbacks_schedule(struct playbacks *playbacks)
{
	if (playbacks->posted)
		return;
	playbacks->posted = true;
	ring_post(playbacks->cas->ring, &playbacks->turn);
}

void playing_touch(struct playing *playing)
{
	if (playing->touched)
		return;
	playing->touched = true;
	list_append(&playing->playbacks->touched, &playing->link);
	playbacks_schedule(playing->playbacks);
}

/* ---- a place ---- */

static void playing_release(struct playing *playing)
{
	struct playbacks *playbacks = playing->playbacks;

	while (!list_empty(&playing->chunks))
		playback_ahead_leave(container_of(playing->chunks.next, struct ahead, link));
	playback_ahead_leave(playing->loading);
	playback_ahead_leave(playing->top);
	playback_ahead_leave(playing->part);
	store_hold_release(playing->hold);
	list_remove(&playing->link);
	for (size_t i = 0; i < playbacks->shares_count; i++)
		if (playbacks->shares[i].playing == playing)
			playbacks->shares[i].playing = NULL;
	playing->playback->playing = NULL;
	playing->playback->state = PLAYBACK_NONE;
	*playing = (struct playing){ 0 };
	if (!list_empty(&playbacks->waiting))
		playbacks_schedule(playbacks);
}

void playing_fail(struct playing *playing, int result)
{
	struct playback *playback = playing->playback;
	struct playbacks *playbacks = playing->playbacks;

	playing_release(playing);
	if (playback->ready) {
		playbacks->totals.failed++;
		playbacks->events.on_failed(playback, result);
		return;
	}
	/* What is damaged is quarantined by now, which is as good as missing to who has not begun. */
	if (result == STORE_CORRUPT)
		result = STORE_MISSING;
	if (result == STORE_MISSING)
		playbacks->totals.missing++;
	else
		playbacks->totals.failed++;
	playbacks->events.on_ready(playback, result);
}

void playing_ready(struct playing *playing)
{
	struct playback *playback = playing->playback;
	struct playbacks *playbacks = playing->playbacks;

	playback->ready = true;
	if (playback_ended(playback))
		playing_release(playing);
	playbacks->events.on_ready(playback, STORE_OK);
}

/* ---- the turn ---- */

static void playing_start(struct playing *playing)
{
	struct playback *playback = playing->playback;
	const struct content_name *name = &playback->name;
	int r = 0;

	playback->state = PLAYBACK_PLAYING;
	if (playback->offset == name->size && !name->recipe) {
		playing_ready(playing);
		return;
	}
	if (!name->recipe) {
		r = name->digest.size == name->size ? playing_fill(playing) : STORE_MISSING;
	} else if (name->digest.size > RECIPE_BYTES_MAX) {
		r = STORE_MISSING;
	} else {
		playback->state = PLAYBACK_RECIPE;
		playing->hold = store_hold_create(playing->playbacks->cas->store, &playing->playbacks->scope);
		playing->loading = playback_ahead_create(playing, &name->digest);
		if (playing->hold && playing->loading)
			playback_ahead_read(playing->loading);
		else
			r = ERR_RAISE(-ENOMEM);
	}
	if (r)
		playing_fail(playing, r);
}

static void playbacks_start_waiting(struct playbacks *playbacks)
{
	for (unsigned i = 0; i < PLAYBACKS_ACTIVE_MAX && !playbacks->closing; i++) {
		struct playing *playing = &playbacks->places[i];
		struct list *link;

		if (playing->playback)
			continue;
		link = list_take(&playbacks->waiting);
		if (!link)
			return;
		*playing = (struct playing){
			.playbacks = playbacks, .playback = container_of(link, struct playback, link),
		};
		list_init(&playing->chunks);
		playing->playback->playing = playing;
		playing_start(playing);
	}
	/* Those that were at their end at once have left their places again. */
	if (!playbacks->closing && !list_empty(&playbacks->waiting))
		for (unsigned i = 0; i < PLAYBACKS_ACTIVE_MAX; i++)
			if (!playbacks->places[i].playback) {
				playbacks_schedule(playbacks);
				return;
			}
}

static struct ahead *playing_head(const struct playing *playing)
{
	return list_empty(&playing->chunks) ? NULL : container_of(playing->chunks.next, struct ahead, link);
}

/* PLAYING: a chunk or a part is there. */
static void playing_on_chunk(struct playing *playing)
{
	struct playback *playback = playing->playback;
	struct ahead *head;
	int r = 0;

	if (playing->loading && playing->loading->landed) {
		r = playing_recipe_loaded(playing);
		if (!r && playing->position + playing->part_reader.head.file_size <= playback->offset) {
			playing->position += playing->part_reader.head.file_size;
			playing->part_reader.rest.size = 0;
			playing->part_reader.sum = playing->part_reader.head.file_size;
		}
	}
	if (!r)
		r = playing_fill(playing);
	head = playing_head(playing);
	if (!r && head && head->landed)
		r = head->read.result;
	if (r)
		playing_fail(playing, r);
	else if (!playback->ready && head && head->landed)
		playing_ready(playing);
	else if (playback->starved && head && head->landed) {
		playback->starved = false;
		playing->playbacks->events.on_data(playback);
	}
}

static void playing_step(struct playing *playing)
{
	switch (playing->playback->state) {
	case PLAYBACK_RECIPE:
		if (playing->loading && playing->loading->landed)
			playing_on_recipe(playing);
		return;
	case PLAYBACK_PLAYING:
		playing_on_chunk(playing);
		return;
	default:
		return;
	}
}

static void playbacks_on_turn(struct post *post)
{
	struct playbacks *playbacks = container_of(post, struct playbacks, turn);
	struct list touched, *link;

	playbacks->posted = false;
	playbacks->running = true;
	if (!playbacks->closing && !playbacks->checking)
		playbacks_answer(playbacks);
	if (!playbacks->closing)
		playbacks_start_waiting(playbacks);
	/* What is touched meanwhile has the next turn. */
	list_init(&touched);
	while ((link = list_take(&playbacks->touched)))
		list_append(&touched, link);
	while (!playbacks->closing && (link = list_take(&touched))) {
		struct playing *playing = container_of(link, struct playing, link);

		playing->touched = false;
		playing_step(playing);
	}
	playbacks_check(playbacks);
	playbacks->running = false;
	if (playbacks->closing)
		playbacks_close_join(playbacks);
}

/* ---- a playback ---- */

void playback_start(struct playbacks *playbacks, struct playback *playback, const struct content_name *name,
                    uint64_t offset)
{
	CHECK(playback->state == PLAYBACK_NONE);
	CHECK(!playbacks->closing);
	CHECK(offset <= name->size);
	*playback = (struct playback){
		.playbacks = playbacks, .name = *name, .offset = offset, .state = PLAYBACK_WAITING,
	};
	list_append(&playbacks->waiting, &playback->link);
	playbacks->totals.started++;
	playbacks_schedule(playbacks);
}

struct span playback_data(struct playback *playback)
{
	struct ahead *head = playback->playing && playback->ready ? playing_head(playback->playing) : NULL;

	if (!head || !head->landed || head->read.result != STORE_OK) {
		playback->starved = true;
		return (struct span){ 0 };
	}
	playback->starved = false;       /* found without being told */
	return span_make(head->read.blob.data + head->taken, head->read.blob.size - head->taken);
}

/* The first chunk has left the list. */
static void playing_go_on(struct playing *playing)
{
	playing->chunks_count--;
	if (playback_ended(playing->playback))
		playing_release(playing);
	else
		playing_touch(playing);          /* reads go on from there */
}

void playback_taken(struct playback *playback, size_t size)
{
	struct playing *playing = playback->playing;
	struct ahead *head;

	if (size == 0)
		return;
	CHECK(playing);
	head = playing_head(playing);
	CHECK(head && head->landed && size <= head->read.blob.size - head->taken);
	head->taken += size;
	playback->offset += size;
	if (head->taken < head->read.blob.size)
		return;
	playback_ahead_leave(head);
	playing_go_on(playing);
}

struct ahead *playback_take_chunk(struct playback *playback, struct span *data)
{
	struct playing *playing = playback->playing;
	struct span rest = playback_data(playback);
	struct ahead *head;

	if (rest.size == 0)
		return NULL;
	head = playing_head(playing);
	list_remove(&head->link);
	head->playing = NULL;
	head->playbacks->lent++;
	playback->offset += rest.size;
	playing_go_on(playing);
	*data = rest;
	return head;
}

void playback_drop_chunk(struct ahead *chunk)
{
	struct playbacks *playbacks;

	if (!chunk)
		return;
	playbacks = chunk->playbacks;
	playbacks->lent--;
	playback_ahead_free(chunk);
	if (playbacks->closing) {
		playbacks_close_join(playbacks);
		return;
	}
	for (unsigned i = 0; i < PLAYBACKS_ACTIVE_MAX; i++)
		if (playbacks->places[i].playback && playbacks->places[i].playback->state == PLAYBACK_PLAYING)
			playing_touch(&playbacks->places[i]);    /* it may have waited for the memory */
}

void playback_stop(struct playback *playback)
{
	list_remove(&playback->link);
	if (playback->playing)
		playing_release(playback->playing);
	playback->state = PLAYBACK_NONE;
	playback->playbacks = NULL;
}

void playbacks_destroy(struct playbacks *playbacks)
{
	if (!playbacks)
		return;
	CHECK(!playbacks->closing);
	while (!list_empty(&playbacks->waiting))
		playback_stop(container_of(playbacks->waiting.next, struct playback, link));
	for (unsigned i = 0; i < PLAYBACKS_ACTIVE_MAX; i++)
		if (playbacks->places[i].playback)
			playback_stop(playbacks->places[i].playback);
	playbacks->closing = true;
	playbacks_close_join(playbacks);
}
