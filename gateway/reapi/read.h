/* read: ByteStream Read. A client that takes nothing of what it asked for loses the call, and others get its memory. */
#pragma once

#include "gateway/reapi/reapi.h"

/* Ends what nobody takes. */
void reads_sweep(struct reapi *reapi, uint64_t now);
