/*
 * escape: bytes that are no UTF-8 text as text, for the string fields of protobuf messages; and base64.
 *
 * A name *needs escaping* when it is not valid UTF-8, or when it could be taken for an escaped name: it holds '%', then
 * any number of "25", then two upper-case hex digits of a value of 80 or more. Escaped, each byte that belongs to no
 * valid UTF-8 sequence becomes "%XX" and each '%' becomes "%25". So no two names share a wire form, and whether a wire
 * form is an escaped one shows from itself.
 */
#pragma once

#include "proto/buffer.h"
#include "proto/utf8.h"

#define ESCAPE_GROWTH 3                  /* a wire form is at most this many times as long */

bool utf8_valid(struct span text);
/*
 * Appends `text` as the string fields of protobuf want it: '?' for each byte that belongs to no valid sequence. What does not fit
 * is cut off between two characters; `out` has failed then.
 */
void utf8_put(struct buffer *out, struct span text);

/* The wire form of `bytes` is another text than `bytes`. */
bool escape_needed(struct span bytes);

/* Appends the wire form: `bytes` as they are when escape_needed() says no. */
void escape_put(struct buffer *out, struct span bytes);

/*
 * Appends the bytes that `wire` stands for (never more than wire.size). False: `wire` is not what escape_put() writes
 * for any bytes; `out` is then unchanged.
 */
bool escape_take(struct buffer *out, struct span wire);

/* RFC 4648 section 4, with padding. */
size_t base64_size(size_t bytes);
void base64_put(struct buffer *out, struct span bytes);
/*
 * False when `text` is not the one base64 text of some bytes (length, alphabet, padding, stray bits); `out` is then
 * unchanged.
 */
bool base64_take(struct buffer *out, struct span text);
