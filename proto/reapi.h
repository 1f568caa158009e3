/*
 * reapi: the Remote Execution API v2 messages that sluice speaks today, as C structs for message.h.
 * Source: build/bazel/remote/execution/v2/remote_execution.proto (v2.12); google/longrunning, google/rpc/status.proto.
 */
#pragma once

#include "proto/message.h"

#define REAPI_EXECUTE          "/build.bazel.remote.execution.v2.Execution/Execute"
#define REAPI_WAIT_EXECUTION   "/build.bazel.remote.execution.v2.Execution/WaitExecution"
#define REAPI_GET_OPERATION    "/google.longrunning.Operations/GetOperation"
#define REAPI_CANCEL_OPERATION "/google.longrunning.Operations/CancelOperation"

#define REAPI_TYPE_METADATA "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteOperationMetadata"
#define REAPI_TYPE_RESPONSE "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteResponse"

/* The message of a status DEADLINE_EXCEEDED: clients (siso) tell an action's time-out from their call's own by these very words. */
#define REAPI_TEXT_TIMED_OUT "execution timeout exceeded"

enum reapi_stage {
	REAPI_STAGE_CACHE_CHECK = 1,
	REAPI_STAGE_QUEUED = 2,
	REAPI_STAGE_EXECUTING = 3,
	REAPI_STAGE_COMPLETED = 4,
};

struct reapi_execute_request {
	struct span instance_name;
	bool skip_cache_lookup;
	struct digest action_digest;
	uint32_t digest_function;                /* enum reapi_digest_function, see reapi_cas.h */
};
struct reapi_operation_request {                 /* WaitExecutionRequest, GetOperationRequest, CancelOperationRequest */
	struct span name;
};
struct reapi_action {
	struct digest command_digest, input_root_digest;
	struct span timeout;                     /* Duration */
	bool do_not_cache;
	struct span salt;
	struct span platform;                    /* Platform */
};
struct reapi_command {
	struct message_list arguments;
	struct message_list environment;         /* EnvironmentVariable */
	struct message_list output_files, output_directories;    /* before v2.1 */
	struct span platform;
	struct span working_directory;
	struct message_list output_paths;
	struct message_list output_node_properties;
};
struct reapi_variable {                          /* EnvironmentVariable, Platform.Property */
	struct span name, value;
};
struct reapi_platform {
	struct message_list properties;
};
struct reapi_duration {
	uint64_t seconds;
	uint32_t nanos;
};
struct reapi_any {
	struct span type_url, value;
};
struct reapi_operation {
	struct span name;
	struct span metadata;                    /* Any */
	bool done;
	struct span error;                       /* Status */
	struct span response;                    /* Any */
};
struct reapi_execute_metadata {
	uint32_t stage;
	struct digest action_digest;
	struct span stdout_stream_name, stderr_stream_name;
	struct span sluice_output;               /* field 50000: sluice.v1.ExecuteOutput */
};
struct reapi_execute_response {
	struct span result;                      /* ActionResult */
	bool cached_result;
	struct span status;                      /* Status */
	struct span message;
};
struct reapi_action_result {
	struct message_list output_files, output_directories;
	int32_t exit_code;
	struct span stdout_raw;
	struct digest stdout_digest;
	struct span stderr_raw;
	struct digest stderr_digest;
	struct span execution_metadata;          /* ExecutedActionMetadata */
	struct message_list output_file_symlinks, output_directory_symlinks, output_symlinks;
};
struct reapi_output_file {
	struct span path;
	struct digest digest;
	bool is_executable;
	struct span node_properties;
};
struct reapi_output_directory {
	struct span path;
	struct digest tree_digest;               /* of a Tree */
	struct digest root_directory_digest;
};
struct reapi_output_symlink {
	struct span path, target;
};
struct reapi_executed_metadata {                 /* ExecutedActionMetadata; the times are Timestamps */
	struct span worker, queued, worker_start, worker_completed, fetch_start, fetch_completed, execution_start,
	            execution_completed, upload_start, upload_completed;
};
struct reapi_status {
	uint32_t code;
	struct span message;
};
struct reapi_violation {                         /* PreconditionFailure.Violation */
	struct span type, subject;
};

extern const struct message_type reapi_execute_request_type, reapi_action_type, reapi_command_type,
	reapi_variable_type, reapi_platform_type, reapi_duration_type, reapi_any_type, reapi_operation_type,
	reapi_execute_metadata_type, reapi_execute_response_type, reapi_action_result_type,
	reapi_output_directory_type, reapi_status_type, reapi_operation_request_type, reapi_output_file_type,
	reapi_output_symlink_type, reapi_executed_metadata_type, reapi_violation_type;
