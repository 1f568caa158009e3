/*
 * PUT of what is kept in memory until it is whole: what goes under /ac/, and a blob whose length is not said before. See
 * web_result.c for what is a result and what a value.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/cas/result_check.h"
#include "gateway/cas/results.h"
#include "gateway/reapi/rpc.h"
#include "gateway/reapi/upload.h"
#include "gateway/reapi/web.h"
#include "gateway/reapi/write.h"
#include "proto/sluice_v1.h"

#define PUT_BODY_NS 120000000000u        /* that all of it has to be here in: it is short, and takes memory that others want */

struct put {
	struct web web;
	struct budget_share share;
	struct buffer body;
	uint64_t bytes_max;              /* of it: what it says, or the most that is taken */
	bool done;                       /* all has come, or it was answered */
	bool blob;                       /* under /cas/ */
	uint8_t kind;                    /* of the note */
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

/* Held until it has landed. */
static void put_store(struct put *put, void (*fn)(struct store_put *put))
{
	put->put = (struct store_put){
		.scope = put->web.scope, .items = &put->item, .count = put->item.data.size > 0, .fn = fn,
	};
	web_hold(&put->web);
	store_put(put->web.reapi->cas->store, &put->put);
}

static void put_sign(struct put *put)
{
	struct span data = buffer_span(&put->body);

	put->item = (struct store_item){ .data = data, .digest = digest_empty };
	if (data.size) {
		put->item.digest.size = data.size;
		sha256_once(data.data, data.size, put->item.digest.hash);
	}
}

static void put_on_stored(struct store_put *stored)
{
	struct put *put = container_of(stored, struct put, put);

	if (stored->result != STORE_OK) {
		put_answer_store(put, stored->result);
		web_release(&put->web);
		return;
	}
	results_note_web(&put->note, &put->web.scope, &put->web.digest, put->kind, &put->item.digest);
	put->note.fn = put_on_note;
	store_note_put(put->web.reapi->cas->store, &put->note);  /* durable with all that it names */
}

static void put_keep(struct put *put, uint8_t kind)
{
	put->kind = kind;
	put_sign(put);
	put_store(put, put_on_stored);
}

static void put_on_blob(struct store_put *stored)
{
	struct put *put = container_of(stored, struct put, put);

	if (stored->result == STORE_OK) {
		web_answer(&put->web, 200, NULL);
		put_drop(put);
	} else {
		put_answer_store(put, stored->result);
	}
	web_release(&put->web);
}

/* It is what the path says, or nothing. */
static void put_keep_blob(struct put *put)
{
	char expected[DIGEST_TEXT_MAX], actual[DIGEST_TEXT_MAX], text[400];

	put_sign(put);
	put->web.digest.size = put->item.digest.size;
	if (digest_equal(&put->web.digest, &put->item.digest)) {
		put_store(put, put_on_blob);
		return;
	}
	snprintf(text, sizeof(text), "the data is %s, not %s", digest_text(&put->item.digest, actual),
	         digest_text(&put->web.digest, expected));
	put_refuse(put, 400, text);
}

static void put_on_check(struct result_check *check)
{
	struct put *put = container_of(check, struct put, check);
	char text[DIGEST_TEXT_MAX + 100], hex[DIGEST_TEXT_MAX];

	if (check->outcome == RESULT_WHOLE) {
		put_keep(put, RESULTS_WEB_RESULT);
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
	if (put->blob) {
		put_keep_blob(put);
		return;
	}
	if (!message_decode(&reapi_result_names_type, buffer_span(&put->body), &names)) {
		put_keep(put, RESULTS_WEB_VALUE);
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

static const char *put_too_long(bool blob)
{
	return blob ? "a blob longer than 4 MiB is taken when its length is said before: send Content-Length" :
	              "a value longer than 4 MiB is taken when its length is said before: send Content-Length";
}

/* Memory is taken as more comes, as of other uploads; what has come is not moved often. False: it was refused. */
static bool put_make_room(struct put *put, size_t size)
{
	uint64_t wanted = put->body.size + size, doubled = 2 * put->share.bytes;

	if (wanted > put->bytes_max) {
		put_refuse(put, 413, put_too_long(put->blob));
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

static void put_on_close(struct stream *stream, uint32_t code)
{
	web_closed(stream->owner);
}

static const struct stream_events put_events = { .on_data = put_on_data, .on_end = put_on_end, .on_close = put_on_close };

/* It was asked before whether there is room: it is inside at once. */
static void put_on_memory(struct budget_share *share)
{
}

static void put_begin(const struct web *web, bool blob)
{
	uint64_t bytes = web->sized ? web->length : WEB_VALUE_BYTES_MAX;
	uint64_t first = bytes < UPLOAD_FIRST_BYTES ? bytes : UPLOAD_FIRST_BYTES, now = ring_now_ns(web->reapi->cas->ring);
	struct put *put = NULL;

	if (bytes > WEB_VALUE_BYTES_MAX) {
		web_refuse(web, 413, put_too_long(blob));
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
	put->blob = blob;
	put->body = buffer_heap(WEB_VALUE_BYTES_MAX);
	put->share.fn = put_on_memory;
	put->bytes_max = bytes;
	budget_enter(&web->reapi->uploads, &put->share, first);
	put->web.idle_since_ns = now;
	put->web.ends_ns = now + PUT_BODY_NS;
	stream_consumed(put->web.stream, 0);     /* the body may come */
}

/* No ActionResult is longer than a record: what says that it is must be a value. */
void web_put_result(const struct web *web)
{
	if (web->sized && web->length > WEB_VALUE_BYTES_MAX)
		web_put_value(web);
	else
		put_begin(web, false);
}

void web_put_unsized(const struct web *web)
{
	web->reapi->counters.uploads++;
	put_begin(web, true);
}
