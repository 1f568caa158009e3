/*
 * reapi_cas: the messages of REAPI's storage half as C structs for message.h: Capabilities, ContentAddressableStorage,
 * ActionCache, and google.bytestream.
 * Source: build/bazel/remote/execution/v2/remote_execution.proto (v2.12), google/bytestream/bytestream.proto,
 * google/rpc/error_details.proto.
 */
#pragma once

#include "proto/message.h"

#define REAPI_CAPABILITIES  "/build.bazel.remote.execution.v2.Capabilities/GetCapabilities"
#define REAPI_FIND_MISSING  "/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs"
#define REAPI_BATCH_UPDATE  "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs"
#define REAPI_BATCH_READ    "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchReadBlobs"
#define REAPI_GET_TREE      "/build.bazel.remote.execution.v2.ContentAddressableStorage/GetTree"
#define REAPI_SPLIT         "/build.bazel.remote.execution.v2.ContentAddressableStorage/SplitBlob"
#define REAPI_SPLICE        "/build.bazel.remote.execution.v2.ContentAddressableStorage/SpliceBlob"
#define REAPI_GET_RESULT    "/build.bazel.remote.execution.v2.ActionCache/GetActionResult"
#define REAPI_UPDATE_RESULT "/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult"
#define BYTESTREAM_READ     "/google.bytestream.ByteStream/Read"
#define BYTESTREAM_WRITE    "/google.bytestream.ByteStream/Write"
#define BYTESTREAM_QUERY    "/google.bytestream.ByteStream/QueryWriteStatus"
#define GRPC_HEALTH         "/grpc.health.v1.Health/Check"
#define GRPC_REFLECTION       "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
#define GRPC_REFLECTION_ALPHA "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

#define REAPI_TYPE_PRECONDITION "type.googleapis.com/google.rpc.PreconditionFailure"

enum reapi_digest_function { REAPI_DIGEST_UNKNOWN = 0, REAPI_SHA256 = 1 };
enum reapi_compressor { REAPI_IDENTITY = 0, REAPI_ZSTD = 1 };
enum reapi_chunking { REAPI_CHUNKING_UNKNOWN = 0, REAPI_FAST_CDC_2020 = 1 };
enum reapi_symlinks { REAPI_SYMLINKS_ALLOWED = 2 };

struct reapi_find_missing_request {
	struct span instance_name;
	struct message_list blob_digests;
	uint32_t digest_function;
};
struct reapi_batch_update_request {
	struct span instance_name;
	struct message_list requests;            /* reapi_batch_update_blob */
	uint32_t digest_function;
};
struct reapi_batch_update_blob {
	struct digest digest;
	struct span data;
	uint32_t compressor;
};
struct reapi_batch_read_request {
	struct span instance_name;
	struct message_list digests;
	uint32_t compressors;                    /* a bit for each enum reapi_compressor */
	uint32_t digest_function;
};
struct reapi_get_tree_request {
	struct span instance_name;
	struct digest root_digest;
	int32_t page_size;
	struct span page_token;
	uint32_t digest_function;
};
/* Its chunking function is a preference: the cuts are ours, as the response says. */
struct reapi_split_request {
	struct span instance_name;
	struct digest blob_digest;
	uint32_t digest_function;
};
struct reapi_splice_request {
	struct span instance_name;
	struct digest blob_digest;
	struct message_list chunk_digests;
	uint32_t digest_function, chunking_function;
};
struct reapi_get_result_request {
	struct span instance_name;
	struct digest action_digest;
	bool inline_stdout, inline_stderr;
	uint32_t digest_function;
};
struct reapi_update_result_request {
	struct span instance_name;
	struct digest action_digest;
	struct span action_result;
	uint32_t digest_function;
};
/* What an ActionResult names in the store. */
struct reapi_result_names {
	struct message_list output_files;        /* reapi_node: path and digest */
	struct message_list output_directories;  /* reapi_output_directory */
	struct digest stdout_digest, stderr_digest;
	struct span stdout_raw, stderr_raw;
};
struct reapi_tree {
	struct span root;                        /* Directory */
	struct message_list children;
};
/* Of a Directory in whoever's encoding: what it names. */
struct reapi_directory {
	struct message_list files, directories;  /* reapi_node */
};
struct reapi_node {
	struct span name;
	struct digest digest;
};

struct bytestream_read_request {
	struct span resource_name;
	int64_t read_offset, read_limit;
};
struct bytestream_write_request {
	struct span resource_name;
	int64_t write_offset;
	bool finish_write;
	struct span data;
};
struct bytestream_query_request {
	struct span resource_name;
};

extern const struct message_type reapi_find_missing_request_type, reapi_batch_update_request_type,
	reapi_batch_update_blob_type, reapi_batch_read_request_type, reapi_get_tree_request_type,
	reapi_split_request_type, reapi_splice_request_type, reapi_get_result_request_type,
	reapi_update_result_request_type, reapi_result_names_type, reapi_tree_type, reapi_directory_type,
	reapi_node_type, bytestream_read_request_type, bytestream_write_request_type, bytestream_query_request_type;

/* A google.rpc.Status that says which blobs a FAILED_PRECONDITION misses: begin, a line each, end. */
struct reapi_missing {
	struct buffer *out;
	size_t detail, failure;
};
void reapi_missing_begin(struct reapi_missing *missing, struct buffer *out, const char *text);
void reapi_missing_add(struct reapi_missing *missing, const struct digest *digest);
void reapi_missing_end(struct reapi_missing *missing);
