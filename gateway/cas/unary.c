/* One request, one response. */
#include "gateway/cas/unary.h"

#include "gateway/base/check.h"
#include "gateway/base/list.h"

static void unary_end(struct unary *unary)
{
	call_fini(&unary->call);
	buffer_fini(&unary->request);
	unary->on_done(unary);
}

static void unary_on_message(struct call *call, struct span message)
{
	struct unary *unary = container_of(call, struct unary, call);

	if (unary->asked)
		return;                          /* a second request of a unary call: ignored, as gRPC servers do */
	unary->asked = true;
	unary->request = unary->on_part ? call_take_message(call) : call_keep_message(call, message);
	if (unary->request.failed)
		unary_fail(unary, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory; try again");
	else
		unary->on_request(unary, buffer_span(&unary->request));
}

static void unary_on_part(struct call *call, struct span part, size_t left)
{
	struct unary *unary = container_of(call, struct unary, call);

	if (unary->asked)
		return;                          /* of a second request */
	unary->asked = left == 0;
	unary->on_part(unary, part, left);
}

static void unary_on_end(struct call *call)
{
	struct unary *unary = container_of(call, struct unary, call);

	if (!unary->asked)
		unary_fail(unary, GRPC_INVALID_ARGUMENT, "a call without a request");
}

static void unary_on_writable(struct call *call)
{
}

static void unary_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct unary *unary = container_of(call, struct unary, call);

	unary->closed = true;
	if (!unary->asked || unary->answered)
		unary_end(unary);
}

static const struct call_events unary_events = {
	.on_message = unary_on_message,
	.on_end = unary_on_end,
	.on_writable = unary_on_writable,
	.on_closed = unary_on_closed,
};

static const struct call_events unary_parts_events = {
	.on_message = unary_on_message,
	.on_part = unary_on_part,
	.on_end = unary_on_end,
	.on_writable = unary_on_writable,
	.on_closed = unary_on_closed,
};

void unary_accept(struct unary *unary, const struct server_request *request, size_t message_bytes_max)
{
	call_accept(&unary->call, request->stream, request->head, message_bytes_max,
	            unary->on_part ? &unary_parts_events : &unary_events, unary);
}

/* The answer is decided. True when nobody is there to hear it; the unary has ended then. */
static bool unary_answering(struct unary *unary)
{
	CHECK(!unary->answered);
	unary->answered = unary->asked = true;
	if (!unary->closed)
		return false;
	unary_end(unary);
	return true;
}

void unary_reply(struct unary *unary, struct span response)
{
	if (unary_answering(unary))
		return;
	if (call_send(&unary->call, response, 0) == CALL_SENT)
		call_finish(&unary->call, GRPC_OK, NULL);
	else
		call_finish(&unary->call, GRPC_INTERNAL, "the response could not be queued");
}

void unary_reply_lending(struct unary *unary, struct loan *loan)
{
	if (unary_answering(unary))
		return;
	if (call_lend(&unary->call, loan) == CALL_SENT)
		call_finish(&unary->call, GRPC_OK, NULL);
	else
		call_finish(&unary->call, GRPC_INTERNAL, "the response could not be queued");
}

void unary_fail(struct unary *unary, enum grpc_status status, const char *text)
{
	if (!unary_answering(unary))
		call_finish(&unary->call, status, text);
}

void unary_fail_details(struct unary *unary, enum grpc_status status, const char *text, struct span details)
{
	if (!unary_answering(unary))
		call_finish_details(&unary->call, status, text, details);
}
