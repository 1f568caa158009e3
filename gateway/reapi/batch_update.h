/* batch_update: BatchUpdateBlobs. A client that stops in the middle of its request loses the call, and others get its memory. */
#pragma once

#include "gateway/reapi/reapi.h"

/* Ends what does not come. */
void batches_sweep(struct reapi *reapi, uint64_t now);
