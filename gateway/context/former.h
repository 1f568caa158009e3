/*
 * former: what the blobs of a table are likely to resemble in the table of the scan before: the directory at the same path, the
 * same file's content, or those chunks of it that lay in the same place. Found by path, when it is asked for. Pure; one thread.
 */
#pragma once

#include "gateway/context/lookup.h"

struct former;

/* Both are borrowed. NULL: no memory. */
struct former *former_create(const struct table *table, const struct table *before);
void former_destroy(struct former *former);

/* The blobs of `before` that the one at `place` resembles, in order, at most `max` of them; not itself. How many. */
size_t former_bases(struct former *former, const struct lookup_place *place, struct digest *bases, size_t max);
