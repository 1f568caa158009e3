/*
 * A Pack of a push: its turn, its deltas made into blobs, its digests, and its way into the store. It is taken in lots of
 * 384 KiB, or more where the hasher has many lanes, as it arrives, so that a blob is still in the cache when it is hashed and
 * copied into its slot, and so that a push never holds a pack whole (but one that was compressed).
 *
 *	PACK_WAIT (cas->packs) -> (DELTAS_WAIT (cas->deltas) -> DELTAS ->) PACK -> IDLE    a lot
 */
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/cas/push_private.h"
#include "proto/pb.h"

#define SPARE_LEAST_BYTES (256u << 10)   /* what is kept for the next pack */
#define SPARE_MOST_BYTES  (2u << 20)
#define PACK_TAG          (3 << 3 | PB_BYTES)

static void spare_take(struct cas *cas, struct buffer *buffer)
{
	for (size_t i = 0; i < CAS_PACKS_MAX && buffer->capacity < SPARE_LEAST_BYTES; i++) {
		if (!cas->spares[i].data)
			continue;
		buffer_fini(buffer);
		*buffer = cas->spares[i];
		cas->spares[i] = (struct buffer){ 0 };
	}
}

static void spare_give(struct cas *cas, struct buffer *buffer)
{
	buffer_clear(buffer);
	for (size_t i = 0; i < CAS_PACKS_MAX; i++) {
		if (cas->spares[i].data || buffer->capacity < SPARE_LEAST_BYTES || buffer->capacity > SPARE_MOST_BYTES)
			continue;
		cas->spares[i] = *buffer;
		*buffer = (struct buffer){ 0 };
	}
	buffer_fini(buffer);
	*buffer = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
}

void push_pack_spare(struct push *push)
{
	spare_take(push->cas, &push->message);
}

/* Packs are large: the memory goes back at once. */
static void pack_forget(struct push *push)
{
	push->coming = PUSH_COMING_NOTHING;
	push->taking.more = false;
	push_deltas_fini(&push->deltas);
	free(push->taking.again);
	push->taking.again = NULL;
	spare_give(push->cas, &push->message);
	spare_give(push->cas, &push->next);
}

void push_pack_begin(struct push *push, size_t at, size_t left)
{
	buffer_clear(&push->extra);
	push->taking = (struct push_taking){ .at = at, .left = left };
}

enum push_coming push_pack_tell(struct push *push, size_t left)
{
	struct span message = buffer_span(&push->message);
	const uint8_t *end;
	uint64_t size;

	if (message.size == 0)
		return left ? PUSH_COMING_UNTOLD : PUSH_COMING_WHOLE;
	if (message.data[0] != PACK_TAG)
		return PUSH_COMING_WHOLE;
	end = pb_varint_read(message.data + 1, message.data + message.size, &size);
	if (!end)
		return left && message.size < 1 + PB_VARINT_BYTES_MAX ? PUSH_COMING_UNTOLD : PUSH_COMING_WHOLE;
	/* A pack and nothing else; whatever is put otherwise is read when it is whole. */
	if (size != (size_t)(message.data + message.size - end) + left)
		return PUSH_COMING_WHOLE;
	buffer_clear(&push->response);
	push_pack_begin(push, (size_t)(end - message.data), (size_t)size);
	return PUSH_COMING_PACK;
}

/* What a lot holds. */
struct shape {
	size_t blobs;
	struct push_deltas_shape deltas;
};

static bool deltas_shape(struct span rest, struct push_deltas_shape *shape)
{
	struct packed_delta delta;
	bool failed = false;

	*shape = (struct push_deltas_shape){ 0 };
	for (; shape->deltas <= SLUICE_LIST_MAX && delta_next(&rest, &delta, &failed); shape->deltas++) {
		if (delta.digest.size > SLUICE_PACK_BYTES)
			return false;
		shape->bytes += (size_t)delta.digest.size;
		shape->bases += digest_list_count(delta.bases);
		shape->bases_bytes += (size_t)delta.bases_bytes;
	}
	return !failed;
}

/* Walks the lot. NULL, or what is wrong with it or with the pack. */
static const char *pack_fault(struct push_taking *taking, struct span lot, struct shape *shape)
{
	struct span rest = lot;
	struct packed_blob blob;
	bool failed = false;

	for (shape->blobs = 0; pack_next(&rest, &blob, &failed); shape->blobs++)
		taking->bytes += blob.data.size;
	if (failed || !deltas_shape(lot, &shape->deltas))
		return "malformed Pack";
	taking->blobs += shape->blobs + shape->deltas.deltas;
	taking->deltas += shape->deltas.deltas;
	taking->bytes += shape->deltas.bytes;
	taking->bases_bytes += shape->deltas.bases_bytes;
	if (taking->blobs > SLUICE_LIST_MAX)
		return "more than 16384 blobs in a Pack";
	if (taking->bytes > SLUICE_PACK_BYTES)
		return "more than 4194304 bytes of data in a Pack";
	if (taking->bases_bytes > SLUICE_BASES_BYTES)
		return "more than 8388608 bytes of bases in a Pack";
	return NULL;
}

static void pack_reject(struct push *push, const struct digest *expected, const struct digest *actual)
{
	const struct digest *pair[2] = { expected, actual };
	size_t mark = pb_begin(&push->extra, 2);

	for (uint32_t side = 0; side < 2; side++) {
		uint8_t storage[48];
		struct buffer entry = buffer_over(storage, sizeof(storage));

		digest_list_put(&entry, pair[side]);
		pb_put_bytes(&push->extra, side + 1, buffer_span(&entry));
	}
	pb_end(&push->extra, mark);
	push->cas->counters.blobs_rejected++;
}

static void item_take(struct push *push, size_t i, const struct digest *digest, struct span data)
{
	push->items[i] = (struct store_item){ .digest = *digest, .data = data };
	push->jobs[i] = (struct sha256_job){ .data = data.data, .size = data.size };
}

/* Blobs of the lot, then what was made of deltas: those that were made. */
static size_t items_take(struct push *push, struct span rest)
{
	struct packed_blob blob;
	bool failed = false;
	size_t count = 0;

	while (count < push->count && pack_next(&rest, &blob, &failed))
		item_take(push, count++, &blob.digest, blob.data);
	for (size_t i = 0; i < push->deltas.count; i++) {
		const struct push_delta *delta = &push->deltas.items[i];

		if (delta->made)
			item_take(push, count++, &delta->digest, span_make(delta->data, (size_t)delta->digest.size));
	}
	return count;
}

/* Puts the blobs whose digest holds to the front, and says so of the deltas; returns how many. Tells of the others. */
static size_t pack_verify(struct push *push, struct span lot)
{
	size_t count = items_take(push, lot), kept = 0, delta = 0;

	sha256_batch(push->cas->hasher, push->jobs, count);
	for (size_t i = 0; i < count; i++) {
		struct digest actual = { .size = push->items[i].data.size };
		bool holds;

		memcpy(actual.hash, push->jobs[i].digest, sizeof(actual.hash));
		holds = digest_equal(&actual, &push->items[i].digest);
		if (i >= push->count) {
			while (!push->deltas.items[delta].made)
				delta++;
			push->deltas.items[delta++].made = holds;
		} else if (!holds) {
			pack_reject(push, &push->items[i].digest, &actual);
		}
		if (!holds)
			continue;
		push->digests[kept] = actual;
		push->items[kept++] = push->items[i];
	}
	return kept;
}

/* What has to come again. */
static void pack_note_deltas(struct push *push)
{
	struct cas_counters *counters = &push->cas->counters;
	size_t first = push->taking.deltas - push->deltas.count;

	for (size_t i = 0; i < push->deltas.count; i++) {
		push->taking.again[first + i] = !push->deltas.items[i].made;
		counters->deltas_refused += !push->deltas.items[i].made;
	}
	counters->deltas_received += push->deltas.count;
}

static void pack_answer(struct push *push)
{
	struct push_stored stored = { .blobs = (uint32_t)push->taking.kept };

	if (push->taking.again)
		bit_list_put(&push->extra, 3, push->taking.again, push->taking.deltas);
	stored.rejected.message = buffer_span(&push->extra);
	pack_forget(push);
	push->cas->counters.packs++;
	message_nest(&push_stored_type, &push->response, 2, &stored);
	push_answer(push);
}

/* What follows the lot is apart, or still to come: to the front. */
static void pack_go_on(struct push *push)
{
	struct buffer taken = push->message;

	push->taking.more = false;
	if (push->next.failed) {
		pack_forget(push);
		push_fail_memory(push);
		return;
	}
	push->message = push->next;
	push->next = taken;
	buffer_clear(&push->next);
	push->taking.at = 0;
	if (!push_pack(push))
		call_release(&push->call);
}

/* A lot is in the store, or `result` says why not. */
static void pack_taken(struct push *push, int result)
{
	struct push_taking *taking = &push->taking;

	if (result != STORE_OK) {
		pack_forget(push);
		push_fail_store(push, result);
		return;
	}
	result = store_hold_blobs(push->hold, push->digests, push->put.count);
	if (result < 0) {
		pack_forget(push);
		push_fail_hold(push, result);
		return;
	}
	taking->kept += push->put.count;
	taking->at += taking->lot;
	taking->left -= taking->lot;
	taking->lot = 0;
	if (taking->left == 0)
		pack_answer(push);
	else if (taking->more)
		pack_go_on(push);
	else
		push_pack(push);         /* all of it is there */
}

/* Last of all: its own next lot, if it is there already, goes to the end of the line. */
static void pack_leave(struct cas *cas, bool deltas)
{
	if (deltas)
		gate_leave(&cas->deltas);
	gate_leave(&cas->packs);
}

static void pack_on_put(struct store_put *put)
{
	struct push *push = container_of(put, struct push, put);
	struct cas *cas = push->cas;
	bool deltas = push->deltas.count > 0;

	push_deltas_fini(&push->deltas);
	if (put->result == STORE_OK)
		promises_kept(&cas->promises, &push->scope, push->digests, put->count);
	if (!push_landed(push))
		pack_taken(push, put->result);
	pack_leave(cas, deltas);
}

static struct span pack_lot(const struct push *push)
{
	return span_make(push->message.data + push->taking.at, push->taking.lot);
}

static void pack_store(struct push *push)
{
	struct cas_counters *counters = &push->cas->counters;
	struct span lot = pack_lot(push);

	push_enter(push, PUSH_PACK);
	push->put = (struct store_put){
		.scope = push->scope, .items = push->items, .count = pack_verify(push, lot), .fn = pack_on_put,
	};
	pack_note_deltas(push);
	counters->blobs_received += push->put.count;
	counters->bytes_received += lot.size;
	store_put(push->cas->store, &push->put);
}

/* ---- deltas ---- */

static void pack_on_deltas(struct push_deltas *deltas)
{
	struct push *push = container_of(deltas, struct push, deltas);
	struct cas *cas = push->cas;
	int result = deltas->result;

	if (result == 0 && !push->closed) {
		pack_store(push);
		return;
	}
	pack_forget(push);
	if (!push_landed(push))
		push_fail_store(push, result);
	pack_leave(cas, true);
}

static void pack_on_deltas_turn(struct gate_pass *pass)
{
	struct push *push = container_of(pass, struct push, pass);
	struct push_deltas_shape shape;

	push_enter(push, PUSH_DELTAS);
	(void)deltas_shape(pack_lot(push), &shape);
	push_deltas_start(&push->deltas, push->cas->store, &push->scope, pack_lot(push), &shape, pack_on_deltas);
}

bool push_pack_cancel(struct push *push)
{
	if ((push->state != PUSH_PACK_WAIT && push->state != PUSH_DELTAS_WAIT) || !gate_cancel(&push->pass))
		return false;
	if (push->state == PUSH_DELTAS_WAIT)
		gate_leave(&push->cas->packs);
	return true;
}

/* ---- its turn ---- */

static void pack_refuse(struct push *push, const char *fault)
{
	push_enter(push, PUSH_IDLE);
	pack_forget(push);
	if (fault)
		push_fail(push, GRPC_INVALID_ARGUMENT, fault);
	else
		push_fail_memory(push);
	gate_leave(&push->cas->packs);
}

static bool pack_reserve(struct push *push, const struct shape *shape)
{
	if (!push_reserve(push, shape->blobs + shape->deltas.deltas))
		return false;
	if (shape->deltas.deltas && !push->taking.again)
		push->taking.again = calloc(SLUICE_LIST_MAX, sizeof(bool));
	return !shape->deltas.deltas || push->taking.again;
}

static void pack_on_turn(struct gate_pass *pass)
{
	struct push *push = container_of(pass, struct push, pass);
	struct shape shape;
	const char *fault = pack_fault(&push->taking, pack_lot(push), &shape);

	if (fault || !pack_reserve(push, &shape)) {
		pack_refuse(push, fault);
		return;
	}
	push->count = shape.blobs;
	if (shape.deltas.deltas == 0) {
		pack_store(push);
		return;
	}
	push_enter(push, PUSH_DELTAS_WAIT);
	push->pass.fn = pack_on_deltas_turn;
	gate_enter(&push->cas->deltas, &push->pass);
}

/* A lot goes on its way, and more of the pack is to come: it does not wait in the call, from which it would be copied once more. */
static void pack_part(struct push *push)
{
	struct push_taking *taking = &push->taking;
	const uint8_t *behind = push->message.data + taking->at + taking->lot;
	size_t size = push->message.size - taking->at - taking->lot;

	taking->more = true;
	spare_take(push->cas, &push->next);
	if (push->next.capacity < push->message.capacity)
		(void)buffer_reserve(&push->next, push->message.capacity);
	buffer_put(&push->next, behind, size);
	push->cas->counters.copied_bytes_ingest += size;
	/* As long as there is another lot, no more has to come. */
	if (size < cas_lot_bytes(push->cas, 1))
		call_release(&push->call);
	call_shut(&push->call);
}

void push_pack_behind(struct push *push, struct span part, size_t left)
{
	buffer_put(&push->next, part.data, part.size);
	push->cas->counters.copied_bytes_ingest += part.size;
	if (left == 0)
		call_hold(&push->call);
}

bool push_pack(struct push *push)
{
	struct push_taking *taking = &push->taking;
	size_t there = push->message.size - taking->at, done = taking->lot, enough = cas_lot_bytes(push->cas, 1);
	bool all = there >= taking->left;

	if (all)
		there = taking->left;
	if (there > done && done < enough)
		taking->lot += pb_whole(span_make(push->message.data + taking->at + done, there - done), enough - done);
	if (taking->lot < enough && !all)
		return false;
	/* What is left over at the end is no field: the walk says so. */
	if (all && taking->lot < enough)
		taking->lot = there;
	push_enter(push, PUSH_PACK_WAIT);
	if (all)
		call_hold(&push->call);
	else
		pack_part(push);
	push->pass.fn = pack_on_turn;
	gate_enter(&push->cas->packs, &push->pass);
	return true;
}
