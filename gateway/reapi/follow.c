/* From an execution's output to a Read. */
#include "gateway/reapi/follow.h"

#include "gateway/base/list.h"
#include "gateway/reapi/rpc.h"
#include "proto/pb.h"

#define FOLLOW_MESSAGE_BYTES (64u << 10)
#define FOLLOW_HEAD_BYTES    8           /* of a response besides the data */

static void follow_answer(struct follow *follow, enum grpc_status status, const char *text)
{
	output_stream_close(&follow->stream);
	sending_end(&follow->sending);
	follow->over = true;
	call_finish(follow->call, status, text);
}

static void follow_send(struct follow *follow, struct span data)
{
	uint8_t head[FOLLOW_HEAD_BYTES] = { 10 << 3 | PB_BYTES };
	struct span parts[2];

	if (data.size > FOLLOW_MESSAGE_BYTES)
		data.size = FOLLOW_MESSAGE_BYTES;
	if (data.size > follow->left)
		data.size = follow->left;
	parts[0] = span_make(head, (size_t)(pb_varint_write(head + 1, data.size) - head));
	parts[1] = data;
	call_send_parts(follow->call, parts, 2);
	output_stream_taken(&follow->stream, data.size);
	follow->reapi->counters.bytes_sent += data.size;
	if (follow->left != UINT64_MAX)
		follow->left -= data.size;
}

static void follow_end_of_output(struct follow *follow)
{
	if (follow->stream.beyond)
		follow_answer(follow, GRPC_OUT_OF_RANGE, "read_offset lies behind the end of the output");
	else
		follow_answer(follow, GRPC_OK, NULL);
}

/* False: nothing more can go out now, or the call is answered. */
static bool follow_once(struct follow *follow)
{
	struct span data;

	if (follow->left == 0) {
		follow_answer(follow, GRPC_OK, NULL);
		return false;
	}
	switch (output_stream_next(&follow->stream, &data)) {
	case OUTPUT_STREAM_DATA:
		follow_send(follow, data);
		return true;
	case OUTPUT_STREAM_WAIT:
		return false;
	case OUTPUT_STREAM_END:
		follow_end_of_output(follow);
		return false;
	case OUTPUT_STREAM_LOST:
		follow_answer(follow, GRPC_DATA_LOSS, "the action wrote more than the 4194304 bytes that are kept");
		return false;
	}
	return false;
}

/* Only who is to take something can be slow. */
static void follow_note_room(struct follow *follow, bool full)
{
	if (full == follow->full)
		return;
	follow->full = full;
	if (full)
		sending_begin(&follow->sending, follow->reapi, follow->call);
	else
		sending_end(&follow->sending);
}

void follow_step(struct follow *follow)
{
	while (!follow->over && call_has_room(follow->call)) {
		follow_note_room(follow, false);
		if (!follow_once(follow))
			return;
	}
	if (!follow->over)
		follow_note_room(follow, true);
}

static void follow_on_more(struct output_stream *stream)
{
	follow_step(container_of(stream, struct follow, stream));
}

void follow_begin(struct follow *follow, struct reapi *reapi, struct call *call, const struct scope *scope,
                  const struct reapi_resource *resource, const struct bytestream_read_request *request)
{
	const char *why = "actions are not run here";
	enum grpc_status status = GRPC_NOT_FOUND;

	*follow = (struct follow){
		.reapi = reapi, .call = call, .left = request->read_limit > 0 ? (uint64_t)request->read_limit : UINT64_MAX,
		.stream.on_more = follow_on_more,
	};
	if (request->read_limit < 0 || request->read_offset < 0) {
		status = request->read_limit < 0 ? GRPC_INVALID_ARGUMENT : GRPC_OUT_OF_RANGE;
		why = "read_offset and read_limit may not be negative";
	} else if (reapi->execute) {
		status = output_stream_open(&follow->stream, reapi->execute, scope, resource->operation, resource->stream,
		                            (uint64_t)request->read_offset, &why);
	}
	if (status != GRPC_OK)
		follow_answer(follow, status, why);
	else
		follow_step(follow);
}

void follow_end(struct follow *follow)
{
	output_stream_close(&follow->stream);
	sending_end(&follow->sending);
}
