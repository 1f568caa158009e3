/*
 * The uploader's states, and its call. Handlers note what happened; uploader_run() decides what is next and is the only
 * place that starts things.
 */
#include "gateway/upload/uploader_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/err.h"
#include "proto/pb.h"

static void uploader_enter(struct uploader *uploader, enum uploader_state state)
{
	uint64_t now = clock_now_ns(), spent = now - uploader->entered_ns;
	struct uploader_totals *totals = &uploader->totals;

	if (uploader->state == UPLOADER_OFFERING || uploader->state == UPLOADER_COMPARING || uploader->state == UPLOADER_WALKING)
		totals->negotiate_ns += spent;
	else if (uploader->state == UPLOADER_SENDING || uploader->state == UPLOADER_FINISHING)
		totals->send_ns += spent;
	else if (uploader->state == UPLOADER_COMMITTING)
		totals->commit_ns += spent;
	uploader->state = state;
	uploader->entered_ns = now;
}

void uploader_fail(struct uploader *uploader, int outcome, enum grpc_status status, const char *format, ...)
{
	char why[UPLOADER_WHY_MAX];
	va_list arguments;

	if (uploader->state >= UPLOADER_OVER)
		return;
	va_start(arguments, format);
	vsnprintf(why, sizeof(why), format, arguments);
	va_end(arguments);
	uploader_enter(uploader, UPLOADER_OVER);
	if (uploader->call_open)
		call_cancel(&uploader->call);
	ring_cancel(uploader->config.ring, &uploader->word);
	uploader_packs_drop(uploader);
	uploader->config.events->on_done(uploader, outcome, status, why);
}

void uploader_fail_memory(struct uploader *uploader)
{
	uploader_fail(uploader, ERR_RAISE(-ENOMEM), GRPC_OK, "out of memory");
}

void uploader_progress(struct uploader *uploader, enum uploader_phase phase)
{
	if (uploader->config.events->on_progress)
		uploader->config.events->on_progress(uploader, phase, uploader->bytes_done, uploader->bytes_total);
}

/* ---- requests ---- */

bool uploader_may_send(struct uploader *uploader)
{
	return uploader->flights_count < UPLOADER_IN_FLIGHT_MAX && call_has_room(&uploader->call);
}

void uploader_flight_add(struct uploader *uploader, struct uploader_flight flight)
{
	unsigned place = (uploader->flights_first + uploader->flights_count) % UPLOADER_IN_FLIGHT_MAX;

	CHECK(uploader->flights_count < UPLOADER_IN_FLIGHT_MAX);
	uploader->flights[place] = flight;
	uploader->flights_count++;
}

bool uploader_send_list(struct uploader *uploader, uint32_t number, const struct digest *digests, size_t count, bool commit)
{
	struct buffer *request = &uploader->request;
	size_t mark;

	buffer_clear(request);
	buffer_clear(&uploader->body);
	for (size_t i = 0; i < count; i++)
		digest_list_put(&uploader->body, &digests[i]);
	mark = pb_begin(request, number);
	pb_put_bytes(request, 1, buffer_span(&uploader->body));
	pb_put_bool(request, 2, commit);
	pb_end(request, mark);
	if (request->failed || uploader->body.failed) {
		uploader_fail_memory(uploader);
		return false;
	}
	/* There was room; if the call has just ended, on_closed says why. */
	return call_send(&uploader->call, buffer_span(request), 0) == CALL_SENT;
}

/* ---- answers ---- */

static void uploader_on_committed(struct uploader *uploader)
{
	uploader_packs_drop(uploader);
	uploader_enter(uploader, UPLOADER_ENDING);
}

/* They were left to a sibling that has not sent them; each is told so once. -1: out of memory. */
static int uploader_break_promises(struct uploader *uploader, struct span blobs)
{
	struct digest digest;
	int all = 1;

	while (digest_list_next(&blobs, &digest)) {
		int r = digest_set_has(&uploader->promised, &digest) ? digest_set_add(&uploader->broken, &digest) : 0;

		if (r < 0)
			return r;
		all &= r;
	}
	return all;
}

/*
 * Was fed, left to a sibling, and has come to be of no tree, since its file changed while it was read. Nothing needs it: the gateway
 * tells of all that was promised, the next commit of what is below the root.
 */
static bool uploader_has_dropped(struct uploader *uploader, const struct digest *digest)
{
	struct uploader_source *source = uploader->config.source;

	return source->ops->has && digest_set_has(&uploader->promised, digest) && !source->ops->has(source, digest);
}

static void uploader_send_missing(struct uploader *uploader, struct span blobs)
{
	struct digest digest;

	uploader_enter(uploader, UPLOADER_SENDING);
	while (digest_list_next(&blobs, &digest))
		if (!uploader_has_dropped(uploader, &digest))
			uploader_miss(uploader, &digest);
}

/* Later rounds send what the gateway listed; but a hole in what was assumed means to ask about everything. */
static void uploader_on_missing(struct uploader *uploader, struct span message)
{
	struct push_missing missing;
	int promised;

	uploader->distrust = true;
	if (!message_decode(&push_missing_type, message, &missing) || !missing.blobs.size ||
	    digest_list_count(missing.blobs) == SIZE_MAX) {
		uploader_fail(uploader, ERR_RAISE(-EPROTO), GRPC_OK, "the gateway sent a malformed answer");
		return;
	}
	promised = uploader_break_promises(uploader, missing.blobs);
	if (promised < 0) {
		uploader_fail_memory(uploader);
	} else if (promised) {
		uploader_send_missing(uploader, missing.blobs);
	} else if (++uploader->rounds == UPLOADER_COMMITS_MAX) {
		uploader_fail(uploader, ERR_RAISE(-EAGAIN), GRPC_OK, "the gateway loses blobs faster than they can be sent: "
		              "its --ceiling is too small for this tree");
	} else if (uploader->assume || comparison_helps(&uploader->comparison)) {
		uploader->assume = false;
		digest_set_fini(&uploader->recipes_first);
		comparison_fini(&uploader->comparison);
		uploader_enter(uploader, UPLOADER_WALKING);
		uploader_walk_begin(uploader, false);
	} else {
		uploader_send_missing(uploader, missing.blobs);
	}
}

/* A prediction asks without committing. */
static bool uploader_root_is_there(const struct uploader *uploader, const struct push_response *response)
{
	struct push_answer answer;

	if (!uploader->config.predict)
		return response->committed.data;
	return response->answer.data && message_decode(&push_answer_type, response->answer, &answer) && bit_list_get(answer.present, 0);
}

static void uploader_on_root(struct uploader *uploader, const struct push_response *response)
{
	if (uploader_root_is_there(uploader, response)) {
		uploader->totals.unchanged = true;
		uploader_on_committed(uploader);
	} else if (response->answer.data && uploader_has_base(uploader)) {
		uploader_enter(uploader, UPLOADER_COMPARING);
	} else if (response->answer.data) {
		uploader_enter(uploader, UPLOADER_WALKING);
		uploader_walk_begin(uploader, true);
	} else {
		uploader_fail(uploader, ERR_RAISE(-EPROTO), GRPC_OK, "the gateway sent an answer to something else");
	}
}

static void uploader_on_commit(struct uploader *uploader, const struct push_response *response)
{
	if (response->committed.data)
		uploader_on_committed(uploader);
	else if (response->missing.data)
		uploader_on_missing(uploader, response->missing);
	else
		uploader_fail(uploader, ERR_RAISE(-EPROTO), GRPC_OK, "the gateway sent an answer to something else");
}

static void uploader_take(struct uploader *uploader, struct span message)
{
	struct push_response response;
	struct uploader_flight flight;

	if (uploader->flights_count == 0 || !message_decode(&push_response_type, message, &response)) {
		uploader_fail(uploader, ERR_RAISE(-EPROTO), GRPC_OK, "the gateway sent a malformed answer");
		return;
	}
	flight = uploader->flights[uploader->flights_first];
	uploader->flights_first = (uploader->flights_first + 1) % UPLOADER_IN_FLIGHT_MAX;
	uploader->flights_count--;
	switch (flight.kind) {
	case UPLOADER_FLIGHT_ROOT:
		uploader_on_root(uploader, &response);
		return;
	case UPLOADER_FLIGHT_COMPARE:
		uploader_take_compared(uploader, response.sign);
		return;
	case UPLOADER_FLIGHT_LIST:
		uploader_take_answer(uploader, &flight, response.answer);
		return;
	case UPLOADER_FLIGHT_PACK:
		uploader_take_stored(uploader, flight.pack, response.stored);
		return;
	case UPLOADER_FLIGHT_SIGN:
		uploader_take_signed(uploader, flight.pack, response.sign);
		return;
	case UPLOADER_FLIGHT_COMMIT:
		uploader_on_commit(uploader, &response);
		return;
	case UPLOADER_FLIGHT_WORD:
		return;
	}
}

/* ---- what is next ---- */

static void uploader_offer(struct uploader *uploader)
{
	if (uploader->root_offered || !uploader_may_send(uploader))
		return;
	uploader_progress(uploader, UPLOADER_PHASE_NEGOTIATE);
	uploader->root_offered = true;
	uploader->totals.blobs_asked++;
	if (uploader_send_list(uploader, 1, &uploader->root, 1, !uploader->config.predict))
		uploader_flight_add(uploader, (struct uploader_flight){ .kind = UPLOADER_FLIGHT_ROOT });
}

static bool uploader_all_sent(const struct uploader *uploader)
{
	return uploader_list_idle(&uploader->fed) && uploader_packs_idle(uploader) && uploader->flights_count == 0;
}

static void uploader_commit_root(struct uploader *uploader)
{
	if (!uploader_all_sent(uploader) || !uploader_may_send(uploader))
		return;
	if (uploader->config.predict) {
		uploader_on_committed(uploader);
		uploader->again = true;
		return;
	}
	uploader_enter(uploader, UPLOADER_COMMITTING);
	uploader_progress(uploader, UPLOADER_PHASE_COMMIT);
	uploader->totals.commits++;
	if (uploader_send_list(uploader, 4, &uploader->root, 1, false))
		uploader_flight_add(uploader, (struct uploader_flight){ .kind = UPLOADER_FLIGHT_COMMIT });
}

static void uploader_forget(struct uploader *uploader)
{
	digest_set_fini(&uploader->seen);
	digest_set_fini(&uploader->reached);
	digest_set_fini(&uploader->promised);
	digest_set_fini(&uploader->broken);
	digest_set_fini(&uploader->whole);
	digest_set_fini(&uploader->recipes_first);
	comparison_fini(&uploader->comparison);
}

/* Ready for another root. What was found and sent for this one says nothing about the next: time goes by. */
static void uploader_succeed(struct uploader *uploader)
{
	if (!uploader_all_sent(uploader))
		return;
	uploader_enter(uploader, UPLOADER_FEEDING);
	uploader->root_offered = false;
	uploader->rounds = 0;
	uploader->distrust = false;
	uploader_forget(uploader);
	uploader->config.events->on_done(uploader, UPLOADER_OK, GRPC_OK, "");
}

static void uploader_advance(struct uploader *uploader)
{
	switch (uploader->state) {
	case UPLOADER_FEEDING:
	case UPLOADER_COMMITTING:
	case UPLOADER_OVER:
	case UPLOADER_CLOSING:
		return;
	case UPLOADER_OFFERING:
		uploader_offer(uploader);
		return;
	case UPLOADER_COMPARING:
		if (uploader_compare(uploader)) {
			uploader_enter(uploader, UPLOADER_WALKING);
			uploader_walk_begin(uploader, true);
			uploader->again = true;
		}
		return;
	case UPLOADER_WALKING:
		if (uploader_walk(uploader) && uploader->state == UPLOADER_WALKING) {
			uploader_enter(uploader, UPLOADER_SENDING);
			uploader->again = true;
		}
		return;
	case UPLOADER_SENDING:
		uploader_commit_root(uploader);
		return;
	case UPLOADER_FINISHING:
	case UPLOADER_ENDING:
		uploader_succeed(uploader);
		return;
	}
}

static void uploader_free(struct uploader *uploader)
{
	void (*on_closed)(void *owner) = uploader->config.events->on_closed;
	void *owner = uploader->config.owner;

	call_fini(&uploader->call);
	uploader_packs_fini(uploader);
	uploader_forget(uploader);
	digest_vector_fini(&uploader->level);
	digest_vector_fini(&uploader->differing);
	digest_vector_fini(&uploader->fed.digests);
	digest_vector_fini(&uploader->directories.digests);
	digest_vector_fini(&uploader->blobs.digests);
	digest_vector_fini(&uploader->missing);
	digest_vector_fini(&uploader->told);
	buffer_fini(&uploader->request);
	buffer_fini(&uploader->body);
	free(uploader);
	on_closed(owner);
}

static void uploader_close_join(struct uploader *uploader)
{
	if (uploader->state == UPLOADER_CLOSING && !uploader->running && !uploader->call_open && !uploader->turn_posted &&
	    !op_in_flight(&uploader->word) && uploader_packs_landed(uploader))
		uploader_free(uploader);
}

static void uploader_run(struct uploader *uploader)
{
	uploader->running = true;
	do {
		uploader->again = false;
		uploader_advance(uploader);
		if (uploader->state < UPLOADER_OVER)
			uploader_ask(uploader);
		if (uploader->state < UPLOADER_OVER)
			uploader_fill_packs(uploader);
		if (uploader->state < UPLOADER_OVER)
			uploader_send_signs(uploader);
		if (uploader->state < UPLOADER_OVER)
			uploader_send_packs(uploader);
	} while (uploader->again && uploader->state < UPLOADER_OVER);
	uploader->running = false;
	uploader_close_join(uploader);
}

bool uploader_hold(struct uploader *uploader)
{
	bool held = uploader->running;

	uploader->running = true;
	return held;
}

void uploader_release(struct uploader *uploader, bool held)
{
	uploader->again = true;
	if (held)
		return;
	uploader->running = false;
	uploader_run(uploader);
}

/* ---- the call ---- */

static void uploader_on_message(struct call *call, struct span message)
{
	struct uploader *uploader = call->owner;
	bool held = uploader_hold(uploader);

	if (uploader->state < UPLOADER_OVER)
		uploader_take(uploader, message);
	uploader_release(uploader, held);
}

static void uploader_on_writable(struct call *call)
{
	struct uploader *uploader = call->owner;

	uploader_release(uploader, uploader_hold(uploader));
}

static void uploader_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct uploader *uploader = call->owner;
	bool held = uploader_hold(uploader);

	uploader->call_open = false;
	if (status == GRPC_OK)
		uploader_fail(uploader, UPLOADER_REFUSED, GRPC_UNAVAILABLE, "the gateway ended the push before it was done");
	else if (message.size)
		uploader_fail(uploader, UPLOADER_REFUSED, status, "%.*s", (int)message.size, (const char *)message.data);
	else
		uploader_fail(uploader, UPLOADER_REFUSED, status, "%s", grpc_status_name(status));
	uploader_release(uploader, held);
}

static const struct call_events uploader_call_events = {
	.on_message = uploader_on_message,
	.on_writable = uploader_on_writable,
	.on_closed = uploader_on_closed,
};

/* ---- a word now and then ---- */

static void uploader_on_word(struct op *op, int32_t res);

static void uploader_word_later(struct uploader *uploader)
{
	uploader->word_bytes = uploader->call.bytes_sent;
	uploader->word.fn = uploader_on_word;
	ring_timer(uploader->config.ring, &uploader->word, UPLOADER_WORD_NS);
}

/* If the tree without entries is there whole: it is nobody's to send, so nothing comes of the question. */
static void uploader_give_word(struct uploader *uploader)
{
	if (uploader->call.bytes_sent != uploader->word_bytes || uploader->flights_count || !uploader_may_send(uploader))
		return;
	if (uploader_send_list(uploader, 1, &digest_empty, 1, false))
		uploader_flight_add(uploader, (struct uploader_flight){ .kind = UPLOADER_FLIGHT_WORD });
}

static void uploader_on_word(struct op *op, int32_t res)
{
	struct uploader *uploader = container_of(op, struct uploader, word);
	bool held = uploader_hold(uploader);

	(void)res;
	if (uploader->state < UPLOADER_OVER)
		uploader_give_word(uploader);
	if (uploader->state < UPLOADER_OVER)
		uploader_word_later(uploader);
	uploader_release(uploader, held);
}

/* ---- the owner's calls ---- */

static void uploader_on_turn(struct post *post)
{
	struct uploader *uploader = container_of(post, struct uploader, turn);

	uploader->turn_posted = false;
	uploader_release(uploader, uploader_hold(uploader));
}

int uploader_create(struct uploader **out, const struct uploader_config *config)
{
	struct uploader *uploader = calloc(1, sizeof(*uploader));
	int r;

	if (!uploader)
		return ERR_RAISE(-ENOMEM);
	CHECK(config->events->on_done && config->events->on_closed);
	uploader->config = *config;
	uploader->level_next.wanted = config->level;
	uploader->fed.number = uploader->blobs.number = 2;
	uploader->directories.number = 1;
	uploader->request = uploader->body = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
	uploader->turn.fn = uploader_on_turn;
	uploader->entered_ns = clock_now_ns();
	r = config->open(config->owner, &uploader->call, SLUICE_PUSH, SLUICE_MESSAGE_BYTES_MAX, &uploader_call_events, uploader);
	if (r < 0) {
		free(uploader);
		return ERR_RAISE(r);
	}
	uploader->call_open = true;
	uploader_word_later(uploader);
	*out = uploader;
	return 0;
}

void *uploader_owner(const struct uploader *uploader)
{
	return uploader->config.owner;
}

const struct uploader_totals *uploader_totals(const struct uploader *uploader)
{
	return &uploader->totals;
}

int uploader_feed(struct uploader *uploader, const struct digest *digests, size_t count)
{
	int r = 0;

	if (uploader->state >= UPLOADER_OVER)
		return 0;
	CHECK(uploader->state == UPLOADER_FEEDING);
	for (size_t i = 0; r >= 0 && i < count; i++) {
		if (digests[i].size == 0)
			continue;
		r = digest_set_add(&uploader->seen, &digests[i]);
		if (r > 0)
			r = digest_vector_add(&uploader->fed.digests, &digests[i]);
	}
	if (r < 0)
		return ERR_RAISE(r);
	uploader_release(uploader, uploader_hold(uploader));
	return 0;
}

void uploader_commit(struct uploader *uploader, const struct digest *root)
{
	if (uploader->state >= UPLOADER_OVER)
		return;
	CHECK(uploader->state == UPLOADER_FEEDING);
	uploader->root = *root;
	uploader->assume = uploader->config.source->assume;
	uploader_enter(uploader, UPLOADER_OFFERING);
	uploader_release(uploader, uploader_hold(uploader));
}

void uploader_finish(struct uploader *uploader)
{
	if (uploader->state >= UPLOADER_OVER)
		return;
	CHECK(uploader->state == UPLOADER_FEEDING);
	uploader_enter(uploader, UPLOADER_FINISHING);
	uploader_release(uploader, uploader_hold(uploader));
}

void uploader_retry(struct uploader *uploader)
{
	for (size_t i = 0; i < sizeof(uploader->packs) / sizeof(uploader->packs[0]); i++)
		if (uploader->packs[i].state == PACK_STALE)
			uploader->packs[i].state = PACK_DUE;
	uploader_release(uploader, uploader_hold(uploader));
}

void uploader_close(struct uploader *uploader)
{
	bool held;

	if (!uploader || uploader->state == UPLOADER_CLOSING)
		return;
	held = uploader_hold(uploader);
	uploader_enter(uploader, UPLOADER_CLOSING);
	if (uploader->call_open)
		call_cancel(&uploader->call);
	ring_cancel(uploader->config.ring, &uploader->word);
	uploader_packs_drop(uploader);
	uploader_release(uploader, held);
}
