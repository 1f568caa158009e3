/*
 * GET and HEAD of /ac/; web_whole.c has its PUT. Bytes that are an ActionResult are one: taken when all that it names is there, and
 * given on the same condition. Other bytes (ccache keeps its own under /ac/ when it speaks Bazel's layout) are a value: kept as they
 * are, under a key that no call of REAPI's ever looks at. Results that came by UpdateActionResult are found here, too.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/cas/blob_get.h"
#include "gateway/cas/result_check.h"
#include "gateway/cas/results.h"
#include "gateway/reapi/rpc.h"
#include "gateway/reapi/web.h"
#include "proto/sluice_v1.h"

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

/* It goes out as a blob does; the request is that handler's from now on. */
static void get_long_value(struct get *get, const struct digest *digest)
{
	struct web web = get->web;

	get->web.reapi->counters.results_hit++;
	get->web.stream = NULL;
	web.digest = *digest;
	web.held = 0;
	web_get_known(&web);
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
	if (!get->result && digest.size > WEB_VALUE_BYTES_MAX) {
		get_long_value(get, &digest);
		return;
	}
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
		get->result = note->value[0] == RESULTS_WEB_RESULT;
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
