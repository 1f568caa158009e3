/*
 * write: ByteStream Write and QueryWriteStatus. What is left of a broken Write of a long blob can be gone on with, under the
 * same resource name, for REAPI_ORPHAN_NS, unless its memory is wanted; a short blob begins anew.
 */
#pragma once

#include "gateway/reapi/reapi.h"

/* Ends what waits for too long. */
void writes_sweep(struct reapi *reapi, uint64_t now);
/* Gives up what waits for clients that might return. */
void writes_close(struct reapi *reapi);
