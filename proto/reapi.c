/* The REAPI messages of reapi.h as tables. */
#include "proto/reapi.h"

MESSAGE_TYPE(reapi_execute_request_type, struct reapi_execute_request,
	     MESSAGE_FIELD(struct reapi_execute_request, instance_name, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_execute_request, skip_cache_lookup, 3, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct reapi_execute_request, action_digest, 6, MESSAGE_DIGEST),
	     MESSAGE_FIELD(struct reapi_execute_request, digest_function, 9, MESSAGE_UINT32));
MESSAGE_TYPE(reapi_operation_request_type, struct reapi_operation_request,
	     MESSAGE_FIELD(struct reapi_operation_request, name, 1, MESSAGE_BYTES));
MESSAGE_TYPE(reapi_action_type, struct reapi_action,
	     MESSAGE_FIELD(struct reapi_action, command_digest, 1, MESSAGE_DIGEST),
	     MESSAGE_FIELD(struct reapi_action, input_root_digest, 2, MESSAGE_DIGEST),
	     MESSAGE_FIELD(struct reapi_action, timeout, 6, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct reapi_action, do_not_cache, 7, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct reapi_action, salt, 9, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_action, platform, 10, MESSAGE_PRESENT));
MESSAGE_TYPE(reapi_command_type, struct reapi_command,
	     MESSAGE_FIELD(struct reapi_command, arguments, 1, MESSAGE_LIST),
	     MESSAGE_FIELD(struct reapi_command, environment, 2, MESSAGE_LIST),
	     MESSAGE_FIELD(struct reapi_command, output_files, 3, MESSAGE_LIST),
	     MESSAGE_FIELD(struct reapi_command, output_directories, 4, MESSAGE_LIST),
	     MESSAGE_FIELD(struct reapi_command, platform, 5, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct reapi_command, working_directory, 6, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_command, output_paths, 7, MESSAGE_LIST),
	     MESSAGE_FIELD(struct reapi_command, output_node_properties, 8, MESSAGE_LIST));
MESSAGE_TYPE(reapi_variable_type, struct reapi_variable,
	     MESSAGE_FIELD(struct reapi_variable, name, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_variable, value, 2, MESSAGE_BYTES));
MESSAGE_TYPE(reapi_platform_type, struct reapi_platform,
	     MESSAGE_FIELD(struct reapi_platform, properties, 1, MESSAGE_LIST));
MESSAGE_TYPE(reapi_duration_type, struct reapi_duration,
	     MESSAGE_FIELD(struct reapi_duration, seconds, 1, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct reapi_duration, nanos, 2, MESSAGE_UINT32));
MESSAGE_TYPE(reapi_any_type, struct reapi_any,
	     MESSAGE_FIELD(struct reapi_any, type_url, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_any, value, 2, MESSAGE_BYTES));
MESSAGE_TYPE(reapi_operation_type, struct reapi_operation,
	     MESSAGE_FIELD(struct reapi_operation, name, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_operation, metadata, 2, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct reapi_operation, done, 3, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct reapi_operation, error, 4, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct reapi_operation, response, 5, MESSAGE_PRESENT));
MESSAGE_TYPE(reapi_execute_metadata_type, struct reapi_execute_metadata,
	     MESSAGE_FIELD(struct reapi_execute_metadata, stage, 1, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct reapi_execute_metadata, action_digest, 2, MESSAGE_DIGEST),
	     MESSAGE_FIELD(struct reapi_execute_metadata, stdout_stream_name, 3, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_execute_metadata, stderr_stream_name, 4, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_execute_metadata, sluice_output, 50000, MESSAGE_PRESENT));
MESSAGE_TYPE(reapi_execute_response_type, struct reapi_execute_response,
	     MESSAGE_FIELD(struct reapi_execute_response, result, 1, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct reapi_execute_response, cached_result, 2, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct reapi_execute_response, status, 3, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct reapi_execute_response, message, 5, MESSAGE_BYTES));
MESSAGE_TYPE(reapi_action_result_type, struct reapi_action_result,
	     MESSAGE_FIELD(struct reapi_action_result, output_files, 2, MESSAGE_LIST),
	     MESSAGE_FIELD(struct reapi_action_result, output_directories, 3, MESSAGE_LIST),
	     MESSAGE_FIELD(struct reapi_action_result, exit_code, 4, MESSAGE_INT32),
	     MESSAGE_FIELD(struct reapi_action_result, stdout_raw, 5, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_action_result, stdout_digest, 6, MESSAGE_DIGEST),
	     MESSAGE_FIELD(struct reapi_action_result, stderr_raw, 7, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_action_result, stderr_digest, 8, MESSAGE_DIGEST),
	     MESSAGE_FIELD(struct reapi_action_result, execution_metadata, 9, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_action_result, output_file_symlinks, 10, MESSAGE_LIST),
	     MESSAGE_FIELD(struct reapi_action_result, output_directory_symlinks, 11, MESSAGE_LIST),
	     MESSAGE_FIELD(struct reapi_action_result, output_symlinks, 12, MESSAGE_LIST));
MESSAGE_TYPE(reapi_output_file_type, struct reapi_output_file,
	     MESSAGE_FIELD(struct reapi_output_file, path, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_output_file, digest, 2, MESSAGE_DIGEST),
	     MESSAGE_FIELD(struct reapi_output_file, is_executable, 4, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct reapi_output_file, node_properties, 7, MESSAGE_BYTES));
MESSAGE_TYPE(reapi_output_symlink_type, struct reapi_output_symlink,
	     MESSAGE_FIELD(struct reapi_output_symlink, path, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_output_symlink, target, 2, MESSAGE_BYTES));
MESSAGE_TYPE(reapi_executed_metadata_type, struct reapi_executed_metadata,
	     MESSAGE_FIELD(struct reapi_executed_metadata, worker, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_executed_metadata, queued, 2, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_executed_metadata, worker_start, 3, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_executed_metadata, worker_completed, 4, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_executed_metadata, fetch_start, 5, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_executed_metadata, fetch_completed, 6, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_executed_metadata, execution_start, 7, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_executed_metadata, execution_completed, 8, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_executed_metadata, upload_start, 9, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_executed_metadata, upload_completed, 10, MESSAGE_BYTES));
MESSAGE_TYPE(reapi_output_directory_type, struct reapi_output_directory,
	     MESSAGE_FIELD(struct reapi_output_directory, path, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_output_directory, tree_digest, 3, MESSAGE_DIGEST),
	     MESSAGE_FIELD(struct reapi_output_directory, root_directory_digest, 5, MESSAGE_DIGEST));
MESSAGE_TYPE(reapi_status_type, struct reapi_status,
	     MESSAGE_FIELD(struct reapi_status, code, 1, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct reapi_status, message, 2, MESSAGE_BYTES));
MESSAGE_TYPE(reapi_violation_type, struct reapi_violation,
	     MESSAGE_FIELD(struct reapi_violation, type, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_violation, subject, 2, MESSAGE_BYTES));
