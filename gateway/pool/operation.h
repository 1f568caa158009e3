/*
 * operation: what a caller of Execute is told, as google.longrunning.Operation bytes: where an action stands, what it
 * writes meanwhile, and at last its ExecuteResponse. Pure.
 */
#pragma once

#include "proto/reapi.h"
#include "proto/sluice_v1.h"

struct operation_head {
	const char *name;
	struct digest action;
	uint32_t stage;                          /* enum reapi_stage */
	const struct execute_output *output;     /* NULL: none */
	bool has_streams;                        /* its output can be read by name (output_stream.h) */
};

struct operation_response {
	struct span result;                      /* ActionResult; empty: there is none */
	bool cached;
	struct span status;                      /* google.rpc.Status; empty: OK */
	const char *message;                     /* NULL: none */
};

/* Each appends a whole Operation; `out->failed` says that it did not fit. */
void operation_put_progress(struct buffer *out, const struct operation_head *head);
void operation_put_end(struct buffer *out, const struct operation_head *head, const struct operation_response *response);
