/* A Pack of a push: its turn, its digests, and its way into the store. */
#include "gateway/cas/push_private.h"
#include "proto/pb.h"

/* Packs are large: the memory goes back at once. */
static void pack_forget(struct push *push)
{
	buffer_fini(&push->message);
	push->message = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
}

/* Walks the pack. NULL, or what is wrong with it. */
static const char *pack_fault(struct span rest, size_t *count)
{
	struct packed_blob blob;
	bool failed = false;
	size_t bytes = 0;

	for (*count = 0; pack_next(&rest, &blob, &failed); ++*count)
		bytes += blob.data.size;
	if (failed)
		return "malformed Pack";
	if (*count > SLUICE_LIST_MAX)
		return "more than 16384 blobs in a Pack";
	if (bytes > SLUICE_PACK_BYTES)
		return "more than 4194304 bytes of data in a Pack";
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

/* Puts the blobs whose digest holds into items, and their digests to the front; returns how many. Tells of the others. */
static size_t pack_verify(struct push *push, struct span rest, size_t count)
{
	struct packed_blob blob;
	bool failed = false;
	size_t kept = 0;

	for (size_t i = 0; i < count && pack_next(&rest, &blob, &failed); i++) {
		push->items[i] = (struct store_item){ .digest = blob.digest, .data = blob.data };
		push->jobs[i] = (struct sha256_job){ .data = blob.data.data, .size = blob.data.size };
	}
	sha256_batch(push->cas->hasher, push->jobs, count);
	buffer_clear(&push->extra);
	for (size_t i = 0; i < count; i++) {
		struct digest actual = { .size = push->items[i].data.size };

		memcpy(actual.hash, push->jobs[i].digest, sizeof(actual.hash));
		if (digest_equal(&actual, &push->items[i].digest)) {
			push->digests[kept] = actual;
			push->items[kept++] = push->items[i];
		} else {
			pack_reject(push, &push->items[i].digest, &actual);
		}
	}
	return kept;
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

	pack_forget(push);
	if (put->result == STORE_OK)
		promises_kept(&cas->promises, &push->scope, push->digests, put->count);
	if (!push_landed(push))
		pack_answer(push, put->result);
	gate_leave(&cas->packs);         /* last: its own next pack, if it is there already, goes to the end of the line */
}

static void pack_on_turn(struct gate_pass *pass)
{
	struct push *push = container_of(pass, struct push, pass);
	struct cas_counters *counters = &push->cas->counters;
	struct push_request request;
	const char *fault;
	size_t count;

	push_enter(push, PUSH_PACK);
	message_decode(&push_request_type, buffer_span(&push->message), &request);
	fault = pack_fault(request.pack, &count);
	if (fault || !push_reserve(push, count)) {
		push_enter(push, PUSH_IDLE);
		pack_forget(push);
		if (fault)
			push_fail(push, GRPC_INVALID_ARGUMENT, fault);
		else
			push_fail_memory(push);
		gate_leave(&push->cas->packs);
		return;
	}
	push->put = (struct store_put){
		.scope = push->scope, .items = push->items, .count = pack_verify(push, request.pack, count), .fn = pack_on_put,
	};
	counters->packs++;
	counters->blobs_received += push->put.count;
	counters->bytes_received += request.pack.size;
	store_put(push->cas->store, &push->put);
}

void push_pack(struct push *push)
{
	push_enter(push, PUSH_PACK_WAIT);
	push->pass.fn = pack_on_turn;
	gate_enter(&push->cas->packs, &push->pass);
}
