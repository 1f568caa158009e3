/* The messages of reapi_cas.h as tables. */
#include "proto/reapi_cas.h"

#include <stdio.h>

#include "proto/grpc.h"
#include "proto/pb.h"
#include "proto/reapi.h"

MESSAGE_TYPE(reapi_find_missing_request_type, struct reapi_find_missing_request,
	     MESSAGE_FIELD(struct reapi_find_missing_request, instance_name, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_find_missing_request, blob_digests, 2, MESSAGE_LIST),
	     MESSAGE_FIELD(struct reapi_find_missing_request, digest_function, 3, MESSAGE_UINT32));
MESSAGE_TYPE(reapi_batch_update_request_type, struct reapi_batch_update_request,
	     MESSAGE_FIELD(struct reapi_batch_update_request, instance_name, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_batch_update_request, requests, 2, MESSAGE_LIST),
	     MESSAGE_FIELD(struct reapi_batch_update_request, digest_function, 5, MESSAGE_UINT32));
MESSAGE_TYPE(reapi_batch_update_blob_type, struct reapi_batch_update_blob,
	     MESSAGE_FIELD(struct reapi_batch_update_blob, digest, 1, MESSAGE_DIGEST),
	     MESSAGE_FIELD(struct reapi_batch_update_blob, data, 2, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_batch_update_blob, compressor, 3, MESSAGE_UINT32));
MESSAGE_TYPE(reapi_batch_read_request_type, struct reapi_batch_read_request,
	     MESSAGE_FIELD(struct reapi_batch_read_request, instance_name, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_batch_read_request, digests, 2, MESSAGE_LIST),
	     MESSAGE_FIELD(struct reapi_batch_read_request, compressors, 3, MESSAGE_SET),
	     MESSAGE_FIELD(struct reapi_batch_read_request, digest_function, 4, MESSAGE_UINT32));
MESSAGE_TYPE(reapi_get_tree_request_type, struct reapi_get_tree_request,
	     MESSAGE_FIELD(struct reapi_get_tree_request, instance_name, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_get_tree_request, root_digest, 2, MESSAGE_DIGEST),
	     MESSAGE_FIELD(struct reapi_get_tree_request, page_size, 3, MESSAGE_INT32),
	     MESSAGE_FIELD(struct reapi_get_tree_request, page_token, 4, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_get_tree_request, digest_function, 5, MESSAGE_UINT32));
MESSAGE_TYPE(reapi_split_request_type, struct reapi_split_request,
	     MESSAGE_FIELD(struct reapi_split_request, instance_name, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_split_request, blob_digest, 2, MESSAGE_DIGEST),
	     MESSAGE_FIELD(struct reapi_split_request, digest_function, 3, MESSAGE_UINT32));
MESSAGE_TYPE(reapi_splice_request_type, struct reapi_splice_request,
	     MESSAGE_FIELD(struct reapi_splice_request, instance_name, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_splice_request, blob_digest, 2, MESSAGE_DIGEST),
	     MESSAGE_FIELD(struct reapi_splice_request, chunk_digests, 3, MESSAGE_LIST),
	     MESSAGE_FIELD(struct reapi_splice_request, digest_function, 4, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct reapi_splice_request, chunking_function, 5, MESSAGE_UINT32));
MESSAGE_TYPE(reapi_get_result_request_type, struct reapi_get_result_request,
	     MESSAGE_FIELD(struct reapi_get_result_request, instance_name, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_get_result_request, action_digest, 2, MESSAGE_DIGEST),
	     MESSAGE_FIELD(struct reapi_get_result_request, inline_stdout, 3, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct reapi_get_result_request, inline_stderr, 4, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct reapi_get_result_request, digest_function, 6, MESSAGE_UINT32));
MESSAGE_TYPE(reapi_update_result_request_type, struct reapi_update_result_request,
	     MESSAGE_FIELD(struct reapi_update_result_request, instance_name, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_update_result_request, action_digest, 2, MESSAGE_DIGEST),
	     MESSAGE_FIELD(struct reapi_update_result_request, action_result, 3, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_update_result_request, digest_function, 5, MESSAGE_UINT32));
MESSAGE_TYPE(reapi_result_names_type, struct reapi_result_names,
	     MESSAGE_FIELD(struct reapi_result_names, output_files, 2, MESSAGE_LIST),
	     MESSAGE_FIELD(struct reapi_result_names, output_directories, 3, MESSAGE_LIST),
	     MESSAGE_FIELD(struct reapi_result_names, stdout_raw, 5, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_result_names, stdout_digest, 6, MESSAGE_DIGEST),
	     MESSAGE_FIELD(struct reapi_result_names, stderr_raw, 7, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_result_names, stderr_digest, 8, MESSAGE_DIGEST));
MESSAGE_TYPE(reapi_tree_type, struct reapi_tree,
	     MESSAGE_FIELD(struct reapi_tree, root, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_tree, children, 2, MESSAGE_LIST));
MESSAGE_TYPE(reapi_directory_type, struct reapi_directory,
	     MESSAGE_FIELD(struct reapi_directory, files, 1, MESSAGE_LIST),
	     MESSAGE_FIELD(struct reapi_directory, directories, 2, MESSAGE_LIST));
MESSAGE_TYPE(reapi_node_type, struct reapi_node,
	     MESSAGE_FIELD(struct reapi_node, name, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct reapi_node, digest, 2, MESSAGE_DIGEST));
MESSAGE_TYPE(bytestream_read_request_type, struct bytestream_read_request,
	     MESSAGE_FIELD(struct bytestream_read_request, resource_name, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct bytestream_read_request, read_offset, 2, MESSAGE_INT64),
	     MESSAGE_FIELD(struct bytestream_read_request, read_limit, 3, MESSAGE_INT64));
MESSAGE_TYPE(bytestream_write_request_type, struct bytestream_write_request,
	     MESSAGE_FIELD(struct bytestream_write_request, resource_name, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct bytestream_write_request, write_offset, 2, MESSAGE_INT64),
	     MESSAGE_FIELD(struct bytestream_write_request, finish_write, 3, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct bytestream_write_request, data, 10, MESSAGE_BYTES));
MESSAGE_TYPE(bytestream_query_request_type, struct bytestream_query_request,
	     MESSAGE_FIELD(struct bytestream_query_request, resource_name, 1, MESSAGE_BYTES));

void reapi_missing_begin(struct reapi_missing *missing, struct buffer *out, const char *text)
{
	missing->out = out;
	pb_put_varint(out, 1, GRPC_FAILED_PRECONDITION);
	pb_put_text(out, 2, text);
	missing->detail = pb_begin(out, 3);              /* Any */
	pb_put_text(out, 1, REAPI_TYPE_PRECONDITION);
	missing->failure = pb_begin(out, 2);
}

void reapi_missing_add(struct reapi_missing *missing, const struct digest *digest)
{
	struct reapi_violation violation = { .type = span_text("MISSING") };
	char hex[DIGEST_HEX_BYTES], subject[DIGEST_HEX_BYTES + 32];

	digest_hex(digest, hex);
	snprintf(subject, sizeof(subject), "blobs/%.*s/%llu", DIGEST_HEX_BYTES, hex, (unsigned long long)digest->size);
	violation.subject = span_text(subject);
	message_nest(&reapi_violation_type, missing->out, 1, &violation);
}

void reapi_missing_end(struct reapi_missing *missing)
{
	pb_end(missing->out, missing->failure);
	pb_end(missing->out, missing->detail);
}
