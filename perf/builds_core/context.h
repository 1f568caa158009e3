/*
 * context: a client's directory that is nowhere: its entries are counted out and its contents made of a seed, so a thousand
 * clients have one each for nothing. It answers FileSync/DiffCopy as fsutil's sender does: STATs in walk order, DATA of at
 * most 32 KiB a packet for what is asked for, FIN when the other side says FIN.
 */
#pragma once

#include "proto/call.h"

#define CONTEXT_DIFFCOPY_PATH "/moby.filesync.v1.FileSync/DiffCopy"
#define CONTEXT_FILES_MAX     65536u

struct context {
	uint32_t files, file_bytes;
	uint64_t seed;                   /* names the contents */
};

/*
 * Inside on_stream: takes the call over until it ends. `dir-name: dockerfile` gets a Dockerfile, `context` the files, and
 * with `followpaths: .dockerignore` alone nothing, as there is none. `open` counts the calls under way. 0 or -ENOMEM.
 */
int context_send(const struct context *context, struct stream *stream, const struct grpc_request *head, unsigned *open);
