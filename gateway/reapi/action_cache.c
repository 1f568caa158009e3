/*
 * ActionCache/GetActionResult and UpdateActionResult. A result that a client brought is a blob, found by a note under the
 * action's digest. What executors here have run is found under the action and the environment that it would meet now
 * (gateway/pool/action_key.h), and is given when no client has brought any, or when something of that is gone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/cas/result_check.h"
#include "gateway/cas/results.h"
#include "gateway/pool/action_key.h"
#include "gateway/reapi/methods.h"
#include "gateway/reapi/rpc.h"
#include "proto/pb.h"
#include "proto/sluice_v1.h"

#define RESULT_INLINE_BYTES  (1u << 20)  /* of a stream that is put into the answer because it was asked for */
#define RESULT_DETAILS_BYTES 4096     /* in base64, and with a head: clients take trailers of 8 KiB */

/* ---- GetActionResult ---- */

struct get_result {
	struct rpc rpc;
	struct digest action;
	bool inlined[2];                 /* stdout, stderr: asked for */
	bool ran_here;                   /* it is looked for among what executors have run */
	struct gate_pass pass;           /* of reapi->keys: Actions are in memory then, and the host has a queue */
	struct action_key key;
	struct store_note note;
	struct blob_get get;
	struct result_check check;
	struct buffer result;
	struct digest streams[2];
	unsigned stream;                 /* the next one to be put in */
};

static void get_refuse(struct get_result *get)
{
	char text[DIGEST_TEXT_MAX + 64], hex[DIGEST_TEXT_MAX];

	get->rpc.reapi->counters.results_missed++;
	snprintf(text, sizeof(text), "no result of the action %s is here", digest_text(&get->action, hex));
	rpc_fail(&get->rpc, GRPC_NOT_FOUND, text);
}

static void get_on_note(struct store_note *note);

static void get_on_key(struct action_key *key)
{
	struct get_result *get = container_of(key, struct get_result, key);
	struct reapi *reapi = get->rpc.reapi;

	if (key->result < 0) {
		rpc_fail_store(&get->rpc, key->result);
	} else if (key->known) {
		get->note = (struct store_note){ .scope = get->rpc.scope, .key_size = sizeof(key->key), .fn = get_on_note };
		memcpy(get->note.key, key->key, sizeof(key->key));
		store_note_get(reapi->cas->store, &get->note);
	} else {
		get_refuse(get);
	}
	gate_leave(&reapi->keys);        /* the call may be gone by now */
}

static void get_on_turn(struct gate_pass *pass)
{
	struct get_result *get = container_of(pass, struct get_result, pass);
	struct reapi *reapi = get->rpc.reapi;

	if (rpc_has_left(&get->rpc)) {
		get_refuse(get);
		gate_leave(&reapi->keys);
	} else {
		action_key_find(&get->key);
	}
}

/* There is no whole result of this kind. */
static void get_miss(struct get_result *get)
{
	if (get->ran_here) {
		get_refuse(get);
		return;
	}
	get->ran_here = true;
	blob_get_fini(&get->get);
	result_check_fini(&get->check);
	buffer_clear(&get->result);
	get->key = (struct action_key){
		.cas = get->rpc.reapi->cas, .pool = get->rpc.reapi->pool, .scope = get->rpc.scope, .action = get->action,
		.deadline_ns = ring_now_ns(get->rpc.reapi->cas->ring) + get->rpc.reapi->key_wait_ns, .fn = get_on_key,
	};
	get->pass.fn = get_on_turn;
	gate_enter(&get->rpc.reapi->keys, &get->pass);
}

static void get_inline_next(struct get_result *get);

static void on_stream(struct blob_get *blob)
{
	struct get_result *get = container_of(blob, struct get_result, get);

	if (blob->result == STORE_OK)
		pb_put_bytes(&get->result, get->stream == 1 ? 5 : 7, blob->blob);
	blob_get_fini(blob);
	get_inline_next(get);
}

/* stdout, stderr, and then the answer. */
static void get_inline_next(struct get_result *get)
{
	while (get->stream < 2) {
		unsigned stream = get->stream++;

		if (!get->inlined[stream] || get->streams[stream].size == 0)
			continue;
		get->get = (struct blob_get){
			.cas = get->rpc.reapi->cas, .scope = get->rpc.scope, .digest = get->streams[stream],
			.bytes_max = RESULT_INLINE_BYTES, .fn = on_stream,
		};
		blob_get(&get->get);
		return;
	}
	get->rpc.reapi->counters.results_hit++;
	rpc_reply(&get->rpc, &get->result);
}

static void get_on_check(struct result_check *check)
{
	struct get_result *get = container_of(check, struct get_result, check);
	struct reapi_result_names names;

	if (check->outcome < 0) {
		rpc_fail_store(&get->rpc, check->outcome);
		return;
	}
	if (check->outcome != RESULT_WHOLE) {
		get_miss(get);                   /* something of it was evicted: it is no use to anybody */
		return;
	}
	message_decode(&reapi_result_names_type, buffer_span(&get->result), &names);
	get->streams[0] = names.stdout_raw.size ? (struct digest){ 0 } : names.stdout_digest;
	get->streams[1] = names.stderr_raw.size ? (struct digest){ 0 } : names.stderr_digest;
	get_inline_next(get);
}

static void get_on_result(struct blob_get *blob)
{
	struct get_result *get = container_of(blob, struct get_result, get);

	if (blob->result < 0 && blob->result != -EMSGSIZE) {
		rpc_fail_store(&get->rpc, blob->result);
		return;
	}
	if (blob->result != STORE_OK) {
		get_miss(get);
		return;
	}
	buffer_put(&get->result, blob->blob.data, blob->blob.size);
	blob_get_fini(blob);
	if (get->result.failed) {
		rpc_fail_memory(&get->rpc);
		return;
	}
	get->check = (struct result_check){
		.cas = get->rpc.reapi->cas, .scope = get->rpc.scope, .result = buffer_span(&get->result), .fn = get_on_check,
	};
	result_check(&get->check);
}

static void get_on_note(struct store_note *note)
{
	struct get_result *get = container_of(note, struct get_result, note);
	struct span value = span_make(note->value, note->value_size);
	struct digest digest;

	if (note->result < 0) {
		rpc_fail_store(&get->rpc, note->result);
		return;
	}
	if (note->result != STORE_OK || !digest_list_next(&value, &digest)) {
		get_miss(get);
		return;
	}
	get->get = (struct blob_get){
		.cas = get->rpc.reapi->cas, .scope = get->rpc.scope, .digest = digest, .bytes_max = REAPI_RESULT_BYTES_MAX,
		.fn = get_on_result,
	};
	blob_get(&get->get);
}

static void get_on_request(struct rpc *rpc, struct span bytes)
{
	struct get_result *get = container_of(rpc, struct get_result, rpc);
	struct reapi_get_result_request request;

	if (!message_decode(&reapi_get_result_request_type, bytes, &request)) {
		rpc_fail_malformed(rpc);
		return;
	}
	if (!rpc_enter(rpc, request.instance_name, request.digest_function))
		return;
	get->action = request.action_digest;
	get->inlined[0] = request.inline_stdout;
	get->inlined[1] = request.inline_stderr;
	get->result = buffer_heap(REAPI_RESULT_BYTES_MAX + 2 * (RESULT_INLINE_BYTES + 16));
	results_key(&get->note, &rpc->scope, &get->action);
	get->note.fn = get_on_note;
	store_note_get(rpc->reapi->cas->store, &get->note);
}

static void get_fini(struct rpc *rpc)
{
	struct get_result *get = container_of(rpc, struct get_result, rpc);

	blob_get_fini(&get->get);
	result_check_fini(&get->check);
	buffer_fini(&get->result);
}

static const struct rpc_type get_type = {
	.size = sizeof(struct get_result), .rights = SCOPE_READ, .request_bytes_max = REAPI_MESSAGE_BYTES_MAX,
	.on_request = get_on_request, .fini = get_fini,
};

int reapi_get_result(struct reapi *reapi, const struct server_request *request, char *why, size_t why_size)
{
	return rpc_start(reapi, &get_type, request, why, why_size);
}

/* ---- UpdateActionResult ---- */

struct update_result {
	struct rpc rpc;
	struct digest action;
	struct span result;
	struct result_check check;
	struct store_item item;
	struct store_put put;
	struct store_note note;
};

static void update_on_note(struct store_note *note)
{
	struct update_result *update = container_of(note, struct update_result, note);

	if (note->result != STORE_OK) {
		rpc_fail_store(&update->rpc, note->result);
		return;
	}
	update->rpc.reapi->counters.results_stored++;
	rpc_reply_bytes(&update->rpc, update->result);
}

static void update_on_put(struct store_put *put)
{
	struct update_result *update = container_of(put, struct update_result, put);
	struct buffer value = buffer_over(update->note.value, sizeof(update->note.value));

	if (put->result != STORE_OK) {
		rpc_fail_store(&update->rpc, put->result);
		return;
	}
	results_key(&update->note, &update->rpc.scope, &update->action);
	digest_list_put(&value, &update->item.digest);
	update->note.value_size = value.size;
	update->note.fn = update_on_note;
	store_note_put(update->rpc.reapi->cas->store, &update->note);    /* durable with all that it names */
}

static void update_refuse_holes(struct update_result *update)
{
	struct buffer details = buffer_heap(2 * RESULT_DETAILS_BYTES);
	struct reapi_missing missing;
	char text[DIGEST_TEXT_MAX + 100], hex[DIGEST_TEXT_MAX];

	snprintf(text, sizeof(text), "the result names %s, which is not in the store: upload it first",
	         digest_text(&update->check.missing[0], hex));
	reapi_missing_begin(&missing, &details, text);
	for (size_t i = 0; i < update->check.missing_count && details.size < RESULT_DETAILS_BYTES; i++)
		reapi_missing_add(&missing, &update->check.missing[i]);
	reapi_missing_end(&missing);
	unary_fail_details(&update->rpc.unary, GRPC_FAILED_PRECONDITION, text, buffer_span(&details));
	buffer_fini(&details);
}

static void update_on_check(struct result_check *check)
{
	struct update_result *update = container_of(check, struct update_result, check);

	switch (check->outcome) {
	case RESULT_WHOLE:
		break;
	case RESULT_HOLES:
		update_refuse_holes(update);
		return;
	case RESULT_MALFORMED:
	case RESULT_TOO_LARGE:
		rpc_fail(&update->rpc, GRPC_INVALID_ARGUMENT, check->why);
		return;
	default:
		rpc_fail_store(&update->rpc, check->outcome);
		return;
	}
	update->item = (struct store_item){ .data = update->result, .digest.size = update->result.size };
	sha256_once(update->result.data, update->result.size, update->item.digest.hash);
	update->put = (struct store_put){
		.scope = update->rpc.scope, .items = &update->item, .count = update->result.size > 0, .fn = update_on_put,
	};
	store_put(update->rpc.reapi->cas->store, &update->put);
}

static void update_on_request(struct rpc *rpc, struct span bytes)
{
	struct update_result *update = container_of(rpc, struct update_result, rpc);
	struct reapi_update_result_request request;

	if (!message_decode(&reapi_update_result_request_type, bytes, &request)) {
		rpc_fail_malformed(rpc);
		return;
	}
	if (!rpc_enter(rpc, request.instance_name, request.digest_function))
		return;
	if (request.action_result.size > REAPI_RESULT_BYTES_MAX) {
		rpc_fail(rpc, GRPC_INVALID_ARGUMENT, "the ActionResult is longer than 1 MiB");
		return;
	}
	update->action = request.action_digest;
	update->result = request.action_result;
	update->check = (struct result_check){
		.cas = rpc->reapi->cas, .scope = rpc->scope, .result = update->result, .fn = update_on_check,
	};
	result_check(&update->check);
}

static void update_fini(struct rpc *rpc)
{
	result_check_fini(&container_of(rpc, struct update_result, rpc)->check);
}

static const struct rpc_type update_type = {
	.size = sizeof(struct update_result), .rights = SCOPE_WRITE | SCOPE_COMMIT,
	.request_bytes_max = REAPI_MESSAGE_BYTES_MAX, .on_request = update_on_request, .fini = update_fini,
};

int reapi_update_result(struct reapi *reapi, const struct server_request *request, char *why, size_t why_size)
{
	return rpc_start(reapi, &update_type, request, why, why_size);
}
