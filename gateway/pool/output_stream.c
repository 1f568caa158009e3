/* Readers of an execution's output. */
#include "gateway/pool/output_stream.h"

#include "gateway/pool/execution.h"

enum grpc_status output_stream_open(struct output_stream *stream, struct execute_service *service, const struct scope *scope,
                                    struct span operation, uint32_t which, uint64_t offset, const char **why)
{
	struct execution *execution = execution_find(service, scope, operation);

	if (!execution || (execution->state == EXECUTION_ENDED && !execution_has_run(execution))) {
		*why = "no operation of that name is known (any more), or it was answered from the cache: its result has its output";
		return GRPC_NOT_FOUND;
	}
	if (execution->output_gone) {
		*why = "the operation has ended, and its output is not kept here any more: its result has it";
		return GRPC_NOT_FOUND;
	}
	if (service->readers >= OUTPUT_STREAM_READERS_MAX) {
		*why = "too many read the output of actions; try again";
		return GRPC_RESOURCE_EXHAUSTED;
	}
	stream->execution = execution;
	stream->which = which;
	stream->offset = offset;
	stream->beyond = false;
	service->readers++;
	list_append(&execution->readers, &stream->link);
	return GRPC_OK;
}

enum output_stream_outcome output_stream_next(struct output_stream *stream, struct span *data)
{
	const struct execution *execution = stream->execution;
	const struct buffer *kept = &execution->output[stream->which];
	uint64_t written = execution->output_bytes[stream->which];

	*data = (struct span){ 0 };
	if (stream->offset < kept->size) {
		*data = span_make(kept->data + stream->offset, kept->size - (size_t)stream->offset);
		return OUTPUT_STREAM_DATA;
	}
	if (written > kept->size)
		return OUTPUT_STREAM_LOST;
	if (execution->state <= EXECUTION_POOL)
		return OUTPUT_STREAM_WAIT;
	stream->beyond = stream->offset > written;
	return OUTPUT_STREAM_END;
}

void output_stream_close(struct output_stream *stream)
{
	struct execution *execution = stream->execution;

	if (!execution)
		return;
	list_remove(&stream->link);
	execution->service->readers--;
	stream->execution = NULL;
	execution_settle(execution);
}
