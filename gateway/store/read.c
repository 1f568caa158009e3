/* Reading blobs. */
#include "gateway/store/read.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/store/state.h"

_Static_assert(STORE_READ_EXTRA_BYTES >= RECORD_HEADER_BYTES, "a read fetches header and payload at once");

int reads_init(struct reads *reads, struct store *store)
{
	list_init(&reads->idle);
	list_init(&reads->waiting);
	reads->readers = calloc(READS_MAX, sizeof(*reads->readers));
	if (!reads->readers)
		return ERR_RAISE(-ENOMEM);
	for (uint32_t i = 0; i < READS_MAX; i++) {
		struct reader *reader = &reads->readers[i];
		int r = resolve_init(&reader->resolve, store, 1);

		if (r)
			return r;
		reader->store = store;
		list_append(&reads->idle, &reader->link);
	}
	return 0;
}

void reads_fini(struct reads *reads)
{
	for (uint32_t i = 0; reads->readers && i < READS_MAX; i++)
		resolve_fini(&reads->readers[i].resolve);
	free(reads->readers);
	reads->readers = NULL;
}

static void reader_finish(struct reader *reader, int result)
{
	struct store *store = reader->store;
	struct store_read *read = reader->read;

	store->status.reads++;
	if (result == STORE_OK)
		store->status.bytes_read += read->blob.size;
	reader->read = NULL;
	store->reads.active--;
	list_append(&store->reads.idle, &reader->link);
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
		entry = pending_add(open, PENDING_GONE, digest, &nobody, place);
		entry->gone = place;
	}
	segment->row.disturbed = ++store->sequence;
	segment->row_changed = true;
	commit_accepted(store);
}

static void reader_condemn(struct reader *reader)
{
	char text[DIGEST_TEXT_MAX];

	log_event(LOG_ERROR, "blob corrupt", LOG_TEXT("digest", digest_text(&reader->read->digest, text)),
	          LOG_U64("segment", reader->place.segment), LOG_U64("generation", reader->place.generation),
	          LOG_U64("offset", reader->place.offset));
	read_quarantine(reader->store, &reader->read->digest, reader->place);
	reader_finish(reader, STORE_CORRUPT);
}

static void reader_verify(struct reader *reader)
{
	struct store_read *read = reader->read;
	struct span payload = span_make(read->buffer + RECORD_HEADER_BYTES, (size_t)read->digest.size);
	struct record record;

	if (!record_decode(&record, read->buffer, reader->store->secret) ||
	    record.segment != reader->place.segment || record.generation != reader->place.generation ||
	    record.offset != reader->place.offset || !digest_equal(&record.digest, &read->digest) ||
	    record.payload_sum != record_sum(payload)) {
		reader_condemn(reader);
		return;
	}
	read->blob = payload;
	reader_finish(reader, STORE_OK);
}

static void reader_on_read(struct op *op, int32_t res)
{
	struct store_read *read = container_of(op, struct store_read, op);
	struct reader *reader = read->private;
	struct store *store = reader->store;

	store->segments[reader->place.segment].readers--;
	if (res < 0)
		reader_finish(reader, res);
	else if ((size_t)res != op->size)
		reader_condemn(reader);
	else
		reader_verify(reader);
	store_step(store);
}

static void reader_fetch(struct reader *reader, const struct sight *sight)
{
	struct store *store = reader->store;
	struct store_read *read = reader->read;
	struct segment *segment = &store->segments[sight->place.segment];
	size_t size = RECORD_HEADER_BYTES + (size_t)read->digest.size;
	size_t on_disk;

	reader->place = sight->place;
	read->segment = sight->place.segment;
	if (read->scope.tenant)          /* what an eviction reads is not in use by that */
		store_used(store, sight->place.segment);
	on_disk = writer_copy(&store->writer, segment, sight->place.offset, size, read->buffer);
	if (on_disk == 0) {
		reader_verify(reader);
		return;
	}
	segment->readers++;
	read->op.fn = reader_on_read;
	ring_read(store->ring, &read->op, segment->read_fd, read->buffer, on_disk, sight->place.offset);
}

static void reader_on_resolve(struct resolve *resolve)
{
	struct reader *reader = container_of(resolve, struct reader, resolve);
	struct store *store = reader->store;
	struct sight sight;

	if (resolve->result) {
		reader_finish(reader, resolve->result);
	} else if (resolve_stale(resolve)) {
		resolve_start(resolve);
		return;
	} else {
		sight = resolve_sight(resolve, 0);
		if (sight.visible && sight.size == reader->read->digest.size)
			reader_fetch(reader, &sight);
		else
			reader_finish(reader, STORE_MISSING);
	}
	store_step(store);
}

static void reader_start(struct store *store, struct store_read *read)
{
	struct reader *reader = container_of(list_take(&store->reads.idle), struct reader, link);

	store->reads.active++;
	reader->read = read;
	read->private = reader;
	reader->resolve.scope = read->scope;
	reader->resolve.hashes = read->digest.hash;
	reader->resolve.stride = 0;
	reader->resolve.count = 1;
	reader->resolve.fn = reader_on_resolve;
	resolve_start(&reader->resolve);
}

void reads_step(struct store *store)
{
	while (!list_empty(&store->reads.waiting) && !list_empty(&store->reads.idle))
		reader_start(store, container_of(list_take(&store->reads.waiting), struct store_read, link));
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
	store_step(store);
}
