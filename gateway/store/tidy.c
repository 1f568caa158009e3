/* Bounds on marks and notes. */
#include "gateway/store/tidy.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/store/bytes.h"
#include "gateway/store/state.h"

#define TIDY_MARKS_PAGES  16             /* looked through, an eviction, */
#define TIDY_MARKS_TIMES  2u             /* and all so often while each segment in use is evicted once */
#define TIDY_NOTES_LEAST  64u
#define TIDY_NOTES_PART   8              /* of the index may be notes */
#define TIDY_NOTES_DELETE 64             /* at a time */
#define NOTE_START_BYTES  (8 + DIGEST_HASH_BYTES)        /* scope, tag, and most of a hash */

int tidy_init(struct tidy *tidy)
{
	tidy->all = true;                        /* which of them are stale since before the start is not known */
	tidy->all_sequence = UINT64_MAX;
	tidy->rows = malloc(TIDY_ROWS_MAX * INDEX_SCAN_ROW_MAX);
	return tidy->rows ? 0 : ERR_RAISE(-ENOMEM);
}

void tidy_fini(struct tidy *tidy)
{
	free(tidy->rows);
	tidy->rows = NULL;
}

static uint64_t notes_max(const struct store *store)
{
	uint64_t notes = store->map_bytes / TIDY_NOTES_PART / (2 * STORE_NOTE_VALUE_MAX);

	return notes > TIDY_NOTES_LEAST ? notes : TIDY_NOTES_LEAST;
}

void tidy_marks(struct store *store)
{
	uint32_t used = store->segments_max - store->space.absent - store->space.free;
	uint64_t share = store->usage.marks * TIDY_MARKS_TIMES / TIDY_ROWS_MAX / (used + 1);

	if (store->tidy.marks_pages < TIDY_MARKS_PAGES + share)
		store->tidy.marks_pages = (uint32_t)(TIDY_MARKS_PAGES + share);
	store->again = true;
}

bool tidy_all_marks(struct store *store)
{
	struct tidy *tidy = &store->tidy;

	if (tidy->all || tidy->marks_pages > 0 || (tidy->state != TIDY_IDLE && !tidy->notes))
		return true;                     /* under way */
	if (tidy->all_sequence == store->sequence && store->usage.marks <= tidy->all_marks)
		return false;
	tidy->all = true;
	store->again = true;
	return true;
}

bool tidy_makes_room(const struct store *store)
{
	const struct tidy *tidy = &store->tidy;

	return store_index_tight(store) && (tidy->all || tidy->marks_pages > 0 || (tidy->state != TIDY_IDLE && !tidy->notes));
}

static void tidy_on_scan(struct index_scan *scan)
{
	struct store *store = container_of(scan, struct store, tidy.scan);

	store->tidy.scanned = true;
	store_step(store);
}

static void tidy_scan(struct store *store, const struct tidy_place *from)
{
	struct tidy *tidy = &store->tidy;

	memcpy(tidy->scan.key, from->key, from->size);
	tidy->scan.key_size = from->size;
	tidy->state = TIDY_SCANNING;
	tidy->scanned = false;
	tidy->scan.table = tidy->notes ? INDEX_NOTES : INDEX_MARKS;
	tidy->scan.prefix_size = 0;
	tidy->scan.rows = tidy->rows;
	tidy->scan.rows_capacity = TIDY_ROWS_MAX * INDEX_SCAN_ROW_MAX;
	tidy->scan.rows_max = tidy->notes ? TIDY_NOTES_DELETE : TIDY_ROWS_MAX;
	tidy->scan.fn = tidy_on_scan;
	store_pause(store, STORE_PART_TIDY);
	store->engine->scan(store->index, &tidy->scan);
}

/* Somewhere: a store that is opened often would else lose the notes with the lowest keys alone. */
static void tidy_start_notes(struct store *store)
{
	struct tidy *tidy = &store->tidy;
	uint8_t *key = tidy->notes_next.key;
	uint32_t tenant;

	ring_random(store->ring, key, NOTE_START_BYTES);
	memcpy(&tenant, key, sizeof(tenant));
	bytes_put32_key(key, store->scopes.tenants ? tenant % store->scopes.tenants + 1 : 0);
	bytes_put32_key(key + 4, 1);
	key[8] = 'a' + key[8] % 8;       /* as what they are about: gateway/cas/note_key.h */
	tidy->notes_next.size = NOTE_START_BYTES;
	tidy->started = true;
}

/*
 * Which notes go has to do with their keys, which are digests, and not with their use: nothing needs to be written at each
 * use then, and a lost one is run again. One that is new is there until the round has come to its place: no longer than it
 * takes to write as many as there may be, half as long on average.
 */
static void tidy_begin_notes(struct store *store)
{
	struct tidy *tidy = &store->tidy;

	if (!tidy->started)
		tidy_start_notes(store);
	tidy->notes = true;
	tidy_scan(store, &tidy->notes_next);
}

static void tidy_begin_marks(struct store *store)
{
	struct tidy *tidy = &store->tidy;

	tidy->notes = false;
	if (tidy->all) {
		tidy->all = false;
		tidy->all_sequence = store->sequence;
		tidy->all_marks = store->usage.marks;
		tidy->marks_next.size = 0;
		tidy->marks_pages = UINT32_MAX;  /* to their end */
	}
	tidy->marks_pages--;
	tidy_scan(store, &tidy->marks_next);
}

static void tidy_prepare(struct index_apply *apply)
{
	container_of(apply, struct tidy, apply)->at = 0;
}

/* A commit may have come in between: a row that it wrote anew is not the one that was looked at. */
static bool tidy_next(struct index_apply *apply, struct index_change *change)
{
	struct tidy *tidy = container_of(apply, struct tidy, apply);
	struct index_row row;

	while (index_scan_next(&tidy->scan, &tidy->at, &row)) {
		if (row.key.size == 0)
			continue;
		change->kind = INDEX_DELETE_SAME;
		change->table = tidy->scan.table;
		change->key_size = row.key.size;
		memcpy(change->key, row.key.data, row.key.size);
		change->value = row.value;
		return true;
	}
	return false;
}

static void tidy_on_apply(struct index_apply *apply)
{
	struct store *store = container_of(apply, struct store, tidy.apply);

	store->tidy.applied = true;
	if (apply->result == 0)
		store_usage(store, &apply->usage);
	store_step(store);
}

/* Keeps only the rows of stale marks in the page. */
static size_t tidy_pick_stale(struct store *store)
{
	struct tidy *tidy = &store->tidy;
	struct index_row row;
	size_t at = 0, kept = 0, count = 0;

	for (size_t begin = 0; index_scan_next(&tidy->scan, &at, &row); begin = at) {
		if (marks_fresh(store, row.value))
			continue;
		memmove(tidy->rows + kept, tidy->rows + begin, at - begin);
		kept += at - begin;
		count++;
	}
	tidy->scan.rows_size = kept;
	return count;
}

static void tidy_take_page(struct store *store)
{
	struct tidy *tidy = &store->tidy;
	struct tidy_place *next = tidy->notes ? &tidy->notes_next : &tidy->marks_next;
	size_t count = tidy->scan.count;

	tidy->state = TIDY_IDLE;
	store->again = true;                     /* somebody may wait for it */
	if (tidy->scan.result) {
		store_fail(store, tidy->scan.result, "index scan", UINT32_MAX);
		return;
	}
	next->size = tidy->scan.more ? tidy->scan.key_size : 0;
	memcpy(next->key, tidy->scan.key, next->size);
	if (!tidy->notes) {
		if (!tidy->scan.more) {
			tidy->marks_pages = 0;
			tidy->all_marks = store->usage.marks;
		}
		count = tidy_pick_stale(store);
	}
	if (count == 0)
		return;
	tidy->state = TIDY_DELETING;
	tidy->applied = false;
	tidy->apply = (struct index_apply){ .prepare = tidy_prepare, .next = tidy_next, .fn = tidy_on_apply };
	store->engine->apply(store->index, &tidy->apply);
}

void tidy_step(struct store *store)
{
	struct tidy *tidy = &store->tidy;

	if (store_pauses(store, STORE_PART_TIDY) && tidy->state == TIDY_IDLE)
		return;
	if (tidy->state == TIDY_SCANNING && tidy->scanned)
		tidy_take_page(store);
	if (tidy->state == TIDY_DELETING && tidy->applied) {
		tidy->state = TIDY_IDLE;
		store->again = true;
	}
	/* A page in which nothing was to go is over at once: the next one has its turn, like any other. */
	if (tidy->state != TIDY_IDLE || store->failed || store->closing || store_pauses(store, STORE_PART_TIDY))
		return;
	if (tidy->marks_pages > 0 || (tidy->all && store_index_tight(store)))
		tidy_begin_marks(store);
	else if (store->usage.notes > notes_max(store))
		tidy_begin_notes(store);
}
