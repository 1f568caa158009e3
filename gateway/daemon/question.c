/* Who asks about the gateway, how many at a time, and for how long. */
#include "gateway/daemon/question.h"

#include <stdio.h>

#include "gateway/base/check.h"

void questions_init(struct questions *questions, struct cas *cas)
{
	*questions = (struct questions){ .cas = cas };
	quota_init(&questions->callers, QUESTIONS_TENANT_MAX);
}

/* An executor has no identity, and is the machine's own. */
static uint64_t tenant_of(const struct access_caller *caller)
{
	return caller->executor ? 0 : quota_key(caller->identity.tenant);
}

enum grpc_status question_begin(struct question *question, struct questions *questions, const struct server_request *request,
                                char *why, size_t why_size)
{
	const struct access *access = &questions->cas->access;
	enum grpc_status status = access_caller(access, request, SCOPE_READ, &question->caller, why, why_size);

	if (status == GRPC_OK)
		status = access_find(access, &question->caller, (struct span){ 0 }, &question->scope, why, why_size);
	if (status != GRPC_OK)
		return status;
	if (!quota_has_room(&questions->callers, tenant_of(&question->caller))) {
		snprintf(why, why_size, "this tenant asks for too much at a time; try again");
		return GRPC_RESOURCE_EXHAUSTED;
	}
	if (!open_call_begin(&question->open, questions->cas, &question->scope, why, why_size))
		return GRPC_RESOURCE_EXHAUSTED;
	question->questions = questions;
	quota_enter(&questions->callers, tenant_of(&question->caller), &question->place);
	questions->open++;
	return GRPC_OK;
}

static uint64_t question_patience_ns(const struct open_call *open)
{
	const struct question *question = container_of(open, struct question, open);

	return question->unary.asked && !question->unary.answered ? 0 : QUESTION_IDLE_NS;
}

/* No status gets past an answer that is not taken. */
static void question_on_expired(struct open_call *open)
{
	struct question *question = container_of(open, struct question, open);

	if (question->unary.answered)
		call_cancel(&question->unary.call);
	else
		unary_fail(&question->unary, GRPC_DEADLINE_EXCEEDED, "the request did not come for too long");
}

static const struct open_call_events question_open_events = {
	.patience_ns = question_patience_ns, .on_expired = question_on_expired,
};

void question_accept(struct question *question, const struct server_request *request, size_t message_bytes_max)
{
	unary_accept(&question->unary, request, message_bytes_max);
	open_call_watch(&question->open, question->questions->cas, &question->unary.call, conn_peer(request->conn),
	                &question_open_events);
}

void question_end(struct question *question)
{
	CHECK(question->questions->open > 0);
	question->questions->open--;
	if (question->open.cas)
		open_call_unwatch(&question->open);
	open_call_end(&question->open);
	quota_leave(&question->place);
}
