/*
 * The Commit of a push: first it waits for what siblings are sending (promises.h), then what of that did not come is told
 * to be missing, and then the closure is walked. All three may send it back to the first: each hole that somebody else is
 * filling is waited for, as long as push_patient().
 */
#include "gateway/cas/push_private.h"

#include "gateway/base/log.h"
#include "proto/pb.h"

static void push_await(struct push *push);

static void push_answer_missing(struct push *push, struct span blobs, uint64_t count, struct span paths)
{
	struct push_missing missing = { .blobs = blobs, .count = count, .paths.message = paths };

	message_nest(&push_missing_type, &push->response, 4, &missing);
	push->cas->counters.commits_refused++;
	log_event(LOG_INFO, "commit refused", LOG_U64("tenant", push->scope.tenant), LOG_U64("missing", count));
	push_answer(push);
}

/* ---- the closure ---- */

/* Those that are this push's to send, as a list in push->extra; the others are awaited from now on. */
static size_t push_claim_holes(struct push *push)
{
	struct span rest = buffer_span(&push->closure.missing);
	struct digest digest;
	size_t count = 0;

	buffer_clear(&push->extra);
	while (digest_list_next(&rest, &digest)) {
		if (promiser_claim(&push->promiser, &digest, push_patient(push)))
			continue;
		digest_list_put(&push->extra, &digest);
		count++;
	}
	return count;
}

static void push_on_holes(struct push *push)
{
	const char *path = (const char *)push->closure.paths.data;
	struct buffer paths = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);

	if (push_claim_holes(push) == 0) {
		push_await(push);
		return;
	}
	for (size_t i = 0; i < push->closure.paths_count; i++, path += strlen(path) + 1)
		pb_put_bytes_always(&paths, 3, span_text(path));
	push_answer_missing(push, buffer_span(&push->extra), push->closure.missing_count, buffer_span(&paths));
	buffer_fini(&paths);
}

static void push_on_closure(struct closure *closure)
{
	struct push *push = closure->owner;

	if (push_landed(push))
		return;
	switch (closure->result) {
	case CLOSURE_WHOLE:
		push_sync(push);
		break;
	case CLOSURE_HOLES:
		push_on_holes(push);
		break;
	case CLOSURE_MALFORMED:
		push_fail(push, GRPC_INVALID_ARGUMENT, closure->why);
		break;
	case CLOSURE_TOO_LARGE:
		push_fail(push, GRPC_RESOURCE_EXHAUSTED, closure->why);
		break;
	default:
		push_fail_store(push, closure->result);
	}
}

static void push_verify(struct push *push)
{
	closure_fini(&push->closure);
	push->closure = (struct closure){
		.store = push->cas->store, .gate = &push->cas->closures, .scope = push->scope, .root = push->root,
		.fn = push_on_closure, .owner = push,
	};
	push_enter(push, PUSH_COMMIT);
	closure_verify(&push->closure);
}

/* ---- what siblings were to send ---- */

/*
 * All that did not come is told, not only what the closure walk would see: it does not see below a directory that did not
 * come.
 */
static void push_on_settled(struct store_lookup *lookup)
{
	struct push *push = container_of(lookup, struct push, lookup);
	size_t missing = 0;

	if (push_landed(push))
		return;
	if (lookup->result < 0) {
		push_fail_store(push, lookup->result);
		return;
	}
	buffer_clear(&push->extra);
	for (size_t i = 0; i < push->count; i++) {
		if (push->places[i] || promiser_claim(&push->promiser, &push->digests[i], push_patient(push)))
			continue;
		digest_list_put(&push->extra, &push->digests[i]);
		missing++;
	}
	if (missing)
		push_answer_missing(push, buffer_span(&push->extra), missing, (struct span){ 0 });
	else
		push_await(push);
}

static void push_settle(struct push *push)
{
	push->count = promiser_settling(&push->promiser, SLUICE_LIST_MAX);
	if (push->count == 0) {
		push_verify(push);
		return;
	}
	if (!push_reserve(push, push->count)) {
		push_fail_memory(push);
		return;
	}
	promiser_settle(&push->promiser, push->digests, push->count);
	push->lookup = (struct store_lookup){
		.scope = push->scope, .digests = push->digests, .count = push->count, .places = push->places,
		.fn = push_on_settled,
	};
	push_enter(push, PUSH_SETTLE);
	store_lookup(push->cas->store, &push->lookup);
}

static void push_on_await_change(struct op *op, int32_t res)
{
	struct push *push = container_of(op, struct push, timer);

	if (!push_landed(push))
		push_await(push);
}

static void push_await(struct push *push)
{
	if (push_patient(push) && promiser_waits(&push->promiser))
		push_wait(push, PUSH_AWAIT, push_on_await_change);
	else
		push_settle(push);
}

void push_commit(struct push *push, struct span message)
{
	struct push_commit commit;
	int r;

	if (!message_decode(&push_commit_type, message, &commit)) {
		push_fail(push, GRPC_INVALID_ARGUMENT, "malformed Commit");
		return;
	}
	if (!push_take_list(push, commit.root))
		return;
	if (push->count != 1) {
		push_fail(push, GRPC_INVALID_ARGUMENT, "a Commit names one root");
		return;
	}
	if (!scope_may(&push->scope, SCOPE_COMMIT)) {
		push_fail(push, GRPC_PERMISSION_DENIED, "this credential lacks the right to commit");
		return;
	}
	push->root = push->digests[0];
	/* Held from before the walk on: what is found whole must still be so when it is told. Holes do not matter to a hold. */
	r = store_hold_root(push->hold, &push->root);
	if (r < 0) {
		push_fail_hold(push, r);
		return;
	}
	push->asked_ns = ring_now_ns(push->cas->ring);
	promiser_release(&push->promiser);
	push_await(push);
}
