/*
 * ContentAddressableStorage/BatchUpdateBlobs: each blob is taken or refused by itself. A request is taken in lots as it comes, so that
 * a blob is still in the cache when it is hashed and copied into its slot. While a lot is under way the call is held; then nothing
 * is left of it but what the answer says, which is what bounds how many blobs a batch may have.
 */
#include "gateway/reapi/batch_update.h"

#include <stdio.h>
#include <stdlib.h>

#include "gateway/reapi/methods.h"
#include "gateway/reapi/rpc.h"
#include "proto/pb.h"
#include "proto/zstd_message.h"

#define BELIEVED_BYTES (64u << 10)
#define LOTS_BESIDE    3                 /* calls that come side by side on a connection, and share the cache */
#define BLOB_BYTES_LEAST   64            /* that a blob takes in a request: its hash */
#define RESPONSE_BYTES_MAX 320           /* of one in the answer, with a text */

struct batch_blob {
	struct digest digest;
	struct span data;
	bool zstd;
	struct buffer expanded;          /* of a compressed one */
	enum grpc_status status;
	char why[200];
};

struct batch_update {
	struct rpc rpc;
	struct gate_pass pass;           /* of cas->packs: a lot is being hashed and written */
	uint64_t charged;                /* to reapi.batches_bytes: what is in memory of it, but not what is decompressed in its turn */
	struct buffer coming;            /* of the request */
	size_t taken;                    /* so much of it was in earlier lots */
	size_t whole;                    /* how much after that is known to be whole fields */
	size_t lot_bytes;                /* 0: none is under way */
	uint64_t lot_charged;            /* for what it takes besides */
	bool last, entered;
	uint64_t total;                  /* of the blobs so far */
	struct batch_blob *blobs;        /* of the lot, as are these */
	size_t count;
	struct sha256_job *jobs;
	struct store_item *items;
	struct buffer out;               /* the answer, as far as there were lots */
	size_t blobs_count;              /* of the batch, so far */
	struct store_put put;
	uint64_t idle_since_ns;          /* 0: it is we who are at work */
	struct list link;                /* reapi.batches */
};

static void refuse(struct batch_blob *blob, enum grpc_status status, const char *why)
{
	blob->status = status;
	snprintf(blob->why, sizeof(blob->why), "%s", why);
}

static void expand(struct batch_blob *blob)
{
	struct span packed = blob->data;

	blob->data = (struct span){ 0 };
	blob->expanded = buffer_heap(blob->digest.size ? blob->digest.size : 1);
	switch (zstd_message_inflate(&blob->expanded, packed)) {
	case ZSTD_MESSAGE_OK:
		blob->data = buffer_span(&blob->expanded);
		break;
	case ZSTD_MESSAGE_TOO_LARGE:
		refuse(blob, GRPC_INVALID_ARGUMENT, "the data expands to more than the digest's size");
		break;
	case ZSTD_MESSAGE_CORRUPT:
		refuse(blob, GRPC_INVALID_ARGUMENT, "the data is not valid zstd");
		break;
	}
}

static void verify(struct batch_blob *blob, const uint8_t *hash)
{
	struct digest actual = { .size = blob->data.size };
	char expected_text[DIGEST_TEXT_MAX], actual_text[DIGEST_TEXT_MAX];

	memcpy(actual.hash, hash, sizeof(actual.hash));
	if (blob->status != GRPC_OK || digest_equal(&actual, &blob->digest))
		return;
	blob->status = GRPC_INVALID_ARGUMENT;
	snprintf(blob->why, sizeof(blob->why), "the data is %s, not %s", digest_text(&actual, actual_text),
	         digest_text(&blob->digest, expected_text));
}

/* Its memory, but for what the answer says, also when the client stays. */
static void batch_let_go(struct batch_update *batch)
{
	batch->rpc.reapi->batches_bytes -= batch->charged;
	batch->charged = 0;
	batch->idle_since_ns = 0;
	buffer_fini(&batch->coming);
}

static void put_response(struct buffer *out, const struct batch_blob *blob)
{
	size_t response = pb_begin(out, 1), status;

	message_put_digest(out, 1, &blob->digest);
	status = pb_begin(out, 2);
	pb_put_varint(out, 1, blob->status);
	pb_put_text(out, 2, blob->why);
	pb_end(out, status);
	pb_end(out, response);
}

/* The call has a copy of its own until it is taken. */
static void answer(struct batch_update *batch)
{
	struct buffer out = batch->out;

	batch->out = (struct buffer){ 0 };
	batch_let_go(batch);
	rpc_reply(&batch->rpc, &out);
	buffer_fini(&out);
}

static void lot_gather(struct batch_update *batch);
static void lot_free(struct batch_update *batch);

/* Gives its memory back first: behind the refusal there may be no batch. No lot is under way. */
static void batch_fail(struct batch_update *batch, enum grpc_status status, const char *text)
{
	lot_free(batch);
	batch_let_go(batch);
	rpc_fail(&batch->rpc, status, text);
}

/* No more than what one put to the store may have. */
static size_t lot_bytes(const struct batch_update *batch)
{
	size_t bytes = cas_lot_bytes(batch->rpc.reapi->cas, LOTS_BESIDE), most = STORE_BATCH_MAX * BLOB_BYTES_LEAST;

	return bytes < most ? bytes : most;
}

/* False: the call was refused. */
static bool charge(struct batch_update *batch, uint64_t bytes)
{
	struct reapi *reapi = batch->rpc.reapi;

	if (bytes > REAPI_BATCHES_BYTES - reapi->batches_bytes) {
		reapi->crowded_ns = ring_now_ns(reapi->cas->ring);
		batch_fail(batch, GRPC_RESOURCE_EXHAUSTED, RPC_TEXT_CROWDED);
		return false;
	}
	batch->charged += bytes;
	reapi->batches_bytes += bytes;
	return true;
}

static void uncharge(struct batch_update *batch, uint64_t bytes)
{
	batch->charged -= bytes;
	batch->rpc.reapi->batches_bytes -= bytes;
}

/* ---- a lot in its turn ---- */

static void lot_free(struct batch_update *batch)
{
	for (size_t i = 0; i < batch->count; i++)
		buffer_fini(&batch->blobs[i].expanded);
	free(batch->blobs);
	free(batch->jobs);
	free(batch->items);
	batch->blobs = NULL;
	batch->jobs = NULL;
	batch->items = NULL;
	batch->count = 0;
}

/* It has gone into the answer. */
static void lot_drop(struct batch_update *batch)
{
	for (size_t i = 0; i < batch->count; i++)
		put_response(&batch->out, &batch->blobs[i]);
	lot_free(batch);
	uncharge(batch, batch->lot_bytes + batch->lot_charged);
	batch->taken += batch->lot_bytes;
	batch->whole -= batch->lot_bytes;
	batch->lot_bytes = 0;
	batch->lot_charged = 0;
}

/* For what comes next. */
static void lot_wait(struct batch_update *batch)
{
	batch->idle_since_ns = ring_now_ns(batch->rpc.reapi->cas->ring);
	call_release(&batch->rpc.unary.call);
}

/* It is in the store or refused, or nobody is there. */
static void lot_done(struct batch_update *batch)
{
	struct gate *packs = &batch->rpc.reapi->cas->packs;
	bool ended = rpc_has_ended(&batch->rpc);

	lot_drop(batch);
	rpc_release(&batch->rpc);
	if (ended)
		;                                /* it is no more */
	else if (!batch->last)
		lot_wait(batch);
	else if (batch->coming.size > batch->taken)
		lot_gather(batch);
	else
		answer(batch);
	gate_leave(packs);               /* last of all: its own next lot goes to the end of the line */
}

static void on_put(struct store_put *put)
{
	struct batch_update *batch = container_of(put, struct batch_update, put);
	const char *text;
	enum grpc_status status;

	if (put->result != STORE_OK) {
		status = rpc_store_status(put->result, &text);
		for (size_t i = 0; i < batch->count; i++)
			if (batch->blobs[i].status == GRPC_OK)
				refuse(&batch->blobs[i], status, text);
	}
	lot_done(batch);
}

static void on_turn(struct gate_pass *pass)
{
	struct batch_update *batch = container_of(pass, struct batch_update, pass);
	struct reapi *reapi = batch->rpc.reapi;
	size_t kept = 0;

	if (rpc_has_ended(&batch->rpc)) {
		lot_done(batch);
		return;
	}
	for (size_t i = 0; i < batch->count; i++) {
		struct batch_blob *blob = &batch->blobs[i];

		if (blob->zstd)
			expand(blob);
		batch->jobs[i] = (struct sha256_job){ .data = blob->data.data, .size = blob->data.size };
	}
	sha256_batch(reapi->cas->hasher, batch->jobs, batch->count);
	for (size_t i = 0; i < batch->count; i++) {
		struct batch_blob *blob = &batch->blobs[i];

		verify(blob, batch->jobs[i].digest);
		reapi->counters.uploads++;
		reapi->counters.bytes_received += blob->data.size;
		reapi->counters.uploads_refused += blob->status != GRPC_OK;
		if (blob->status == GRPC_OK && blob->data.size)
			batch->items[kept++] = (struct store_item){ .digest = blob->digest, .data = blob->data };
	}
	batch->put = (struct store_put){ .scope = batch->rpc.scope, .items = batch->items, .count = kept, .fn = on_put };
	store_put(reapi->cas->store, &batch->put);
}

/* ---- what comes ---- */

/* Room for a lot of so many blobs, and for what the answer says of them. False: the call was refused. */
static bool reserve(struct batch_update *batch, size_t count)
{
	uint64_t bytes = count * (sizeof(*batch->blobs) + sizeof(*batch->jobs) + sizeof(*batch->items));

	if (!charge(batch, bytes + count * RESPONSE_BYTES_MAX))
		return false;
	batch->lot_charged = bytes;
	batch->blobs = calloc(count + 1, sizeof(*batch->blobs));
	batch->jobs = calloc(count + 1, sizeof(*batch->jobs));
	batch->items = calloc(count + 1, sizeof(*batch->items));
	if (batch->blobs && batch->jobs && batch->items)
		return true;
	batch_fail(batch, GRPC_RESOURCE_EXHAUSTED, RPC_TEXT_MEMORY);
	return false;
}

/* False: the call was refused. */
static bool take_blob(struct batch_update *batch, struct span element)
{
	struct batch_blob *blob = &batch->blobs[batch->count];
	struct reapi_batch_update_blob wire;

	if (!message_decode(&reapi_batch_update_blob_type, element, &wire)) {
		batch_fail(batch, GRPC_INVALID_ARGUMENT, RPC_TEXT_MALFORMED);
		return false;
	}
	*blob = (struct batch_blob){ .digest = wire.digest, .data = wire.data, .zstd = wire.compressor == REAPI_ZSTD };
	batch->count++;
	if (wire.compressor != REAPI_IDENTITY && !blob->zstd)
		refuse(blob, GRPC_INVALID_ARGUMENT, "a compressor other than identity and zstd is not served here");
	batch->total += blob->zstd && wire.digest.size > wire.data.size ? wire.digest.size : wire.data.size;
	if (wire.digest.size <= REAPI_BATCH_BYTES && batch->total <= REAPI_BATCH_BYTES)
		return true;
	batch_fail(batch, GRPC_INVALID_ARGUMENT, "more than 4194304 bytes of blobs in a batch: use ByteStream");
	return false;
}

/* False: the call was refused: also when a blob would already be somebody else's. */
static bool lot_enter(struct batch_update *batch, const struct reapi_batch_update_request *request)
{
	if (batch->entered && request->instance_name.size) {
		batch_fail(batch, GRPC_INVALID_ARGUMENT, "the instance name comes behind blobs");
		return false;
	}
	if (batch->entered && request->digest_function > REAPI_SHA256)
		batch_let_go(batch);
	if (batch->entered)
		return rpc_takes_function(&batch->rpc, request->digest_function);
	batch->entered = rpc_enter(&batch->rpc, request->instance_name, request->digest_function);
	return batch->entered;
}

/* Whole fields of the request are a request. */
static void lot_take(struct batch_update *batch, struct span lot)
{
	struct reapi_batch_update_request request;
	struct message_cursor cursor = { 0 };
	struct span element;

	if (!message_decode(&reapi_batch_update_request_type, lot, &request)) {
		batch_fail(batch, GRPC_INVALID_ARGUMENT, RPC_TEXT_MALFORMED);
		return;
	}
	if (!lot_enter(batch, &request))
		return;
	if (request.requests.count > STORE_BATCH_MAX) {
		batch_fail(batch, GRPC_INVALID_ARGUMENT, RPC_TEXT_MALFORMED);    /* that many have no digests */
		return;
	}
	batch->blobs_count += request.requests.count;
	if (batch->blobs_count > REAPI_BATCH_BLOBS_MAX) {
		batch_fail(batch, GRPC_INVALID_ARGUMENT, RPC_TEXT_BLOBS);
		return;
	}
	if (!reserve(batch, request.requests.count))
		return;
	while (message_list_next(&request.requests, &cursor, &element))
		if (!take_blob(batch, element))
			return;
	batch->lot_bytes = lot.size;
	batch->idle_since_ns = 0;
	call_hold(&batch->rpc.unary.call);
	rpc_hold(&batch->rpc);
	batch->pass.fn = on_turn;
	gate_enter(&batch->rpc.reapi->cas->packs, &batch->pass);
}

/* As much as is a lot, or all that is left. */
static void lot_gather(struct batch_update *batch)
{
	struct span coming = span_make(batch->coming.data + batch->taken, batch->coming.size - batch->taken);
	size_t enough = lot_bytes(batch), size;

	if (batch->whole < enough && batch->whole < coming.size)
		batch->whole += pb_whole(span_make(coming.data + batch->whole, coming.size - batch->whole), enough - batch->whole);
	size = batch->whole;
	/* What is left over at the end is no field: who decodes it says so. */
	if (batch->whole < enough && batch->last)
		size = batch->whole = coming.size;
	if (size >= enough || batch->last)
		lot_take(batch, span_make(coming.data, size));
}

/* Who has sent a good piece is believed to send the rest: a lot does not move as it grows. */
static void lot_reserve(struct batch_update *batch, size_t part, size_t left)
{
	size_t most = lot_bytes(batch) + GRPC_PART_BYTES_MAX, have = batch->coming.size + part;
	size_t wanted = have + left < most ? have + left : most;

	if (have >= BELIEVED_BYTES && wanted > have && wanted > batch->coming.capacity)
		buffer_reserve(&batch->coming, wanted - batch->coming.size);
}

/* So that what is left of it is where the rest goes. */
static void drop_taken(struct batch_update *batch)
{
	if (batch->taken)
		memmove(batch->coming.data, batch->coming.data + batch->taken, batch->coming.size - batch->taken);
	batch->coming.size -= batch->taken;
	batch->taken = 0;
}

static void on_part(struct rpc *rpc, struct span part, size_t left)
{
	struct batch_update *batch = container_of(rpc, struct batch_update, rpc);

	if (!batch->coming.size_max) {
		batch->coming = buffer_heap(REAPI_BATCH_MESSAGE_BYTES_MAX);
		batch->out = buffer_heap(4 * REAPI_BATCH_MESSAGE_BYTES_MAX);
		list_append(&rpc->reapi->batches, &batch->link);
		reapi_watch(rpc->reapi);
	}
	batch->idle_since_ns = left ? ring_now_ns(rpc->reapi->cas->ring) : 0;
	if (!charge(batch, part.size)) {
		batch_let_go(batch);
		return;
	}
	drop_taken(batch);
	lot_reserve(batch, part.size, left);
	if (part.size)
		buffer_put(&batch->coming, part.data, part.size);
	batch->last = left == 0;
	if (batch->coming.failed)
		rpc_fail_memory(rpc);
	else
		lot_gather(batch);
	if (rpc_is_answered(rpc))
		batch_let_go(batch);
}

/* One that was compressed as a whole. */
static void on_request(struct rpc *rpc, struct span bytes)
{
	on_part(rpc, bytes, 0);
}

static void fini(struct rpc *rpc)
{
	struct batch_update *batch = container_of(rpc, struct batch_update, rpc);

	list_remove(&batch->link);
	batch_let_go(batch);
	lot_free(batch);
	buffer_fini(&batch->out);
}

static const struct rpc_type type = {
	.size = sizeof(struct batch_update), .rights = SCOPE_WRITE, .request_bytes_max = REAPI_BATCH_MESSAGE_BYTES_MAX,
	.on_request = on_request, .on_part = on_part, .fini = fini,
};

void batches_sweep(struct reapi *reapi, uint64_t now)
{
	bool crowded = reapi->crowded_ns && now - reapi->crowded_ns < REAPI_CROWDED_NS;
	uint64_t idle_max = crowded ? REAPI_CROWDED_NS : REAPI_WRITE_IDLE_NS;

	list_for_each_safe(link, after, &reapi->batches) {
		struct batch_update *batch = container_of(link, struct batch_update, link);

		if (!batch->idle_since_ns || now - batch->idle_since_ns < idle_max)
			continue;
		reapi->counters.uploads_expired++;
		batch_let_go(batch);
		rpc_fail(&batch->rpc, GRPC_DEADLINE_EXCEEDED, "nothing came for too long: send the batch again");
	}
}

int reapi_batch_update(struct reapi *reapi, const struct server_request *request, char *why, size_t why_size)
{
	return rpc_start(reapi, &type, request, why, why_size);
}
