/*
 * peek: the little that is looked at in requests of BuildKit's clients on their way. Pure; spans are borrowed from the
 * message. Unknown fields mean nothing; what is malformed is for the executor to refuse.
 *
 * Source: buildkit's api/services/control/control.proto, frontend/gateway/pb/gateway.proto.
 */
#pragma once

#include "proto/pb.h"

struct peek_solve {
	struct span ref, session;
	struct span exporters[4];        /* their types, "image", "local"; more are not told */
	size_t exporters_count;
	bool internal;
	bool work;                       /* it names a frontend or a definition: there is something to build */
};

/* False: malformed. */
bool peek_solve(struct peek_solve *solve, struct span message);
/* StatusRequest, UpdateBuildHistoryRequest: field 1; BuildHistoryRequest: field 2. Empty when there is none. */
struct span peek_text(struct span message, uint32_t number);
/* A frontend.ReturnRequest that returns nothing: no result, no metadata, no error. */
bool peek_return_is_empty(struct span message);

/* One vertex of a StatusResponse. */
struct peek_vertex {
	struct span digest;
	bool cached, completed, failed;
};
/* Calls `visit` for each vertex. False: malformed; then some were not visited. */
bool peek_vertices(struct span message, void (*visit)(void *context, const struct peek_vertex *vertex), void *context);
