/*
 * http1_head: the head of an HTTP/1.1 request (RFC 9112 sections 2 to 6), strictly: what two readers might take for two
 * different things is refused, so nothing can be smuggled past a proxy. Pure.
 */
#pragma once

#include "proto/stream.h"

#define HTTP1_HEAD_BYTES_MAX 16384u              /* request line and fields */
#define HTTP1_METHOD_MAX     16u

struct http1_head {
	struct span method, target;              /* target: the path, also of one in absolute form */
	struct span authority;                   /* Host */
	struct header headers[STREAM_HEADERS_MAX];       /* names in lower case */
	size_t headers_count;
	bool old;                                /* HTTP/1.0 */
	bool closes;                             /* the peer wants no other request on this connection */
	bool expects;                            /* 100-continue */
	bool chunked;
	bool sized;                              /* Content-Length is there */
	uint64_t content_length;                 /* 0 when it is not */
};

/*
 * `text` is the head up to and with its empty line, and is changed: names become lower case. 0; or the HTTP status to refuse
 * it with, and `why` (static text).
 */
unsigned http1_head_parse(struct http1_head *head, uint8_t *text, size_t size, const char **why);

/* Of a Content-Length: decimal digits, below 10^18. False: it is none. */
bool http1_length_parse(struct span text, uint64_t *length);
