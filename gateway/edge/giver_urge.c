/*
 * The files that the executor waits for, as the gateway tells them while the context goes ahead of its root: they are read
 * before the others, their contents are sent before the others, and are named as soon as they are there. What the edge had by
 * itself, and would have sent with the root, is fed now.
 */
#include "gateway/edge/giver_private.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"

/* Of a file, brought forward at a time: more than go into the packs under way. With each that is there it is looked at again. */
#define URGED_BLOBS 256u

static bool is_there(const struct giver *giver, const struct digest *blob)
{
	return (giver->known && known_has(giver->known, blob)) || digest_set_has(&giver->stored, blob);
}

/*
 * What is not there yet of a content, the first of it up to `most` in all: recipes and blobs, as far as its recipes are known here.
 */
static int put_lacking(const struct giver *giver, const struct digest *digest, bool recipe, struct digest_vector *lacking,
                       size_t most)
{
	const struct recipe_record *record = recipe ? recipes_find(&giver->recipes, digest) : NULL;
	int r = digest->size == 0 || is_there(giver, digest) ? 0 : digest_vector_add(lacking, digest);

	for (uint32_t i = 0; r == 0 && record && i < record->count && lacking->count < most; i++)
		r = put_lacking(giver, &record->blobs[i], record->are_recipes, lacking, most);
	return r;
}

/* What the listing named by itself was never noted: it goes to the uploader as what was read does. */
static void note_lacking(struct giver *giver, const struct digest_vector *lacking, size_t from)
{
	/* Later the walk from the root finds it, and uploader_hurry() alone brings it forward. */
	if (giver->state > GIVER_LOADING || giver->restart)
		return;
	/* Of a store smaller than the context only what was read just now is certain to be there. */
	for (size_t i = from; !giver->windowed && i < lacking->count; i++)
		if (!digest_set_has(&giver->fed_ever, &lacking->items[i]))
			giver_feed_note(giver, &lacking->items[i]);
}

/* True: it stays among those that are waited for. */
static bool urge_one(struct giver *giver, uint32_t number, struct digest_vector *lacking)
{
	const struct listing_entry *entry = listing_at(&giver->listing, number);
	struct digest digest = listing_digest(entry);
	size_t before = lacking->count;

	if (entry->flags & LISTING_TOLD)
		return false;
	if (!(entry->flags & LISTING_NAMED))
		return true;
	if ((entry->flags & LISTING_RECIPE) && !giver_push_has_recipe(giver, number))
		return true;
	if (put_lacking(giver, &digest, entry->flags & LISTING_RECIPE, lacking, before + URGED_BLOBS) < 0)
		return true;                     /* it comes in its turn */
	note_lacking(giver, lacking, before);
	if (lacking->count > before)
		return true;
	giver_ahead_tell_one(giver, number);
	return false;
}

void giver_urge_step(struct giver *giver)
{
	struct digest_vector lacking = { 0 };
	unsigned kept = 0;

	/* Not while a helper thread looks at the entries; nor when what is lacking is no more fed, but found by the walk. */
	if (!giver->urge || !giver->ahead || giver->state >= GIVER_GIVEN || giver->state == GIVER_SEALING)
		return;
	giver->urge = false;
	for (unsigned i = 0; i < giver->urgent_count; i++)
		if (urge_one(giver, giver->urgent[i], &lacking))
			giver->urgent[kept++] = giver->urgent[i];
	giver->urgent_count = kept;
	giver_feed_step(giver);
	if (lacking.count && giver->uploader && giver->state != GIVER_OVER)
		uploader_hurry(giver->uploader, lacking.items, lacking.count);
	digest_vector_fini(&lacking);
}

bool giver_urge_take(struct giver *giver, struct span numbers)
{
	uint64_t number = ENTRY_NUMBER_BEFORE;

	if (!giver->ahead)
		return false;
	while (number_list_next(&numbers, &number)) {
		if (number >= giver->listing.count)
			return false;
		giver->service->counters.files_urged++;
		if (giver->urgent_count == GIVER_URGENT_MAX)
			continue;                /* it comes in its turn */
		giver->urgent[giver->urgent_count++] = (uint32_t)number;
		giver_fetch_hurry(giver, (uint32_t)number);
	}
	giver->urge = true;
	return numbers.size == 0;
}
