/*
 * Which blobs are there.
 *
 * A loop and not a chain of calls: any number of completions may come inline. What is waited for sets `waiting`; its
 * completion clears that and runs the loop, unless it came from inside it.
 */
#include "gateway/cas/presence.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/base/err.h"

#define ROW_MAX 64                       /* longer blobs that are looked for in one go: half a millisecond */

static void presence_run(struct presence *presence);

static void presence_landed(struct presence *presence)
{
	presence->waiting = false;
	presence_run(presence);
}

static void presence_on_lookup(struct store_lookup *lookup)
{
	struct presence *presence = container_of(lookup, struct presence, lookup);

	if (lookup->result < 0)
		presence->result = lookup->result;
	for (size_t i = 0; i < lookup->count && !lookup->result; i++)
		presence->present[presence->slice + i] = presence->places[i] != 0;
	presence->slice += lookup->count;
	presence_landed(presence);
}

static void presence_on_closure(struct closure *closure)
{
	struct presence *presence = closure->owner;

	if (closure->result < 0)
		presence->result = closure->result;
	presence->present[presence->at++] = closure->result == CLOSURE_WHOLE;
	closure_fini(closure);
	presence_landed(presence);
}

static void presence_on_pair(struct pair *pair)
{
	struct presence *presence = container_of(pair, struct presence, pair);

	if (pair->result < 0)
		presence->result = pair->result;
	/* Before it is looked at: so what is found stays. */
	if (pair->result == STORE_OK && presence->hold)
		presence->result = store_hold_recipe(presence->hold, &pair->recipe);
	if (pair->result != STORE_OK || presence->result < 0) {
		presence->at++;
		presence_landed(presence);
		return;
	}
	presence->closure = (struct closure){
		.store = presence->cas->store, .gate = &presence->cas->closures, .scope = presence->scope,
		.root = pair->recipe, .recipe = true, .fn = presence_on_closure, .owner = presence,
	};
	closure_verify(&presence->closure);
}

static void presence_on_turn(struct post *post)
{
	presence_landed(container_of(post, struct presence, turn));
}

/* A list may name hundreds of thousands of longer ones, or one as often, and each that answers inline would keep all others waiting. */
static void presence_pause(struct presence *presence)
{
	presence->row = 0;
	presence->turn.fn = presence_on_turn;
	ring_post(presence->cas->ring, &presence->turn);
}

/* False: there is nothing more to look at. */
static bool presence_step(struct presence *presence)
{
	struct store *store = presence->cas->store;
	size_t left = presence->count - presence->slice;

	if (presence->result)
		return false;
	presence->waiting = true;
	if (left) {
		presence->lookup = (struct store_lookup){
			.scope = presence->scope, .digests = presence->digests + presence->slice,
			.count = left < STORE_BATCH_MAX ? left : STORE_BATCH_MAX, .places = presence->places,
			.fn = presence_on_lookup,
		};
		store_lookup(store, &presence->lookup);
		return true;
	}
	while (presence->at < presence->count && !pair_wanted(&presence->digests[presence->at]))
		presence->at++;
	if (presence->at == presence->count)
		return false;
	if (presence->row++ == ROW_MAX) {
		presence_pause(presence);
		return true;
	}
	presence->pair.scope = presence->scope;
	presence->pair.blob = presence->digests[presence->at];
	presence->pair.fn = presence_on_pair;
	pair_find(store, &presence->pair);
	return true;
}

static void presence_run(struct presence *presence)
{
	if (presence->running)
		return;
	presence->running = true;
	while (!presence->waiting) {
		if (presence_step(presence))
			continue;
		free(presence->places);
		presence->places = NULL;
		presence->running = false;
		presence->fn(presence);
		return;
	}
	presence->running = false;
}

void presence_look(struct presence *presence)
{
	size_t batch = presence->count < STORE_BATCH_MAX ? presence->count : STORE_BATCH_MAX;

	presence->result = 0;
	presence->at = presence->slice = 0;
	presence->row = 0;
	presence->running = presence->waiting = false;
	memset(presence->present, 0, presence->count * sizeof(*presence->present));
	presence->places = malloc((batch ? batch : 1) * sizeof(*presence->places));
	if (!presence->places)
		presence->result = ERR_RAISE(-ENOMEM);
	presence_run(presence);
}
