/*
 * zstd_message: one message compressed or expanded as a whole (gRPC's message encoding "zstd"). Hostile input costs at
 * most `out->size_max` bytes of output and a window of that size or 8 MiB, whichever is larger.
 */
#pragma once

#include "proto/buffer.h"

/* What makes compressing worth it, and how much of a message is tried first. */
#define ZSTD_MESSAGE_PROBE_BYTES   65536
#define ZSTD_MESSAGE_SAVED_PERCENT 5

/* Replaces `out` by the compressed message; false (out is undefined) when that would not save enough, or out of memory. */
bool zstd_message_deflate(struct buffer *out, struct span message, int level);

enum zstd_message {
	ZSTD_MESSAGE_OK = 0,
	ZSTD_MESSAGE_TOO_LARGE = 1,              /* more than out->size_max */
	ZSTD_MESSAGE_CORRUPT = 2,
};

/* Replaces `out` (a heap buffer) by the expanded message. */
enum zstd_message zstd_message_inflate(struct buffer *out, struct span message);
