/* open_call: a Push, Fetch or Pin from its start until its memory is released, and whose it is. On the ring's thread. */
#pragma once

#include "gateway/cas/cas.h"

/* Embedded in its owner. */
struct open_call {
	uint32_t tenant;
	struct list link;                /* cas.calls */
};

/* Room for one more of that scope's tenant. False with `why` for RESOURCE_EXHAUSTED: then it is not begun. */
bool open_call_begin(struct open_call *open, struct cas *cas, const struct scope *scope, char *why, size_t why_size);
/* Also of an all-zero one. */
void open_call_end(struct open_call *open);
