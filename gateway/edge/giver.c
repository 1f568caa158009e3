/* The gateway's call: its questions, the answers, and the order of things. */
#include "gateway/edge/giver_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "proto/sluice_v1.h"

#define ANSWER_LEVEL      3              /* zstd, of what is long */

/* ---- answers ---- */

static void giver_flush(struct giver *giver)
{
	struct span message;

	while (!giver->gateway_closed && packet_queue_front(&giver->answers, &message)) {
		if (call_send(&giver->gateway, message, ANSWER_LEVEL) == CALL_FULL)
			return;
		packet_queue_pop(&giver->answers);
	}
}

void giver_answer(struct giver *giver, const struct context_response *response)
{
	struct buffer out = buffer_heap(GIVER_ANSWER_BYTES_MAX);
	struct span message;
	int r = -ENOMEM;

	message_encode(&context_response_type, &out, response);
	message = buffer_span(&out);
	if (!out.failed)
		r = packet_queue_push(&giver->answers, &message, 1);
	buffer_fini(&out);
	if (r < 0)
		call_finish(&giver->gateway, GRPC_RESOURCE_EXHAUSTED, "the edge is out of memory");
	giver_flush(giver);
}

static void giver_enter(struct giver *giver, enum giver_state state)
{
	CHECK(giver->state != GIVER_OVER || state == GIVER_OVER);
	giver->service->giving -= giver->state < GIVER_GIVEN && state >= GIVER_GIVEN;
	giver->service->giving += giver->state >= GIVER_GIVEN && state < GIVER_GIVEN;
	giver->state = state;
}

/* What is under way is given up; the call of the gateway's has its status, or has ended. */
static void giver_close(struct giver *giver)
{
	if (giver->state == GIVER_OVER)
		return;
	giver_enter(giver, GIVER_OVER);
	giver_read_close(giver);
	giver_push_close(giver);
	giver_join(giver);
}

void giver_unfit(struct giver *giver, const char *why)
{
	/* What is wrong with a context is found while it is listed; all else may be over by the next build. */
	struct context_response response = { .unfit = span_text(why), .passing = !giver->listing.fault };

	if (giver->state == GIVER_OVER)
		return;
	giver->service->counters.gives_unfit++;
	log_event(LOG_INFO, "context not given", LOG_TEXT("why", why));
	giver_answer(giver, &response);
	if (packet_queue_empty(&giver->answers))
		call_finish(&giver->gateway, GRPC_OK, NULL);
	else                             /* the gateway does not read what came before */
		call_finish(&giver->gateway, GRPC_ABORTED, why);
	giver_close(giver);
}

void giver_leave(struct giver *giver, const char *why)
{
	if (giver->state == GIVER_OVER)
		return;
	log_event(LOG_INFO, "context not given", LOG_TEXT("why", why));
	call_finish(&giver->gateway, GRPC_CANCELLED, why);
	giver_close(giver);
}

/* ---- the root ---- */

static void giver_tell_root(struct giver *giver)
{
	uint8_t entry[DIGEST_HASH_BYTES + 10];
	struct buffer root = buffer_over(entry, sizeof(entry)), nested = buffer_heap(4096);
	const struct listing *listing = &giver->listing;
	struct context_root told = {
		.entries = listing->count, .files = listing->files, .files_read = giver->files_read,
		.bytes_read = giver->bytes_read, .bytes_sent = giver->bytes_sent,
	};
	struct context_response response = { 0 };

	giver_ahead_finish(giver);
	digest_list_put(&root, &listing->root);
	told.root = buffer_span(&root);
	message_encode(&context_root_type, &nested, &told);
	response.root = buffer_span(&nested);
	giver_answer(giver, &response);
	buffer_fini(&nested);
	giver_enter(giver, GIVER_GIVEN);
	giver->told = true;
	giver_window_given(giver);
	giver_same_given(giver);
	log_event(LOG_INFO, "context given", LOG_U64("entries", told.entries), LOG_U64("files", told.files),
	          LOG_U64("files_read", told.files_read), LOG_U64("bytes_read", told.bytes_read),
	          LOG_U64("bytes_sent", told.bytes_sent), LOG_U64("unchanged", giver->unchanged));
	if (giver->ask_times && !giver->ahead)
		giver_tell_all_times(giver);
	giver->ask_times = false;
}

/* ---- the order of things ---- */

static int32_t seal_work(struct op *op)
{
	struct giver *giver = container_of(op, struct giver, seal);
	struct sha256 hasher;            /* one a thread */
	int r;

	sha256_init(&hasher, SHA256_AUTO);
	r = listing_seal(&giver->listing, &hasher);
	if (r == 0)
		giver_same_seal(giver);
	return r;
}

static void seal_on_done(struct op *op, int32_t res)
{
	struct giver *giver = container_of(op, struct giver, seal);

	if (giver->state == GIVER_OVER) {
		giver_join(giver);
		return;
	}
	CHECK(giver->state == GIVER_SEALING);
	giver->made = res == 0;
	if (giver->made)
		giver_enter(giver, GIVER_SEALED);
	else
		giver_unfit(giver, res == -EINVAL ? giver->listing.fault : "the edge is out of memory");
	giver_step(giver);
}

static void giver_seal(struct giver *giver)
{
	if (!giver_read_done(giver))
		return;
	giver_enter(giver, GIVER_SEALING);
	ring_work(giver->service->cas->ring, &giver->seal, seal_work);
}

/* A root that the gateway has, as it says itself, needs no push. */
static void giver_compare(struct giver *giver)
{
	if (!giver->asked)
		return;
	if (digest_equal(&giver->ask_known, &giver->listing.root)) {
		giver->unchanged = true;
		giver->service->counters.gives_unchanged++;
		giver_tell_root(giver);
		return;
	}
	giver_enter(giver, GIVER_LOADING);
	giver_step(giver);
}

static void giver_load(struct giver *giver)
{
	if (!giver_push_load(giver) || giver->state != GIVER_LOADING)
		return;
	/* In a store this small the push itself may have to read again: then nothing else is to be held. */
	if (giver->windowed && !giver->told && giver->feed == GIVER_FEED_ALL && giver_feed_pending(giver))
		return;
	giver_enter(giver, GIVER_PUSHING);
	giver_push_commit(giver);
}

void giver_step(struct giver *giver)
{
	giver_feed_step(giver);
	giver_ahead_step(giver);
	giver_same_step(giver);
	giver_urge_step(giver);
	switch (giver->state) {
	case GIVER_LISTING:
		giver_seal(giver);
		break;
	case GIVER_SEALED:
		giver_compare(giver);
		break;
	case GIVER_LOADING:
		giver_load(giver);
		break;
	case GIVER_SEALING:
	case GIVER_PUSHING:
	case GIVER_GIVEN:
	case GIVER_OVER:
		break;
	}
}

static void giver_on_turn(struct op *op, int32_t res)
{
	struct giver *giver = container_of(op, struct giver, turn);

	if (giver->state == GIVER_OVER)
		giver_join(giver);
	else
		giver_step(giver);
}

void giver_wake(struct giver *giver)
{
	if (!op_in_flight(&giver->turn))
		ring_timer(giver->service->cas->ring, &giver->turn, 0);
}

void giver_on_committed(struct giver *giver)
{
	CHECK(giver->state == GIVER_PUSHING);
	giver_tell_root(giver);
}

void giver_load_again(struct giver *giver)
{
	giver->load_next = 0;
	giver_enter(giver, GIVER_LOADING);
	giver_step(giver);
}

/* ---- questions ---- */

static void giver_malformed(struct giver *giver)
{
	call_finish(&giver->gateway, GRPC_INVALID_ARGUMENT, "malformed ContextRequest");
	giver_close(giver);
}

static void giver_take_ask(struct giver *giver, struct span message)
{
	struct context_ask ask;

	if (giver->asked || !message_decode(&context_ask_type, message, &ask) ||
	    (ask.known.size && (!digest_list_next(&ask.known, &giver->ask_known) || ask.known.size))) {
		giver_malformed(giver);
		return;
	}
	giver->asked = true;
	giver->ask_times = ask.times;
	giver->ask_ahead = ask.ahead;
	if (ask.same)
		giver_same_begin(giver);
	giver_step(giver);
}

static void giver_take_times(struct giver *giver, struct span numbers)
{
	if (giver->state != GIVER_GIVEN || !giver_tell_times(giver, numbers))
		giver_malformed(giver);
}

/* What it once had is not to be relied on: all is gone through along its closure marks. */
static void giver_take_missing(struct giver *giver)
{
	if (giver->state != GIVER_GIVEN) {
		giver_malformed(giver);
		return;
	}
	if (giver->known)
		known_forget(giver->known);
	giver->recipes_all = true;
	giver->service->counters.pushes_again++;
	giver_window_hold(giver);
	giver_load_again(giver);
}

static void gateway_on_message(struct call *call, struct span message)
{
	struct giver *giver = container_of(call, struct giver, gateway);
	struct context_request request;

	if (giver->state == GIVER_OVER)
		return;
	if (!message_decode(&context_request_type, message, &request))
		giver_malformed(giver);
	else if (request.ask.data)
		giver_take_ask(giver, request.ask);
	else if (request.times.data)
		giver_take_times(giver, request.times);
	else if (request.missing.data)
		giver_take_missing(giver);
	else if (request.files.data && !giver_urge_take(giver, request.files))
		giver_malformed(giver);
	else
		giver_step(giver);
}

/* It has all that it wants. */
static void gateway_on_end(struct call *call)
{
	struct giver *giver = container_of(call, struct giver, gateway);

	if (giver->state == GIVER_OVER)
		return;
	if (giver->state == GIVER_GIVEN)
		giver_fetch_finish(giver);
	call_finish(call, giver->state == GIVER_GIVEN ? GRPC_OK : GRPC_CANCELLED, NULL);
	giver_push_close(giver);
}

static void gateway_on_writable(struct call *call)
{
	giver_flush(container_of(call, struct giver, gateway));
}

static void gateway_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct giver *giver = container_of(call, struct giver, gateway);

	giver->gateway_closed = true;
	if (giver->state == GIVER_OVER || status != GRPC_OK || giver->client_closed)
		giver_close(giver);
	giver_join(giver);
}

static const struct call_events gateway_events = {
	.on_message = gateway_on_message, .on_end = gateway_on_end, .on_writable = gateway_on_writable,
	.on_closed = gateway_on_closed,
};

/* ---- life ---- */

static void giver_on_reap(struct op *op, int32_t res)
{
	struct giver *giver = container_of(op, struct giver, reap);
	struct giver_service *service = giver->service;
	struct session *session = giver->session;

	giver_read_fini(giver);
	giver_push_fini(giver);
	giver_ahead_fini(giver);
	giver_same_fini(giver);
	listing_fini(&giver->listing);
	call_fini(&giver->gateway);
	packet_queue_fini(&giver->answers);
	list_remove(&giver->link);
	free(giver);
	service->open--;
	session_unuse(session);
}

/* A read of a former recipe may still be under way when both ends have gone: then it is over, and its end comes here again. */
void giver_join(struct giver *giver)
{
	if (!giver->gateway_closed || !giver->client_closed)
		return;
	giver_close(giver);
	if (giver_push_idle(giver) && !op_in_flight(&giver->seal) && !op_in_flight(&giver->turn) && !op_in_flight(&giver->reap))
		ring_timer(giver->service->cas->ring, &giver->reap, 0);
}

int giver_open(struct giver_service *service, struct session *session, uint32_t uid, struct stream *stream,
               const struct grpc_request *head)
{
	struct h2 *client = session_client(session);
	struct giver *giver;
	int r;

	if (!client)
		return -EPIPE;
	giver = calloc(1, sizeof(*giver));
	if (!giver)
		return ERR_RAISE(-ENOMEM);
	giver->service = service;
	giver->session = session;
	giver->answers.spill = (struct spill){ .directory = service->directory, .memory_bytes_max = 1u << 20 };
	giver->seal.fn = seal_on_done;
	giver->turn.fn = giver_on_turn;
	giver->reap.fn = giver_on_reap;
	listing_init(&giver->listing, service->directory);
	r = giver_read_open(giver, head, client, uid);
	if (r < 0) {
		free(giver);
		return ERR_RAISE(r);
	}
	call_accept(&giver->gateway, stream, head, CONTEXT_MESSAGE_BYTES_MAX, &gateway_events, giver);
	session_use(session);
	service->open++;
	service->giving++;
	list_append(&service->givers, &giver->link);
	service->counters.gives++;
	pusher_warm(service->pusher);
	return 0;
}
