/*
 * write: ByteStream Write. What is left of a broken Write of a long blob can be gone on with, under the same resource name, for
 * REAPI_ORPHAN_NS, unless its memory is wanted; a short blob begins anew.
 */
#pragma once

#include "gateway/reapi/reapi.h"
#include "proto/reapi_resource.h"

/* Ends what waits for too long. */
void writes_sweep(struct reapi *reapi, uint64_t now);
/* Whether there is memory for so many more bytes: what broken writes hold that nobody may ever come back to is let go for it. */
bool writes_make_room(struct reapi *reapi, uint64_t bytes);
/* Gives up what waits for clients that might return. */
void writes_close(struct reapi *reapi);
/* Of a write that was begun and has not come to its end, whether or not its call is there: how many bytes it has. False: none. */
bool writes_progress(struct reapi *reapi, const struct scope *scope, const struct reapi_resource *resource, uint64_t *bytes);
