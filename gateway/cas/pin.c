/* sluice.v1.Store/Pin: a root that eviction leaves alone until it expires. Only what is whole can be pinned. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/log.h"
#include "gateway/cas/closure.h"
#include "gateway/cas/open_call.h"
#include "gateway/cas/unary.h"
#include "proto/sluice_v1.h"

#define PIN_REQUEST_BYTES_MAX 4096

_Static_assert(sizeof(((struct store_pin *)NULL)->note) == SLUICE_NOTE_BYTES_MAX + 1, "it is kept whole");

struct pin {
	struct unary unary;
	struct open_call open;
	struct cas *cas;
	struct store_hold *hold;
	struct closure closure;
	struct store_pin pin;
};

static void pin_refuse_more(struct pin *pin, const char *who, unsigned max)
{
	char text[160];

	snprintf(text, sizeof(text), "%s %u pins, which is the most there may be: remove some (sluice pin --remove ROOT), or let "
	                             "them expire", who, max);
	unary_fail(&pin->unary, GRPC_RESOURCE_EXHAUSTED, text);
}

static void pin_on_pinned(struct store_pin *done)
{
	struct pin *pin = container_of(done, struct pin, pin);

	if (done->result == STORE_OK)
		unary_reply(&pin->unary, (struct span){ 0 });
	else if (done->result == STORE_MISSING)
		unary_fail(&pin->unary, GRPC_NOT_FOUND, "this root is not pinned");
	else if (done->result == -EDQUOT)
		pin_refuse_more(pin, "this tenant has", STORE_TENANT_PINS_MAX);
	else if (done->result == -ENOSPC)
		pin_refuse_more(pin, "all tenants together have", STORE_PINS_MAX);
	else if (done->result == -ENOMEM)
		unary_fail(&pin->unary, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory; try again");
	else
		unary_fail(&pin->unary, GRPC_UNAVAILABLE, "the gateway's disk failed; see its log");
}

static void pin_on_closure(struct closure *closure)
{
	struct pin *pin = closure->owner;
	char text[256];

	switch (closure->result) {
	case CLOSURE_WHOLE:
		store_pin(pin->cas->store, &pin->pin);
		break;
	case CLOSURE_HOLES:
		snprintf(text, sizeof(text), "the root is not whole here (%llu %s missing): push it first",
		         (unsigned long long)closure->missing_count, closure->missing_count == 1 ? "blob is" : "blobs are");
		unary_fail(&pin->unary, GRPC_FAILED_PRECONDITION, text);
		break;
	case CLOSURE_MALFORMED:
		unary_fail(&pin->unary, GRPC_INVALID_ARGUMENT, closure->why);
		break;
	case CLOSURE_TOO_LARGE:
		unary_fail(&pin->unary, GRPC_RESOURCE_EXHAUSTED, closure->why);
		break;
	default:
		unary_fail(&pin->unary, GRPC_UNAVAILABLE, "the gateway's disk failed; see its log");
	}
}

static void pin_on_request(struct unary *unary, struct span bytes)
{
	struct pin *pin = container_of(unary, struct pin, unary);
	struct pin_request request;

	if (!message_decode(&pin_request_type, bytes, &request) || digest_list_count(request.root) != 1 ||
	    !digest_list_next(&request.root, &pin->pin.root)) {
		unary_fail(unary, GRPC_INVALID_ARGUMENT, "malformed PinRequest");
		return;
	}
	if (request.note.size > SLUICE_NOTE_BYTES_MAX) {
		unary_fail(unary, GRPC_INVALID_ARGUMENT, "the note has more than 63 bytes");
		return;
	}
	pin->pin.fn = pin_on_pinned;
	pin->pin.expires_wall_ns = UINT64_MAX;
	if (request.remove)
		pin->pin.expires_wall_ns = 0;
	else if (request.expires_unix_seconds && request.expires_unix_seconds < UINT64_MAX / 1000000000u)
		pin->pin.expires_wall_ns = request.expires_unix_seconds * 1000000000u;
	snprintf(pin->pin.note, sizeof(pin->pin.note), "%.*s", (int)request.note.size, (const char *)request.note.data);
	if (request.remove) {
		store_pin(pin->cas->store, &pin->pin);
		return;
	}
	/* Held from before it is verified until it is pinned, or gone again. */
	pin->hold = store_hold_create(pin->cas->store, &pin->pin.scope);
	if (!pin->hold || store_hold_root(pin->hold, &pin->pin.root) < 0) {
		unary_fail(unary, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory; try again");
		return;
	}
	pin->closure = (struct closure){
		.store = pin->cas->store, .gate = &pin->cas->closures, .scope = pin->pin.scope, .root = pin->pin.root,
		.read_root = true, .fn = pin_on_closure, .owner = pin,
	};
	closure_verify(&pin->closure);
}

static void pin_on_done(struct unary *unary)
{
	struct pin *pin = container_of(unary, struct pin, unary);

	pin->cas->pins_open--;
	open_call_unwatch(&pin->open);
	open_call_end(&pin->open);
	store_hold_release(pin->hold);
	closure_fini(&pin->closure);
	free(pin);
}

static uint64_t pin_patience_ns(const struct open_call *open)
{
	const struct pin *pin = container_of(open, struct pin, open);

	return pin->unary.asked && !pin->unary.answered ? 0 : CAS_PIN_IDLE_NS;
}

/* No status gets past an answer that is not taken. */
static void pin_on_expired(struct open_call *open)
{
	struct pin *pin = container_of(open, struct pin, open);

	log_event(LOG_INFO, "pin call expired", LOG_U64("tenant", pin->pin.scope.tenant));
	if (pin->unary.answered)
		call_cancel(&pin->unary.call);
	else
		unary_fail(&pin->unary, GRPC_DEADLINE_EXCEEDED, "the request did not come for too long");
}

static const struct open_call_events pin_open_events = {
	.patience_ns = pin_patience_ns, .on_expired = pin_on_expired,
};

int cas_pin_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	struct cas *cas = context;
	enum grpc_status status = GRPC_RESOURCE_EXHAUSTED;
	struct pin *pin;

	if (!cas_admits(cas, why, why_size))
		return GRPC_RESOURCE_EXHAUSTED;
	pin = calloc(1, sizeof(*pin));
	if (pin)
		status = access_scope(&cas->access, request, SCOPE_COMMIT, &pin->pin.scope, NULL, why, why_size);
	else
		snprintf(why, why_size, "the gateway is out of memory; try again");
	if (status == GRPC_OK && !open_call_begin(&pin->open, cas, &pin->pin.scope, why, why_size))
		status = GRPC_RESOURCE_EXHAUSTED;
	if (status != GRPC_OK) {
		free(pin);
		return status;
	}
	pin->cas = cas;
	cas->pins_open++;
	pin->unary.on_request = pin_on_request;
	pin->unary.on_done = pin_on_done;
	unary_accept(&pin->unary, request, PIN_REQUEST_BYTES_MAX);
	open_call_watch(&pin->open, cas, &pin->unary.call, conn_peer(request->conn), &pin_open_events);
	return 0;
}
