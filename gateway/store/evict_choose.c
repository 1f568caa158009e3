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

		if (evict_eligible(store, segment) && segment->pinned_bytes == UINT64_MAX &&
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

		if (evict_eligible(store, segment) && (!least || segment->pinned_bytes < least->pinned_bytes))
			least = segment;
	}
	if (least && least->pinned_bytes > store->segment_bytes - store->segment_bytes / EVICT_GAIN_PART)
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
	store->evict.copied = 0;
	store->evict.late = false;
	evict_enter(&store->evict, EVICT_COPYING);
	store->again = true;
}

static void evict_measure_rows(struct store *store)
{
	struct evict *evict = &store->evict;
	struct index_row row;
	struct digest digest;

	while (index_scan_next(&evict->scan, &evict->rows_at, &row))
		if (row_record_decode(&digest, row.value) && evict_keeps(store, digest.hash))
			evict->candidate->pinned_bytes += record_bytes(digest.size);
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
		evict->candidate->pinned_bytes = 0;
		evict_scan(store, evict->candidate, true);
		return;
	}
	if (!evict->scanned)
		return;
	evict_measure_rows(store);
	if (evict->scan.more) {
		evict_scan(store, evict->candidate, false);
	} else if (evict->candidate->pinned_bytes <= store->segment_bytes / EVICT_CHEAP_PART) {
		evict_choose(store, evict->candidate);
	} else {
		evict->candidate = NULL;
		evict->scanned = false;
	}
	store->again = true;
}
