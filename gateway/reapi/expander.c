/* zstd, a piece at a time. */
#include "gateway/reapi/expander.h"

#include <stdlib.h>

#include "gateway/base/check.h"

/* The context grows with the window that a frame asks for: by then it has. */
static bool charge(struct expander *expander)
{
	uint64_t bytes = ZSTD_sizeof_DCtx(expander->context) + EXPANDER_PLAIN_BYTES;

	return bytes <= expander->share.bytes || budget_grow(expander->budget, &expander->share, bytes);
}

static enum expander_outcome begin(struct expander *expander)
{
	expander->context = ZSTD_createDCtx();
	expander->plain = malloc(EXPANDER_PLAIN_BYTES);
	if (!expander->context || !expander->plain)
		return EXPANDER_MEMORY;
	ZSTD_DCtx_setParameter(expander->context, ZSTD_d_windowLogMax, EXPANDER_WINDOW_LOG);
	return charge(expander) ? EXPANDER_OK : EXPANDER_CROWDED;
}

enum expander_outcome expander_step(struct expander *expander, struct span *bytes)
{
	enum expander_outcome outcome = expander->context ? EXPANDER_OK : begin(expander);
	ZSTD_inBuffer in = { .src = bytes->data, .size = bytes->size };
	ZSTD_outBuffer out = { .size = EXPANDER_PLAIN_BYTES };
	size_t hint;

	CHECK(expander->at == expander->size);
	if (outcome != EXPANDER_OK)
		return outcome;
	out.dst = expander->plain;
	hint = ZSTD_decompressStream(expander->context, &out, &in);
	if (ZSTD_isError(hint))
		return EXPANDER_CORRUPT;
	expander->frame_open = hint != 0;
	expander->at = 0;
	expander->size = out.pos;
	if (in.pos)
		*bytes = span_make(bytes->data + in.pos, bytes->size - in.pos);
	return charge(expander) ? EXPANDER_OK : EXPANDER_CROWDED;
}

/* A piece that is full may not have been all: asked for with nothing new to it. */
bool expander_dry(const struct expander *expander)
{
	return expander->at == expander->size && !(expander->frame_open && expander->size == EXPANDER_PLAIN_BYTES);
}

void expander_drop(struct expander *expander)
{
	ZSTD_freeDCtx(expander->context);
	free(expander->plain);
	expander->context = NULL;
	expander->plain = NULL;
	expander->at = expander->size = 0;
	budget_leave(expander->budget, &expander->share);
}
