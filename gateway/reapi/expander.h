/*
 * expander: zstd bytes of a compressed write into the blob's, piece by piece. What that takes is charged to a budget: the window
 * that a frame asks for, once it does, and a piece of plain bytes. Held from the first bytes on until expander_drop().
 */
#pragma once

#include "gateway/reapi/budget.h"
#include "proto/span.h"

#include <zstd.h>

#define EXPANDER_PLAIN_BYTES (128u << 10)        /* a piece */
#define EXPANDER_WINDOW_LOG  23                  /* the largest window: 8 MiB */

enum expander_outcome {
	EXPANDER_OK = 0,
	EXPANDER_CORRUPT = 1,
	EXPANDER_CROWDED = 2,            /* the budget has no room for it */
	EXPANDER_MEMORY = 3,
};

struct expander {
	struct budget *budget;           /* the owner's to fill in; the rest begins with zero */
	struct budget_share share;
	ZSTD_DCtx *context;
	uint8_t *plain;
	size_t at, size;                 /* of the piece: what is taken, what there is */
	bool frame_open;                 /* a frame has begun and not ended */
};

/* The rest of the piece; empty: the next one may be made. */
static inline struct span expander_plain(const struct expander *expander)
{
	return expander->at < expander->size ? span_make(expander->plain + expander->at, expander->size - expander->at) :
	                                       (struct span){ 0 };
}

static inline void expander_taken(struct expander *expander, size_t size)
{
	expander->at += size;
}

/* The next piece, when the last one is taken; `bytes` becomes what is left of it. */
enum expander_outcome expander_step(struct expander *expander, struct span *bytes);
/* No more comes of what it was given: also what it keeps itself is out. */
bool expander_dry(const struct expander *expander);
/* Gives back all that it has, whatever is left in it. */
void expander_drop(struct expander *expander);
