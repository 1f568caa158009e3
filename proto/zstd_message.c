/* zstd over whole messages. */
#include "proto/zstd_message.h"

#include <assert.h>
#include <zstd.h>

#define INFLATE_STEP_BYTES ((size_t)128 << 10)   /* ZSTD_DStreamOutSize() */
#define WINDOW_LOG_MIN     23                    /* RFC 8878: decoders should take 8 MiB, however small the content */
#define WINDOW_LOG_MAX     27                    /* ZSTD_WINDOWLOG_LIMIT_DEFAULT */

static bool saves_enough(size_t before, size_t after)
{
	return after <= before - before * ZSTD_MESSAGE_SAVED_PERCENT / 100 && after < before;
}

/* Compresses into `out`; false when it fails or does not pay. */
static bool deflate(ZSTD_CCtx *context, struct buffer *out, struct span message, int level)
{
	size_t bound = ZSTD_compressBound(message.size);
	uint8_t *room;
	size_t size;

	buffer_clear(out);
	room = buffer_reserve(out, bound);
	if (!room)
		return false;
	size = ZSTD_compressCCtx(context, room, bound, message.data, message.size, level);
	if (ZSTD_isError(size) || !saves_enough(message.size, size))
		return false;
	out->size = size;
	return true;
}

bool zstd_message_deflate(struct buffer *out, struct span message, int level)
{
	ZSTD_CCtx *context;
	bool ok = true;

	if (message.size == 0)
		return false;
	context = ZSTD_createCCtx();
	if (!context)
		return false;
	if (message.size > ZSTD_MESSAGE_PROBE_BYTES)
		ok = deflate(context, out, span_make(message.data, ZSTD_MESSAGE_PROBE_BYTES), level);
	ok = ok && deflate(context, out, message, level);
	ZSTD_freeCCtx(context);
	return ok;
}

/* One frame that says its size: one pass without a window of its own. */
static enum zstd_message inflate_known(struct buffer *out, struct span message, size_t size)
{
	uint8_t *room = buffer_reserve(out, size);
	size_t written;

	if (!room)
		return ZSTD_MESSAGE_TOO_LARGE;
	written = ZSTD_decompress(room, size, message.data, message.size);
	if (ZSTD_isError(written) || written != size)
		return ZSTD_MESSAGE_CORRUPT;
	out->size = size;
	return ZSTD_MESSAGE_OK;
}

/* No more window than the message may have bytes, but what a streaming encoder declares without knowing them. */
static int window_log(size_t size_max)
{
	int log = WINDOW_LOG_MIN;

	while (log < WINDOW_LOG_MAX && (size_t)1 << log < size_max)
		log++;
	return log;
}

/* One step of growing output. `hint` 0: a frame ended where the input did. */
static enum zstd_message inflate_step(ZSTD_DCtx *context, struct buffer *out, ZSTD_inBuffer *in, size_t *hint)
{
	size_t left = out->size_max - out->size;
	size_t room_size = left < INFLATE_STEP_BYTES ? left : INFLATE_STEP_BYTES;
	uint8_t overflow;
	ZSTD_outBuffer step = { .dst = &overflow, .size = sizeof(overflow) };

	/* At the bound one byte more is offered room outside: if it is used, the message is too large. */
	if (room_size) {
		step = (ZSTD_outBuffer){ .dst = buffer_reserve(out, room_size), .size = room_size };
		if (!step.dst)
			return ZSTD_MESSAGE_TOO_LARGE;
	}
	*hint = ZSTD_decompressStream(context, &step, in);
	if (ZSTD_isError(*hint))
		return ZSTD_MESSAGE_CORRUPT;
	if (room_size == 0 && step.pos)
		return ZSTD_MESSAGE_TOO_LARGE;
	out->size += step.pos;
	/* All input gone, room left over, frame not done: it is cut short. */
	if (*hint && in->pos == in->size && step.pos < step.size)
		return ZSTD_MESSAGE_CORRUPT;
	return ZSTD_MESSAGE_OK;
}

static enum zstd_message inflate_unknown(struct buffer *out, struct span message)
{
	ZSTD_DCtx *context = ZSTD_createDCtx();
	ZSTD_inBuffer in = { .src = message.data, .size = message.size };
	enum zstd_message r = ZSTD_MESSAGE_OK;
	size_t hint = 1;

	if (!context)
		return ZSTD_MESSAGE_TOO_LARGE;
	ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, window_log(out->size_max));
	while (r == ZSTD_MESSAGE_OK && (in.pos < in.size || hint))
		r = inflate_step(context, out, &in, &hint);
	ZSTD_freeDCtx(context);
	return r;
}

enum zstd_message zstd_message_inflate(struct buffer *out, struct span message)
{
	unsigned long long size = ZSTD_getFrameContentSize(message.data, message.size);
	size_t frame = ZSTD_findFrameCompressedSize(message.data, message.size);

	assert(out->size_max);
	buffer_clear(out);
	if (size == ZSTD_CONTENTSIZE_ERROR || ZSTD_isError(frame))
		return ZSTD_MESSAGE_CORRUPT;
	if (size == ZSTD_CONTENTSIZE_UNKNOWN || frame != message.size)
		return inflate_unknown(out, message);
	if (size > out->size_max)
		return ZSTD_MESSAGE_TOO_LARGE;
	return inflate_known(out, message, (size_t)size);
}
