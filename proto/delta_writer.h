/* delta_writer: writes edits run by run, for delta_find.c and delta_signature.c. Neighbouring copies become one. */
#pragma once

#include "proto/delta.h"

struct delta_writer {
	struct buffer *out;
	size_t mark;                     /* what `out` had before */
	const uint8_t *given;            /* the bytes before the copy */
	size_t given_bytes;
	uint64_t copy, copy_bytes;       /* not yet written; 0 bytes: none */
	uint64_t expected;               /* the end of the copy written last */
};

struct delta_writer delta_writer_make(struct buffer *out, const uint8_t *target);
/* `given` bytes of the target, which follow what was told so far, are given, then `copied` bytes are copied from `offset`. */
void delta_writer_put(struct delta_writer *writer, size_t given, uint64_t offset, uint64_t copied);
/* The rest is given. False: it did not fit, and `out` is as before. */
bool delta_writer_end(struct delta_writer *writer, size_t given);
