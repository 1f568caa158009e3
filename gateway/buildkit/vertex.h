/*
 * vertex: what sluice adds to a client's own build progress: vertices of a moby.buildkit.v1.StatusResponse, shown by
 * buildx like those of the daemon. Pure: encodes one message at a time.
 *
 * Source: buildkit's api/services/control/control.proto (Vertex, VertexLog); research/buildkit-tricks.md D.
 */
#pragma once

#include "proto/buffer.h"

#define VERTEX_MESSAGE_BYTES_MAX 4096

/* One vertex of ours. Digest, name and start stay the same in all that is said about it. */
struct vertex {
	char digest[72];                 /* "sha256:" and 64 digits; unique, no content has it */
	char name[256];
	uint64_t started_wall_ns;
	bool shown;                      /* its start was sent */
};

/* `purpose` and `ref` make the digest. */
void vertex_init(struct vertex *vertex, const char *purpose, const char *ref, const char *name,
                          uint64_t now_wall_ns);
/* Each appends one StatusResponse. `error` NULL: it went well. */
void vertex_started(const struct vertex *vertex, struct buffer *out);
void vertex_log(const struct vertex *vertex, const char *line, uint64_t now_wall_ns, struct buffer *out);
void vertex_completed(const struct vertex *vertex, const char *error, uint64_t now_wall_ns, struct buffer *out);

/* "1st", "2nd", "3rd", "11th". Returns `text`. */
char *vertex_ordinal(uint32_t number, char text[static 16]);
