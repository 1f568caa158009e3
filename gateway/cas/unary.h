/*
 * unary: a call with one request and one response, for methods off the hot path. The owner embeds a struct unary and
 * answers once, inline or later; a caller that goes away meanwhile is waited out.
 */
#pragma once

#include "gateway/net/server.h"

struct unary {
	struct call call;
	/* The request, whole, kept until the end. Answer with unary_reply or unary_fail, now or later. */
	void (*on_request)(struct unary *unary, struct span request);
	/*
	 * Optional, before unary_accept(): the request comes in parts instead, as call.h has them, unless it was compressed. With the last
	 * one, which has none left, an answer is outstanding; before that the call may still end by itself, or be refused.
	 */
	void (*on_part)(struct unary *unary, struct span part, size_t left);
	/* Last: free the owner. Never while an answer is outstanding; perhaps from inside unary_reply or unary_fail. */
	void (*on_done)(struct unary *unary);
	struct buffer request;
	bool asked, answered, closed;
};

void unary_accept(struct unary *unary, const struct server_request *request, size_t message_bytes_max);
void unary_reply(struct unary *unary, struct span response);
/*
 * The same, uncopied, of a byte at least: loan->returned comes once, at the latest before on_done. It is not lent at all, and does
 * not come back, when the caller has gone: then on_done is all that comes.
 */
void unary_reply_lending(struct unary *unary, struct loan *loan);
void unary_fail(struct unary *unary, enum grpc_status status, const char *text);
/* With what details of the status say: an encoded google.rpc.Status, see call.h. */
void unary_fail_details(struct unary *unary, enum grpc_status status, const char *text, struct span details);
