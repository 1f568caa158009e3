/*
 * reapi: the Remote Execution API v2 messages that sluice speaks today, as C structs for message.h.
 * Source: build/bazel/remote/execution/v2/remote_execution.proto (v2.12); google/longrunning, google/rpc/status.proto.
 */
#pragma once

#include "proto/message.h"

#define REAPI_EXECUTE "/build.bazel.remote.execution.v2.Execution/Execute"

#define REAPI_TYPE_METADATA "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteOperationMetadata"
#define REAPI_TYPE_RESPONSE "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteResponse"

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
	struct span platform;
	struct span working_directory;
	struct message_list output_paths;
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
	struct span sluice_output;               /* field 50000: sluice.v1.ExecuteOutput */
};
struct reapi_execute_response {
	struct span result;                      /* ActionResult */
	bool cached_result;
	struct span status;                      /* Status */
	struct span message;
};
struct reapi_action_result {
	struct message_list output_directories;
	int32_t exit_code;
	struct span stdout_raw;
	struct digest stdout_digest;
	struct span stderr_raw;
	struct digest stderr_digest;
};
struct reapi_output_directory {
	struct span path;
	struct digest root_directory_digest;
};
struct reapi_status {
	uint32_t code;
	struct span message;
};

extern const struct message_type reapi_execute_request_type, reapi_action_type, reapi_command_type,
	reapi_variable_type, reapi_platform_type, reapi_duration_type, reapi_any_type, reapi_operation_type,
	reapi_execute_metadata_type, reapi_execute_response_type, reapi_action_result_type,
	reapi_output_directory_type, reapi_status_type;
