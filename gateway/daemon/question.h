/*
 * question: a unary call about the gateway itself: Builds, Status. What is asked for may be megabytes long and is kept until the
 * caller has taken it. So each tenant may have a few at a time; and who does not ask, or does not take the answer, loses the call.
 */
#pragma once

#include "gateway/cas/open_call.h"
#include "gateway/cas/unary.h"
#include "gateway/tenant/quota.h"

#define QUESTIONS_TENANT_MAX 8           /* half of the lists that a ledger takes (LEDGER_LISTS_MAX) */
#define QUESTION_IDLE_NS     120000000000u       /* for a request that does not come, or an answer that is not taken */

struct questions {
	struct cas *cas;
	struct quota callers;
	unsigned open;
};

/* Embedded in its owner, who sets on_request and on_done of `unary` before question_accept(). */
struct question {
	struct unary unary;
	struct access_caller caller;
	struct scope scope;              /* of the instance that the call names */
	struct questions *questions;
	struct open_call open;
	struct quota_place place;
};

void questions_init(struct questions *questions, struct cas *cas);
/* Who asks, who must have the right to read; and room for one more. GRPC_OK, or what to answer with `why`: then nothing was begun. */
enum grpc_status question_begin(struct question *question, struct questions *questions, const struct server_request *request,
                                char *why, size_t why_size);
void question_accept(struct question *question, const struct server_request *request, size_t message_bytes_max);
/* In on_done; or in place of question_accept(). */
void question_end(struct question *question);
