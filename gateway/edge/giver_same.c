/*
 * Ahead of the root, when the gateway knows one of this context and this edge its entries: how far those that buildx lists are as
 * they were, from the front, a step at a time. An entry whose content is being read ends it until it has its name.
 */
#include "gateway/edge/giver_private.h"

void giver_same_begin(struct giver *giver)
{
	giver->former = sames_get(&giver->service->sames, &giver->ask_known);
	giver_same_step(giver);
}

static void tell(struct giver *giver)
{
	struct context_response response = { .same = giver->same };

	giver->same_told = giver->same;
	giver_answer(giver, &response);
}

static bool advance(struct giver *giver)
{
	while (giver->same < giver->looked && listing_at(&giver->listing, giver->same)->flags & LISTING_NAMED) {
		if (!same_is(&giver->service->sames, giver->former, &giver->listing, giver->same))
			return false;
		giver->same++;
	}
	return true;
}

void giver_same_step(struct giver *giver)
{
	bool ends;

	if (!giver->former || giver->differs || giver->state != GIVER_LISTING)
		return;
	giver->differs = !advance(giver);
	ends = giver->differs || (giver->listing.ended && giver->same == giver->listing.count);
	if (giver->same - giver->same_told >= SAME_STEP || (ends && giver->same > giver->same_told))
		tell(giver);
}

void giver_same_seal(struct giver *giver)
{
	if (!giver->former || !digest_equal(&giver->former->root, &giver->listing.root))
		giver->given = same_make(&giver->service->sames, &giver->listing);
}

void giver_same_given(struct giver *giver)
{
	sames_keep(&giver->service->sames, giver->given);
	giver->given = NULL;
}

void giver_same_fini(struct giver *giver)
{
	sames_put(giver->former);
	sames_put(giver->given);
}
