/*
 * Shows that every table of a message has the numbers and wire kinds that protobuf's own descriptors have: tests encode with the
 * tables that decode what they encoded, so a wrong number would cancel out. The descriptors are REAPI's own by interop's tests.
 * The sources named in the arguments are searched for tables, so that none is left out here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "proto/descriptors.h"
#include "proto/pb.h"
#include "proto/reapi.h"
#include "proto/reapi_cas.h"
#include "proto/sluice_context.h"
#include "proto/sluice_v1.h"

#define REAPI   "build.bazel.remote.execution.v2."
#define RPC     "google.rpc."
#define STREAM  "google.bytestream."
#define RUNNING "google.longrunning."
#define KNOWN   "google.protobuf."
#define SLUICE  "sluice.v1."

#define TABLE(type, full) { .name = #type, .table = &type, .message = (full) }

static const struct table {
	const char *name;
	const struct message_type *table;
	const char *message;
} tables[] = {
	TABLE(reapi_execute_request_type, REAPI "ExecuteRequest"),
	TABLE(reapi_operation_request_type, REAPI "WaitExecutionRequest"),
	TABLE(reapi_operation_request_type, RUNNING "GetOperationRequest"),
	TABLE(reapi_operation_request_type, RUNNING "CancelOperationRequest"),
	TABLE(reapi_action_type, REAPI "Action"),
	TABLE(reapi_command_type, REAPI "Command"),
	TABLE(reapi_variable_type, REAPI "Command.EnvironmentVariable"),
	TABLE(reapi_variable_type, REAPI "Platform.Property"),
	TABLE(reapi_platform_type, REAPI "Platform"),
	TABLE(reapi_duration_type, KNOWN "Duration"),
	TABLE(reapi_duration_type, KNOWN "Timestamp"),
	TABLE(reapi_any_type, KNOWN "Any"),
	TABLE(reapi_operation_type, RUNNING "Operation"),
	TABLE(reapi_execute_metadata_type, REAPI "ExecuteOperationMetadata"),
	TABLE(reapi_execute_response_type, REAPI "ExecuteResponse"),
	TABLE(reapi_action_result_type, REAPI "ActionResult"),
	TABLE(reapi_output_file_type, REAPI "OutputFile"),
	TABLE(reapi_output_symlink_type, REAPI "OutputSymlink"),
	TABLE(reapi_executed_metadata_type, REAPI "ExecutedActionMetadata"),
	TABLE(reapi_output_directory_type, REAPI "OutputDirectory"),
	TABLE(reapi_status_type, RPC "Status"),
	TABLE(reapi_violation_type, RPC "PreconditionFailure.Violation"),
	TABLE(reapi_find_missing_request_type, REAPI "FindMissingBlobsRequest"),
	TABLE(reapi_batch_update_request_type, REAPI "BatchUpdateBlobsRequest"),
	TABLE(reapi_batch_update_blob_type, REAPI "BatchUpdateBlobsRequest.Request"),
	TABLE(reapi_batch_read_request_type, REAPI "BatchReadBlobsRequest"),
	TABLE(reapi_get_tree_request_type, REAPI "GetTreeRequest"),
	TABLE(reapi_split_request_type, REAPI "SplitBlobRequest"),
	TABLE(reapi_splice_request_type, REAPI "SpliceBlobRequest"),
	TABLE(reapi_get_result_request_type, REAPI "GetActionResultRequest"),
	TABLE(reapi_update_result_request_type, REAPI "UpdateActionResultRequest"),
	TABLE(reapi_result_names_type, REAPI "ActionResult"),
	TABLE(reapi_tree_type, REAPI "Tree"),
	TABLE(reapi_directory_type, REAPI "Directory"),
	TABLE(reapi_node_type, REAPI "FileNode"),
	TABLE(reapi_node_type, REAPI "DirectoryNode"),
	TABLE(reapi_node_type, REAPI "OutputFile"),
	TABLE(bytestream_read_request_type, STREAM "ReadRequest"),
	TABLE(bytestream_write_request_type, STREAM "WriteRequest"),
	TABLE(bytestream_query_request_type, STREAM "QueryWriteStatusRequest"),
	TABLE(push_request_type, SLUICE "PushRequest"),
	TABLE(push_offer_type, SLUICE "Offer"),
	TABLE(push_query_type, SLUICE "Query"),
	TABLE(push_commit_type, SLUICE "Commit"),
	TABLE(push_sign_request_type, SLUICE "Sign"),
	TABLE(push_below_names_type, SLUICE "Below"),
	TABLE(push_signed_type, SLUICE "Signed"),
	TABLE(push_response_type, SLUICE "PushResponse"),
	TABLE(push_answer_type, SLUICE "Answer"),
	TABLE(push_stored_type, SLUICE "Stored"),
	TABLE(push_rejected_type, SLUICE "Rejected"),
	TABLE(push_committed_type, SLUICE "Committed"),
	TABLE(push_missing_type, SLUICE "Missing"),
	TABLE(fetch_request_type, SLUICE "FetchRequest"),
	TABLE(status_response_type, SLUICE "StatusResponse"),
	TABLE(pinned_root_type, SLUICE "PinnedRoot"),
	TABLE(pin_request_type, SLUICE "PinRequest"),
	TABLE(builds_request_type, SLUICE "BuildsRequest"),
	TABLE(builds_response_type, SLUICE "BuildsResponse"),
	TABLE(build_line_type, SLUICE "Build"),
	TABLE(context_request_type, SLUICE "ContextRequest"),
	TABLE(context_ask_type, SLUICE "ContextAsk"),
	TABLE(context_response_type, SLUICE "ContextResponse"),
	TABLE(context_root_type, SLUICE "ContextRoot"),
	TABLE(attach_request_type, SLUICE "AttachRequest"),
	TABLE(executor_hello_type, SLUICE "Hello"),
	TABLE(executor_resolve_type, SLUICE "Resolve"),
	TABLE(executor_resolved_type, SLUICE "Resolved"),
	TABLE(executor_assignment_type, SLUICE "Assignment"),
	TABLE(executor_variable_type, SLUICE "Variable"),
	TABLE(executor_output_type, SLUICE "Output"),
	TABLE(executor_finished_type, SLUICE "Finished"),
	TABLE(attach_response_type, SLUICE "AttachResponse"),
	TABLE(executor_spawn_start_type, SLUICE "SpawnStart"),
	TABLE(executor_spawn_stop_type, SLUICE "SpawnStop"),
	TABLE(executor_spawn_event_type, SLUICE "SpawnEvent"),
	TABLE(execute_output_type, SLUICE "ExecuteOutput"),
	TABLE(link_message_type, SLUICE "LinkMessage"),
	TABLE(link_hello_type, SLUICE "LinkHello"),
	TABLE(link_welcome_type, SLUICE "LinkWelcome"),
};

/* ---- descriptors ---- */

enum { FILE_FIELD_PACKAGE = 2, FILE_FIELD_MESSAGE = 4 };
enum { DESCRIPTOR_FIELD_NAME = 1, DESCRIPTOR_FIELD_FIELD = 2, DESCRIPTOR_FIELD_NESTED = 3 };
enum { FIELD_FIELD_NUMBER = 3, FIELD_FIELD_LABEL = 4, FIELD_FIELD_TYPE = 5, FIELD_FIELD_TYPE_NAME = 6 };
enum { LABEL_REPEATED = 3 };
/* FieldDescriptorProto.Type, as far as the tables have a kind for it. */
enum { TYPE_INT64 = 3, TYPE_UINT64 = 4, TYPE_INT32 = 5, TYPE_BOOL = 8, TYPE_STRING = 9, TYPE_MESSAGE = 11, TYPE_BYTES = 12,
       TYPE_UINT32 = 13, TYPE_ENUM = 14 };

struct described {
	uint64_t type, label;
	struct span type_name;
};

static struct span bytes_of(struct span message, uint32_t number)
{
	struct pb_reader reader = pb_reader_make(message);
	struct span bytes = { 0 };
	struct pb_field field;

	while (pb_next(&reader, &field))
		if (field.number == number)
			assert_true(pb_as_bytes(&reader, &field, &bytes));
	return bytes;
}

static uint64_t number_of(struct span message, uint32_t number)
{
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field;
	uint64_t value = 0;

	while (pb_next(&reader, &field))
		if (field.number == number)
			assert_true(pb_as_uint64(&reader, &field, &value));
	return value;
}

/* The message in `file`, whose field `number` holds messages, that `path` leads to: names with dots between. */
static struct span descriptor_below(struct span file, uint32_t number, const char *path)
{
	struct pb_reader reader = pb_reader_make(file);
	size_t size = strcspn(path, ".");
	struct pb_field field;

	while (pb_next(&reader, &field))
		if (field.number == number && span_equal(bytes_of(field.bytes, DESCRIPTOR_FIELD_NAME), span_make(path, size)))
			return path[size] ? descriptor_below(field.bytes, DESCRIPTOR_FIELD_NESTED, path + size + 1) : field.bytes;
	return (struct span){ 0 };
}

static struct span descriptor_of(const char *message)
{
	struct span file = descriptors_file_of(span_text(message));
	struct span descriptor = descriptor_below(file, FILE_FIELD_MESSAGE, message + bytes_of(file, FILE_FIELD_PACKAGE).size + 1);

	if (!descriptor.data)
		fail_msg("nothing describes %s", message);
	return descriptor;
}

static bool describe(struct span descriptor, uint32_t number, struct described *described)
{
	struct pb_reader reader = pb_reader_make(descriptor);
	struct pb_field field;

	while (pb_next(&reader, &field))
		if (field.number == DESCRIPTOR_FIELD_FIELD && number_of(field.bytes, FIELD_FIELD_NUMBER) == number) {
			*described = (struct described){
				.type = number_of(field.bytes, FIELD_FIELD_TYPE), .label = number_of(field.bytes, FIELD_FIELD_LABEL),
				.type_name = bytes_of(field.bytes, FIELD_FIELD_TYPE_NAME),
			};
			return true;
		}
	return false;
}

/* ---- what a table says of a field ---- */

static bool is_integer(uint64_t type)
{
	return type == TYPE_INT64 || type == TYPE_UINT64 || type == TYPE_INT32 || type == TYPE_UINT32 || type == TYPE_ENUM;
}

static bool is_bytes(uint64_t type)
{
	return type == TYPE_STRING || type == TYPE_BYTES || type == TYPE_MESSAGE;
}

static bool kind_fits(enum message_kind kind, const struct described *described)
{
	bool repeated = described->label == LABEL_REPEATED;

	switch (kind) {
	case MESSAGE_BOOL:
		return !repeated && described->type == TYPE_BOOL;
	case MESSAGE_UINT32:
	case MESSAGE_INT32:
	case MESSAGE_UINT64:
	case MESSAGE_INT64:
		return !repeated && is_integer(described->type);
	case MESSAGE_SET:
		return repeated && described->type == TYPE_ENUM;
	case MESSAGE_BYTES:
	case MESSAGE_PRESENT:
		return !repeated && is_bytes(described->type);
	case MESSAGE_DIGEST:
		return !repeated && described->type == TYPE_MESSAGE && span_is(described->type_name, "." REAPI "Digest");
	case MESSAGE_LIST:
	case MESSAGE_MAP:
		return repeated && is_bytes(described->type);
	}
	return false;
}

/* Ours in REAPI's message: its other readers skip it. */
static bool is_ours(const struct table *table, uint32_t number)
{
	return table->table == &reapi_execute_metadata_type && number == 50000;
}

static void numbers_and_kinds_are_the_descriptors(void **state)
{
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		const struct message_type *table = tables[i].table;
		struct span descriptor = descriptor_of(tables[i].message);

		for (size_t j = 0; j < table->count; j++) {
			struct described described = { 0 };

			if (is_ours(&tables[i], table->fields[j].number))
				continue;
			if (!describe(descriptor, table->fields[j].number, &described))
				fail_msg("%s has no field %u", tables[i].message, table->fields[j].number);
			if (!kind_fits(table->fields[j].kind, &described))
				fail_msg("field %u of %s is of another kind", table->fields[j].number, tables[i].message);
		}
	}
}

/* ---- no table is left out ---- */

static char **sources;

static bool is_listed(struct span name)
{
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		if (span_is(name, tables[i].name))
			return true;
	return false;
}

static unsigned look_through(const char *path)
{
	static const char macro[] = "MESSAGE_TYPE(";
	FILE *file = fopen(path, "r");
	unsigned count = 0;
	char line[256];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		struct span name = span_make(line + sizeof(macro) - 1, 0);

		if (strncmp(line, macro, sizeof(macro) - 1) != 0)
			continue;
		name.size = strcspn((const char *)name.data, ",");
		if (!is_listed(name))
			fail_msg("%.*s of %s is compared with nothing", (int)name.size, (const char *)name.data, path);
		count++;
	}
	fclose(file);
	return count;
}

static void every_table_is_compared(void **state)
{
	unsigned count = 0;

	for (char **source = sources; *source; source++)
		count += look_through(*source);
	assert_true(count > 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_and_kinds_are_the_descriptors),
		cmocka_unit_test(every_table_is_compared),
	};

	sources = argv + 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
