/* Records into slots, slots into segments. */
#include "gateway/store/writer.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/copy_past.h"
#include "gateway/base/err.h"
#include "gateway/store/state.h"

int writer_init(struct writer *writer, struct store *store, uint32_t slots_count)
{
	uint8_t *memory = ring_slots_create(store->ring, (size_t)slots_count * WRITER_SLOT_BYTES);

	writer->store = store;
	list_init(&writer->busy);
	list_init(&writer->free);
	if (!memory)
		return ERR_RAISE(-ENOMEM);
	writer->slots = calloc(slots_count, sizeof(*writer->slots));
	if (!writer->slots)
		return ERR_RAISE(-ENOMEM);
	writer->slots_count = slots_count;
	for (uint32_t i = 0; i < slots_count; i++) {
		writer->slots[i].writer = writer;
		writer->slots[i].memory = memory + (size_t)i * WRITER_SLOT_BYTES;
		list_append(&writer->free, &writer->slots[i].link);
	}
	return 0;
}

void writer_fini(struct writer *writer)
{
	free(writer->slots);
	writer->slots = NULL;
}

void writer_open(struct writer *writer, struct segment *segment)
{
	CHECK(!writer->segment);
	CHECK(segment->row.state == SEGMENT_OPEN);
	CHECK(segment->tail % RECORD_BLOCK_BYTES == 0);
	writer->segment = segment;
}

void writer_seal(struct writer *writer)
{
	struct segment *segment = writer->segment;

	CHECK(!writer->appending);
	writer_flush(writer);
	segment->row.state = SEGMENT_SEALED;
	segment->row_changed = true;
	segment->sealed_ticket = writer->store->commit.ticket;
	writer->segment = NULL;
}

static struct slot *writer_filling(const struct writer *writer)
{
	struct slot *last;

	if (list_empty(&writer->busy))
		return NULL;
	last = container_of(writer->busy.prev, struct slot, link);
	return last->state == SLOT_FILLING ? last : NULL;
}

static void slot_release_in_order(struct writer *writer)
{
	while (!list_empty(&writer->busy)) {
		struct slot *slot = container_of(writer->busy.next, struct slot, link);

		if (slot->state != SLOT_WRITTEN)
			return;
		slot->state = SLOT_FREE;
		slot->segment = NULL;
		list_remove(&slot->link);
		/* To be filled first again: the fewer of them are in use, the more of that is still in the cache. */
		list_insert_before(writer->free.next, &slot->link);
		writer->released++;
	}
}

static void slot_on_write(struct op *op, int32_t res)
{
	struct slot *slot = container_of(op, struct slot, write);
	struct writer *writer = slot->writer;

	CHECK(slot->state == SLOT_WRITING);
	slot->state = SLOT_WRITTEN;
	if (res != (int32_t)slot->filled)
		store_fail(writer->store, res < 0 ? res : -EIO, "segment write", slot->segment->number);
	slot_release_in_order(writer);
	store_step(writer->store);
}

static void slot_write(struct slot *slot)
{
	struct writer *writer = slot->writer;

	CHECK(slot->state == SLOT_FILLING);
	CHECK(slot->filled % RECORD_BLOCK_BYTES == 0);
	slot->state = SLOT_WRITING;
	writer->flushed++;
	slot->write.fn = slot_on_write;
	ring_write(writer->store->ring, &slot->write, slot->segment->write_fd, slot->memory, slot->filled, slot->base);
}

void writer_flush(struct writer *writer)
{
	struct slot *slot = writer_filling(writer);
	size_t padded;

	CHECK(!writer->appending);
	if (!slot)
		return;
	padded = record_block_ceiling(slot->filled);
	memset(slot->memory + slot->filled, 0, padded - slot->filled);
	slot->segment->tail += padded - slot->filled;
	slot->filled = padded;
	slot_write(slot);
}

/* The slot that takes the next byte; NULL: none is free. */
static struct slot *writer_slot(struct writer *writer)
{
	struct slot *slot = writer_filling(writer);
	struct segment *segment = writer->segment;

	if (slot)
		return slot;
	if (list_empty(&writer->free))
		return NULL;
	slot = container_of(list_take(&writer->free), struct slot, link);
	slot->state = SLOT_FILLING;
	slot->segment = segment;
	slot->base = segment->tail;
	slot->filled = 0;
	slot->capacity = WRITER_SLOT_BYTES;
	if (slot->capacity > writer->store->segment_bytes - slot->base)
		slot->capacity = (size_t)(writer->store->segment_bytes - slot->base);
	segment->dirty = true;
	list_append(&writer->busy, &slot->link);
	if (segment->tail == 0) {
		record_encode_segment(slot->memory, segment->number, segment->row.generation,
		                      writer->store->segment_bytes, writer->store->secret);
		slot->filled = RECORD_BLOCK_BYTES;
		segment->tail = RECORD_BLOCK_BYTES;
	}
	return slot;
}

/* Where byte `at` of the record comes from; `*size`: how many follow there. NULL: zeros. */
static const uint8_t *append_source(const struct append *append, uint64_t at, uint64_t *size)
{
	uint64_t payload_end = RECORD_HEADER_BYTES + append->payload.size;

	if (at < RECORD_HEADER_BYTES) {
		*size = RECORD_HEADER_BYTES - at;
		return append->header + at;
	}
	if (at < payload_end) {
		*size = payload_end - at;
		return append->payload.data + (at - RECORD_HEADER_BYTES);
	}
	*size = record_bytes(append->payload.size) - at;
	return NULL;
}

/* The next to read it is the disk: the core's cache is for the next lot of blobs. */
static void slot_copy(struct slot *slot, const uint8_t *source, size_t size)
{
	copy_past(slot->memory + slot->filled, source, size);
	slot->writer->store->status.copied_bytes_slots += size;
}

static void slot_fill(struct slot *slot, struct append *append, uint64_t total)
{
	while (append->done < total && slot->filled < slot->capacity) {
		uint64_t size;
		const uint8_t *source = append_source(append, append->done, &size);

		if (size > slot->capacity - slot->filled)
			size = slot->capacity - slot->filled;
		if (source)
			slot_copy(slot, source, (size_t)size);
		else
			memset(slot->memory + slot->filled, 0, (size_t)size);
		slot->filled += (size_t)size;
		slot->segment->tail += size;
		append->done += size;
	}
}

static bool writer_fits(const struct writer *writer, uint64_t bytes)
{
	uint64_t tail = writer->segment->tail;

	if (tail == 0)
		tail = RECORD_BLOCK_BYTES;
	return bytes <= writer->store->segment_bytes - tail;
}

enum writer_outcome writer_append(struct writer *writer, struct append *append)
{
	uint64_t total = record_bytes(append->payload.size);

	CHECK(!writer->appending || writer->appending == append);
	CHECK(append->payload.size == append->record.digest.size);
	if (!append->placed) {
		struct slot *slot;

		if (writer->segment && !writer_fits(writer, total))
			writer_seal(writer);
		if (!writer->segment)
			return WRITER_NO_SEGMENT;
		slot = writer_slot(writer);
		if (!slot) {
			writer->waits++;
			return WRITER_NO_SLOT;
		}
		append->record.segment = writer->segment->number;
		append->record.generation = writer->segment->row.generation;
		append->record.offset = (uint32_t)writer->segment->tail;
		record_encode(append->header, &append->record, writer->store->secret);
		append->placed = true;
		writer->appending = append;
	}
	while (append->done < total) {
		struct slot *slot = writer_slot(writer);

		if (!slot) {
			writer->waits++;
			return WRITER_NO_SLOT;
		}
		slot_fill(slot, append, total);
		if (slot->filled == slot->capacity)
			slot_write(slot);
	}
	writer->appending = NULL;
	return WRITER_DONE;
}

size_t writer_copy(const struct writer *writer, const struct segment *segment, uint64_t offset, size_t size,
                   uint8_t *out)
{
	uint64_t end = offset + size;
	size_t on_disk = size;

	list_for_each(link, &writer->busy) {
		const struct slot *slot = container_of(link, struct slot, link);
		uint64_t from = offset > slot->base ? offset : slot->base;
		uint64_t to = end < slot->base + slot->filled ? end : slot->base + slot->filled;

		if (slot->segment != segment || from >= to)
			continue;
		memcpy(out + (from - offset), slot->memory + (from - slot->base), (size_t)(to - from));
		writer->store->status.copied_bytes_slots_read += to - from;
		if (from - offset < on_disk)
			on_disk = (size_t)(from - offset);
	}
	return on_disk;
}
