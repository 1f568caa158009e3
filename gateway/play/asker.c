/* The conversation with an edge about one context. */
#include "gateway/play/asker.h"

#include <errno.h>
#include <stdio.h>

#include "gateway/base/check.h"
#include "gateway/base/err.h"

#define REQUESTS_BYTES_MAX (256u << 20)          /* of requests that wait: lists of all entries' numbers, at worst */

static void asker_schedule(struct asker *asker)
{
	if (asker->posted)
		return;
	asker->posted = true;
	ring_post(asker->config.cas->ring, &asker->turn);
}

/* ---- towards the edge ---- */

static void asker_flush(struct asker *asker)
{
	struct span message;

	while (!asker->call_closed && packet_queue_front(&asker->requests, &message)) {
		if (call_send(&asker->call, message, 0) == CALL_FULL)
			return;
		packet_queue_pop(&asker->requests);
	}
	if (asker->ending && !asker->call_closed)
		call_end(&asker->call);
}

static void asker_fail(struct asker *asker, const char *why)
{
	if (asker->state == ASKER_FAILED)
		return;
	asker->state = ASKER_FAILED;
	if (!asker->call_closed)
		call_cancel(&asker->call);
	if (!asker->ending)
		asker->config.events->on_failed(asker, why);
}

/* Told from the turn: the owner is in a call of ours. */
static void asker_fail_later(struct asker *asker, const char *why)
{
	asker->fault = why;
	asker_schedule(asker);
}

static int asker_send(struct asker *asker, const struct context_request *request)
{
	struct buffer message = buffer_heap(CONTEXT_MESSAGE_BYTES_MAX);
	struct span part;
	int r;

	message_encode(&context_request_type, &message, request);
	part = buffer_span(&message);
	r = message.failed ? ERR_RAISE(-ENOMEM) : packet_queue_push(&asker->requests, &part, 1);
	buffer_fini(&message);
	if (r == 0)
		asker_flush(asker);
	return r;
}

static bool asker_hold(struct asker *asker, struct store_hold **hold, const struct digest *root)
{
	*hold = store_hold_create(asker->config.cas->store, &asker->config.scope);
	if (*hold && store_hold_root(*hold, root) == 0)
		return true;
	store_hold_release(*hold);
	*hold = NULL;
	return false;
}

static void asker_ask(struct asker *asker)
{
	uint8_t known[DIGEST_HASH_BYTES + 10], storage[128];
	struct buffer list = buffer_over(known, sizeof(known)), nested = buffer_over(storage, sizeof(storage));
	struct context_ask ask = { .times = asker->config.times };
	struct context_request request;

	if (asker->known_whole)
		digest_list_put(&list, asker->config.known);
	ask.known = buffer_span(&list);
	ask.ahead = asker->config.ahead && !asker->known_whole;
	asker->ahead = ask.ahead;
	ask.same = asker->config.same && asker->known_whole && asker_hold(asker, &asker->hold_known, asker->config.known);
	message_encode(&context_ask_type, &nested, &ask);
	request = (struct context_request){ .ask = buffer_span(&nested) };
	asker->state = ASKER_ASKED;
	if (asker_send(asker, &request) < 0)
		asker_fail_later(asker, "the gateway is out of memory");
}

void asker_want_times(struct asker *asker, struct span numbers)
{
	const struct context_request request = { .times = numbers };

	if (asker->state != ASKER_FAILED && asker_send(asker, &request) < 0)
		asker_fail_later(asker, "the gateway is out of memory");
}

void asker_want_files(struct asker *asker, struct span numbers)
{
	const struct context_request request = { .files = numbers };

	if (asker->state == ASKER_ASKED && asker->ahead && asker_send(asker, &request) < 0)
		asker_fail_later(asker, "the gateway is out of memory");
}

/* ---- is it whole? ---- */

static void asker_on_checked(struct closure *closure)
{
	struct asker *asker = closure->owner;

	asker->checking = false;
	asker->checked = true;
	asker_schedule(asker);
}

static void asker_check(struct asker *asker)
{
	asker->state = ASKER_CHECKING;
	closure_fini(&asker->closure);
	asker->closure = (struct closure){
		.store = asker->config.cas->store, .gate = &asker->config.cas->closures, .scope = asker->config.scope,
		.root = asker->root, .fn = asker_on_checked, .owner = asker,
	};
	asker->checking = true;
	closure_verify(&asker->closure);
}

/* The edge pushes what is missing, and says the root again. */
static void asker_want_missing(struct asker *asker)
{
	const struct context_request request = { .missing = buffer_span(&asker->closure.missing) };

	if (asker->call_closed || asker->ending || asker->repairs++ == ASKER_REPAIRS_MAX) {
		asker_fail(asker, "the gateway's store does not keep the context: raise --ceiling");
		return;
	}
	asker->state = ASKER_ASKED;
	if (asker_send(asker, &request) < 0)
		asker_fail(asker, "the gateway is out of memory");
}

static void asker_take_check(struct asker *asker)
{
	struct closure *closure = &asker->closure;

	if (asker->state != ASKER_CHECKING)
		return;
	switch (closure->result) {
	case CLOSURE_WHOLE:
		asker->state = ASKER_READY;
		asker->config.events->on_root(asker);
		return;
	case CLOSURE_HOLES:
		asker_want_missing(asker);
		return;
	default:
		snprintf(asker->why, sizeof(asker->why), "the context's tree cannot be read here: %.400s",
		         closure->result > 0 ? closure->why : "the store failed");
		asker_fail(asker, asker->why);
	}
}

void asker_repair(struct asker *asker)
{
	if (asker->state != ASKER_READY)
		return;
	/* What is whole again by itself is no reason to ask for ever. */
	if (asker->repairs++ == ASKER_REPAIRS_MAX)
		asker_fail_later(asker, "the gateway's store loses the context while it is played");
	else
		asker_check(asker);
}

/* ---- from the edge ---- */

/* NULL, or what is wrong with it. */
static const char *asker_take_root(struct asker *asker, struct span message)
{
	struct context_root root;
	struct digest digest;

	if (asker->state != ASKER_ASKED || !message_decode(&context_root_type, message, &root) ||
	    !digest_list_next(&root.root, &digest) || root.root.size)
		return "the edge sent a malformed root";
	if (asker->hold && !digest_equal(&digest, &asker->root))
		return "the edge changed the root of a context that is under way";
	asker->root = digest;
	asker->told = root;
	asker->told.root = (struct span){ 0 };
	if (!asker->hold && !asker_hold(asker, &asker->hold, &digest))
		return "the gateway has no room to hold the context";
	asker_check(asker);
	return NULL;
}

/* NULL, or what is wrong with it. */
static const char *asker_take_same(struct asker *asker, uint64_t count)
{
	if (asker->state != ASKER_ASKED || asker->hold || count <= asker->same || count > ENTRY_NUMBER_MAX)
		return "the edge counts the entries that are the same in a wrong way";
	asker->same = (uint32_t)count;
	asker->config.events->on_same(asker);
	return NULL;
}

static void asker_take_unfit(struct asker *asker, const struct context_response *response)
{
	const struct span why = response->unfit;

	asker->unfit = !response->passing;
	snprintf(asker->why, sizeof(asker->why), "%.*s", (int)(why.size < 400 ? why.size : 400), (const char *)why.data);
	asker_fail(asker, asker->why);
}

static void asker_on_message(struct call *call, struct span message)
{
	struct asker *asker = container_of(call, struct asker, call);
	struct context_response response;
	const char *fault = NULL;

	if (asker->ending || asker->state == ASKER_FAILED)
		return;
	if (!message_decode(&context_response_type, message, &response))
		fault = "the edge sent a malformed message";
	else if (response.root.data)
		fault = asker_take_root(asker, response.root);
	else if (response.entries.data && asker->ahead && !asker->hold)
		asker->config.events->on_entries(asker, response.entries);
	else if (response.named.data && asker->ahead)
		asker->config.events->on_named(asker, response.named);
	else if (response.same && asker->hold_known)
		fault = asker_take_same(asker, response.same);
	else if (response.times.data && asker->hold)
		asker->config.events->on_times(asker, response.times);
	else if (response.unfit.data)
		asker_take_unfit(asker, &response);
	else
		fault = "the edge sent what it was not asked for";
	if (fault)
		asker_fail(asker, fault);
}

static void asker_on_writable(struct call *call)
{
	asker_flush(container_of(call, struct asker, call));
}

static void asker_on_call_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct asker *asker = container_of(call, struct asker, call);

	asker->call_closed = true;
	/* UNAVAILABLE: its client had gone before it took the call. Of a context it speaks with OK, or ABORTED. */
	asker->left = call->carrier_lost || status == GRPC_CANCELLED || status == GRPC_UNAVAILABLE;
	snprintf(asker->why, sizeof(asker->why), "the edge ended it: %s: %.*s", grpc_status_name(status),
	         (int)(message.size < 400 ? message.size : 400), (const char *)message.data);
	asker_fail(asker, asker->why);
	asker_schedule(asker);
}

static const struct call_events asker_call_events = {
	.on_message = asker_on_message, .on_writable = asker_on_writable, .on_closed = asker_on_call_closed,
};

/* ---- life ---- */

static void asker_on_turn(struct post *post)
{
	struct asker *asker = container_of(post, struct asker, turn);

	asker->posted = false;
	if (asker->fault)
		asker_fail(asker, asker->fault);
	if (asker->checked) {
		asker->checked = false;
		asker_take_check(asker);
	}
	if (!asker->call_closed || asker->looking || asker->checking || asker->posted || asker->closed_told)
		return;
	asker->closed_told = true;
	asker->config.events->on_closed(asker);  /* it may be gone after this */
}

static void asker_on_known(struct store_marks *marks)
{
	struct asker *asker = container_of(marks, struct asker, marks);

	asker->looking = false;
	if (marks->result < 0)
		asker->known_whole = false;
	if (asker->state == ASKER_KNOWN)
		asker_ask(asker);
	else
		asker_schedule(asker);
}

static void asker_look(struct asker *asker)
{
	asker->looking = true;
	asker->marks = (struct store_marks){
		.scope = asker->config.scope, .directories = asker->config.known, .count = 1, .whole = &asker->known_whole,
		.fn = asker_on_known,
	};
	store_marks_lookup(asker->config.cas->store, &asker->marks);
}

int asker_start(struct asker *asker, const struct asker_config *config)
{
	int r;

	*asker = (struct asker){ .config = *config, .state = ASKER_KNOWN, .turn.fn = asker_on_turn };
	asker->requests.spill.memory_bytes_max = REQUESTS_BYTES_MAX;
	r = call_start(&asker->call, config->edge, SLUICE_GIVE, span_text("localhost"), 0, config->metadata,
	               config->metadata_count, SLUICE_MESSAGE_BYTES_MAX, &asker_call_events, asker);
	if (r < 0)
		return ERR_RAISE(r);
	if (config->known)
		asker_look(asker);
	else
		asker_ask(asker);
	return 0;
}

void asker_end(struct asker *asker)
{
	asker->ending = true;
	asker_flush(asker);
}

void asker_cancel(struct asker *asker)
{
	asker->ending = true;
	asker_fail(asker, "");
}

void asker_fini(struct asker *asker)
{
	store_hold_release(asker->hold);
	store_hold_release(asker->hold_known);
	closure_fini(&asker->closure);
	packet_queue_fini(&asker->requests);
	call_fini(&asker->call);
	*asker = (struct asker){ .state = ASKER_FAILED };
}
