/*
 * ContentAddressableStorage/BatchReadBlobs: in rounds of a few reads at a time, each blob with a status of its own. What was read is
 * lent to the call where it lies: the rest of a Response is before its data, in the place of the record's header.
 */
#include <errno.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/reapi/methods.h"
#include "gateway/reapi/rpc.h"
#include "proto/pb.h"
#include "proto/zstd_message.h"

#define BATCH_ROUND      64              /* reads at a time */
#define BATCH_HEAD_BYTES 192             /* of a Response besides the data; it has a text when there is none */
#define BATCH_LEVEL      1
#define BATCH_SAID_BYTES 96              /* of a Response, beside its data, or that it is missing */

/*
 * Buck2 counts nothing but the blobs' bytes, takes messages of twice what Capabilities say, and gives up when one blob of a batch is
 * refused. So none is, and the answer stays below that, though others take no more than 4 MiB unless they are told to.
 */
_Static_assert((uint64_t)REAPI_BATCH_BYTES + (uint64_t)REAPI_BATCH_BLOBS_MAX * BATCH_SAID_BYTES <= 2 * REAPI_BATCH_ADVERTISED,
               "an answer is taken");

struct batch_read;

struct batch_one {
	struct batch_read *batch;
	struct store_read read;
};

struct batch_read {
	struct rpc rpc;
	struct budget_share share;
	struct loan loan;
	struct digest *digests;
	size_t count, at;                /* as many as a request has room for; the next one to be read */
	size_t bytes;                    /* of memory */
	bool zstd, running;
	uint8_t *memory;                 /* a place for each blob */
	size_t used;
	struct span *pieces;             /* what goes out: a Response each */
	struct batch_one round[BATCH_ROUND];
	size_t round_count, landed;
};

static void batch_run(struct batch_read *batch);

static void on_read(struct store_read *read)
{
	struct batch_read *batch = container_of(read, struct batch_one, read)->batch;

	batch->landed++;
	batch_run(batch);
}

/* The memory is out of use, and others get it. May be called again. */
static void batch_drop(struct batch_read *batch)
{
	free(batch->memory);
	free(batch->pieces);
	batch->memory = NULL;
	batch->pieces = NULL;
	budget_leave(&batch->rpc.reapi->downloads, &batch->share);
}

static void on_returned(struct loan *loan)
{
	batch_drop(container_of(loan, struct batch_read, loan));
}

/* Compressed where it lies; false: it would not get smaller. */
static bool pack(uint8_t *data, size_t *size)
{
	struct buffer packed = buffer_heap(*size + 1024);
	bool smaller = zstd_message_deflate(&packed, span_make(data, *size), BATCH_LEVEL) && packed.size <= *size;

	if (smaller) {
		memcpy(data, packed.data, packed.size);
		*size = packed.size;
	}
	buffer_fini(&packed);
	return smaller;
}

static void put_status(struct buffer *out, const struct store_read *read)
{
	const char *text = "not in the store";
	enum grpc_status status = GRPC_NOT_FOUND;
	size_t mark = pb_begin(out, 3);

	if (read->result < 0)
		status = rpc_store_status(read->result, &text);
	if (read->result != STORE_OK) {
		pb_put_varint(out, 1, status);
		pb_put_text(out, 2, text);
	}
	pb_end(out, mark);
}

/* A Response besides its data, which comes last: so its length is known before. */
static void put_head(struct buffer *out, const struct store_read *read, bool packed, size_t size)
{
	uint8_t storage[BATCH_HEAD_BYTES], number[PB_VARINT_BYTES_MAX];
	struct buffer fields = buffer_over(storage, sizeof(storage));

	message_put_digest(&fields, 1, &read->digest);
	put_status(&fields, read);
	pb_put_varint(&fields, 4, packed ? REAPI_ZSTD : REAPI_IDENTITY);
	if (size) {
		buffer_put(&fields, &(uint8_t){ 2 << 3 | PB_BYTES }, 1);
		buffer_put(&fields, number, (size_t)(pb_varint_write(number, size) - number));
	}
	buffer_put(out, &(uint8_t){ 1 << 3 | PB_BYTES }, 1);
	buffer_put(out, number, (size_t)(pb_varint_write(number, fields.size + size) - number));
	buffer_put(out, fields.data, fields.size);
	CHECK(!fields.failed && !out->failed);
}

static struct span put_one(struct batch_read *batch, const struct store_read *read)
{
	size_t size = read->result == STORE_OK ? read->blob.size : 0;
	uint8_t *data = read->buffer + (size ? read->blob.data - read->buffer : 0);
	bool packed = batch->zstd && size && pack(data, &size);
	uint8_t storage[BATCH_HEAD_BYTES];
	struct buffer head = buffer_over(storage, sizeof(storage));

	put_head(&head, read, packed, size);
	if (size) {
		CHECK(head.size <= (size_t)(data - read->buffer));
		data -= head.size;
	}
	memcpy(data, head.data, head.size);
	batch->rpc.reapi->counters.bytes_sent += size;
	return span_make(data, head.size + size);
}

static void round_encode(struct batch_read *batch)
{
	struct span *piece = batch->pieces + batch->at - batch->round_count;

	for (size_t i = 0; i < batch->round_count; i++)
		*piece++ = put_one(batch, &batch->round[i].read);
	batch->rpc.reapi->counters.downloads += batch->round_count;
	batch->round_count = batch->landed = 0;
}

/*
 * What lies one behind the other in the store and here, too, is read together. Where there is no data, the head alone has to have
 * room.
 */
static size_t place_bytes(const struct digest *digest)
{
	size_t size = (size_t)digest->size;

	return size + STORE_READ_EXTRA_BYTES >= BATCH_HEAD_BYTES ? store_read_bytes(size) : BATCH_HEAD_BYTES;
}

static void round_begin(struct batch_read *batch)
{
	size_t left = batch->count - batch->at;

	batch->round_count = left < BATCH_ROUND ? left : BATCH_ROUND;
	store_reads_gather(batch->rpc.reapi->cas->store);
	for (size_t i = 0; i < batch->round_count; i++) {
		struct store_read *read = &batch->round[i].read;

		batch->round[i].batch = batch;
		*read = (struct store_read){
			.scope = batch->rpc.scope, .digest = batch->digests[batch->at++], .fn = on_read,
			.buffer = batch->memory + batch->used,
		};
		batch->used += place_bytes(&read->digest);
		store_read(batch->rpc.reapi->cas->store, read);
	}
	store_reads_start(batch->rpc.reapi->cas->store);
}

static void batch_answer(struct batch_read *batch)
{
	if (batch->count == 0) {
		batch_drop(batch);
		rpc_reply(&batch->rpc, &(struct buffer){ 0 });
		return;
	}
	batch->loan = (struct loan){ .pieces = batch->pieces, .count = batch->count, .returned = on_returned };
	rpc_reply_lending(&batch->rpc, &batch->loan);
}

/* A loop and not a chain of calls: many rounds may complete inline. */
static void batch_run(struct batch_read *batch)
{
	if (batch->running)
		return;
	batch->running = true;
	while (batch->landed == batch->round_count) {
		round_encode(batch);
		if (rpc_has_left(&batch->rpc))
			batch->at = batch->count;
		if (batch->at == batch->count) {
			batch_answer(batch);
			return;
		}
		round_begin(batch);
	}
	batch->running = false;
}

static void on_memory(struct budget_share *share)
{
	struct batch_read *batch = container_of(share, struct batch_read, share);

	batch->memory = malloc(batch->bytes + 1);
	batch->pieces = malloc((batch->count + 1) * sizeof(*batch->pieces));
	if (batch->memory && batch->pieces) {
		batch_run(batch);
		return;
	}
	batch_drop(batch);
	rpc_fail_memory(&batch->rpc);
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
	batch->digests = rpc_digests(rpc, &request.digests, &batch->count);
	if (!batch->digests)
		return;
	if (batch->count > REAPI_BATCH_BLOBS_MAX) {
		rpc_fail(rpc, GRPC_INVALID_ARGUMENT, RPC_TEXT_BLOBS);
		return;
	}
	for (size_t i = 0; i < batch->count && total <= REAPI_BATCH_BYTES; i++)
		total = batch->digests[i].size > REAPI_BATCH_BYTES ? UINT64_MAX : total + batch->digests[i].size;
	if (total > REAPI_BATCH_BYTES) {
		rpc_fail(rpc, GRPC_INVALID_ARGUMENT, "more than 4194304 bytes of blobs in a batch: use ByteStream");
		return;
	}
	batch->zstd = request.compressors & 1u << REAPI_ZSTD;
	batch->bytes = (size_t)total + batch->count * BATCH_HEAD_BYTES;
	batch->share.fn = on_memory;
	budget_enter(&rpc->reapi->downloads, &batch->share, batch->bytes + batch->count * sizeof(*batch->pieces));
}

static void fini(struct rpc *rpc)
{
	struct batch_read *batch = container_of(rpc, struct batch_read, rpc);

	batch_drop(batch);
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
