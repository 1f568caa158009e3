/* Reading blobs. */
#include "gateway/store/read.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/store/state.h"

/* A lot may be of one read. */
#define LOTS READS_MAX
#define BAD_READ_NS 5000000000ull

_Static_assert(STORE_READ_EXTRA_BYTES >= RECORD_HEADER_BYTES, "a read fetches header and payload at once");

int reads_init(struct reads *reads, struct store *store)
{
	list_init(&reads->idle);
	list_init(&reads->waiting);
	reads->lots = calloc(LOTS, sizeof(*reads->lots));
	if (!reads->lots)
		return ERR_RAISE(-ENOMEM);
	for (uint32_t i = 0; i < LOTS; i++) {
		struct read_lot *lot = &reads->lots[i];
		int r = resolve_init(&lot->resolve, store, READ_LOT_MAX);

		if (r)
			return r;
		lot->store = store;
		for (uint32_t k = 0; k < READ_LOT_MAX; k++)
			lot->reads[k].lot = lot;
		list_append(&reads->idle, &lot->link);
	}
	return 0;
}

void reads_fini(struct reads *reads)
{
	for (uint32_t i = 0; reads->lots && i < LOTS; i++)
		resolve_fini(&reads->lots[i].resolve);
	free(reads->lots);
	reads->lots = NULL;
}

static struct segment *segment_of(const struct lot_read *reader)
{
	return &reader->lot->store->segments[reader->place.segment];
}

static void lot_leave(struct read_lot *lot)
{
	CHECK(lot->left > 0);
	if (--lot->left == 0)
		list_append(&lot->store->reads.idle, &lot->link);
}

static void reader_finish(struct lot_read *reader, int result)
{
	struct store *store = reader->lot->store;
	struct store_read *read = reader->read;

	store->status.reads++;
	if (result == STORE_OK)
		store->status.bytes_read += read->blob.size;
	store->reads.active--;
	lot_leave(reader->lot);
	read->result = result;
	read->fn(read);
}

void read_quarantine(struct store *store, const struct digest *digest, struct place place)
{
	struct segment *segment = &store->segments[place.segment];
	struct pending *open = &store_open_generation(store)->pending;
	struct pending_entry *entry = pending_blob(open, digest->hash);
	static const struct scope nobody;

	store->status.corrupt++;
	if (segment->row.generation != place.generation)
		return;
	if (entry) {
		/* Gone already, or a fresh copy is here whose place is another. */
		if (entry->kind == PENDING_GONE || !place_equal(entry->place, place))
			return;
		pending_turn_gone(open, entry);
	} else {
		const struct pending_entry *frozen = pending_blob(&store_frozen_generation(store)->pending, digest->hash);

		if (frozen && (frozen->kind == PENDING_GONE || !place_equal(frozen->place, place)))
			return;
		if (open->count + 1 >= PENDING_MAX)
			return;                  /* the next reader finds it again; a put half-way has the last entry */
		pending_turn_gone(open, pending_add(open, PENDING_GONE, digest, &nobody, place));       /* and who sees it */
	}
	segment->row.disturbed = ++store->sequence;
	segment->row_changed = true;
	commit_accepted(store);
}

static void reader_condemn(struct lot_read *reader)
{
	struct store *store = reader->lot->store;
	char text[DIGEST_TEXT_MAX];

	log_event(LOG_ERROR, "blob corrupt", LOG_TEXT("digest", digest_text(&reader->read->digest, text)),
	          LOG_U64("segment", reader->place.segment), LOG_U64("generation", reader->place.generation),
	          LOG_U64("offset", reader->place.offset));
	read_quarantine(store, &reader->read->digest, reader->place);
	reader_finish(reader, STORE_CORRUPT);
}

static void reader_verify(struct lot_read *reader)
{
	struct store_read *read = reader->read;
	struct span payload = span_make(read->buffer + RECORD_HEADER_BYTES, (size_t)read->digest.size);
	struct record record;

	segment_of(reader)->readers--;
	if (!record_decode(&record, read->buffer, reader->lot->store->secret) ||
	    record.segment != reader->place.segment || record.generation != reader->place.generation ||
	    record.offset != reader->place.offset || !digest_equal(&record.digest, &read->digest) ||
	    record.payload_sum != record_sum(payload)) {
		reader_condemn(reader);
		return;
	}
	read->blob = payload;
	reader_finish(reader, STORE_OK);
}

/* ---- from the disk ---- */

static void reader_fetch(struct lot_read *first, uint32_t run);

/* What a run could not bring, each asks for by itself: one damaged place on the disk is not its neighbours' end. */
static void run_break(struct lot_read *first, uint32_t run)
{
	for (uint32_t i = 0; i < run; i++)
		reader_fetch(&first[i], 1);
}

/* It is of the place on the disk, and not of the machine: what the block layer and file systems say of a bad sector. */
static bool error_of_place(int32_t res)
{
	return res == -EIO || res == -ENODATA || res == -EREMOTEIO || res == -EILSEQ || res == -EBADMSG || res == -EUCLEAN;
}

/* A disk that was away for a moment has lost nothing: damage is what cannot be read some time later either. */
static bool is_bad_for_long(struct store *store, struct place place)
{
	uint64_t now = ring_now_ns(store->ring), limit = store->config.bad_read_ns ? store->config.bad_read_ns : BAD_READ_NS;
	struct reads *reads = &store->reads;

	for (unsigned i = 0; i < READS_BAD_MAX; i++)
		if (reads->bad[i].since_ns && place_equal(reads->bad[i].place, place))
			return now - reads->bad[i].since_ns >= limit;
	reads->bad[reads->bad_next] = (struct bad_place){ place, now };
	reads->bad_next = (reads->bad_next + 1) % READS_BAD_MAX;
	return false;
}

/* What cannot be read is not to be told present: whoever has it would not bring it, and what an eviction must know would stop it. */
static void reader_fail(struct lot_read *reader, int32_t res)
{
	struct store *store = reader->lot->store;
	char text[DIGEST_TEXT_MAX];

	if (error_of_place(res) && !reader->again) {
		reader->again = true;
		reader_fetch(reader, 1);
		return;
	}
	segment_of(reader)->readers--;
	if (res >= 0) {
		reader_condemn(reader);          /* its segment ends before it does */
		return;
	}
	store->status.read_errors++;
	log_event(LOG_ERROR, "blob not read", LOG_TEXT("digest", digest_text(&reader->read->digest, text)),
	          LOG_U64("segment", reader->place.segment), LOG_U64("offset", reader->place.offset),
	          LOG_TEXT("error", err_text(res)));
	if (error_of_place(res) && is_bad_for_long(store, reader->place))
		reader_condemn(reader);
	else
		reader_finish(reader, res);
}

static void reader_on_read(struct op *op, int32_t res)
{
	struct lot_read *first = container_of(op, struct store_read, op)->private;
	struct read_lot *lot = first->lot;
	struct store *store = lot->store;
	uint32_t run = first->run;
	bool whole = res >= 0 && (size_t)res == op->size;

	lot->left++;                             /* it stays while it is looked through */
	store_reads_gather(store);               /* whoever is told may want the next one */
	if (!whole && run > 1)
		run_break(first, run);
	else if (!whole)
		reader_fail(first, res);
	else
		for (uint32_t i = 0; i < run; i++)
			reader_verify(&first[i]);
	lot_leave(lot);
	store_reads_start(store);
}

static void reader_fetch(struct lot_read *first, uint32_t run)
{
	struct store *store = first->lot->store;
	struct store_read *read = first->read;
	const struct lot_read *last = &first[run - 1];
	size_t size = (size_t)(last->place.offset - first->place.offset) + last->on_disk;

	store->status.disk_reads++;
	first->run = run;
	read->private = first;
	read->op.fn = reader_on_read;
	ring_read(store->ring, &read->op, segment_of(first)->read_fd, read->buffer, size, first->place.offset);
}

/* Whether `next` lies behind `reader`, all on the disk, there as in memory. */
static bool reader_precedes(const struct lot_read *reader, const struct lot_read *next)
{
	size_t bytes = store_read_bytes((size_t)reader->read->digest.size);

	return next->there && next->on_disk == RECORD_HEADER_BYTES + next->read->digest.size &&
	       reader->on_disk == RECORD_HEADER_BYTES + reader->read->digest.size &&
	       next->place.segment == reader->place.segment && next->place.offset == reader->place.offset + bytes &&
	       next->read->buffer == reader->read->buffer + bytes;
}

static void lot_fetch(struct read_lot *lot)
{
	for (uint32_t i = 0, run; i < lot->count; i += run) {
		struct lot_read *first = &lot->reads[i];
		size_t bytes = first->on_disk;

		run = 1;
		if (!first->there || !first->on_disk)
			continue;
		while (i + run < lot->count && reader_precedes(&first[run - 1], &first[run]) &&
		       (bytes += first[run].on_disk) <= READ_RUN_MAX)
			run++;
		reader_fetch(first, run);
	}
}

/* ---- lots ---- */

/* Where it lies; what of it is in slots is copied now. */
static void reader_place(struct lot_read *reader, const struct sight *sight)
{
	struct store *store = reader->lot->store;
	struct store_read *read = reader->read;
	size_t size = RECORD_HEADER_BYTES + (size_t)read->digest.size;

	reader->there = sight->visible && sight->size == read->digest.size;
	if (!reader->there)
		return;
	reader->place = sight->place;
	reader->again = false;
	read->segment = sight->place.segment;
	if (read->scope.tenant)          /* what an eviction reads is not in use by that */
		store_used(store, sight->place.segment);
	segment_of(reader)->readers++;
	reader->on_disk = (uint32_t)writer_copy(&store->writer, segment_of(reader), sight->place.offset, size, read->buffer);
}

/* All are placed and asked for before the first is told: whoever is told may change what is there. */
static void lot_on_resolve(struct resolve *resolve)
{
	struct read_lot *lot = container_of(resolve, struct read_lot, resolve);
	struct store *store = lot->store;

	if (!resolve->result && resolve_stale(resolve)) {
		resolve_start(resolve);
		return;
	}
	for (uint32_t i = 0; i < lot->count; i++) {
		lot->reads[i].there = false;
		if (!resolve->result) {
			struct sight sight = resolve_sight(resolve, i);

			reader_place(&lot->reads[i], &sight);
		}
	}
	lot_fetch(lot);
	store_reads_gather(store);
	for (uint32_t i = 0; i < lot->count; i++) {
		if (!lot->reads[i].there)
			reader_finish(&lot->reads[i], resolve->result ? resolve->result : STORE_MISSING);
		else if (!lot->reads[i].on_disk)
			reader_verify(&lot->reads[i]);
	}
	lot_leave(lot);
	store_reads_start(store);
}

static struct store_read *reads_waiting(const struct store *store)
{
	const struct list *waiting = &store->reads.waiting;

	return list_empty(waiting) ? NULL : container_of(waiting->next, struct store_read, link);
}

/* The next that wait, as long as they are of one scope. */
static void lot_start(struct store *store)
{
	struct read_lot *lot = container_of(list_take(&store->reads.idle), struct read_lot, link);
	struct store_read *read = reads_waiting(store);

	lot->resolve.scope = read->scope;
	for (lot->count = 0; lot->count < READ_LOT_MAX && store->reads.active < READS_MAX; lot->count++) {
		read = reads_waiting(store);
		if (!read || !scope_same(&read->scope, &lot->resolve.scope))
			break;
		list_remove(&read->link);
		store->reads.waiting_count--;
		lot->reads[lot->count].read = read;
		memcpy(lot->hashes[lot->count], read->digest.hash, DIGEST_HASH_BYTES);
		store->reads.active++;
	}
	lot->left = lot->count + 1;
	lot->resolve.hashes = lot->hashes[0];
	lot->resolve.stride = DIGEST_HASH_BYTES;
	lot->resolve.count = lot->count;
	lot->resolve.fn = lot_on_resolve;
	resolve_start(&lot->resolve);
}

/* A lot is worth waiting for: in small ones nothing lies behind anything. */
static bool lot_fits(const struct reads *reads)
{
	uint32_t wanted = reads->waiting_count < READ_LOT_MAX ? reads->waiting_count : READ_LOT_MAX;

	return wanted && READS_MAX - reads->active >= wanted && !list_empty(&reads->idle);
}

void reads_step(struct store *store)
{
	while (!store->reads.gathering && lot_fits(&store->reads))
		lot_start(store);
}

void store_read(struct store *store, struct store_read *read)
{
	CHECK(!op_in_flight(&read->op));
	read->blob = span_make(read->buffer, 0);
	if (read->digest.size == 0 || read->digest.size > STORE_BLOB_BYTES_MAX) {
		read->result = digest_equal(&read->digest, &digest_empty) ? STORE_OK : STORE_MISSING;
		read->fn(read);
		return;
	}
	list_append(&store->reads.waiting, &read->link);
	store->reads.waiting_count++;
	if (!store->reads.gathering)
		store_step(store);
}

void store_reads_gather(struct store *store)
{
	store->reads.gathering++;
}

void store_reads_start(struct store *store)
{
	CHECK(store->reads.gathering > 0);
	store->reads.gathering--;
	store_step(store);
}
