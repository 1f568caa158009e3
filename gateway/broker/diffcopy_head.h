/*
 * diffcopy_head: what the header fields of a DiffCopy call say, as BuildKit's filesync writes them: which directory
 * (dir-name), which of it (include-patterns, exclude-patterns, followpaths), each with its `-encoded` mark.
 */
#pragma once

#include "proto/grpc.h"

struct diffcopy_head {
	struct header *metadata;         /* what the same call to somebody else takes along: all that is not gRPC's own */
	size_t metadata_count;
	struct span directory;
	/*
	 * A mere look at the Dockerfile or the ignore file, not of a whole context. BuildKit has these files sent anew each time,
	 * whatever their stat (Differ none): all of one client's have one name, and two of a fresh checkout may well have one size and
	 * time, so no stat is evidence of them.
	 */
	bool always_sent;
};

/* Spans are the request's. 0 or -ENOMEM; diffcopy_head_fini() may follow either. */
int diffcopy_head_read(struct diffcopy_head *head, const struct grpc_request *request);
void diffcopy_head_fini(struct diffcopy_head *head);
/* The field tells which directory it is, or which of it. */
bool diffcopy_header_selects(struct span name);
