/*
 * forward: one call carried from a client's stream to a stream of an executor's connection, without looking into it:
 * header fields, bytes, half-close, trailers, resets and the client's own deadline go through as they are.
 *
 * Back-pressure: a byte is acknowledged to the peer that sent it when the other stream's out-queue has taken it. What is
 * held here is what a peer had in its window: at most the two receive windows.
 *
 * Loop context: the events of both streams come on one ring's thread. Source: DESIGN.md decision 5 (unknown services,
 * methods, fields, metadata and trailers pass untouched), gRPC's PROTOCOL-HTTP2.md.
 */
#pragma once

#include "gateway/base/list.h"
#include "proto/grpc.h"

struct forward;

struct forward_owner {
	/* The name of the executor in what the client reads when it is lost. Lives as long as the forwards. */
	const char *executor;
	struct list forwards;            /* all that are open */
	uint64_t opened, lost;           /* ever; of them ended by the loss of the executor */
};

void forward_owner_init(struct forward_owner *owner, const char *executor);

/*
 * Inside on_stream of `from`: opens the same request on `to` and takes `from` over until both streams have closed; it frees
 * itself then. 0, or what h2_open() says (-EAGAIN, -EPIPE, -ENOMEM; -EINVAL: more header fields than may be sent), and
 * `from` is as before.
 */
int forward_open(struct forward_owner *owner, struct h2 *to, struct stream *from, const struct grpc_request *request);
