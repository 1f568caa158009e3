/* put: batches of blobs, one batch after another, in slices: look up what is there, write what is not. */
#pragma once

#include "gateway/store/resolve.h"
#include "gateway/store/writer.h"

enum puts_state {
	PUTS_IDLE,
	PUTS_RESOLVING,
	PUTS_WRITING,
};

struct puts {
	enum puts_state state;
	struct list queue;               /* struct store_put; the first one is being worked on */
	struct resolve resolve;
	size_t slice_begin, slice_end, slice_at;
	struct append append;
	bool appending;
	size_t step_bytes;               /* written since the last pause */
	bool full;                       /* the eviction asked for found nothing */
};

int puts_init(struct puts *puts, struct store *store);
void puts_fini(struct puts *puts);
void puts_step(struct store *store);
