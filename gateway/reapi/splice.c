/*
 * ContentAddressableStorage/SpliceBlob: a blob from chunks that are here. They are read once, one after the other, and hashed as
 * the one blob; when that is what was said, their list is kept as the blob's recipe, or, of a short blob, its bytes.
 *
 *	is it there? -> hold the chunks -> READ each -> [PUT a part] ... -> PUT the recipe (or the blob) -> the pair
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "chunker/profile.h"
#include "gateway/cas/presence.h"
#include "gateway/cas/recipe_maker.h"
#include "gateway/reapi/methods.h"
#include "gateway/reapi/rpc.h"
#include "proto/pb.h"

#define SPLICE_PROFILE_CLIENTS 0         /* in the recipe: cut by a client, who knows how */

struct splice {
	struct rpc rpc;
	struct digest digest;
	struct digest *chunks;
	size_t count, at;
	bool present, running, waiting, read_all, listed;
	struct presence presence;
	struct budget_share share;
	struct store_hold *hold;
	uint8_t *memory;                 /* a chunk */
	struct buffer whole;             /* of a blob of one record */
	struct store_read read;
	struct sha256_stream stream;
	struct recipe_maker maker;
	struct buffer blob;              /* of the recipe: the part that is being put */
	struct store_item item;
	struct store_put put;
	struct pair pair;
};

static void splice_run(struct splice *splice);

/* The memory is out of use, however long the answer is not taken. */
static void splice_drop(struct splice *splice)
{
	free(splice->memory);
	splice->memory = NULL;
	buffer_fini(&splice->whole);
	buffer_fini(&splice->blob);
	budget_leave(&splice->rpc.reapi->uploads, &splice->share);
}

static void splice_answer(struct splice *splice)
{
	uint8_t storage[128];
	struct buffer out = buffer_over(storage, sizeof(storage));

	splice_drop(splice);
	message_put_digest(&out, 1, &splice->digest);
	rpc_reply(&splice->rpc, &out);
}

static void splice_fail_chunk(struct splice *splice, const struct digest *chunk, int result)
{
	char text[DIGEST_TEXT_MAX + 64], hex[DIGEST_TEXT_MAX];

	splice_drop(splice);
	if (result < 0) {
		rpc_fail_store(&splice->rpc, result);
		return;
	}
	snprintf(text, sizeof(text), "the chunk %s is not in the store", digest_text(chunk, hex));
	rpc_fail(&splice->rpc, GRPC_NOT_FOUND, text);
}

/* ---- storing ---- */

static void on_pair(struct pair *pair)
{
	struct splice *splice = container_of(pair, struct splice, pair);

	if (pair->result != STORE_OK) {
		splice_drop(splice);
		rpc_fail_store(&splice->rpc, pair->result);
		return;
	}
	splice->rpc.reapi->counters.splices++;
	splice_answer(splice);
}

static void keep_pair(struct splice *splice)
{
	splice->pair.scope = splice->rpc.scope;
	splice->pair.blob = splice->digest;
	splice->pair.fn = on_pair;
	pair_keep(splice->rpc.reapi->cas->store, &splice->pair);
}

static void on_put(struct store_put *put)
{
	struct splice *splice = container_of(put, struct splice, put);
	int result = put->result;

	if (result == STORE_OK)
		result = store_hold_blobs(splice->hold, &splice->item.digest, 1);
	buffer_fini(&splice->blob);
	if (result != STORE_OK) {
		splice_drop(splice);
		rpc_fail_store(&splice->rpc, result);
	} else if (splice->listed && pair_wanted(&splice->digest)) {
		keep_pair(splice);
	} else if (splice->listed) {
		splice->rpc.reapi->counters.splices++;
		splice_answer(splice);
	} else {
		splice->waiting = false;
		splice_run(splice);
	}
}

static void splice_put(struct splice *splice, struct span data, const struct digest *digest)
{
	splice->waiting = true;
	splice->item = (struct store_item){ .digest = *digest, .data = data };
	splice->put = (struct store_put){
		.scope = splice->rpc.scope, .items = &splice->item, .count = 1, .fn = on_put,
	};
	store_put(splice->rpc.reapi->cas->store, &splice->put);
}

/* Of recipe_maker_add() or _finish(), but NONE. Last: the call may have been answered inside, and be gone. */
static void take_made(struct splice *splice, int made, const struct digest *digest)
{
	if (made < 0)
		splice_drop(splice);
	if (made == -EFBIG) {
		rpc_fail(&splice->rpc, GRPC_INVALID_ARGUMENT, "the blob has more chunks than a recipe can list");
		return;
	}
	if (made < 0) {
		rpc_fail_store(&splice->rpc, made);
		return;
	}
	if (made == RECIPE_MAKER_DONE) {
		splice->listed = true;
		splice->pair.recipe = *digest;
	}
	splice_put(splice, buffer_span(&splice->blob), digest);
}

/* ---- reading ---- */

static bool splice_verify(struct splice *splice)
{
	struct digest actual = { .size = splice->digest.size };
	char text[2 * DIGEST_TEXT_MAX + 64], expected_text[DIGEST_TEXT_MAX], actual_text[DIGEST_TEXT_MAX];

	sha256_stream_final(&splice->stream, actual.hash);
	splice->read_all = true;
	if (digest_equal(&actual, &splice->digest))
		return true;
	snprintf(text, sizeof(text), "the chunks together are %s, not %s", digest_text(&actual, actual_text),
	         digest_text(&splice->digest, expected_text));
	rpc_fail(&splice->rpc, GRPC_INVALID_ARGUMENT, text);
	return false;
}

static void on_read(struct store_read *read)
{
	struct splice *splice = container_of(read, struct splice, read);
	struct digest digest;
	int made = RECIPE_MAKER_NONE;

	if (read->result != STORE_OK) {
		splice_fail_chunk(splice, &read->digest, read->result);
		return;
	}
	sha256_stream_update(&splice->stream, read->blob.data, read->blob.size);
	if (pair_wanted(&splice->digest))
		made = recipe_maker_add(&splice->maker, &read->digest, &splice->blob, &digest);
	else
		buffer_put(&splice->whole, read->blob.data, read->blob.size);
	if (made != RECIPE_MAKER_NONE) {
		take_made(splice, made, &digest);
		return;
	}
	splice->waiting = false;
	splice_run(splice);
}

static void read_next(struct splice *splice)
{
	splice->waiting = true;
	splice->read = (struct store_read){
		.scope = splice->rpc.scope, .digest = splice->chunks[splice->at++], .buffer = splice->memory, .fn = on_read,
	};
	store_read(splice->rpc.reapi->cas->store, &splice->read);
}

/* All chunks are read. */
static void conclude(struct splice *splice)
{
	struct digest digest;
	int made;

	splice->waiting = true;          /* also when it has failed: then for nothing */
	if (!splice->read_all && !splice_verify(splice))
		return;
	if (!pair_wanted(&splice->digest)) {
		splice->listed = true;
		if (splice->whole.failed)
			rpc_fail_memory(&splice->rpc);
		else
			splice_put(splice, buffer_span(&splice->whole), &splice->digest);
		return;
	}
	made = recipe_maker_finish(&splice->maker, &splice->blob, &digest);
	take_made(splice, made, &digest);
}

/* A loop and not a chain of calls: reads may complete inline. It is over when somebody has answered. */
static void splice_run(struct splice *splice)
{
	if (splice->running)
		return;
	splice->running = true;
	rpc_hold(&splice->rpc);
	while (!splice->waiting) {
		if (splice->at < splice->count)
			read_next(splice);
		else
			conclude(splice);
	}
	splice->running = false;
	if (rpc_is_answered(&splice->rpc))
		splice_drop(splice);
	rpc_release(&splice->rpc);
}

static void on_memory(struct budget_share *share)
{
	struct splice *splice = container_of(share, struct splice, share);
	int r = 0;

	splice->hold = store_hold_create(splice->rpc.reapi->cas->store, &splice->rpc.scope);
	if (splice->hold)
		r = store_hold_blobs(splice->hold, splice->chunks, splice->count);
	splice->memory = malloc(STORE_BLOB_BYTES_MAX + STORE_READ_EXTRA_BYTES);
	if (!splice->hold || r < 0 || !splice->memory) {
		splice_drop(splice);
		rpc_fail_memory(&splice->rpc);
		return;
	}
	splice_run(splice);
}

/* ---- the request ---- */

static void on_presence(struct presence *presence)
{
	struct splice *splice = container_of(presence, struct splice, presence);

	if (presence->result < 0) {
		rpc_fail_store(&splice->rpc, presence->result);
	} else if (splice->present) {
		splice_answer(splice);
	} else {
		splice->share.fn = on_memory;
		budget_enter(&splice->rpc.reapi->uploads, &splice->share, 2 * STORE_BLOB_BYTES_MAX);
	}
}

/* Empty chunks go. NULL, or what is wrong with the list. */
static const char *chunks_fault(struct splice *splice)
{
	uint64_t bytes = 0;
	size_t kept = 0;

	for (size_t i = 0; i < splice->count; i++) {
		uint64_t size = splice->chunks[i].size;

		if (size > STORE_BLOB_BYTES_MAX)
			return "a chunk is longer than 4194304 bytes";
		bytes += size;
		if (size)
			splice->chunks[kept++] = splice->chunks[i];
	}
	splice->count = kept;
	if (bytes != splice->digest.size)
		return "the chunks' sizes do not sum up to the blob's";
	return splice->digest.size > REAPI_BLOB_BYTES_MAX ? "a blob longer than 64 GiB is not taken" : NULL;
}

static void on_request(struct rpc *rpc, struct span bytes)
{
	struct splice *splice = container_of(rpc, struct splice, rpc);
	struct reapi_splice_request request;
	const char *fault;

	if (!message_decode(&reapi_splice_request_type, bytes, &request)) {
		rpc_fail_malformed(rpc);
		return;
	}
	if (!rpc_enter(rpc, request.instance_name, request.digest_function))
		return;
	splice->digest = request.blob_digest;
	splice->chunks = rpc_digests(rpc, &request.chunk_digests, &splice->count);
	if (!splice->chunks)
		return;
	fault = chunks_fault(splice);
	if (fault) {
		rpc_fail(rpc, GRPC_INVALID_ARGUMENT, fault);
		return;
	}
	sha256_stream_init(&splice->stream);
	splice->whole = buffer_heap(STORE_BLOB_BYTES_MAX);
	recipe_maker_init(&splice->maker,
	                  request.chunking_function == REAPI_FAST_CDC_2020 ? PROFILE_REAPI : SPLICE_PROFILE_CLIENTS);
	splice->presence = (struct presence){
		.cas = rpc->reapi->cas, .scope = rpc->scope, .digests = &splice->digest, .count = 1,
		.present = &splice->present, .fn = on_presence,
	};
	presence_look(&splice->presence);
}

static void fini(struct rpc *rpc)
{
	struct splice *splice = container_of(rpc, struct splice, rpc);

	splice_drop(splice);
	store_hold_release(splice->hold);
	recipe_maker_fini(&splice->maker);
	free(splice->chunks);
}

static const struct rpc_type type = {
	.size = sizeof(struct splice), .rights = SCOPE_READ | SCOPE_WRITE, .request_bytes_max = REAPI_MESSAGE_BYTES_MAX,
	.on_request = on_request, .fini = fini,
};

int reapi_splice(struct reapi *reapi, const struct server_request *request, char *why, size_t why_size)
{
	return rpc_start(reapi, &type, request, why, why_size);
}
