/*
 * ContentAddressableStorage/SplitBlob: the chunks of a blob. A long blob's are listed by its recipe, unless who spliced it had longer
 * ones than Capabilities tell clients to expect; one that was kept whole and
 * is longer than its clients' largest chunk is cut now, its chunks put, if the caller may write; a short one is its own only chunk.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "chunker/profile.h"
#include "gateway/cas/presence.h"
#include "gateway/cas/blob_get.h"
#include "gateway/reapi/methods.h"
#include "gateway/reapi/rpc.h"
#include "proto/pb.h"
#include "proto/recipe.h"

#define SPLIT_OUT_BYTES  (16u << 20)
#define SPLIT_ANSWER_BYTES_MAX (4u << 20)        /* what clients take by default; whoever reads the blob needs no list */
#define SPLIT_CHUNKS_MAX 33              /* of a blob that is one record: none but the last is shorter than 128 KiB */

struct split {
	struct rpc rpc;
	struct digest digest;
	bool present;
	struct presence presence;
	struct pair pair;
	struct blob_get get;
	struct budget_share share;
	struct digest parts[RECIPE_BYTES_MAX / (DIGEST_HASH_BYTES + 1)];
	size_t parts_count, parts_at;
	bool running, waiting;
	bool too_long;                   /* some chunk, for what Capabilities say of chunks */
	uint32_t profile;
	struct store_item items[SPLIT_CHUNKS_MAX];
	struct sha256_job jobs[SPLIT_CHUNKS_MAX];
	struct store_put put;
	struct buffer out;
};

static void split_missing(struct split *split)
{
	char text[DIGEST_TEXT_MAX + 64], hex[DIGEST_TEXT_MAX];

	snprintf(text, sizeof(text), "%s is not in the store", digest_text(&split->digest, hex));
	rpc_fail(&split->rpc, GRPC_NOT_FOUND, text);
}

static void split_fail(struct split *split, int result)
{
	if (result == STORE_MISSING || result == STORE_CORRUPT || result == -EMSGSIZE)
		split_missing(split);
	else
		rpc_fail_store(&split->rpc, result);
}

/* It is there to be read, and that is what a client does then. */
static void split_refuse(struct split *split)
{
	char text[DIGEST_TEXT_MAX + 64], hex[DIGEST_TEXT_MAX];

	snprintf(text, sizeof(text), "no split information of %s is here", digest_text(&split->digest, hex));
	rpc_fail(&split->rpc, GRPC_NOT_FOUND, text);
}

static void split_answer(struct split *split)
{
	pb_put_varint(&split->out, 2, split->profile == PROFILE_REAPI ? REAPI_FAST_CDC_2020 : REAPI_CHUNKING_UNKNOWN);
	if (split->out.size > SPLIT_ANSWER_BYTES_MAX) {
		split_refuse(split);
		return;
	}
	split->rpc.reapi->counters.splits++;
	blob_get_fini(&split->get);              /* however long the answer is not taken */
	budget_leave(&split->rpc.reapi->downloads, &split->share);
	rpc_reply(&split->rpc, &split->out);
}

/* ---- of one record ---- */

static void on_put(struct store_put *put)
{
	struct split *split = container_of(put, struct split, put);

	if (put->result != STORE_OK) {
		rpc_fail_store(&split->rpc, put->result);
		return;
	}
	for (size_t i = 0; i < put->count; i++)
		message_put_digest(&split->out, 1, &split->items[i].digest);
	split_answer(split);
}

static void on_record(struct blob_get *get)
{
	struct split *split = container_of(get, struct split, get);
	const struct fastcdc *cuts = profile_fastcdc(PROFILE_REAPI);
	struct span rest = get->blob;
	size_t count = 0, length;

	if (get->result != STORE_OK) {
		split_fail(split, get->result);
		return;
	}
	for (; (length = fastcdc_cut(cuts, rest.data, rest.size)); rest = span_make(rest.data + length, rest.size - length))
		split->jobs[count++] = (struct sha256_job){ .data = rest.data, .size = length };
	sha256_batch(split->rpc.reapi->cas->hasher, split->jobs, count);
	for (size_t i = 0; i < count; i++) {
		split->items[i] = (struct store_item){
			.digest.size = split->jobs[i].size, .data = span_make(split->jobs[i].data, split->jobs[i].size),
		};
		memcpy(split->items[i].digest.hash, split->jobs[i].digest, DIGEST_HASH_BYTES);
	}
	split->put = (struct store_put){ .scope = split->rpc.scope, .items = split->items, .count = count, .fn = on_put };
	store_put(split->rpc.reapi->cas->store, &split->put);
}

/* ---- of a pair ---- */

static void split_run(struct split *split);

static bool take_recipe(struct split *split, struct span blob)
{
	struct recipe_reader reader;
	struct digest entry;

	if (!recipe_open(&reader, blob))
		return false;
	split->profile = reader.head.profile;
	while (recipe_next(&reader, &entry)) {
		if (reader.head.level) {
			split->parts[split->parts_count++] = entry;
			continue;
		}
		split->too_long |= entry.size > PROFILE_REAPI_WHOLE_MAX;
		message_put_digest(&split->out, 1, &entry);
	}
	return !reader.failed;
}

static void on_recipe(struct blob_get *get)
{
	struct split *split = container_of(get, struct split, get);
	int result = get->result;
	bool good = result == STORE_OK && take_recipe(split, get->blob);

	blob_get_fini(get);
	if (!good) {
		split_fail(split, result == STORE_OK ? STORE_MISSING : result);
		return;
	}
	if (split->too_long) {
		split_refuse(split);
		return;
	}
	split->waiting = false;
	split_run(split);
}

static void read_recipe(struct split *split, const struct digest *recipe)
{
	split->waiting = true;
	split->get = (struct blob_get){
		.cas = split->rpc.reapi->cas, .scope = split->rpc.scope, .digest = *recipe, .bytes_max = RECIPE_BYTES_MAX,
		.fn = on_recipe,
	};
	blob_get(&split->get);
}

/* A loop and not a chain of calls: the reads of many parts may complete inline. */
static void split_run(struct split *split)
{
	if (split->running)
		return;
	split->running = true;
	rpc_hold(&split->rpc);
	while (!split->waiting && split->parts_at < split->parts_count)
		read_recipe(split, &split->parts[split->parts_at++]);
	split->running = false;
	if (!split->waiting)
		split_answer(split);
	rpc_release(&split->rpc);
}

static void on_pair(struct pair *pair)
{
	struct split *split = container_of(pair, struct split, pair);

	if (pair->result == STORE_OK)
		read_recipe(split, &pair->recipe);
	else
		split_fail(split, pair->result);
}

/* ---- the request ---- */

/* What is told, or refused, without a look at the blob waits for no memory. */
static bool split_told(struct split *split)
{
	if (pair_wanted(&split->digest))
		return false;
	if (split->digest.size > PROFILE_REAPI_WHOLE_MAX && (split->rpc.scope.rights & SCOPE_WRITE))
		return false;
	if (split->digest.size > PROFILE_REAPI_WHOLE_MAX) {
		split_refuse(split);             /* the cuts would be another copy of it in the store */
		return true;
	}
	if (split->digest.size)
		message_put_digest(&split->out, 1, &split->digest);
	split_answer(split);
	return true;
}

static void on_memory(struct budget_share *share)
{
	struct split *split = container_of(share, struct split, share);

	if (pair_wanted(&split->digest)) {
		split->pair.scope = split->rpc.scope;
		split->pair.blob = split->digest;
		split->pair.fn = on_pair;
		pair_find(split->rpc.reapi->cas->store, &split->pair);
	} else {
		split->get = (struct blob_get){
			.cas = split->rpc.reapi->cas, .scope = split->rpc.scope, .digest = split->digest,
			.bytes_max = STORE_BLOB_BYTES_MAX, .fn = on_record,
		};
		blob_get(&split->get);
	}
}

static void on_presence(struct presence *presence)
{
	struct split *split = container_of(presence, struct split, presence);

	if (presence->result < 0) {
		rpc_fail_store(&split->rpc, presence->result);
	} else if (!split->present) {
		split_missing(split);
	} else if (!split_told(split)) {
		split->share.fn = on_memory;
		budget_enter(&split->rpc.reapi->downloads, &split->share, STORE_BLOB_BYTES_MAX);
	}
}

static void on_request(struct rpc *rpc, struct span bytes)
{
	struct split *split = container_of(rpc, struct split, rpc);
	struct reapi_split_request request;

	if (!message_decode(&reapi_split_request_type, bytes, &request)) {
		rpc_fail_malformed(rpc);
		return;
	}
	if (!rpc_enter(rpc, request.instance_name, request.digest_function))
		return;
	split->digest = request.blob_digest;
	split->profile = PROFILE_REAPI;
	split->out = buffer_heap(SPLIT_OUT_BYTES);
	split->presence = (struct presence){
		.cas = rpc->reapi->cas, .scope = rpc->scope, .digests = &split->digest, .count = 1, .present = &split->present,
		.fn = on_presence,
	};
	presence_look(&split->presence);
}

static void fini(struct rpc *rpc)
{
	struct split *split = container_of(rpc, struct split, rpc);

	budget_leave(&rpc->reapi->downloads, &split->share);
	blob_get_fini(&split->get);
	buffer_fini(&split->out);
}

static const struct rpc_type type = {
	.size = sizeof(struct split), .rights = SCOPE_READ, .request_bytes_max = 4096,
	.on_request = on_request, .fini = fini,
};

int reapi_split(struct reapi *reapi, const struct server_request *request, char *why, size_t why_size)
{
	return rpc_start(reapi, &type, request, why, why_size);
}
