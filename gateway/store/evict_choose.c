/* Which segment is emptied: the least recently used one of which little must stay. */
#include "gateway/store/evict_private.h"

#define EVICT_GAIN_PART    32             /* a victim must free at least that part of a segment, or copying is futile */
#define EVICT_CHEAP_PART   2              /* up to that part pinned, the least recently used one is taken */

static bool evict_eligible(const struct store *store, const struct segment *segment)
{
	return segment->row.state == SEGMENT_SEALED && segment->sealed_ticket <= store->commit.done && !segment->dirty;
}

static struct segment *evict_oldest_unmeasured(struct store *store)
{
	struct segment *oldest = NULL;

	for (uint32_t i = 0; i < store->segments_max; i++) {
		struct segment *segment = &store->segments[i];

		if (evict_eligible(store, segment) && segment->pinned_part == UINT32_MAX &&
		    (!oldest || segment->row.used < oldest->row.used))
			oldest = segment;
	}
	return oldest;
}

static struct segment *evict_least_pinned(struct store *store)
{
	struct segment *least = NULL;

	for (uint32_t i = 0; i < store->segments_max; i++) {
		struct segment *segment = &store->segments[i];

		if (evict_eligible(store, segment) && (!least || segment->pinned_part < least->pinned_part))
			least = segment;
	}
	if (least && least->pinned_part > EVICT_WHOLE - EVICT_WHOLE / EVICT_GAIN_PART)
		return NULL;
	return least;
}

/* A full segment whose last records are not committed yet is a candidate, too, in a moment. */
static bool evict_awaits_commit(const struct store *store)
{
	for (uint32_t i = 0; i < store->segments_max; i++) {
		const struct segment *segment = &store->segments[i];

		if (segment->row.state == SEGMENT_SEALED && !evict_eligible(store, segment))
			return true;
	}
	return false;
}

static void evict_choose(struct store *store, struct segment *victim)
{
	store->evict.victim = victim;
	store->evict.copied = store->evict.ticket = 0;
	store->evict.late = false;
	evict_enter(&store->evict, EVICT_COPYING);
	store->again = true;
}

static void evict_measure_rows(struct store *store)
{
	struct evict *evict = &store->evict;
	struct index_row row;
	struct digest digest;

	while (index_scan_next(&evict->scan, &evict->rows_at, &row)) {
		evict->candidate_rows++;
		if (!row_record_decode(&digest, row.value) || !evict_keeps(store, digest.hash))
			continue;
		evict->pinned_rows++;
		evict->pinned_bytes += record_bytes(digest.size);
	}
}

static void evict_measure_begin(struct evict *evict)
{
	evict->candidate_rows = evict->pinned_rows = evict->pinned_bytes = 0;
}

/*
 * Where the index is full, rows are what counts: a segment with few bytes in it that are all pinned would be emptied for nothing, and
 * the next one that its bytes come to as well, for ever.
 */
static uint32_t evict_pinned_part(const struct store *store)
{
	const struct evict *evict = &store->evict;

	if (!store_index_tight(store))
		return (uint32_t)(evict->pinned_bytes * EVICT_WHOLE / store->segment_bytes);
	return evict->candidate_rows ? (uint32_t)(evict->pinned_rows * EVICT_WHOLE / evict->candidate_rows) : 0;
}

/* Very small blobs fill the index while most segments are unused: the open one must do as a candidate then. */
static bool evict_seal_open(struct store *store)
{
	if (!store_index_tight(store) || !store->writer.segment || store->writer.appending ||
	    store->writer.segment->tail == 0 || space_available(store) == 0)
		return false;
	writer_seal(&store->writer);
	store->again = true;
	return true;
}

void evict_measure(struct store *store)
{
	struct evict *evict = &store->evict;

	if (evict->scanning)
		return;
	if (!evict->candidate) {
		if (evict_awaits_commit(store)) {
			commit_force(store);
			return;
		}
		evict->candidate = evict_oldest_unmeasured(store);
		if (!evict->candidate) {
			struct segment *least = evict_least_pinned(store);

			if (!least && evict_seal_open(store))
				return;
			if (least)
				evict_choose(store, least);
			else
				evict_full(store);
			return;
		}
		evict_measure_begin(evict);
		evict_scan(store, evict->candidate, true);
		return;
	}
	if (!evict->scanned)
		return;
	evict_measure_rows(store);
	if (evict->scan.more) {
		evict_scan(store, evict->candidate, false);
		store->again = true;
		return;
	}
	evict->candidate->pinned_part = evict_pinned_part(store);
	if (evict->candidate->pinned_part <= EVICT_WHOLE / EVICT_CHEAP_PART) {
		evict_choose(store, evict->candidate);
	} else {
		evict->candidate = NULL;
		evict->scanned = false;
	}
	store->again = true;
}
