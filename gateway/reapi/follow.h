/*
 * follow: a ByteStream/Read of what an action writes, while it runs (gateway/pool/output_stream.h). What there is goes out as the
 * client takes it, copied message by message, as the output moves while it grows. A client that takes nothing of what there is for
 * REAPI_READ_IDLE_NS loses the call; one that waits for an action which writes nothing does not. On the ring's thread.
 */
#pragma once

#include "gateway/pool/output_stream.h"
#include "gateway/reapi/sending.h"
#include "proto/reapi_cas.h"
#include "proto/reapi_resource.h"

struct follow {
	struct reapi *reapi;
	struct call *call;
	struct output_stream stream;
	uint64_t left;                   /* up to the limit; UINT64_MAX: there is none */
	struct sending sending;          /* in its list while the call is full */
	bool full, over;
};

/* Answers the call at once, or goes on until it has. Not before: `call` and `reapi` outlive it. */
void follow_begin(struct follow *follow, struct reapi *reapi, struct call *call, const struct scope *scope,
                  const struct reapi_resource *resource, const struct bytestream_read_request *request);
/* The call has room. */
void follow_step(struct follow *follow);
/* The call has ended. Also of an all-zero one. */
void follow_end(struct follow *follow);
