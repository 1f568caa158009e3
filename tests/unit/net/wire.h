/*
 * wire: a blocking socket for tests that speak to a server byte by byte, or frame by frame through an h2 engine of their
 * own. Reads give up after 20 s and fail the test.
 */
#pragma once

#include "proto/h2.h"

/* Connects to what server_listen bound. */
int wire_connect(const char *bound);
void wire_send(int fd, struct span data);
/* Reads until the peer closes (or resets); returns how many bytes came. */
size_t wire_drain(int fd);
/* True when the peer has closed or resets, false when nothing happened for `milliseconds`. Throws bytes away. */
bool wire_closed_within(int fd, int milliseconds);
/* Closes with a reset instead of a FIN. */
void wire_reset(int fd);

/* "PRI * …" and an empty SETTINGS frame. */
extern const struct span wire_preface;
/* A PING frame. */
extern const struct span wire_ping;

/* One request and what came back. */
struct wire_answer {
	char status[8], grpc_status[8], grpc_message[256], accept_encoding[64];
	bool ended;
	struct stream *stream;
};

/*
 * Opens a stream with `method`, `path` and `headers` (count of them), ends it at once, and waits for the answer's end.
 */
void wire_request(int fd, const char *method, const char *path, const struct header *headers, size_t count,
                  struct wire_answer *answer);
/* Opens a gRPC call and leaves it open, without waiting. */
void wire_open_call(int fd, const char *path);
/* The same, with `grpc-timeout`. */
void wire_open_timed_call(int fd, const char *path, const char *timeout);

/* Opens a call to /test.Echo/Source for that many bytes, with windows of 64 MiB, and reads nothing. */
void wire_open_source(int fd, uint64_t bytes);

/* Open descriptors of this process. */
unsigned wire_count_fds(void);
