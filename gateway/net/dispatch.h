/*
 * dispatch: from a request's headers to the method that answers it, or to a refusal: what is no gRPC to the server's `web`, or HTTP 415 to it;
 * UNIMPLEMENTED naming an unknown path, or naming the compressors that are known.
 */
#pragma once

#include "gateway/net/server.h"

/* Inside on_stream. Always 0: a refusal is an answer too. A request with `grpc-timeout` gets a deadline on `ring`. */
int dispatch_request(const struct server_config *config, struct ring *ring, struct conn *conn, struct stream *stream,
                     const struct h2_request *head);
