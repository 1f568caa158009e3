/*
 * sluice.v1.Store/Push: one client's negotiated upload. Requests are handled one after the other: the call is held
 * from a request until its answer is queued, which is the back-pressure.
 *
 *	IDLE -> OFFER (-> SYNC) -> IDLE    closure marks of directories; with `commit`, durable when all are whole (push_offer.c)
 *	          -> OFFER_AWAIT -> OFFER  that root is being pushed by a sibling (promises.h)
 *	     -> QUERY -> IDLE              presence of blobs
 *	     -> PACK_WAIT (-> DELTAS_WAIT -> DELTAS) -> PACK -> IDLE    deltas made into blobs (push_deltas.c), digests
 *	                                   checked, then accepted by the store (push_pack.c); a pack in lots, as it comes
 *	     -> SIGN_WAIT (-> BELOW) -> SIGN -> IDLE    hashes of blobs, for deltas of them (push_sign.c); of directories by
 *	                                   their names below others (push_below.c)
 *	     (-> AWAIT) (-> SETTLE) -> COMMIT -> SYNC -> IDLE    closure walked, then durable (push_commit.c)
 *
 * The call may end in any state; the push is freed once nothing of it is in flight. call_release() may bring the next
 * request, even handled to its end, but never the end of the call.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/cas/push_private.h"
#include "proto/pb.h"

static void push_free(struct push *push)
{
	push->cas->pushes_open--;
	open_call_end(&push->open);
	promiser_fini(&push->promiser);
	store_hold_release(push->hold);
	call_fini(&push->call);
	closure_fini(&push->closure);
	push_deltas_fini(&push->deltas);
	push_below_fini(&push->below);
	free(push->taking.again);
	buffer_fini(&push->message);
	buffer_fini(&push->next);
	buffer_fini(&push->response);
	buffer_fini(&push->extra);
	free(push->digests);
	free(push->present);
	free(push->promised);
	free(push->places);
	free(push->items);
	free(push->jobs);
	free(push);
}

void push_enter(struct push *push, enum push_state state)
{
	push->state = state;
	push->promiser.busy = state != PUSH_IDLE;
}

bool push_landed(struct push *push)
{
	push_enter(push, PUSH_IDLE);
	if (!push->closed)
		return false;
	push_free(push);
	return true;
}

void push_fail(struct push *push, enum grpc_status status, const char *text)
{
	call_finish(&push->call, status, text);
	call_release(&push->call);
}

void push_fail_memory(struct push *push)
{
	push_fail(push, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory; try again");
}

void push_fail_hold(struct push *push, int result)
{
	if (result == -ENOSPC)
		push_fail(push, GRPC_RESOURCE_EXHAUSTED, "one push cannot hold more than 2097152 blobs: push parts of the tree first");
	else
		push_fail_memory(push);
}

void push_fail_store(struct push *push, int result)
{
	if (result == STORE_FULL || result == -ENOSPC)
		push_fail(push, GRPC_RESOURCE_EXHAUSTED,
		          "the store is full: what is pinned or in use fills its ceiling or its disk; "
		          "raise --ceiling, free disk space, or unpin roots");
	else if (result == -ENOMEM)
		push_fail_memory(push);
	else if (err_no_descriptors(result))
		push_fail(push, GRPC_UNAVAILABLE, "the gateway has no file descriptor left for its store; try again");
	else
		push_fail(push, GRPC_UNAVAILABLE, "the gateway's disk failed; see its log");
}

void push_answer(struct push *push)
{
	if (push->response.failed) {
		push_fail(push, GRPC_INTERNAL, "the answer does not fit a message");
		return;
	}
	if (call_send(&push->call, buffer_span(&push->response), 0) == CALL_FULL)
		return;                          /* push_on_writable sends it again */
	push->response.size = 0;
	call_release(&push->call);
}

static void push_on_writable(struct call *call)
{
	struct push *push = container_of(call, struct push, call);

	if (push->state == PUSH_IDLE && push->response.size)
		push_answer(push);
}

/* ---- lists ---- */

bool push_reserve(struct push *push, size_t count)
{
	if (count <= push->digests_capacity)
		return true;
	free(push->digests);
	free(push->present);
	free(push->promised);
	free(push->places);
	free(push->items);
	free(push->jobs);
	push->digests = malloc(count * sizeof(*push->digests));
	push->present = malloc(count * sizeof(*push->present));
	push->promised = malloc(count * sizeof(*push->promised));
	push->places = malloc(count * sizeof(*push->places));
	push->items = malloc(count * sizeof(*push->items));
	push->jobs = malloc(count * sizeof(*push->jobs));
	push->digests_capacity = count;
	if (push->digests && push->present && push->promised && push->places && push->items && push->jobs)
		return true;
	push->digests_capacity = 0;
	return false;
}

bool push_take_list(struct push *push, struct span list)
{
	size_t count = digest_list_count(list);

	if (count == SIZE_MAX || count == 0) {
		push_fail(push, GRPC_INVALID_ARGUMENT, "a digest list is malformed, empty or longer than 16384 entries");
		return false;
	}
	if (!push_reserve(push, count)) {
		push_fail_memory(push);
		return false;
	}
	push->count = count;
	for (size_t i = 0; i < count; i++)
		digest_list_next(&list, &push->digests[i]);
	return true;
}

static void push_answer_committed(struct push *push, const struct digest *root)
{
	size_t mark = pb_begin(&push->response, 3);

	buffer_clear(&push->extra);
	digest_list_put(&push->extra, root);
	pb_put_bytes(&push->response, 1, buffer_span(&push->extra));
	pb_end(&push->response, mark);
	push->cas->counters.commits++;
	push_answer(push);
}

static void push_on_sync(struct store_sync *sync)
{
	struct push *push = container_of(sync, struct push, sync);

	if (push_landed(push))
		return;
	if (sync->result) {
		push_fail_store(push, sync->result);
		return;
	}
	promises_kept_root(&push->cas->promises, &push->scope, &push->root);
	push_answer_committed(push, &push->root);
}

void push_sync(struct push *push)
{
	push_enter(push, PUSH_SYNC);
	push->sync.fn = push_on_sync;
	store_sync(push->cas->store, &push->sync);
}

/* ---- siblings ---- */

bool push_patient(const struct push *push)
{
	return ring_now_ns(push->cas->ring) - push->asked_ns < push->cas->promises.wait_ns;
}

static void push_on_change(struct promiser *promiser)
{
	struct push *push = container_of(promiser, struct push, promiser);

	ring_cancel(push->cas->ring, &push->timer);
}

void push_wait(struct push *push, enum push_state state, op_fn *fn)
{
	push_enter(push, state);
	push->timer.fn = fn;
	ring_timer(push->cas->ring, &push->timer, push->cas->promises.stall_ns);
}

/* ---- sign ---- */

/* Of names: what was not found, or would be too much to sign, is not there. */
static void push_put_signed_names(struct push *push)
{
	const struct push_below *below = &push->below;
	size_t signed_count = 0;

	buffer_clear(&push->extra);
	for (size_t i = 0; i < below->count; i++) {
		bool asked = below->found[i].size && signed_count < push->count &&
		             digest_equal(&below->found[i], &push->digests[signed_count]);

		push->present[i] = asked && push->sign.present[signed_count];
		signed_count += asked;
		if (push->present[i])
			digest_list_put(&push->extra, &below->found[i]);
	}
	bit_list_put(&push->response, 1, push->present, below->count);
	pb_put_bytes(&push->response, 2, buffer_span(&push->sign.hashes));
	pb_put_bytes(&push->response, 3, buffer_span(&push->extra));
}

static void push_put_signed(struct push *push)
{
	size_t mark = pb_begin(&push->response, 5);

	if (push->below.count) {
		push_put_signed_names(push);
	} else {
		bit_list_put(&push->response, 1, push->sign.present, push->count);
		pb_put_bytes(&push->response, 2, buffer_span(&push->sign.hashes));
	}
	pb_end(&push->response, mark);
}

static void push_on_signed(struct push_sign *sign)
{
	struct push *push = container_of(sign, struct push, sign);
	struct cas *cas = push->cas;
	int result = sign->result;

	/* Without memory there is nothing to tell of. */
	if (result == 0)
		push_put_signed(push);
	push_sign_fini(sign);
	push_below_fini(&push->below);
	if (!push_landed(push)) {
		if (result < 0)
			push_fail_store(push, result);
		else
			push_answer(push);
	}
	gate_leave(&cas->deltas);
}

static void push_sign_now(struct push *push)
{
	push_enter(push, PUSH_SIGN);
	push_sign_start(&push->sign, push->cas->store, &push->scope, push->digests, push->count, push_on_signed);
}

/* As many of those found as may be signed at a time. */
static void push_on_below(struct push_below *below)
{
	struct push *push = container_of(below, struct push, below);
	struct cas *cas = push->cas;
	int result = below->result;
	uint64_t bytes = 0;

	push->count = 0;
	for (size_t i = 0; i < below->count && result == 0; i++) {
		if (!below->found[i].size || below->found[i].size > SLUICE_BASES_BYTES - bytes)
			continue;
		bytes += below->found[i].size;
		push->digests[push->count++] = below->found[i];
	}
	if (result == 0) {
		push_sign_now(push);
		return;
	}
	push_below_fini(below);
	if (!push_landed(push))
		push_fail_store(push, result);
	gate_leave(&cas->deltas);
}

static void push_on_sign_turn(struct gate_pass *pass)
{
	struct push *push = container_of(pass, struct push, pass);

	if (!push->below.count) {
		push_sign_now(push);
		return;
	}
	push_enter(push, PUSH_BELOW);
	push_below_start(&push->below, push->cas->store, &push->scope, push_on_below);
}

static bool push_sign_cancel(struct push *push)
{
	return push->state == PUSH_SIGN_WAIT && gate_cancel(&push->pass);
}

/* False: the call has been refused. */
static bool push_take_blobs(struct push *push, struct span blobs)
{
	uint64_t bytes = 0;

	if (!push_take_list(push, blobs))
		return false;
	for (size_t i = 0; i < push->count && bytes <= SLUICE_BASES_BYTES; i++)
		bytes = push->digests[i].size > SLUICE_BASES_BYTES ? push->digests[i].size : bytes + push->digests[i].size;
	if (bytes <= SLUICE_BASES_BYTES)
		return true;
	push_fail(push, GRPC_INVALID_ARGUMENT, "more than 8388608 bytes to be signed at a time");
	return false;
}

/* The same of names. */
static bool push_take_names(struct push *push, const struct message_list *list)
{
	int r = push_below_take(&push->below, list);

	if (r == 0 && push_reserve(push, push->below.count))
		return true;
	if (r == -EINVAL)
		push_fail(push, GRPC_INVALID_ARGUMENT, "malformed Below: a directory and its names are needed");
	else if (r == -E2BIG)
		push_fail(push, GRPC_INVALID_ARGUMENT,
		          "more than 16384 names at a time, or in directories of more than 8388608 bytes");
	else
		push_fail_memory(push);
	push_below_fini(&push->below);
	return false;
}

static void push_take_sign(struct push *push, struct span message)
{
	struct push_sign_request request;

	if (!message_decode(&push_sign_request_type, message, &request)) {
		push_fail(push, GRPC_INVALID_ARGUMENT, "malformed Sign");
		return;
	}
	if (request.below.count ? !push_take_names(push, &request.below) : !push_take_blobs(push, request.blobs))
		return;
	push_enter(push, PUSH_SIGN_WAIT);
	push->pass.fn = push_on_sign_turn;
	gate_enter(&push->cas->deltas, &push->pass);
}

/* ---- the call ---- */

/* The request is in push->message, whole. */
static void push_handle(struct push *push)
{
	struct push_request request;

	buffer_clear(&push->response);
	if (!message_decode(&push_request_type, buffer_span(&push->message), &request)) {
		push_fail(push, GRPC_INVALID_ARGUMENT, "malformed PushRequest");
		return;
	}
	if (request.pack.data) {
		push->coming = PUSH_COMING_PACK;
		push_pack_begin(push, request.pack.size ? (size_t)(request.pack.data - push->message.data) : 0, request.pack.size);
		push_pack(push);
	} else if (request.offer.data)
		push_offer(push, request.offer);
	else if (request.query.data)
		push_query(push, request.query);
	else if (request.commit.data)
		push_commit(push, request.commit);
	else if (request.sign.data)
		push_take_sign(push, request.sign);
	else
		push_fail(push, GRPC_INVALID_ARGUMENT, "an empty PushRequest: one of offer, query, pack, commit, sign is needed");
}

/* As it comes. */
static void push_on_part(struct call *call, struct span part, size_t left)
{
	struct push *push = container_of(call, struct push, call);

	if (push->taking.more) {
		push_pack_behind(push, part, left);
		return;
	}
	CHECK(push->state == PUSH_IDLE);
	if (push->coming == PUSH_COMING_NOTHING) {
		buffer_clear(&push->message);
		if (left)
			push_pack_spare(push);
		push->coming = PUSH_COMING_UNTOLD;
	}
	buffer_put(&push->message, part.data, part.size);
	push->cas->counters.copied_bytes_ingest += part.size;
	if (push->message.failed) {
		push_fail_memory(push);
		return;
	}
	if (push->coming == PUSH_COMING_UNTOLD)
		push->coming = push_pack_tell(push, left);
	if (push->coming == PUSH_COMING_PACK) {
		push_pack(push);
	} else if (left == 0) {
		push->coming = PUSH_COMING_NOTHING;
		call_hold(call);
		push_handle(push);
	}
}

/* A compressed one. */
static void push_on_message(struct call *call, struct span message)
{
	struct push *push = container_of(call, struct push, call);

	CHECK(push->state == PUSH_IDLE);
	call_hold(call);
	buffer_fini(&push->message);
	push->message = call_take_message(call);
	push_handle(push);
}

static void push_on_end(struct call *call)
{
	call_finish(call, GRPC_OK, NULL);
}

static void push_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct push *push = container_of(call, struct push, call);

	open_call_unwatch(&push->open);
	push->closed = true;
	push->cas->counters.copied_bytes_ingest += call->bytes_copied;
	promiser_fini(&push->promiser);
	ring_cancel(push->cas->ring, &push->timer);
	if (push->state == PUSH_IDLE || push_pack_cancel(push) || push_sign_cancel(push))
		push_free(push);
}

/* A sibling that is waited for is the gateway's turn, too; how long, promises.h says. */
static uint64_t push_patience_ns(const struct open_call *open)
{
	return container_of(open, struct push, open)->state == PUSH_IDLE ? CAS_PUSH_IDLE_NS : 0;
}

/* No status gets past an answer that is not taken; nor does that of a refusal, whose client may be the one that was stopped. */
static void push_on_expired(struct open_call *open)
{
	struct push *push = container_of(open, struct push, open);

	if (!push->call.finishing) {
		push->cas->counters.pushes_expired++;
		log_event(LOG_INFO, "push expired", LOG_U64("tenant", push->scope.tenant));
	}
	if (push->call.finishing || call_untaken(&push->call))
		call_cancel(&push->call);
	else
		call_finish(&push->call, GRPC_DEADLINE_EXCEEDED,
		            "nothing came for too long: push again, what has arrived is not sent twice");
}

static const struct open_call_events push_open_events = {
	.patience_ns = push_patience_ns, .on_expired = push_on_expired,
};

static const struct call_events push_events = {
	.on_message = push_on_message,
	.on_part = push_on_part,
	.on_end = push_on_end,
	.on_writable = push_on_writable,
	.on_closed = push_on_closed,
};

int cas_push_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	struct cas *cas = context;
	struct push *push;
	enum grpc_status status;

	if (!cas_admits(cas, why, why_size))
		return GRPC_RESOURCE_EXHAUSTED;
	push = calloc(1, sizeof(*push));
	if (!push) {
		snprintf(why, why_size, "the gateway is out of memory; try again");
		return GRPC_RESOURCE_EXHAUSTED;
	}
	status = access_scope(&cas->access, request, SCOPE_WRITE, &push->scope, NULL, why, why_size);
	if (status == GRPC_OK && !(push->hold = store_hold_create(cas->store, &push->scope))) {
		snprintf(why, why_size, "the gateway is out of memory; try again");
		status = GRPC_RESOURCE_EXHAUSTED;
	}
	if (status == GRPC_OK && !open_call_begin(&push->open, cas, &push->scope, why, why_size))
		status = GRPC_RESOURCE_EXHAUSTED;
	if (status != GRPC_OK) {
		store_hold_release(push->hold);
		free(push);
		return status;
	}
	push->cas = cas;
	push->message = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
	push->next = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
	push->response = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
	push->extra = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
	promiser_init(&push->promiser, &cas->promises, &push->scope, &push->call, push_on_change);
	cas->pushes_open++;
	cas->counters.pushes++;
	call_accept(&push->call, request->stream, request->head, SLUICE_MESSAGE_BYTES_MAX, &push_events, push);
	open_call_watch(&push->open, cas, &push->call, conn_peer(request->conn), &push_open_events);
	return 0;
}
