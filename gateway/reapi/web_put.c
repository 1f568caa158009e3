/*
 * PUT of /cas/ with a length, and of a value under /ac/ that is longer than one record: the body goes into an upload (upload.h), as
 * ByteStream's Write does it. A blob that is there already is not stored again: a client that waits for 100 Continue is spared sending
 * it, what others send is dropped. A value is noted under its key when it is stored.
 *
 *	ASKING -> TAKING -> ENDING -> ANSWERED
 *	   '----> DROPPING -------------'
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/cas/presence.h"
#include "gateway/cas/results.h"
#include "gateway/reapi/rpc.h"
#include "gateway/reapi/upload.h"
#include "gateway/reapi/web.h"
#include "gateway/reapi/write.h"

#define PUT_REST_BYTES_MAX (16u << 20)   /* a stream's window and what a ring still delivers; more is no client's doing */

enum put_state {
	PUT_ASKING,                      /* is the blob there? */
	PUT_TAKING,
	PUT_DROPPING,                    /* it is */
	PUT_ENDING,                      /* the upload verifies and stores */
	PUT_ANSWERED,
};

struct put {
	struct web web;
	enum put_state state;
	bool value;                      /* under /ac/ */
	bool ended;                      /* all has come */
	bool stepping, room;
	struct buffer rest;              /* what came and could not be taken yet; the peer's window is shut for it */
	size_t rest_taken;
	uint64_t waiting;                /* its bytes, as charged to reapi.waiting_bytes */
	struct upload *upload;
	struct presence presence;
	bool present;
	struct store_note note;
};

static void put_step(struct put *put);

static struct put *put_of(const struct stream *stream)
{
	return container_of((struct web *)stream->owner, struct put, web);
}

static void put_drop_rest(struct put *put)
{
	put->web.reapi->waiting_bytes -= put->waiting;
	put->waiting = 0;
	buffer_fini(&put->rest);
	put->rest_taken = 0;
}

static void put_fini(struct web *web)
{
	struct put *put = container_of(web, struct put, web);

	upload_destroy(put->upload);
	put_drop_rest(put);
}

/* Whose turn it is: while what came has to wait for us, no client is slow. */
static void put_clock(struct put *put)
{
	bool ours = put->state == PUT_ASKING || put->state == PUT_ENDING || put->rest.size || put->ended;

	if (put->state != PUT_ANSWERED)
		put->web.idle_since_ns = ours ? 0 : ring_now_ns(put->web.reapi->cas->ring);
}

/* ---- answers ---- */

static void put_stop(struct put *put)
{
	put->state = PUT_ANSWERED;
	upload_destroy(put->upload);
	put->upload = NULL;
	put_drop_rest(put);
}

/* What was kept of the body is of no use any more, but the connection's window that it fills is others', too. */
static void put_ended(struct put *put)
{
	size_t left = put->rest.size - put->rest_taken;

	put_stop(put);
	if (left && put->web.stream)
		stream_consumed(put->web.stream, left);
}

static void put_crowded(struct put *put)
{
	put_ended(put);
	put->web.reapi->counters.uploads_refused++;
	web_answer_crowded(&put->web);
}

static void put_answer(struct put *put, unsigned status, const char *text)
{
	put_ended(put);
	put->web.reapi->counters.uploads_refused += status != 200;
	web_answer(&put->web, status, text);
}

static void put_answer_store(struct put *put, int result)
{
	put_ended(put);
	web_answer_store(&put->web, result);
}

static void put_fail_upload(struct put *put)
{
	char expected[DIGEST_TEXT_MAX], actual[DIGEST_TEXT_MAX], text[400];
	int result = put->upload->result;

	if (result == UPLOAD_WRONG) {
		snprintf(text, sizeof(text), "the data is %s, not %s", digest_text(&put->upload->actual, actual),
		         digest_text(&put->upload->digest, expected));
		put_answer(put, 400, text);
	} else if (result == UPLOAD_TOO_LONG) {
		put_answer(put, 400, "more data than Content-Length says");
	} else if (result == UPLOAD_CROWDED) {
		put_crowded(put);
	} else {
		put->web.reapi->counters.uploads_refused++;
		put_answer_store(put, result);
	}
}

static void on_room(struct upload *upload)
{
	struct put *put = upload->owner;

	put->room = true;
	put_step(put);
}

static void on_note(struct store_note *note)
{
	struct put *put = container_of(note, struct put, note);

	if (note->result == STORE_OK) {
		put->web.reapi->counters.results_stored++;
		put_answer(put, 200, NULL);
	} else {
		put_answer_store(put, note->result);
	}
	web_release(&put->web);
}

/* Durable with all that it names. */
static void put_note(struct put *put, const struct digest *digest)
{
	results_note_web(&put->note, &put->web.scope, &put->web.digest, RESULTS_WEB_VALUE, digest);
	put->note.fn = on_note;
	web_hold(&put->web);
	store_note_put(put->web.reapi->cas->store, &put->note);
}

static void on_done(struct upload *upload)
{
	struct put *put = upload->owner;

	if (upload->result != STORE_OK)
		put_fail_upload(put);
	else if (put->value)
		put_note(put, &upload->digest);
	else
		put_answer(put, 200, NULL);
}

/* ---- the body ---- */

/* How much of it went in; less than all: on_room follows. What the upload starts may end inline, and say so at once. */
static size_t put_take(struct put *put, struct span data)
{
	size_t taken = 0;

	do {
		put->room = false;
		taken += upload_write(put->upload, span_make(data.data + taken, data.size - taken));
	} while (taken < data.size && put->room);
	stream_consumed(put->web.stream, taken);
	return taken;
}

/* What waited is offered again. False: it has to wait on. */
static bool put_take_rest(struct put *put)
{
	struct span rest = span_make(put->rest.data + put->rest_taken, put->rest.size - put->rest_taken);

	put->rest_taken += put_take(put, rest);
	if (put->rest_taken < put->rest.size)
		return false;
	put_drop_rest(put);
	put_clock(put);
	return true;
}

static void put_finish(struct put *put)
{
	struct upload *upload = put->upload;

	if (upload->result == STORE_OK && upload->bytes < upload->digest.size) {
		put_answer(put, 400, "the request ended before all of the data had come");
		return;
	}
	put->state = PUT_ENDING;
	put_clock(put);
	upload_finish(upload);
}

static void put_step(struct put *put)
{
	if (put->stepping || !put->web.stream || put->state != PUT_TAKING || !put->upload->granted)
		return;
	put->stepping = true;
	if (put->rest.size && !put_take_rest(put))
		;                                /* on_room comes */
	else if (put->upload->result != STORE_OK)
		put_fail_upload(put);
	else if (put->ended)
		put_finish(put);
	put->stepping = false;
}

/* What was taken off the front goes when it is more than what is left: each byte moves once. */
static void put_close_up(struct put *put)
{
	size_t left = put->rest.size - put->rest_taken;

	if (put->rest_taken <= left)
		return;
	memmove(put->rest.data, put->rest.data + put->rest_taken, left);
	put->rest.size = left;
	put->web.reapi->waiting_bytes -= put->rest_taken;
	put->waiting -= put->rest_taken;
	put->rest_taken = 0;
}

static void put_keep(struct put *put, struct span data)
{
	struct reapi *reapi = put->web.reapi;

	if (!data.size)
		return;
	put_close_up(put);
	if (!put->rest.data)
		put->rest = buffer_heap(PUT_REST_BYTES_MAX);
	if (reapi->waiting_bytes + data.size <= REAPI_WAITING_BYTES) {
		buffer_put(&put->rest, data.data, data.size);
		if (!put->rest.failed) {
			put->waiting += data.size;
			reapi->waiting_bytes += data.size;
			return;
		}
	}
	put_crowded(put);
	stream_consumed(put->web.stream, data.size);
}

static void on_data(struct stream *stream, struct span data)
{
	struct put *put = put_of(stream);
	size_t taken = 0;

	put->web.reapi->counters.bytes_received += data.size;
	if (put->state == PUT_ANSWERED || put->state == PUT_DROPPING) {
		stream_consumed(stream, data.size);
		put_clock(put);
		return;
	}
	put->stepping = true;
	if (put->state == PUT_TAKING && put->rest.size == 0)
		taken = put_take(put, data);
	put->stepping = false;
	put_keep(put, span_make(data.data + taken, data.size - taken));
	put_clock(put);
	put_step(put);
}

static void on_end(struct stream *stream)
{
	struct put *put = put_of(stream);

	put->ended = true;
	if (put->state == PUT_DROPPING) {
		put_answer(put, 200, NULL);
	} else {
		put_clock(put);
		put_step(put);
	}
}

static void on_close(struct stream *stream, uint32_t code)
{
	struct put *put = put_of(stream);

	put_stop(put);
	web_closed(&put->web);
}

static const struct stream_events stream_events = { .on_data = on_data, .on_end = on_end, .on_close = on_close };

/* ---- the beginning ---- */

static void put_begin(struct put *put)
{
	struct web *web = &put->web;
	struct reapi *reapi = web->reapi;
	struct digest digest = put->value ? (struct digest){ .size = web->length } : web->digest;

	/* Who waits in line with a part of a body holds memory for it that others need. */
	if (!writes_make_room(reapi, upload_memory(&digest, false))) {
		put_crowded(put);
		return;
	}
	put->upload = upload_create(reapi, &web->scope, &digest, on_room, on_done, put);
	if (!put->upload) {
		put_answer(put, 503, RPC_TEXT_MEMORY);
		return;
	}
	put->upload->unnamed = put->value;
	put->state = PUT_TAKING;
	put_clock(put);
	stream_consumed(web->stream, 0);         /* the body may come */
	upload_start(put->upload, false);
	put_step(put);
}

/* There already: the answer may come first only when nothing has to be sent for it. */
static void put_known(struct put *put)
{
	put->web.reapi->counters.uploads_known++;
	if (put->rest.size)
		stream_consumed(put->web.stream, put->rest.size);
	put_drop_rest(put);
	put->state = PUT_DROPPING;
	put_clock(put);
	if (put->ended || put->web.expects)
		put_answer(put, 200, NULL);
}

static void on_presence(struct presence *presence)
{
	struct put *put = container_of(presence, struct put, presence);

	if (!put->web.stream || put->state != PUT_ASKING)
		;                                /* it has ended meanwhile */
	else if (presence->result < 0)
		put_answer_store(put, presence->result);
	else if (put->present)
		put_known(put);
	else
		put_begin(put);
	web_release(&put->web);
}

static struct put *put_accept(const struct web *web)
{
	bool too_long = web->length > REAPI_BLOB_BYTES_MAX;
	struct put *put = too_long ? NULL : calloc(1, sizeof(*put));

	if (!put) {
		web_refuse(web, too_long ? 413 : 503, too_long ? "a blob longer than 64 GiB is not taken" : RPC_TEXT_MEMORY);
		return NULL;
	}
	web_accept(&put->web, web, &stream_events, put_fini);
	web->reapi->counters.uploads++;
	return put;
}

void web_put_blob(const struct web *web)
{
	struct put *put = put_accept(web);

	if (!put)
		return;
	put->web.digest.size = web->length;
	put->presence = (struct presence){
		.cas = web->reapi->cas, .scope = web->scope, .digests = &put->web.digest, .count = 1, .present = &put->present,
		.fn = on_presence,
	};
	web_hold(&put->web);
	presence_look(&put->presence);
}

void web_put_value(const struct web *web)
{
	struct put *put = put_accept(web);

	if (!put)
		return;
	put->value = true;
	put_begin(put);
}
