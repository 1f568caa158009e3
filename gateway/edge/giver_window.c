/*
 * What was read and is not yet at the gateway is held in the edge's store, and no more of it than the window takes: then
 * buildx's call waits. It is held in lots, so that what the gateway has heard of is let go while the rest still comes.
 */
#include "gateway/edge/giver_private.h"

uint64_t giver_window_bytes(const struct giver *giver)
{
	const struct giver_service *service = giver->service;

	return service->window_bytes / (service->giving > 1 ? service->giving : 1);
}

void giver_window_check(struct giver *giver)
{
	if (giver->state != GIVER_LISTING || giver->again_count || giver_feed_pending(giver) <= giver_window_bytes(giver))
		return;
	giver->windowed = giver->held_by_window = true;
	call_hold(&giver->client);
	giver_wake(giver);
}

/* Two holds: while one is waited for, the other takes what comes. */
static void lots_turn(struct giver *giver)
{
	struct store_hold *next;

	if (giver->hold_before && giver->confirmed >= giver->before_end) {
		store_hold_release(giver->hold_before);
		giver->hold_before = NULL;
	}
	if (!giver->windowed || !giver->hold || giver->hold_before ||
	    giver->lot_bytes <= (giver->pressed ? 0 : giver_window_bytes(giver) / 4))
		return;
	next = store_hold_create(giver->service->cas->store, &giver->service->scope);
	if (!next)
		return;
	giver->hold_before = giver->hold;
	giver->before_end = giver->noted.count;
	giver->hold = next;
	giver->lot_bytes = 0;
	giver->pressed = false;
	ingest_set_hold(giver->ingest, next);
}

void giver_window_open(struct giver *giver)
{
	if (!giver->held_by_window)
		return;
	giver->held_by_window = false;
	if (!giver->held_by_store && !giver->client_closed)
		call_release(&giver->client);
}

void giver_window_turn(struct giver *giver)
{
	lots_turn(giver);
	if (giver->held_by_window && giver_feed_pending(giver) <= giver_window_bytes(giver) / 2)
		giver_window_open(giver);
}

void giver_window_given(struct giver *giver)
{
	if (!giver->windowed)
		return;
	ingest_set_hold(giver->ingest, NULL);
	store_hold_release(giver->hold);
	store_hold_release(giver->hold_before);
	giver->hold = giver->hold_before = NULL;
	giver->lot_bytes = 0;
	giver->pressed = false;
}

static void press(struct giver *giver)
{
	if (giver->state == GIVER_OVER)
		return;
	giver->windowed = true;
	if (giver->state == GIVER_GIVEN) {
		giver_window_given(giver);
		return;
	}
	giver->pressed = true;
	giver_feed_rest(giver);
	giver_wake(giver);
}

void giver_window_press(struct giver_service *service)
{
	list_for_each(link, &service->givers)
		press(container_of(link, struct giver, link));
}

void giver_window_hold(struct giver *giver)
{
	if (giver->hold)
		return;
	giver->hold = store_hold_create(giver->service->cas->store, &giver->service->scope);
	ingest_set_hold(giver->ingest, giver->hold);     /* without memory it may be lost, and is read again */
}

void giver_window_fini(struct giver *giver)
{
	store_hold_release(giver->hold);
	store_hold_release(giver->hold_before);
}
