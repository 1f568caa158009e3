/*
 * What is sent ahead of the root. The gateway is asked about a sample of what was read: when it lacks most, all that is read goes
 * to it at once; when it has most, or a sibling is sending that, nothing does, and the walk from the root down finds the rest: ten
 * edges with the same tree that each ask about all of it would ask for 3 MB each.
 *
 *	UNDECIDED -> SAMPLE <-> NONE         SAMPLE -> ALL         NONE, SAMPLE -> ALL: all are read, and the store is full
 *	      '--------------------^  it knows a root of the context, and this edge nothing
 *
 * What is read is held in the store until the gateway is known, or with NONE presumed, to have it. So when the window is full
 * of what it is presumed to have, the last of that is a sample again.
 */
#include "gateway/edge/giver_private.h"

#include <errno.h>

static bool is_new(const struct giver *giver, const struct digest *digest)
{
	return !giver->known || !known_has(giver->known, digest);
}

/* ---- samples ---- */

static struct giver_sample sample_now(const struct giver *giver)
{
	struct giver_sample now = { .fed = giver->fed_count };

	if (giver->uploader) {
		const struct uploader_totals *totals = uploader_totals(giver->uploader);

		now.answered = totals->blobs_answered;
		now.lacking = totals->blobs_lacking;
	}
	return now;
}

static void sample_begin(struct giver *giver, size_t count)
{
	giver->feed = GIVER_FEED_SAMPLE;
	giver->sample = sample_now(giver);
	giver->sample.count = count;
	giver->presumed_from = giver->fed;
}

/* No more will be read before it is answered. */
static bool reading_waits(const struct giver *giver)
{
	return giver->held_by_window || giver->pressed;
}

static void sample_judge(struct giver *giver)
{
	const struct giver_sample *before = &giver->sample, now = sample_now(giver);
	size_t fed = now.fed - before->fed;
	uint64_t lacked = now.lacking - before->lacking;

	if (giver->feed != GIVER_FEED_SAMPLE || giver->noted.count == 0 || now.answered - before->answered < fed)
		return;
	if (fed < before->count && (!reading_waits(giver) || giver->fed < giver->noted.count))
		return;
	giver->feed = fed && lacked * 4 >= fed ? GIVER_FEED_ALL : GIVER_FEED_NONE;
	if (giver->feed == GIVER_FEED_ALL)
		giver->fed = giver->confirmed;   /* what was skipped as well */
}

/* ---- what is to be fed ---- */

/*
 * What this edge did not push itself it asks about, a few at first: of a directory it may know no more than a look at the
 * .dockerignore in it. When it knows nothing and the gateway a root, the walk from there is all.
 */
static void feed_decide(struct giver *giver)
{
	bool knows = giver->known && giver->known->count > 0;

	sample_judge(giver);
	if (!giver->asked || giver->state != GIVER_LISTING)
		return;
	if (giver->feed == GIVER_FEED_UNDECIDED && (knows || !giver->ask_known.size))
		sample_begin(giver, GIVER_SAMPLE);
	else if (giver->feed == GIVER_FEED_UNDECIDED)
		giver->feed = GIVER_FEED_NONE;
	if (giver->feed != GIVER_FEED_NONE || !reading_waits(giver) || giver->fed == giver->noted.count)
		return;
	sample_begin(giver, GIVER_SAMPLE_AGAIN);
	if (giver->noted.count - giver->fed > GIVER_SAMPLE_AGAIN)
		giver->fed = giver->noted.count - GIVER_SAMPLE_AGAIN;
}

static bool feeds(const struct giver *giver)
{
	if (giver->fed == giver->noted.count || giver->state > GIVER_LOADING || giver->restart)
		return false;
	if (giver->feed == GIVER_FEED_SAMPLE)
		return giver->fed_count - giver->sample.fed < giver->sample.count;
	return giver->feed == GIVER_FEED_ALL;
}

/* What another upload sends is for that one to answer for. */
static void confirm(struct giver *giver)
{
	bool settled = giver->uploader &&
	               giver->fed_count == giver->stored_count + uploader_totals(giver->uploader)->blobs_promised;
	size_t end = giver->feed == GIVER_FEED_SAMPLE && giver->sample.count == GIVER_SAMPLE_AGAIN ? giver->presumed_from : giver->fed;

	while (giver->confirmed < end) {
		const struct digest *digest = &giver->noted.items[giver->confirmed];

		if (!settled && is_new(giver, digest) && !digest_set_has(&giver->stored, digest))
			break;
		giver->confirmed_bytes += digest->size;
		giver->confirmed++;
	}
}

uint64_t giver_feed_pending(const struct giver *giver)
{
	return giver->noted_bytes - giver->confirmed_bytes;
}

void giver_feed_note(struct giver *giver, const struct digest *blob)
{
	if (blob->size && digest_vector_add(&giver->noted, blob) == 0)
		giver->noted_bytes += blob->size;
}

/* While files come there are samples; afterwards nobody would ask about what was presumed. */
void giver_feed_rest(struct giver *giver)
{
	if (giver->state == GIVER_LISTING || giver->told || giver_feed_pending(giver) == 0)
		return;
	if (giver->feed != GIVER_FEED_ALL) {
		giver->feed = GIVER_FEED_ALL;
		giver->fed = giver->confirmed;
	}
	if (giver->state == GIVER_PUSHING && giver->uploader && !giver->restart && !giver->uploader_closing)
		giver_push_restart(giver);
}

void giver_feed_step(struct giver *giver)
{
	feed_decide(giver);
	if (giver->stale && giver->again_count == 0 && giver->uploader && !giver->restart && !giver->uploader_closing) {
		giver->stale = false;
		uploader_retry(giver->uploader);
		if (giver->state == GIVER_OVER)
			return;
	}
	confirm(giver);
	giver_read_resume(giver);
	if (!feeds(giver) || !giver_push_open(giver))
		return;
	while (feeds(giver)) {
		const struct digest *digest = &giver->noted.items[giver->fed++];

		if (!is_new(giver, digest) || digest_set_add(&giver->fed_ever, digest) == 0)
			continue;
		giver->fed_count++;
		if (uploader_feed(giver->uploader, digest, 1) < 0) {
			giver_unfit(giver, "the edge is out of memory");
			return;
		}
	}
	confirm(giver);                          /* no event comes of what was fed before, nor to who waits for it */
	giver_read_resume(giver);
}
