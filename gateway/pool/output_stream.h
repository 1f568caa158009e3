/*
 * output_stream: one of an action's two output streams, followed while it runs: what stdout_stream_name and stderr_stream_name of
 * an operation's metadata name. A reader has an offset of its own, and no memory: it reads what the execution keeps, at most
 * EXECUTE_OUTPUT_BYTES_MAX. It is no caller: one that takes nothing holds up nothing, and the last one to go cancels nothing.
 *
 * The name is the operation's with "/stdout" or "/stderr" behind it. Operations that were answered from the cache have none. When
 * the action has ended its streams are there for those who read already, and, up to EXECUTE_KEPT_OUTPUT_BYTES, as long as the
 * operation is remembered; the result has them all.
 *
 * On the ring's thread. Source: REAPI remote_execution.proto, ExecuteOperationMetadata.
 */
#pragma once

#include "gateway/base/list.h"
#include "gateway/pool/execute.h"

#define OUTPUT_STREAM_READERS_MAX 128    /* at a time: each may keep an ended operation's output, 8 MiB, until it has read that */

enum output_stream_outcome {
	OUTPUT_STREAM_DATA,
	OUTPUT_STREAM_WAIT,              /* on_more follows */
	OUTPUT_STREAM_END,               /* there is no more; also when the offset lies behind the end: `beyond` tells */
	OUTPUT_STREAM_LOST,              /* there was more than is kept */
};

/* A reader; embedded in its owner. */
struct output_stream {
	struct execution *execution;     /* NULL: not open */
	uint32_t which;                  /* 0 stdout, 1 stderr */
	uint64_t offset;
	bool beyond;
	void (*on_more)(struct output_stream *stream);   /* may close it; from inside the pool's events */
	struct list link;
};

/*
 * `operation`: its name, without what is behind it. GRPC_OK, GRPC_NOT_FOUND: not known to this scope, or the output is not kept any
 * more; GRPC_RESOURCE_EXHAUSTED: too many read such output. `why` is static.
 */
enum grpc_status output_stream_open(struct output_stream *stream, struct execute_service *service, const struct scope *scope,
                                    struct span operation, uint32_t which, uint64_t offset, const char **why);
/* What is there from the offset on, borrowed until the loop goes on; it counts as read by output_stream_taken(). */
enum output_stream_outcome output_stream_next(struct output_stream *stream, struct span *data);
static inline void output_stream_taken(struct output_stream *stream, size_t size)
{
	stream->offset += size;
}
/* Also of one that is not open. */
void output_stream_close(struct output_stream *stream);
