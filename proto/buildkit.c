/* BuildKit's smaller messages as tables, BytesMessage, and usage records under a prefix. */
#include "proto/buildkit.h"

#include <assert.h>

#include "proto/pb.h"

enum { BYTES_FIELD_DATA = 1 };
enum { DISK_USAGE_FIELD_RECORD = 1 };
enum { USAGE_FIELD_ID = 1, USAGE_FIELD_PARENT = 5, USAGE_FIELD_PARENTS = 12 };

MESSAGE_TYPE(buildkit_list_workers_response_type, struct buildkit_list_workers_response,
	     MESSAGE_FIELD(struct buildkit_list_workers_response, records, 1, MESSAGE_LIST));
MESSAGE_TYPE(buildkit_worker_record_type, struct buildkit_worker_record,
	     MESSAGE_FIELD(struct buildkit_worker_record, id, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_worker_record, labels, 2, MESSAGE_MAP),
	     MESSAGE_FIELD(struct buildkit_worker_record, platforms, 3, MESSAGE_LIST),
	     MESSAGE_FIELD(struct buildkit_worker_record, gc_policies, 4, MESSAGE_LIST),
	     MESSAGE_FIELD(struct buildkit_worker_record, version, 5, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct buildkit_worker_record, cdi_devices, 6, MESSAGE_LIST));
MESSAGE_TYPE(buildkit_platform_type, struct buildkit_platform,
	     MESSAGE_FIELD(struct buildkit_platform, architecture, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_platform, os, 2, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_platform, variant, 3, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_platform, os_version, 4, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_platform, os_features, 5, MESSAGE_LIST));
MESSAGE_TYPE(buildkit_version_type, struct buildkit_version,
	     MESSAGE_FIELD(struct buildkit_version, package, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_version, version, 2, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_version, revision, 3, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_version, dockerfile_version, 4, MESSAGE_BYTES));
MESSAGE_TYPE(buildkit_info_response_type, struct buildkit_info_response,
	     MESSAGE_FIELD(struct buildkit_info_response, version, 1, MESSAGE_PRESENT));
MESSAGE_TYPE(buildkit_pong_response_type, struct buildkit_pong_response,
	     MESSAGE_FIELD(struct buildkit_pong_response, frontend_capabilities, 1, MESSAGE_LIST),
	     MESSAGE_FIELD(struct buildkit_pong_response, llb_capabilities, 2, MESSAGE_LIST),
	     MESSAGE_FIELD(struct buildkit_pong_response, workers, 3, MESSAGE_LIST));
MESSAGE_TYPE(buildkit_capability_type, struct buildkit_capability,
	     MESSAGE_FIELD(struct buildkit_capability, id, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_capability, enabled, 2, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct buildkit_capability, deprecated, 3, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct buildkit_capability, disabled_reason, 4, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_capability, disabled_reason_message, 5, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_capability, disabled_alternative, 6, MESSAGE_BYTES));
MESSAGE_TYPE(buildkit_disk_usage_response_type, struct buildkit_disk_usage_response,
	     MESSAGE_FIELD(struct buildkit_disk_usage_response, records, DISK_USAGE_FIELD_RECORD, MESSAGE_LIST));
MESSAGE_TYPE(buildkit_usage_record_type, struct buildkit_usage_record,
	     MESSAGE_FIELD(struct buildkit_usage_record, id, USAGE_FIELD_ID, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_usage_record, mutable, 2, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct buildkit_usage_record, in_use, 3, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct buildkit_usage_record, size_bytes, 4, MESSAGE_INT64),
	     MESSAGE_FIELD(struct buildkit_usage_record, parent, USAGE_FIELD_PARENT, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_usage_record, created_at, 6, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct buildkit_usage_record, last_used_at, 7, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct buildkit_usage_record, usage_count, 8, MESSAGE_INT64),
	     MESSAGE_FIELD(struct buildkit_usage_record, description, 9, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_usage_record, record_type, 10, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_usage_record, shared, 11, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct buildkit_usage_record, parents, USAGE_FIELD_PARENTS, MESSAGE_LIST));
MESSAGE_TYPE(buildkit_history_request_type, struct buildkit_history_request,
	     MESSAGE_FIELD(struct buildkit_history_request, active_only, 1, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct buildkit_history_request, ref, 2, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_history_request, early_exit, 3, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct buildkit_history_request, filters, 4, MESSAGE_LIST),
	     MESSAGE_FIELD(struct buildkit_history_request, limit, 5, MESSAGE_INT32));
MESSAGE_TYPE(buildkit_update_history_request_type, struct buildkit_update_history_request,
	     MESSAGE_FIELD(struct buildkit_update_history_request, ref, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_update_history_request, pinned, 2, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct buildkit_update_history_request, delete, 3, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct buildkit_update_history_request, finalize, 4, MESSAGE_BOOL));

bool bytes_message_decode(struct span message, struct span *data)
{
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field;

	*data = (struct span){ 0 };
	while (pb_next(&reader, &field))
		if (field.number == BYTES_FIELD_DATA && !pb_as_bytes(&reader, &field, data))
			return false;
	return !reader.failed;
}

/* The bytes of the head, when all that follows it in the message is data; else 0. */
static size_t bytes_message_only_head(struct span part, size_t left)
{
	uint64_t size = 0;
	size_t at = 1;

	if (part.size < BYTES_MESSAGE_HEAD_MAX || part.data[0] != (BYTES_FIELD_DATA << 3 | PB_BYTES))
		return 0;
	do
		size |= (uint64_t)(part.data[at] & 0x7f) << (7 * (at - 1));
	while (part.data[at++] & 0x80 && at < BYTES_MESSAGE_HEAD_MAX);
	return !(part.data[at - 1] & 0x80) && size == part.size - at + left ? at : 0;
}

bool bytes_message_part(struct bytes_message_reader *reader, struct span part, size_t left, struct span *data)
{
	size_t head = reader->passing || reader->collected.size ? 0 : bytes_message_only_head(part, left);

	*data = (struct span){ 0 };
	if (head || reader->passing) {
		*data = span_make(part.data + head, part.size - head);
		reader->passing = left > 0;
		return true;
	}
	if (!reader->collected.size && left == 0)
		return bytes_message_decode(part, data);
	if (!reader->collected.size_max)
		reader->collected = buffer_heap(SIZE_MAX);       /* the message's own bound is the call's */
	if (part.size)
		buffer_put(&reader->collected, part.data, part.size);
	if (left || reader->collected.failed)
		return !reader->collected.failed;
	if (!bytes_message_decode(buffer_span(&reader->collected), data))
		return false;
	reader->collected.size = 0;              /* its bytes stay until the next part */
	return true;
}

void bytes_message_reader_fini(struct bytes_message_reader *reader)
{
	buffer_fini(&reader->collected);
	*reader = (struct bytes_message_reader){ 0 };
}

size_t bytes_message_head(uint8_t *out, size_t payload_bytes)
{
	assert(payload_bytes <= UINT32_MAX);     /* what a head has room for; a message is far smaller */
	if (payload_bytes == 0)
		return 0;
	out[0] = BYTES_FIELD_DATA << 3 | PB_BYTES;
	return (size_t)(pb_varint_write(out + 1, payload_bytes) - out);
}

static bool usage_field_is_id(const struct pb_field *field)
{
	return field->number == USAGE_FIELD_ID || field->number == USAGE_FIELD_PARENT ||
	       field->number == USAGE_FIELD_PARENTS;
}

static bool usage_put_id(struct buffer *out, const struct pb_field *field, struct span prefix)
{
	size_t mark;

	if (field->wire != PB_BYTES)
		return false;
	mark = pb_begin(out, field->number);
	if (field->bytes.size)
		buffer_put(out, prefix.data, prefix.size);
	buffer_put(out, field->bytes.data, field->bytes.size);
	pb_end(out, mark);
	return true;
}

bool buildkit_usage_record_put(struct buffer *out, struct span record, struct span prefix)
{
	struct pb_reader reader = pb_reader_make(record);
	struct span before = record;
	size_t size = out->size;
	struct pb_field field;

	while (pb_next(&reader, &field)) {
		if (!usage_field_is_id(&field))
			buffer_put(out, before.data, before.size - reader.rest.size);
		else if (!usage_put_id(out, &field, prefix))
			reader.failed = true;
		before = reader.rest;
	}
	if (reader.failed)
		out->size = size;
	return !reader.failed;
}

bool buildkit_disk_usage_put(struct buffer *out, struct span response, struct span prefix)
{
	struct pb_reader reader = pb_reader_make(response);
	size_t size = out->size;
	struct pb_field field;

	while (pb_next(&reader, &field)) {
		size_t mark;

		if (field.number != DISK_USAGE_FIELD_RECORD)
			continue;
		mark = pb_begin(out, DISK_USAGE_FIELD_RECORD);
		if (field.wire != PB_BYTES || !buildkit_usage_record_put(out, field.bytes, prefix))
			reader.failed = true;
		pb_end(out, mark);
	}
	if (reader.failed)
		out->size = size;
	return !reader.failed;
}
