/* Files whose content nobody knows are asked of buildx: so many at a time, each by one of the builds that want it. */
#include "gateway/edge/giver_private.h"

#include <stdlib.h>

#include "gateway/base/check.h"

#define ASKED_BYTES_MAX (1ull << 40)             /* that a file is taken for */

/* ---- towards buildx ---- */

void giver_fetch_flush(struct giver *giver)
{
	struct span packet;

	while (!giver->client_closed && packet_queue_front(&giver->questions, &packet)) {
		if (call_send(&giver->client, packet, 0) == CALL_FULL)
			return;
		packet_queue_pop(&giver->questions);
	}
	if (giver->fin_wanted && !giver->client_closed)
		call_end(&giver->client);
}

static void question_put(struct giver *giver, struct span packet)
{
	if (packet_queue_push(&giver->questions, &packet, 1) < 0)
		giver_unfit(giver, "the edge is out of memory");
	else
		giver_fetch_flush(giver);
}

void giver_fetch_finish(struct giver *giver)
{
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];

	if (giver->client_closed || giver->fin_wanted)
		return;
	giver->fin_wanted = true;
	question_put(giver, span_make(packet, fsutil_write_fin(packet)));
}

/* ---- fetches ---- */

struct fetch *giver_fetch_of(const struct giver *giver, uint32_t number)
{
	const struct listing_entry *entry;

	if (number >= giver->listing.count)
		return NULL;
	entry = listing_at(&giver->listing, number);
	return entry->state == GIVER_ENTRY_UNDER_WAY ? &giver->fetches[entry->next] : NULL;
}

/* The sum of all does not wrap, whatever a STAT says. */
static uint64_t asked_size(const struct fetch *fetch)
{
	uint64_t size = listing_at(&fetch->giver->listing, fetch->number)->size;

	return size < ASKED_BYTES_MAX ? size : ASKED_BYTES_MAX;
}

void giver_fetch_came(struct fetch *fetch)
{
	if (fetch->storing)
		fetch->giver->asked_bytes -= asked_size(fetch);
	fetch->storing = false;
}

static void fetch_release(struct fetch *fetch)
{
	struct giver *giver = fetch->giver;

	giver_fetch_came(fetch);
	stat_claim_end(&fetch->claim);
	ingest_file_abandon(&fetch->file);
	if (giver->unstored_of == fetch)
		giver->unstored_of = NULL;
	*fetch = (struct fetch){ .giver = giver };
	list_append(&giver->free, &fetch->link);
	giver->fetching--;
}

void giver_fetch_done(struct fetch *fetch, const struct content_name *name)
{
	struct giver *giver = fetch->giver;
	struct listing_entry *entry = listing_at(&giver->listing, fetch->number);
	struct content_name before = listing_content(entry);
	bool again = entry->flags & LISTING_NAMED;

	entry->state = fetch->requested ? GIVER_ENTRY_READ : GIVER_ENTRY_SEEN;
	fetch_release(fetch);
	giver->again_count -= again;
	if (again && !digest_equal(&before.digest, &name->digest)) {
		giver_unfit(giver, "a file changed while it was read");
		return;
	}
	if (!again) {
		uint32_t number = (uint32_t)(entry - listing_at(&giver->listing, 0));

		listing_set_content(&giver->listing, number, name);
		giver_ahead_named(giver, number);
	}
	giver_fetch_start(giver);
	giver_wake(giver);
}

static void fetch_request(struct fetch *fetch)
{
	struct giver *giver = fetch->giver;
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];
	struct buffer path = buffer_heap(TREE_PATH_MAX + 1);

	listing_path(&giver->listing, fetch->number, &path);
	giver_bases_begin(fetch, buffer_span(&path));
	buffer_fini(&path);
	fetch->requested = fetch->storing = true;
	giver->asked_bytes += asked_size(fetch);
	giver->files_read++;
	giver->service->counters.files_read++;
	ingest_file_begin(giver->ingest, &fetch->file, listing_at(&giver->listing, fetch->number)->size);
	question_put(giver, span_make(packet, fsutil_write_req(packet, fetch->number)));
}

static void claim_on_named(struct stat_claim *claim, const struct content_name *name)
{
	giver_fetch_done(container_of(claim, struct fetch, claim), name);
}

static void claim_on_lost(struct stat_claim *claim)
{
	fetch_request(container_of(claim, struct fetch, claim));
}

struct stat_entry_key giver_fetch_key(const struct giver *giver, uint32_t number, struct buffer *path)
{
	const struct listing_entry *entry = listing_at(&giver->listing, number);

	buffer_clear(path);
	listing_path(&giver->listing, number, path);
	return stat_entry_key(buffer_span(path), entry->size, entry->mtime_ns);
}

/* What is read again is in no other hands: who had it lost it, too. */
static void fetch_begin(struct fetch *fetch)
{
	struct giver *giver = fetch->giver;
	struct buffer path = buffer_heap(TREE_PATH_MAX + 1);
	bool again = listing_at(&giver->listing, fetch->number)->flags & LISTING_NAMED;

	if (giver->table && !again) {
		fetch->claim = (struct stat_claim){
			.table = giver->table, .key = giver_fetch_key(giver, fetch->number, &path), .on_named = claim_on_named,
			.on_lost = claim_on_lost,
		};
		buffer_fini(&path);
		if (stat_table_claim(&fetch->claim) == STAT_CLAIM_WAIT)
			return;
	}
	fetch_request(fetch);
}

static bool fetches_make(struct giver *giver)
{
	giver->fetches = calloc(GIVER_FETCHES_MAX, sizeof(*giver->fetches));
	if (!giver->fetches)
		return false;
	for (size_t i = 0; i < GIVER_FETCHES_MAX; i++) {
		giver->fetches[i].giver = giver;
		list_append(&giver->free, &giver->fetches[i].link);
	}
	return true;
}

static bool numbers_put(struct numbers *numbers, uint32_t number)
{
	size_t room = numbers->room * 2 + 256;
	uint32_t *moved;

	if (numbers->count == numbers->room) {
		moved = realloc(numbers->items, room * sizeof(*moved));
		if (!moved)
			return false;
		numbers->items = moved;
		numbers->room = room;
	}
	numbers->items[numbers->count++] = number;
	return true;
}

/* The next one that is still wanted; LISTING_NONE: there is none. */
static uint32_t numbers_take(struct numbers *numbers, const struct listing *listing)
{
	while (numbers->first < numbers->count) {
		uint32_t number = numbers->items[numbers->first++];

		if (listing_at(listing, number)->state == GIVER_ENTRY_WANTED)
			return number;
	}
	numbers->first = numbers->count = 0;
	return LISTING_NONE;
}

/* What is asked for comes, whatever waits: so no more than the window takes, but always one. */
static bool has_asked_enough(const struct giver *giver)
{
	return giver->asked_bytes && giver->asked_bytes + giver_feed_pending(giver) > giver_window_bytes(giver);
}

/* By another build, while it waited for its turn here. */
static bool named_meanwhile(struct giver *giver, uint32_t number)
{
	struct listing_entry *entry = listing_at(&giver->listing, number);
	struct buffer path = buffer_heap(TREE_PATH_MAX + 1);
	struct stat_entry_key key;
	struct content_name name;
	bool named = false;

	if (giver->table && !(entry->flags & LISTING_NAMED)) {
		key = giver_fetch_key(giver, number, &path);
		named = stat_table_find(giver->table, &key, &name) && name.size == entry->size;
	}
	buffer_fini(&path);
	if (!named)
		return false;
	entry->state = GIVER_ENTRY_SEEN;
	listing_set_content(&giver->listing, number, &name);
	giver_ahead_named(giver, number);
	giver_wake(giver);
	return true;
}

void giver_fetch_start(struct giver *giver)
{
	while (giver->state != GIVER_OVER && giver->wanted_count) {
		struct listing_entry *entry;
		struct fetch *fetch;
		uint32_t number;

		if (!giver->fetches && !fetches_make(giver)) {
			giver_unfit(giver, "the edge is out of memory");
			return;
		}
		if (list_empty(&giver->free))
			return;
		number = numbers_take(&giver->hurried, &giver->listing);
		if (number == LISTING_NONE && has_asked_enough(giver))
			return;                  /* giver_read_resume() comes by again */
		if (number == LISTING_NONE)
			number = numbers_take(&giver->wanted, &giver->listing);
		CHECK(number != LISTING_NONE);
		if (named_meanwhile(giver, number)) {
			giver->wanted_count--;
			continue;
		}
		fetch = container_of(list_take(&giver->free), struct fetch, link);
		fetch->number = number;
		giver->wanted_count--;
		entry = listing_at(&giver->listing, fetch->number);
		entry->state = GIVER_ENTRY_UNDER_WAY;
		entry->next = (uint32_t)(fetch - giver->fetches);
		giver->fetching++;
		fetch_begin(fetch);
	}
}

void giver_fetch_want(struct giver *giver, uint32_t number)
{
	if (!numbers_put(&giver->wanted, number)) {
		giver_unfit(giver, "the edge is out of memory");
		return;
	}
	listing_at(&giver->listing, number)->state = GIVER_ENTRY_WANTED;
	giver->wanted_count++;
}

void giver_fetch_hurry(struct giver *giver, uint32_t number)
{
	if (listing_at(&giver->listing, number)->state == GIVER_ENTRY_WANTED)
		(void)numbers_put(&giver->hurried, number);      /* else it comes in its turn */
}

bool giver_fetch_again(struct giver *giver, uint32_t number)
{
	struct listing_entry *entry = listing_at(&giver->listing, number);

	if (entry->state == GIVER_ENTRY_WANTED || entry->state == GIVER_ENTRY_UNDER_WAY)
		return true;
	if (entry->state == GIVER_ENTRY_READ || giver->client_closed)
		return false;
	giver->service->counters.files_read_again++;
	giver->again_count++;
	giver_fetch_want(giver, number);
	giver_fetch_hurry(giver, number);
	giver_window_open(giver);
	giver_fetch_start(giver);
	return true;
}

void giver_fetch_close(struct giver *giver)
{
	for (size_t i = 0; giver->fetches && i < GIVER_FETCHES_MAX; i++)
		if (!list_linked(&giver->fetches[i].link))
			fetch_release(&giver->fetches[i]);
}

void giver_fetch_fini(struct giver *giver)
{
	packet_queue_fini(&giver->questions);
	free(giver->fetches);
	free(giver->hurried.items);
	free(giver->wanted.items);
}
