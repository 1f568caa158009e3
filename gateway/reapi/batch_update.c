/* ContentAddressableStorage/BatchUpdateBlobs: each blob is taken or refused by itself. */
#include <stdio.h>
#include <stdlib.h>

#include "gateway/reapi/methods.h"
#include "gateway/reapi/rpc.h"
#include "proto/pb.h"
#include "proto/zstd_message.h"

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
	struct gate_pass pass;           /* of cas->packs: it is in memory, and is being hashed and written */
	uint64_t bytes;                  /* its message and what is made of it, as charged to reapi.batches_bytes */
	struct batch_blob *blobs;
	size_t count;
	struct sha256_job *jobs;
	struct store_item *items;
	struct store_put put;
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

static void answer(struct batch_update *batch)
{
	struct buffer out = buffer_heap(2 * REAPI_MESSAGE_BYTES_MAX);

	for (size_t i = 0; i < batch->count; i++) {
		const struct batch_blob *blob = &batch->blobs[i];
		size_t response = pb_begin(&out, 1), status;

		message_put_digest(&out, 1, &blob->digest);
		status = pb_begin(&out, 2);
		pb_put_varint(&out, 1, blob->status);
		pb_put_text(&out, 2, blob->why);
		pb_end(&out, status);
		pb_end(&out, response);
	}
	rpc_reply(&batch->rpc, &out);
	buffer_fini(&out);
}

static void on_put(struct store_put *put)
{
	struct batch_update *batch = container_of(put, struct batch_update, put);
	struct gate *packs = &batch->rpc.reapi->cas->packs;
	const char *text;
	enum grpc_status status;

	if (put->result != STORE_OK) {
		status = rpc_store_status(put->result, &text);
		for (size_t i = 0; i < batch->count; i++)
			if (batch->blobs[i].status == GRPC_OK)
				refuse(&batch->blobs[i], status, text);
	}
	answer(batch);
	gate_leave(packs);
}

static void on_turn(struct gate_pass *pass)
{
	struct batch_update *batch = container_of(pass, struct batch_update, pass);
	struct reapi *reapi = batch->rpc.reapi;
	size_t kept = 0;

	for (size_t i = 0; i < batch->count; i++) {
		if (batch->blobs[i].zstd)
			expand(&batch->blobs[i]);
		batch->jobs[i] = (struct sha256_job){ .data = batch->blobs[i].data.data, .size = batch->blobs[i].data.size };
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

/* What it will take until its answer, besides what is decompressed when its turn has come. False: the call was refused. */
static bool charge(struct batch_update *batch, size_t message_bytes, size_t count)
{
	struct reapi *reapi = batch->rpc.reapi;
	uint64_t bytes = message_bytes + count * (sizeof(*batch->blobs) + sizeof(*batch->jobs) + sizeof(*batch->items));

	if (bytes > REAPI_BATCHES_BYTES - reapi->batches_bytes) {
		rpc_fail(&batch->rpc, GRPC_RESOURCE_EXHAUSTED, RPC_TEXT_CROWDED);
		return false;
	}
	batch->bytes = bytes;
	reapi->batches_bytes += bytes;
	return true;
}

static bool reserve(struct batch_update *batch, size_t count)
{
	batch->blobs = calloc(count, sizeof(*batch->blobs));
	batch->jobs = calloc(count, sizeof(*batch->jobs));
	batch->items = calloc(count, sizeof(*batch->items));
	return batch->blobs && batch->jobs && batch->items;
}

/* False: the call was refused. */
static bool take_blob(struct batch_update *batch, struct span element, uint64_t *bytes)
{
	struct batch_blob *blob = &batch->blobs[batch->count];
	struct reapi_batch_update_blob wire;

	if (!message_decode(&reapi_batch_update_blob_type, element, &wire)) {
		rpc_fail_malformed(&batch->rpc);
		return false;
	}
	*blob = (struct batch_blob){ .digest = wire.digest, .data = wire.data, .zstd = wire.compressor == REAPI_ZSTD };
	batch->count++;
	if (wire.compressor != REAPI_IDENTITY && !blob->zstd)
		refuse(blob, GRPC_INVALID_ARGUMENT, "a compressor other than identity and zstd is not served here");
	*bytes += blob->zstd && wire.digest.size > wire.data.size ? wire.digest.size : wire.data.size;
	if (wire.digest.size <= REAPI_BATCH_BYTES && *bytes <= REAPI_BATCH_BYTES)
		return true;
	rpc_fail(&batch->rpc, GRPC_INVALID_ARGUMENT, "more than 4194304 bytes of blobs in a batch: use ByteStream");
	return false;
}

static void on_request(struct rpc *rpc, struct span bytes)
{
	struct batch_update *batch = container_of(rpc, struct batch_update, rpc);
	struct reapi_batch_update_request request;
	struct message_cursor cursor = { 0 };
	struct span element;
	uint64_t total = 0;

	if (!message_decode(&reapi_batch_update_request_type, bytes, &request)) {
		rpc_fail_malformed(rpc);
		return;
	}
	if (!rpc_enter(rpc, request.instance_name, request.digest_function))
		return;
	if (request.requests.count > STORE_BATCH_MAX) {
		rpc_fail(rpc, GRPC_INVALID_ARGUMENT, "more than 16384 blobs in a batch");
		return;
	}
	if (!charge(batch, bytes.size, request.requests.count + 1))
		return;
	if (!reserve(batch, request.requests.count + 1)) {
		rpc_fail_memory(rpc);
		return;
	}
	while (message_list_next(&request.requests, &cursor, &element))
		if (!take_blob(batch, element, &total))
			return;
	batch->pass.fn = on_turn;
	gate_enter(&rpc->reapi->cas->packs, &batch->pass);
}

static void fini(struct rpc *rpc)
{
	struct batch_update *batch = container_of(rpc, struct batch_update, rpc);

	rpc->reapi->batches_bytes -= batch->bytes;
	for (size_t i = 0; i < batch->count; i++)
		buffer_fini(&batch->blobs[i].expanded);
	free(batch->blobs);
	free(batch->jobs);
	free(batch->items);
}

static const struct rpc_type type = {
	.size = sizeof(struct batch_update), .rights = SCOPE_WRITE, .request_bytes_max = REAPI_MESSAGE_BYTES_MAX,
	.on_request = on_request, .fini = fini,
};

int reapi_batch_update(struct reapi *reapi, const struct server_request *request, char *why, size_t why_size)
{
	return rpc_start(reapi, &type, request, why, why_size);
}
