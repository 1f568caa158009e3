/*
 * GET, HEAD and PUT of /ac/. Bytes that are an ActionResult are one: taken when all that it names is there, and given on the same
 * condition. Other bytes (ccache keeps its own under /ac/ when it speaks Bazel's layout) are a value: kept as they are, under a
 * key that no call of REAPI's ever looks at. Results that came by UpdateActionResult are found here, too.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/cas/blob_get.h"
#include "gateway/cas/result_check.h"
#include "gateway/reapi/results.h"
#include "gateway/reapi/rpc.h"
#include "gateway/reapi/upload.h"
#include "gateway/reapi/web.h"
#include "gateway/reapi/write.h"
#include "proto/sluice_v1.h"

#define PUT_BODY_NS 120000000000u        /* that all of what is put has to be here in: it is short, and takes memory that others want */

/* The first byte of the note; the digest follows. */
enum { KIND_RESULT = 'r', KIND_VALUE = 'v' };

/* ---- GET, HEAD ---- */

struct get {
	struct web web;
	struct store_note note;
	bool result;                     /* to be checked */
	bool other;                      /* it is looked for among what UpdateActionResult brought */
	struct budget_share share;
	struct blob_get blob;
	struct result_check check;
	size_t sent;
	bool sending;
};

static struct get *get_of(const struct stream *stream)
{
	return container_of((struct web *)stream->owner, struct get, web);
}

static void get_fini(struct web *web)
{
	struct get *get = container_of(web, struct get, web);

	result_check_fini(&get->check);
	blob_get_fini(&get->blob);
	budget_leave(&web->reapi->downloads, &get->share);
}

static void get_on_other_note(struct store_note *note);

static void get_miss(struct get *get)
{
	get->web.reapi->counters.results_missed++;
	web_miss(&get->web);
}

/* Nothing whole was put here; perhaps REAPI's clients brought it. */
static void get_other(struct get *get)
{
	struct web *web = &get->web;

	if (get->other) {
		get_miss(get);
		return;
	}
	get->other = get->result = true;
	result_check_fini(&get->check);
	blob_get_fini(&get->blob);
	budget_leave(&web->reapi->downloads, &get->share);
	results_key_begin(&get->note, &web->scope, &web->digest);
	get->note.fn = get_on_other_note;
	web_hold(web);
	store_note_find(web->reapi->cas->store, &get->note);
}

static void get_step(struct get *get)
{
	struct span rest = span_make(get->blob.blob.data + get->sent, get->blob.blob.size - get->sent);

	if (!get->sending || !get->web.stream)
		return;
	get->sent += stream_write(get->web.stream, rest);
	get->web.idle_since_ns = ring_now_ns(get->web.reapi->cas->ring);
	if (get->sent < get->blob.blob.size)
		return;
	get->sending = false;
	stream_end(get->web.stream);
}

static void get_answer(struct get *get)
{
	get->web.reapi->counters.results_hit++;
	web_begin(&get->web, get->blob.blob.size);
	get->sending = !get->web.head && get->blob.blob.size;
	get_step(get);
}

static void get_on_check(struct result_check *check)
{
	struct get *get = container_of(check, struct get, check);

	if (check->outcome < 0)
		web_answer_store(&get->web, check->outcome);
	else if (check->outcome != RESULT_WHOLE)
		get_other(get);                  /* something of it was evicted: it is no use to anybody */
	else
		get_answer(get);
	web_release(&get->web);
}

static void get_on_blob(struct blob_get *blob)
{
	struct get *get = container_of(blob, struct get, blob);

	if (blob->result < 0 && blob->result != -EMSGSIZE) {
		web_answer_store(&get->web, blob->result);
	} else if (blob->result != STORE_OK) {
		get_other(get);
	} else if (!get->result) {
		get_answer(get);
	} else if (get->web.stream) {
		get->check = (struct result_check){
			.cas = get->web.reapi->cas, .scope = get->web.scope, .result = blob->blob, .fn = get_on_check,
		};
		web_hold(&get->web);
		result_check(&get->check);
	}
	web_release(&get->web);
}

/* It is there: who goes away leaves the line. */
static void get_on_memory(struct budget_share *share)
{
	struct get *get = container_of(share, struct get, share);

	web_hold(&get->web);
	blob_get(&get->blob);
}

static void get_blob(struct get *get, struct span value)
{
	struct digest digest;

	if (!digest_list_next(&value, &digest)) {
		get_other(get);
		return;
	}
	if (!get->web.stream)
		return;
	get->blob = (struct blob_get){
		.cas = get->web.reapi->cas, .scope = get->web.scope, .digest = digest, .bytes_max = WEB_VALUE_BYTES_MAX,
		.fn = get_on_blob,
	};
	get->share.fn = get_on_memory;
	budget_enter(&get->web.reapi->downloads, &get->share, digest.size + STORE_READ_EXTRA_BYTES);
}

static void get_on_other_note(struct store_note *note)
{
	struct get *get = container_of(note, struct get, note);

	if (note->result < 0)
		web_answer_store(&get->web, note->result);
	else if (note->result != STORE_OK)
		get_miss(get);
	else
		get_blob(get, span_make(note->value, note->value_size));
	web_release(&get->web);
}

static void get_on_note(struct store_note *note)
{
	struct get *get = container_of(note, struct get, note);

	if (note->result < 0) {
		web_answer_store(&get->web, note->result);
	} else if (note->result == STORE_OK && note->value_size > 0) {
		get->result = note->value[0] == KIND_RESULT;
		get_blob(get, span_make(note->value + 1, note->value_size - 1));
	} else {
		get_other(get);
	}
	web_release(&get->web);
}

static void get_on_writable(struct stream *stream)
{
	get_step(get_of(stream));
}

static void on_close(struct stream *stream, uint32_t code)
{
	web_closed(stream->owner);
}

static const struct stream_events get_events = { .on_data = web_drop, .on_writable = get_on_writable, .on_close = on_close };

void web_get_result(const struct web *web)
{
	struct get *get = calloc(1, sizeof(*get));

	if (!get) {
		web_refuse(web, 503, RPC_TEXT_MEMORY);
		return;
	}
	web_accept(&get->web, web, &get_events, get_fini);
	results_key_web(&get->note, &web->scope, &web->digest);
	get->note.fn = get_on_note;
	web_hold(&get->web);
	store_note_get(web->reapi->cas->store, &get->note);
}

/* ---- PUT ---- */

struct put {
	struct web web;
	struct budget_share share;
	struct buffer body;
	uint64_t bytes_max;              /* of it: what it says, or the most that is taken */
	bool done;                       /* all has come, or it was answered */
	uint8_t kind;
	struct result_check check;
	struct store_item item;
	struct store_put put;
	struct store_note note;
};

static struct put *put_of(const struct stream *stream)
{
	return container_of((struct web *)stream->owner, struct put, web);
}

static void put_fini(struct web *web)
{
	struct put *put = container_of(web, struct put, web);

	result_check_fini(&put->check);
	buffer_fini(&put->body);
	budget_leave(&web->reapi->uploads, &put->share);
}

/* An answer may wait long for its client: nobody else is to wait for that. */
static void put_drop(struct put *put)
{
	put->done = true;
	buffer_fini(&put->body);
	budget_leave(&put->web.reapi->uploads, &put->share);
}

static void put_refuse(struct put *put, unsigned status, const char *text)
{
	put->web.reapi->counters.uploads_refused++;
	web_answer(&put->web, status, text);
	put_drop(put);
}

static void put_answer_store(struct put *put, int result)
{
	web_answer_store(&put->web, result);
	put_drop(put);
}

static void put_on_note(struct store_note *note)
{
	struct put *put = container_of(note, struct put, note);

	if (note->result == STORE_OK) {
		put->web.reapi->counters.results_stored++;
		web_answer(&put->web, 200, NULL);
		put_drop(put);
	} else {
		put_answer_store(put, note->result);
	}
	web_release(&put->web);
}

static void put_on_stored(struct store_put *stored)
{
	struct put *put = container_of(stored, struct put, put);
	struct buffer value = buffer_over(put->note.value, sizeof(put->note.value));

	if (stored->result != STORE_OK) {
		put_answer_store(put, stored->result);
		web_release(&put->web);
		return;
	}
	results_key_web(&put->note, &put->web.scope, &put->web.digest);
	buffer_put(&value, &put->kind, 1);
	digest_list_put(&value, &put->item.digest);
	put->note.value_size = value.size;
	put->note.fn = put_on_note;
	store_note_put(put->web.reapi->cas->store, &put->note);  /* durable with all that it names */
}

/* Held until it has landed. */
static void put_store(struct put *put, uint8_t kind)
{
	struct span data = buffer_span(&put->body);

	put->kind = kind;
	put->item = (struct store_item){ .data = data, .digest = digest_empty };
	if (data.size) {
		put->item.digest.size = data.size;
		sha256_once(data.data, data.size, put->item.digest.hash);
	}
	put->put = (struct store_put){
		.scope = put->web.scope, .items = &put->item, .count = data.size > 0, .fn = put_on_stored,
	};
	web_hold(&put->web);
	store_put(put->web.reapi->cas->store, &put->put);
}

static void put_on_check(struct result_check *check)
{
	struct put *put = container_of(check, struct put, check);
	char text[DIGEST_TEXT_MAX + 100], hex[DIGEST_TEXT_MAX];

	if (check->outcome == RESULT_WHOLE) {
		put_store(put, KIND_RESULT);
	} else if (check->outcome == RESULT_HOLES) {
		snprintf(text, sizeof(text), "the result names %s, which is not in the store: upload it first",
		         digest_text(&check->missing[0], hex));
		put_refuse(put, 400, text);
	} else if (check->outcome > 0) {
		put_refuse(put, 400, check->why);
	} else {
		put_answer_store(put, check->outcome);
	}
	web_release(&put->web);
}

static void put_on_end(struct stream *stream)
{
	struct put *put = put_of(stream);
	struct reapi_result_names names;

	if (put->done)
		return;
	put->done = true;
	put->web.idle_since_ns = put->web.ends_ns = 0;
	if (!message_decode(&reapi_result_names_type, buffer_span(&put->body), &names)) {
		put_store(put, KIND_VALUE);
		return;
	}
	if (put->body.size > REAPI_RESULT_BYTES_MAX) {
		put_refuse(put, 413, "the ActionResult is longer than 1 MiB");
		return;
	}
	put->check = (struct result_check){
		.cas = put->web.reapi->cas, .scope = put->web.scope, .result = buffer_span(&put->body), .fn = put_on_check,
	};
	web_hold(&put->web);
	result_check(&put->check);
}

/* Memory is taken as more comes, as of other uploads; what has come is not moved often. False: it was refused. */
static bool put_make_room(struct put *put, size_t size)
{
	uint64_t wanted = put->body.size + size, doubled = 2 * put->share.bytes;

	if (wanted > put->bytes_max) {
		put_refuse(put, 413, "what is put under /ac/ is longer than 4 MiB");
		return false;
	}
	if (wanted <= put->share.bytes)
		return true;
	if (wanted < doubled)
		wanted = doubled < put->bytes_max ? doubled : put->bytes_max;
	if (budget_grow(&put->web.reapi->uploads, &put->share, wanted))
		return true;
	put->web.reapi->counters.uploads_refused++;
	web_answer_crowded(&put->web);
	put_drop(put);
	return false;
}

static void put_on_data(struct stream *stream, struct span data)
{
	struct put *put = put_of(stream);

	stream_consumed(stream, data.size);
	put->web.reapi->counters.bytes_received += data.size;
	if (put->done)
		return;
	put->web.idle_since_ns = ring_now_ns(put->web.reapi->cas->ring);
	if (!put_make_room(put, data.size))
		return;
	buffer_put(&put->body, data.data, data.size);
	if (put->body.failed)
		put_refuse(put, 503, RPC_TEXT_MEMORY);
}

static const struct stream_events put_events = { .on_data = put_on_data, .on_end = put_on_end, .on_close = on_close };

/* It was asked before whether there is room: it is inside at once. */
static void put_on_memory(struct budget_share *share)
{
}

void web_put_result(const struct web *web)
{
	uint64_t bytes = web->sized ? web->length : WEB_VALUE_BYTES_MAX;
	uint64_t first = bytes < UPLOAD_FIRST_BYTES ? bytes : UPLOAD_FIRST_BYTES, now = ring_now_ns(web->reapi->cas->ring);
	struct put *put = NULL;

	if (bytes > WEB_VALUE_BYTES_MAX) {
		web_refuse(web, 413, "what is put under /ac/ is longer than 4 MiB");
		return;
	}
	if (writes_make_room(web->reapi, first))
		put = calloc(1, sizeof(*put));
	if (!put) {
		web->reapi->crowded_ns = now;
		web_refuse(web, 503, RPC_TEXT_CROWDED);
		return;
	}
	web_accept(&put->web, web, &put_events, put_fini);
	put->body = buffer_heap(WEB_VALUE_BYTES_MAX);
	put->share.fn = put_on_memory;
	put->bytes_max = bytes;
	budget_enter(&web->reapi->uploads, &put->share, first);
	put->web.idle_since_ns = now;
	put->web.ends_ns = now + PUT_BODY_NS;
	stream_consumed(put->web.stream, 0);     /* the body may come */
}
