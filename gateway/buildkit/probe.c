/*
 * The capability probe: an internal build of nothing, which buildx runs on each new connection to Ping inside it. All of it
 * is answered here.
 */
#include "gateway/buildkit/buildkit_private.h"

#include <stdio.h>
#include "proto/pb.h"

/* A build that does more than the probe, though its Solve says nothing of it. */
void probe_is_build(struct binding *binding, const char *ref)
{
	struct buildkit_call *solve = binding_solve(binding, ref);
	struct buildkit_solve_request request = { .internal = true };

	if (!solve || !solve->probe)
		return;
	solve->probe = false;
	request.ref = span_text(solve->ref);
	request.session = span_text(solve->session);
	builds_begin(solve, &request);
}

/* It has returned nothing: all of it is answered here. */
static void probe_answer(struct buildkit_call *solve)
{
	struct binding *binding = solve->binding;

	snprintf(binding->probes[binding->probes_next], BUILD_ID_MAX, "%s", solve->ref);
	binding->probes_next = (binding->probes_next + 1) % BINDING_PROBES_KEPT;
	list_for_each(link, &binding->calls) {
		struct buildkit_call *call = container_of(link, struct buildkit_call, link);

		if (!call_held(call) || !call->known || strcmp(call->ref, solve->ref) != 0)
			continue;
		if (call->kind == CALL_RETURN)
			forward_reply(&call->forward, (struct span){ 0 });
		else if (call->kind == CALL_STATUS)
			forward_finish(&call->forward, GRPC_OK, NULL);
	}
	forward_reply(&solve->forward, (struct span){ 0 });
}

bool probe_was_answered(const struct binding *binding, const char *ref)
{
	for (unsigned i = 0; i < BINDING_PROBES_KEPT; i++)
		if (ref[0] && strcmp(binding->probes[i], ref) == 0)
			return true;
	return false;
}

/* The Solve and the Return are both there, in whichever order. */
void probe_look(struct binding *binding, const char *ref)
{
	struct buildkit_call *solve = binding_solve(binding, ref);

	if (!solve || !solve->probe || !call_held(solve))
		return;
	list_for_each(link, &binding->calls) {
		const struct buildkit_call *call = container_of(link, struct buildkit_call, link);

		if (call->kind == CALL_RETURN && call->known && call->empty && call_held(call) && strcmp(call->ref, ref) == 0) {
			probe_answer(solve);
			return;
		}
	}
}

/* ---- LLBBridge/Return ---- */

/* gateway.proto */
enum { RETURN_RESULT = 1 };
enum { RESULT_REF_DEPRECATED = 1, RESULT_REF = 3 };

static bool is_empty_message(struct span message)
{
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field;

	while (pb_next(&reader, &field))
		if (field.wire != PB_BYTES || field.bytes.size)
			return false;
	return !reader.failed;
}

/* A reference to nothing is what a client without a result sends. */
static bool result_is_empty(struct span message)
{
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field;

	while (pb_next(&reader, &field)) {
		bool ref = field.number == RESULT_REF || field.number == RESULT_REF_DEPRECATED;

		if (!ref || field.wire != PB_BYTES || !is_empty_message(field.bytes))
			return false;
	}
	return !reader.failed;
}

/* A result may come in pieces, which a daemon merges. */
bool probe_return_is_empty(struct span message)
{
	struct buildkit_llb_return_request request;
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field;

	if (!message_decode(&buildkit_llb_return_request_type, message, &request) || request.error.data)
		return false;
	while (pb_next(&reader, &field))
		if (field.number == RETURN_RESULT && !result_is_empty(field.bytes))
			return false;
	return true;
}
