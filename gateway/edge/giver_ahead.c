/*
 * Ahead of the root, when the gateway lacks the context: all entries as soon as they are listed, so that nothing that a tree
 * cannot hold can come behind them, and each content once the gateway has it, while others are still read.
 */
#include "gateway/edge/giver_private.h"

#include <stdlib.h>
#include "gateway/base/err.h"

#define RUN_BYTES (256u << 10)           /* of entries or names, a message */

struct giver_named {
	uint32_t number;
	size_t noted;                    /* all its blobs are among as many */
};

static void send_entries(struct giver *giver, struct buffer *run)
{
	struct context_response response = { .entries = run->size ? buffer_span(run) : span_text("") };

	giver_answer(giver, &response);
	buffer_clear(run);
}

static void send_names(struct giver *giver, struct buffer *run, uint64_t *previous)
{
	struct context_response response = { .named = buffer_span(run) };

	if (run->size)
		giver_answer(giver, &response);
	buffer_clear(run);
	*previous = 0;
}

static void put_name(struct giver *giver, uint32_t number, struct buffer *run, uint64_t *previous)
{
	struct listing_entry *entry = listing_at(&giver->listing, number);
	struct named_entry named = {
		.number = number, .digest = listing_digest(entry), .recipe = entry->flags & LISTING_RECIPE, .file_size = entry->size,
	};

	if (entry->flags & LISTING_TOLD)
		return;
	entry->flags |= LISTING_TOLD;
	name_list_put(run, previous, &named);
	if (run->size >= RUN_BYTES)
		send_names(giver, run, previous);
}

static void tell_entries(struct giver *giver)
{
	struct buffer run = buffer_heap(2 * RUN_BYTES), stat = buffer_heap(RUN_BYTES);

	giver->ahead = true;
	for (uint32_t i = 0; i < giver->listing.count; i++) {
		buffer_clear(&stat);
		listing_stat(&giver->listing, i, &stat);
		entry_list_put(&run, buffer_span(&stat));
		if (run.size >= RUN_BYTES)
			send_entries(giver, &run);
	}
	if (run.failed || stat.failed)
		call_finish(&giver->gateway, GRPC_RESOURCE_EXHAUSTED, "the edge is out of memory");
	if (run.size)
		send_entries(giver, &run);
	send_entries(giver, &run);               /* there are no more */
	buffer_fini(&run);
	buffer_fini(&stat);
}

void giver_ahead_named(struct giver *giver, uint32_t number)
{
	struct giver_named *moved;
	size_t room;

	if (!giver->ask_ahead)
		return;
	if (giver->named_count == giver->named_room) {
		room = giver->named_room * 2 + 256;
		moved = realloc(giver->named, room * sizeof(*moved));
		if (!moved)
			return;                  /* it is told with the root */
		giver->named = moved;
		giver->named_room = room;
	}
	giver->named[giver->named_count++] = (struct giver_named){ number, giver->noted.count };
}

/* In the order in which they were named: their blobs are confirmed in that order, too. */
static void tell_named(struct giver *giver)
{
	struct buffer run = buffer_heap(2 * RUN_BYTES);
	uint64_t previous = 0;

	while (giver->named_told < giver->named_count && giver->named[giver->named_told].noted <= giver->confirmed)
		put_name(giver, giver->named[giver->named_told++].number, &run, &previous);
	send_names(giver, &run, &previous);
	buffer_fini(&run);
}

void giver_ahead_tell_one(struct giver *giver, uint32_t number)
{
	struct buffer run = buffer_heap(2 * RUN_BYTES);
	uint64_t previous = 0;

	put_name(giver, number, &run, &previous);
	send_names(giver, &run, &previous);
	buffer_fini(&run);
}

void giver_ahead_step(struct giver *giver)
{
	if (!giver->ahead && giver->ask_ahead && giver->feed == GIVER_FEED_ALL && giver->state == GIVER_LISTING &&
	    giver->listing.ended && !giver->listing.broad)
		tell_entries(giver);
	/* Not while a helper thread looks at the entries. */
	if (giver->ahead && giver->state < GIVER_GIVEN && giver->state != GIVER_SEALING)
		tell_named(giver);
}

void giver_ahead_finish(struct giver *giver)
{
	struct buffer run = buffer_heap(2 * RUN_BYTES);
	uint64_t previous = 0;

	for (uint32_t i = 0; giver->ahead && i < giver->listing.count; i++)
		if (listing_at(&giver->listing, i)->flags & LISTING_DATA)
			put_name(giver, i, &run, &previous);
	send_names(giver, &run, &previous);
	buffer_fini(&run);
}

void giver_ahead_fini(struct giver *giver)
{
	free(giver->named);
}
