/* methods: struct server_method.start of each method of this folder, with the struct reapi at hand. */
#pragma once

#include "gateway/reapi/reapi.h"

typedef int reapi_method_fn(struct reapi *reapi, const struct server_request *request, char *why, size_t why_size);

reapi_method_fn reapi_get_capabilities, reapi_find_missing, reapi_batch_update, reapi_batch_read, reapi_get_result,
	reapi_update_result, reapi_get_tree, reapi_split, reapi_splice, reapi_health, reapi_reflection, bytestream_read, bytestream_write, bytestream_query;
