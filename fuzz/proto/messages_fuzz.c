/*
 * Property: every message type decodes arbitrary bytes without reading past them, what it decodes encodes again, and
 * that encoding decodes to the same encoding (a fixed point). The first byte chooses the type.
 */
#include <assert.h>
#include <stdlib.h>

#include "proto/buildkit.h"
#include "proto/buildkit_solve.h"
#include "proto/buildkit_status.h"
#include "proto/reapi.h"
#include "proto/reapi_cas.h"
#include "proto/sluice_context.h"
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
	&buildkit_list_workers_response_type, &buildkit_worker_record_type, &buildkit_platform_type,
	&buildkit_version_type, &buildkit_info_response_type, &buildkit_pong_response_type, &buildkit_capability_type,
	&buildkit_disk_usage_response_type, &buildkit_usage_record_type, &buildkit_history_request_type,
	&buildkit_update_history_request_type, &buildkit_solve_request_type, &buildkit_cache_options_type,
	&buildkit_exporter_type, &buildkit_solve_response_type, &buildkit_llb_solve_response_type,
	&buildkit_llb_return_request_type, &buildkit_status_request_type,
	&builds_request_type, &builds_response_type, &build_line_type,
	&executor_spawn_start_type, &executor_spawn_stop_type, &executor_spawn_event_type,
	&context_request_type, &context_ask_type, &context_response_type, &context_root_type,
	&link_message_type, &link_hello_type, &link_welcome_type,
	&reapi_operation_request_type, &reapi_output_file_type, &reapi_output_symlink_type, &reapi_executed_metadata_type,
	&reapi_find_missing_request_type, &reapi_batch_update_request_type, &reapi_batch_update_blob_type,
	&reapi_batch_read_request_type, &reapi_get_tree_request_type, &reapi_split_request_type,
	&reapi_splice_request_type, &reapi_get_result_request_type, &reapi_update_result_request_type,
	&reapi_result_names_type, &reapi_violation_type, &reapi_tree_type, &reapi_directory_type, &reapi_node_type,
	&bytestream_read_request_type, &bytestream_write_request_type, &bytestream_query_request_type,
	&push_sign_request_type, &push_signed_type, &push_below_names_type,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_list(const struct message_field *field)
{
	return field->kind == MESSAGE_LIST || field->kind == MESSAGE_MAP;
}

/* A decoded list walks as many elements as were counted, and a map as many pairs: each was checked. */
static void walk_list(const struct message_field *field, const struct message_list *list)
{
	struct message_cursor cursor = { 0 };
	struct message_pair pair;
	struct span element;
	uint32_t count = 0;

	if (field->kind == MESSAGE_MAP)
		while (message_map_next(list, &cursor, &pair))
			count++;
	else
		while (message_list_next(list, &cursor, &element))
			count++;
	assert(count == list->count);
}

static void round_trip(const struct message_type *type, struct span bytes)
{
	struct buffer once = buffer_heap(1 << 20), twice = buffer_heap(1 << 20);
	void *message = calloc(1, type->size), *again = calloc(1, type->size);

	if (message_decode(type, bytes, message)) {
		bool lists = false;

		/*
		 * A decoded list stands for the whole message it came from, so only list-free types are a fixed
		 * point.
		 */
		for (size_t i = 0; i < type->count; i++)
			lists |= is_list(&type->fields[i]);
		message_encode(type, &once, message);
		if (!lists && !once.failed) {
			assert(message_decode(type, buffer_span(&once), again));
			message_encode(type, &twice, again);
			assert(span_equal(buffer_span(&once), buffer_span(&twice)));
		}
		for (size_t i = 0; i < type->count; i++)
			if (is_list(&type->fields[i]))
				walk_list(&type->fields[i], (const void *)((char *)message + type->fields[i].offset));
	}
	free(message);
	free(again);
	buffer_fini(&once);
	buffer_fini(&twice);
}

/* What was accepted says itself how many there are and how long. */
static void walk_bases(const struct packed_delta *delta)
{
	struct span rest = delta->bases;
	struct digest base;
	uint64_t bytes = 0;
	size_t count = 0;

	for (; digest_list_next(&rest, &base); count++)
		bytes += base.size;
	assert(rest.size == 0 && count >= 1 && count <= SLUICE_BASES_MAX);
	assert(bytes == delta->bases_bytes && bytes <= SLUICE_BASES_BYTES);
}

static void walk_bulk(struct span bytes)
{
	struct packed_delta delta;
	struct packed_blob blob;
	struct span rest = bytes;
	struct digest digest;
	bool failed = false;

	while (pack_next(&rest, &blob, &failed))
		assert(blob.data.size <= bytes.size);
	rest = bytes;
	failed = false;
	while (delta_next(&rest, &delta, &failed))
		walk_bases(&delta);
	rest = bytes;
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
