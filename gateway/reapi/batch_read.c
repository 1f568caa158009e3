/* ContentAddressableStorage/BatchReadBlobs: in rounds of a few reads at a time, each blob with a status of its own. */
#include <errno.h>
#include <stdlib.h>

#include "gateway/reapi/methods.h"
#include "gateway/reapi/rpc.h"
#include "proto/pb.h"
#include "proto/zstd_message.h"

#define BATCH_ROUND     32               /* reads at a time */
#define BATCH_OUT_BYTES (7u << 20)       /* the blobs, and a digest and a status for each */
#define BATCH_LEVEL     1

struct batch_read;

struct batch_one {
	struct batch_read *batch;
	struct store_read read;
};

struct batch_read {
	struct rpc rpc;
	struct budget_share share;
	struct digest *digests;
	size_t count, at;                /* the next one to be read */
	bool zstd, running;
	struct batch_one round[BATCH_ROUND];
	size_t round_count, landed;
	struct buffer out;
};

static void batch_run(struct batch_read *batch);

static void on_read(struct store_read *read)
{
	struct batch_read *batch = container_of(read, struct batch_one, read)->batch;

	batch->landed++;
	batch_run(batch);
}

static void put_data(struct batch_read *batch, struct span data)
{
	struct buffer packed = { 0 };

	if (batch->zstd && data.size) {
		packed = buffer_heap(data.size + 1024);
		if (zstd_message_deflate(&packed, data, BATCH_LEVEL)) {
			data = buffer_span(&packed);
			pb_put_varint(&batch->out, 4, REAPI_ZSTD);
		}
	}
	pb_put_bytes(&batch->out, 2, data);
	buffer_fini(&packed);
	batch->rpc.reapi->counters.bytes_sent += data.size;
}

static void put_status(struct batch_read *batch, const struct store_read *read)
{
	const char *text = "not in the store";
	enum grpc_status status = GRPC_NOT_FOUND;
	size_t mark = pb_begin(&batch->out, 3);

	if (read->result < 0)
		status = rpc_store_status(read->result, &text);
	if (read->result != STORE_OK) {
		pb_put_varint(&batch->out, 1, status);
		pb_put_text(&batch->out, 2, text);
	}
	pb_end(&batch->out, mark);
}

static void round_encode(struct batch_read *batch)
{
	for (size_t i = 0; i < batch->round_count; i++) {
		struct store_read *read = &batch->round[i].read;
		size_t response = pb_begin(&batch->out, 1);

		message_put_digest(&batch->out, 1, &read->digest);
		if (read->result == STORE_OK)
			put_data(batch, read->blob);
		put_status(batch, read);
		pb_end(&batch->out, response);
		free(read->buffer);
		read->buffer = NULL;
	}
	batch->rpc.reapi->counters.downloads += batch->round_count;
	batch->round_count = batch->landed = 0;
}

static void round_begin(struct batch_read *batch)
{
	size_t left = batch->count - batch->at;

	batch->round_count = left < BATCH_ROUND ? left : BATCH_ROUND;
	for (size_t i = 0; i < batch->round_count; i++) {
		struct store_read *read = &batch->round[i].read;

		batch->round[i].batch = batch;
		*read = (struct store_read){
			.scope = batch->rpc.scope, .digest = batch->digests[batch->at++], .fn = on_read,
		};
		read->buffer = malloc(read->digest.size + STORE_READ_EXTRA_BYTES);
		if (read->buffer) {
			store_read(batch->rpc.reapi->cas->store, read);
		} else {
			read->result = -ENOMEM;
			batch->landed++;
		}
	}
}

/* A loop and not a chain of calls: many rounds may complete inline. */
static void batch_run(struct batch_read *batch)
{
	struct reapi *reapi = batch->rpc.reapi;

	if (batch->running)
		return;
	batch->running = true;
	while (batch->landed == batch->round_count) {
		round_encode(batch);
		if (batch->at == batch->count) {
			budget_leave(&reapi->downloads, &batch->share);
			rpc_reply(&batch->rpc, &batch->out);
			return;
		}
		round_begin(batch);
	}
	batch->running = false;
}

static void on_memory(struct budget_share *share)
{
	batch_run(container_of(share, struct batch_read, share));
}

static bool takes_zstd(struct span compressors)
{
	for (size_t i = 0; i < compressors.size; i++)
		if (compressors.data[i] == REAPI_ZSTD)
			return true;
	return false;
}

static void on_request(struct rpc *rpc, struct span bytes)
{
	struct batch_read *batch = container_of(rpc, struct batch_read, rpc);
	struct reapi_batch_read_request request;
	uint64_t total = 0;

	if (!message_decode(&reapi_batch_read_request_type, bytes, &request)) {
		rpc_fail_malformed(rpc);
		return;
	}
	if (!rpc_enter(rpc, request.instance_name, request.digest_function))
		return;
	if (request.digests.count > STORE_BATCH_MAX) {
		rpc_fail(rpc, GRPC_INVALID_ARGUMENT, "more than 16384 blobs in a batch");
		return;
	}
	batch->digests = rpc_digests(rpc, &request.digests, &batch->count);
	if (!batch->digests)
		return;
	for (size_t i = 0; i < batch->count && total <= REAPI_BATCH_BYTES; i++)
		total = batch->digests[i].size > REAPI_BATCH_BYTES ? UINT64_MAX : total + batch->digests[i].size;
	if (total > REAPI_BATCH_BYTES) {
		rpc_fail(rpc, GRPC_INVALID_ARGUMENT, "more than 4194304 bytes of blobs in a batch: use ByteStream");
		return;
	}
	batch->zstd = takes_zstd(request.compressors);
	batch->out = buffer_heap(BATCH_OUT_BYTES);
	batch->share.fn = on_memory;
	budget_enter(&rpc->reapi->downloads, &batch->share, 2 * total + BATCH_ROUND * STORE_READ_EXTRA_BYTES);
}

static void fini(struct rpc *rpc)
{
	struct batch_read *batch = container_of(rpc, struct batch_read, rpc);

	buffer_fini(&batch->out);
	free(batch->digests);
}

static const struct rpc_type type = {
	.size = sizeof(struct batch_read), .rights = SCOPE_READ, .request_bytes_max = REAPI_MESSAGE_BYTES_MAX,
	.on_request = on_request, .fini = fini,
};

int reapi_batch_read(struct reapi *reapi, const struct server_request *request, char *why, size_t why_size)
{
	return rpc_start(reapi, &type, request, why, why_size);
}
