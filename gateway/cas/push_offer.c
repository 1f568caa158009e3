/* The questions of a push: Offer, by closure marks; and Query, of blobs. What is told to be there is held from then on. */
#include "gateway/cas/push_private.h"

#include "proto/pb.h"

/* `promised` may be NULL: none. */
static void push_answer_bits(struct push *push, const bool *promised)
{
	size_t mark = pb_begin(&push->response, 1);

	bit_list_put(&push->response, 1, push->present, push->count);
	if (promised)
		bit_list_put(&push->response, 2, promised, push->count);
	pb_end(&push->response, mark);
	push_answer(push);
}

/* ---- offer ---- */

static int push_hold_whole(struct push *push, bool *all)
{
	int r = 0;

	*all = true;
	for (size_t i = 0; i < push->count && r == 0; i++) {
		if (push->present[i])
			r = store_hold_root(push->hold, &push->digests[i]);
		else
			*all = false;
	}
	return r;
}

static void push_look_at_marks(struct push *push);

static void push_on_offer_change(struct op *op, int32_t res)
{
	struct push *push = container_of(op, struct push, timer);

	if (!push_landed(push))
		push_look_at_marks(push);
}

static void push_on_root(struct store_lookup *lookup)
{
	struct push *push = container_of(lookup, struct push, lookup);

	if (push_landed(push))
		return;
	if (lookup->result < 0) {
		push_fail_store(push, lookup->result);
		return;
	}
	push->present[0] = push->places[0] != 0;
	if (!push->present[0]) {
		push_answer_bits(push, NULL);
		return;
	}
	push->cas->counters.pushes_unchanged++;
	push_sync(push);
}

/* A mark knows a directory by its hash: before a root is told to be committed it is looked up, with the size that it was offered with. */
static void push_look_up_root(struct push *push)
{
	push->lookup = (struct store_lookup){
		.scope = push->scope, .digests = &push->root, .count = 1, .places = push->places, .fn = push_on_root,
	};
	push_enter(push, PUSH_OFFER);
	store_lookup(push->cas->store, &push->lookup);
}

static void push_on_marks(struct store_marks *marks)
{
	struct push *push = container_of(marks, struct push, marks);
	bool all;
	int r;

	if (push_landed(push))
		return;
	if (marks->result < 0) {
		push_fail_store(push, marks->result);
		return;
	}
	r = push_hold_whole(push, &all);
	if (r < 0) {
		push_fail_hold(push, r);
		return;
	}
	if (all && push->commit_if_whole) {
		push_look_up_root(push);
		return;
	}
	if (push->commit_if_whole && push->count == 1 && promiser_claim_root(&push->promiser, &push->root, push_patient(push))) {
		push->cas->counters.pushes_joined += !push->joined;
		push->joined = true;
		push_wait(push, PUSH_OFFER_AWAIT, push_on_offer_change);
		return;
	}
	push_answer_bits(push, NULL);
}

static void push_look_at_marks(struct push *push)
{
	push->marks = (struct store_marks){
		.scope = push->scope, .directories = push->digests, .count = push->count, .whole = push->present,
		.fn = push_on_marks,
	};
	push_enter(push, PUSH_OFFER);
	store_marks_lookup(push->cas->store, &push->marks);
}

void push_offer(struct push *push, struct span message)
{
	struct push_offer offer;

	if (!message_decode(&push_offer_type, message, &offer)) {
		push_fail(push, GRPC_INVALID_ARGUMENT, "malformed Offer");
		return;
	}
	if (!push_take_list(push, offer.directories))
		return;
	push->commit_if_whole = offer.commit && scope_may(&push->scope, SCOPE_COMMIT);
	push->root = push->digests[0];
	push->asked_ns = ring_now_ns(push->cas->ring);
	push_look_at_marks(push);
}

/* ---- query ---- */

static void push_on_lookup(struct store_lookup *lookup)
{
	struct push *push = container_of(lookup, struct push, lookup);
	size_t held = 0;
	int r;

	if (push_landed(push))
		return;
	if (lookup->result < 0) {
		push_fail_store(push, lookup->result);
		return;
	}
	/*
	 * Held ones move to the front: what was told to be present stays until this call ends. Also what is still to come:
	 * the hold of the sibling that sends it may be gone before this push commits.
	 */
	for (size_t i = 0; i < push->count; i++) {
		push->promised[i] = push->places[i] == 0 && promiser_claim(&push->promiser, &push->digests[i], true);
		push->present[i] = push->places[i] != 0 || push->promised[i];
		push->cas->counters.blobs_promised += push->promised[i];
		if (push->present[i])
			push->digests[held++] = push->digests[i];
	}
	r = store_hold_blobs(push->hold, push->digests, held);
	if (r < 0)
		push_fail_hold(push, r);
	else
		push_answer_bits(push, push->promised);
}

void push_query(struct push *push, struct span message)
{
	struct push_query query;

	if (!message_decode(&push_query_type, message, &query)) {
		push_fail(push, GRPC_INVALID_ARGUMENT, "malformed Query");
		return;
	}
	if (!push_take_list(push, query.blobs))
		return;
	push->lookup = (struct store_lookup){
		.scope = push->scope, .digests = push->digests, .count = push->count, .places = push->places,
		.fn = push_on_lookup,
	};
	push_enter(push, PUSH_QUERY);
	store_lookup(push->cas->store, &push->lookup);
}
