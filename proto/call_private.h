/*
 * call_private: what the parts of call share. call.c: a call's life. call_receive.c: messages that arrive.
 * call_send.c: messages and the end that go out. call_headers.c: headers and trailers. Nobody else includes it.
 */
#pragma once

#include "proto/call.h"

/* HTTP/2's, RFC 9113 7. */
#define CALL_CODE_NO_ERROR 0
#define CALL_CODE_CANCEL   8

/* What we take as message encodings, in every direction. */
#define CALL_ENCODINGS     "identity,zstd"
#define CALL_TEXT_ENCODING "unknown grpc-encoding; accepted are " CALL_ENCODINGS

#define CALL_MORE_HEADERS_MAX 4

/* Handlers of the stream's events, each in the file that it is about; that of on_close is call.c's own. */
void call_on_headers(struct stream *stream, const struct header *headers, size_t count);
void call_on_data(struct stream *stream, struct span data);
void call_on_trailers(struct stream *stream, const struct header *headers, size_t count);
void call_on_end(struct stream *stream);
void call_on_writable(struct stream *stream);

/* Of a text that may be longer than CALL_STATUS_TEXT_MAX: so much has all of the character that does not fit. */
#define CALL_STATUS_TEXT_ROOM (CALL_STATUS_TEXT_MAX + 3)

/* Notes how the call ends, a long text cut between two characters, unless that is known already. */
void call_status_set(struct call *call, enum grpc_status status, struct span text);
/* The peer broke the rules of messages: a server says so with the status, a client takes note of it and hangs up. */
void call_break(struct call *call, enum grpc_status status, const char *text);
/* From now on nothing that arrives matters; what waits already opens the peer's window again. May be called again. */
void call_go_deaf(struct call *call);
/* Tells the meter what the call keeps. A server's call may be finished by it. Inside an event it does nothing: again behind that. */
void call_measure(struct call *call);
/* The last event, with the status that is known; a loan that waits goes back first. The call may be freed by then. */
void call_deliver_closed(struct call *call);

/*
 * Server: the response headers with `more` fields, at most CALL_MORE_HEADERS_MAX; `end`: and nothing after them. The stream is reset
 * when they are more than the peer takes.
 */
void call_send_headers(struct call *call, const struct header *more, size_t more_count, bool end);
/* Server: the status, as trailers, or as the only headers when none went out before. */
void call_send_status(struct call *call);

/* One to send; neither name nor value is copied. */
struct header call_field(const char *name, struct span value);
/* The value of the first field of that name; size 0: there is none, or it is empty. */
struct span call_field_find(const struct header *headers, size_t count, const char *name);
