/* headers: header fields that are kept beyond the event that lent them. Pure memory. */
#pragma once

#include "proto/stream.h"

/*
 * Copies of `before`, then of `headers`: one allocation with their bytes, for free(). NULL: no memory.
 */
struct header *headers_copy(const struct header *headers, size_t count, const struct header *before, size_t before_count);
/* The value of the first field of that name; empty when there is none. Borrowed from the fields. */
struct span headers_find(const struct header *headers, size_t count, const char *name);
