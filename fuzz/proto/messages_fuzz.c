/*
 * Property: every message type decodes arbitrary bytes without reading past them, what it decodes encodes again, and
 * that encoding decodes to the same encoding (a fixed point). The first byte chooses the type.
 */
#include <assert.h>
#include <stdlib.h>

#include "proto/reapi.h"
#include "proto/sluice_v1.h"

static const struct message_type *const types[] = {
	&push_request_type, &push_offer_type, &push_query_type, &push_commit_type, &push_response_type,
	&push_answer_type, &push_stored_type, &push_rejected_type, &push_committed_type, &push_missing_type,
	&fetch_request_type, &status_response_type, &pinned_root_type, &pin_request_type, &attach_request_type,
	&executor_hello_type, &executor_resolve_type, &executor_resolved_type, &executor_assignment_type,
	&executor_variable_type, &executor_output_type, &executor_finished_type, &attach_response_type,
	&execute_output_type, &reapi_execute_request_type, &reapi_action_type, &reapi_command_type,
	&reapi_variable_type, &reapi_platform_type, &reapi_duration_type, &reapi_any_type, &reapi_operation_type,
	&reapi_execute_metadata_type, &reapi_execute_response_type, &reapi_action_result_type,
	&reapi_output_directory_type, &reapi_status_type,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(const struct message_type *type, struct span bytes)
{
	struct buffer once = buffer_heap(1 << 20), twice = buffer_heap(1 << 20);
	void *message = calloc(1, type->size), *again = calloc(1, type->size);

	if (message_decode(type, bytes, message)) {
		bool lists = false;

		/* A decoded list stands for the whole message it came from, so only list-free types are a fixed point. */
		for (size_t i = 0; i < type->count; i++)
			lists |= type->fields[i].kind == MESSAGE_LIST;
		message_encode(type, &once, message);
		if (!lists && !once.failed) {
			assert(message_decode(type, buffer_span(&once), again));
			message_encode(type, &twice, again);
			assert(span_equal(buffer_span(&once), buffer_span(&twice)));
		}
		for (size_t i = 0; i < type->count; i++) {
			struct message_cursor cursor = { 0 };
			struct span element;
			uint32_t count = 0;

			if (type->fields[i].kind != MESSAGE_LIST)
				continue;
			while (message_list_next((const void *)((char *)message + type->fields[i].offset), &cursor, &element))
				count++;
			assert(count == ((struct message_list *)(void *)((char *)message + type->fields[i].offset))->count);
		}
	}
	free(message);
	free(again);
	buffer_fini(&once);
	buffer_fini(&twice);
}

static void walk_bulk(struct span bytes)
{
	struct packed_blob blob;
	struct span rest = bytes;
	struct digest digest;
	bool failed = false;

	while (pack_next(&rest, &blob, &failed))
		assert(blob.data.size <= bytes.size);
	rest = bytes;
	failed = false;
	while (fetched_next(&rest, &blob, &failed))
		assert(blob.data.size <= bytes.size);
	rest = bytes;
	while (digest_list_next(&rest, &digest))
		;
	digest_list_count(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	round_trip(types[data[0] % (sizeof(types) / sizeof(types[0]))], span_make(data + 1, size - 1));
	walk_bulk(span_make(data + 1, size - 1));
	return 0;
}
