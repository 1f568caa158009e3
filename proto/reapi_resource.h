/*
 * reapi_resource: what a ByteStream resource name says. Pure.
 *
 *	[INSTANCE/]blobs/HASH/SIZE                            [INSTANCE/]compressed-blobs/zstd/HASH/SIZE
 *	[INSTANCE/]operations/ID/stdout                       [INSTANCE/]operations/ID/stderr
 *	[INSTANCE/]uploads/UUID/blobs/HASH/SIZE[/anything]    [INSTANCE/]uploads/UUID/compressed-blobs/zstd/HASH/SIZE[/anything]
 *
 * An instance name may have slashes, but none of REAPI's keywords as a segment.
 */
#pragma once

#include "proto/digest.h"

#define REAPI_RESOURCE_BYTES_MAX 1024

struct reapi_resource {
	struct span instance, uuid;      /* borrowed; uuid empty: a read */
	bool zstd;
	struct digest digest;            /* of the bytes uncompressed */
	/* An operation's output, in place of a blob: its name, and which; to be read only. */
	struct span operation;           /* empty: a blob */
	uint32_t stream;                 /* 0 stdout, 1 stderr */
};

/* NULL, or one sentence that says what is wrong (static text). */
const char *reapi_resource_parse(struct reapi_resource *resource, struct span name, bool upload);
