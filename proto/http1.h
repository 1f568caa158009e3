/*
 * http1: one HTTP/1.1 connection, as a server, as a machine without I/O: as h2.h, with one stream at a time. The consumer of
 * a stream does not notice which of the two carries it, but for this:
 *
 *   - Of answers with a body `content-length` has to be given to stream_headers(). There are neither loans nor trailers.
 *   - An answer that begins before all of the request has come is the connection's last.
 *   - A client that waits for `100 Continue` is told with the first stream_consumed(), also of 0 bytes: a consumer who is
 *     going to take the body says so. One who answers first gets none of it.
 *   - There are no windows: while HTTP1_WINDOW_BYTES of a body are not consumed http1_wants() is false, and the owner has to
 *     stop reading; what comes all the same is delivered.
 *
 * What breaks the rules is answered here (400, 417, 431, 501, 505, with a sentence), and ends the connection.
 */
#pragma once

#include "proto/h2.h"
#include "proto/http1_head.h"

#define HTTP1_WINDOW_BYTES (512u << 10)          /* of a body that nobody has consumed */
#define HTTP1_AHEAD_BYTES  (256u << 10)          /* of requests sent before the answer to the last one; beyond, refused */
#define HTTP1_OUT_BYTES    (256u << 10)          /* a stream's out-queue */
#define HTTP1_LINE_BYTES   4096u                 /* what is beside the data of a chunked body, at once: a size's line, all trailers */

struct http1;

/* `events` as h2_config's; on_goaway never comes. NULL: no memory. */
struct http1 *http1_create(const struct h2_events *events, void *owner);
/* As h2_destroy. */
void http1_destroy(struct http1 *http1);
/* Received bytes, in any split. 0, or -EPROTO when the connection ends; http1_output() yields the answer that says why. */
int http1_feed(struct http1 *http1, struct span data);
/* False: the owner stops reading until on_output. */
bool http1_wants(const struct http1 *http1);
/* As h2_output. */
struct span http1_output(struct http1 *http1);
/* As h2_alive. */
bool http1_alive(const struct http1 *http1);
/* The peer is in the middle of a head, or of what is beside the data of a chunked body. */
bool http1_unfinished(const struct http1 *http1);
/* Its last answer began before all of the request had come: the client may still be sending. */
bool http1_cut(const struct http1 *http1);
/* The present request is answered, then it ends. */
void http1_drain(struct http1 *http1);
/*
 * The client sends no more (RFC 9112 section 9.6): what has come whole, ahead of answers too, is answered, then it ends. False: there is
 * nothing to answer, it has ended.
 */
bool http1_input_ended(struct http1 *http1);
const struct h2_fault *http1_fault(const struct http1 *http1);
size_t http1_streams_count(const struct http1 *http1);
uint64_t http1_copied_bytes(const struct http1 *http1);
/* As h2_carrier_closed. */
void http1_carrier_closed(struct http1 *http1);
