/*
 * buildkit_status: a build's progress, as Control/Status streams it. StatusResponses are looked into to count steps,
 * and written to show a client what happens here. Every update of a vertex (a step) repeats its digest, and says what
 * is known by then; readers keep the last.
 *
 * Times are nanoseconds since 1970; a Timestamp beyond what they hold is read as the nearest that they do.
 * Source: moby/buildkit v0.32.2 api/services/control/control.proto; google/protobuf/timestamp.proto.
 */
#pragma once

#include "proto/message.h"

struct buildkit_status_request {
	struct span ref;
};
extern const struct message_type buildkit_status_request_type;

struct buildkit_vertex {
	struct span digest;              /* names it; "sha256:" and hex by custom, but any text is taken */
	struct span name, error;
	bool cached;
	bool started, completed;         /* whether the time is set */
	int64_t started_ns, completed_ns;
};

enum buildkit_log_stream { BUILDKIT_LOG_STDOUT = 1, BUILDKIT_LOG_STDERR = 2 };

struct buildkit_vertex_log {
	struct span vertex;
	int64_t timestamp_ns;
	enum buildkit_log_stream stream;
	struct span message;             /* with the newline at its end */
};

/*
 * Walks the vertexes of a StatusResponse from the front: `rest` is the whole message at first. False at the end or,
 * with `failed`, on malformed input; what was yielded before stands. Statuses, logs, warnings and what is not known
 * are skipped.
 */
bool buildkit_vertex_next(struct span *rest, struct buildkit_vertex *vertex, bool *failed);

/*
 * Append to a StatusResponse; several may follow each other in one. All texts but a log's message have to be UTF-8: a
 * strict reader refuses the whole message else.
 */
void buildkit_status_put_vertex(struct buffer *out, const struct buildkit_vertex *vertex);
void buildkit_status_put_log(struct buffer *out, const struct buildkit_vertex_log *log);
