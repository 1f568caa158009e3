/* Written field by field: output and results are nested three deep, and copied once. */
#include "gateway/pool/operation.h"

#include "proto/pb.h"

#define OPERATION_OUTPUT_FIELD 50000     /* of ExecuteOperationMetadata, see proto/sluice.v1.proto */

static void put_stream_name(struct buffer *out, uint32_t number, const char *operation, const char *stream)
{
	size_t mark = pb_begin(out, number);

	buffer_put_text(out, operation);
	buffer_put_text(out, stream);
	pb_end(out, mark);
}

static void put_head(struct buffer *out, const struct operation_head *head)
{
	struct reapi_execute_metadata metadata = { .stage = head->stage, .action_digest = head->action };
	size_t any, value, nested;

	pb_put_text(out, 1, head->name);
	any = pb_begin(out, 2);
	pb_put_text(out, 1, REAPI_TYPE_METADATA);
	value = pb_begin(out, 2);
	message_encode(&reapi_execute_metadata_type, out, &metadata);
	if (head->has_streams) {
		put_stream_name(out, 3, head->name, "/stdout");
		put_stream_name(out, 4, head->name, "/stderr");
	}
	if (head->output) {
		nested = pb_begin(out, OPERATION_OUTPUT_FIELD);
		message_encode(&execute_output_type, out, head->output);
		pb_end(out, nested);
	}
	pb_end(out, value);
	pb_end(out, any);
}

void operation_put_progress(struct buffer *out, const struct operation_head *head)
{
	put_head(out, head);
}

void operation_put_end(struct buffer *out, const struct operation_head *head, const struct operation_response *response)
{
	size_t any, value;

	put_head(out, head);
	pb_put_bool(out, 3, true);
	any = pb_begin(out, 5);
	pb_put_text(out, 1, REAPI_TYPE_RESPONSE);
	value = pb_begin(out, 2);
	if (response->result.size || !response->status.size)
		pb_put_bytes_always(out, 1, response->result);
	pb_put_bool(out, 2, response->cached);
	pb_put_bytes_always(out, 3, response->status);
	if (response->message)
		pb_put_text(out, 5, response->message);
	pb_end(out, value);
	pb_end(out, any);
}
