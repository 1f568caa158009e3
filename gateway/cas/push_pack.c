/*
 * A Pack of a push: its turn, its deltas made into blobs, its digests, and its way into the store.
 *
 *	PACK_WAIT (cas->packs) -> (DELTAS_WAIT (cas->deltas) -> DELTAS ->) PACK -> IDLE
 */
#include "gateway/cas/push_private.h"
#include "proto/pb.h"

/* What a pack holds. */
struct shape {
	size_t blobs, deltas;
	size_t blobs_bytes, deltas_bytes, bases_bytes;
};

/* Packs are large: the memory goes back at once. */
static void pack_forget(struct push *push)
{
	buffer_fini(&push->message);
	push->message = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
	push_deltas_fini(&push->deltas);
}

/* Last of all: its own next pack, if it is there already, goes to the end of the line. */
static void pack_leave(struct cas *cas, bool deltas)
{
	if (deltas)
		gate_leave(&cas->deltas);
	gate_leave(&cas->packs);
}

static bool deltas_shape(struct span rest, struct shape *shape)
{
	struct packed_delta delta;
	bool failed = false;

	for (; shape->deltas <= SLUICE_LIST_MAX && delta_next(&rest, &delta, &failed); shape->deltas++) {
		if (delta.digest.size > SLUICE_PACK_BYTES)
			return false;
		shape->deltas_bytes += (size_t)delta.digest.size;
		shape->bases_bytes += (size_t)delta.bases_bytes;
	}
	return !failed;
}

/* Walks the pack. NULL, or what is wrong with it. */
static const char *pack_fault(struct span pack, struct shape *shape)
{
	struct span rest = pack;
	struct packed_blob blob;
	bool failed = false;

	*shape = (struct shape){ 0 };
	for (; pack_next(&rest, &blob, &failed); shape->blobs++)
		shape->blobs_bytes += blob.data.size;
	if (failed || !deltas_shape(pack, shape))
		return "malformed Pack";
	if (shape->blobs > SLUICE_LIST_MAX || shape->deltas > SLUICE_LIST_MAX - shape->blobs)
		return "more than 16384 blobs in a Pack";
	if (shape->blobs_bytes > SLUICE_PACK_BYTES || shape->deltas_bytes > SLUICE_PACK_BYTES - shape->blobs_bytes)
		return "more than 4194304 bytes of data in a Pack";
	if (shape->bases_bytes > SLUICE_BASES_BYTES)
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

/* Blobs of the pack, then what was made of deltas: those that were made. */
static size_t items_take(struct push *push, struct span rest, size_t blobs)
{
	struct packed_blob blob;
	bool failed = false;
	size_t count = 0;

	while (count < blobs && pack_next(&rest, &blob, &failed))
		item_take(push, count++, &blob.digest, blob.data);
	for (size_t i = 0; i < push->deltas.count; i++) {
		const struct push_delta *delta = &push->deltas.items[i];

		if (delta->made)
			item_take(push, count++, &delta->digest, span_make(delta->data, (size_t)delta->digest.size));
	}
	return count;
}

/* Puts the blobs whose digest holds to the front, and says so of the deltas; returns how many. Tells of the others. */
static size_t pack_verify(struct push *push, struct span pack, size_t blobs)
{
	size_t count = items_take(push, pack, blobs), kept = 0, delta = 0;

	sha256_batch(push->cas->hasher, push->jobs, count);
	buffer_clear(&push->extra);
	for (size_t i = 0; i < count; i++) {
		struct digest actual = { .size = push->items[i].data.size };
		bool holds;

		memcpy(actual.hash, push->jobs[i].digest, sizeof(actual.hash));
		holds = digest_equal(&actual, &push->items[i].digest);
		if (i >= blobs) {
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

/* What has to come again, as a bit list behind the rejected ones. `present` is free while a pack is handled. */
static void pack_tell_deltas(struct push *push)
{
	struct cas_counters *counters = &push->cas->counters;

	for (size_t i = 0; i < push->deltas.count; i++) {
		push->present[i] = !push->deltas.items[i].made;
		counters->deltas_refused += push->present[i];
	}
	counters->deltas_received += push->deltas.count;
	bit_list_put(&push->extra, 3, push->present, push->deltas.count);
}

static void pack_answer(struct push *push, int result)
{
	struct push_stored stored = { .blobs = (uint32_t)push->put.count, .rejected.message = buffer_span(&push->extra) };

	if (result != STORE_OK) {
		push_fail_store(push, result);
		return;
	}
	result = store_hold_blobs(push->hold, push->digests, push->put.count);
	if (result < 0) {
		push_fail_hold(push, result);
		return;
	}
	message_nest(&push_stored_type, &push->response, 2, &stored);
	push_answer(push);
}

static void pack_on_put(struct store_put *put)
{
	struct push *push = container_of(put, struct push, put);
	struct cas *cas = push->cas;
	bool deltas = push->deltas.count > 0;

	pack_forget(push);
	if (put->result == STORE_OK)
		promises_kept(&cas->promises, &push->scope, push->digests, put->count);
	if (!push_landed(push))
		pack_answer(push, put->result);
	pack_leave(cas, deltas);
}

static void pack_store(struct push *push)
{
	struct cas_counters *counters = &push->cas->counters;
	struct push_request request;

	push_enter(push, PUSH_PACK);
	message_decode(&push_request_type, buffer_span(&push->message), &request);
	push->put = (struct store_put){
		.scope = push->scope, .items = push->items, .count = pack_verify(push, request.pack, push->count), .fn = pack_on_put,
	};
	pack_tell_deltas(push);
	counters->packs++;
	counters->blobs_received += push->put.count;
	counters->bytes_received += request.pack.size;
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
	struct push_request request;
	struct shape shape;

	push_enter(push, PUSH_DELTAS);
	message_decode(&push_request_type, buffer_span(&push->message), &request);
	(void)pack_fault(request.pack, &shape);
	push_deltas_start(&push->deltas, push->cas->store, &push->scope, request.pack, shape.deltas, shape.deltas_bytes,
	                  pack_on_deltas);
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

static void pack_on_turn(struct gate_pass *pass)
{
	struct push *push = container_of(pass, struct push, pass);
	struct push_request request;
	struct shape shape;
	const char *fault;

	message_decode(&push_request_type, buffer_span(&push->message), &request);
	fault = pack_fault(request.pack, &shape);
	if (fault || !push_reserve(push, shape.blobs + shape.deltas)) {
		pack_refuse(push, fault);
		return;
	}
	push->count = shape.blobs;
	if (shape.deltas == 0) {
		pack_store(push);
		return;
	}
	push_enter(push, PUSH_DELTAS_WAIT);
	push->pass.fn = pack_on_deltas_turn;
	gate_enter(&push->cas->deltas, &push->pass);
}

void push_pack(struct push *push)
{
	push_enter(push, PUSH_PACK_WAIT);
	push->pass.fn = pack_on_turn;
	gate_enter(&push->cas->packs, &push->pass);
}
