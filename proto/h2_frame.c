/* The DATA frame whose payload goes out from where it lies. */
#include "proto/h2_private.h"

#include <assert.h>
#include <stdlib.h>

/*
 * nghttp2 asks for the payload to be sent. It is only noted, and nghttp2 made to return: the pieces are fetched one by one,
 * and nghttp2 is not asked for more before the last one. Where they lie is looked up when they are fetched, as the queue may
 * move in between.
 */
int h2_frame_begin(nghttp2_session *session, nghttp2_frame *data, const uint8_t *head, size_t size,
                   nghttp2_data_source *source, void *user_data)
{
	struct h2 *h2 = user_data;
	struct h2_frame *frame = &h2->frame;

	assert(!frame->head_due && !frame->left && !frame->lent && data->data.padlen == 0);
	memcpy(frame->head, head, sizeof(frame->head));
	frame->head_due = true;
	frame->stream = source->ptr;
	frame->left = size;
	return NGHTTP2_ERR_PAUSE;
}

static void frame_drop_lent(struct h2_frame *frame)
{
	size_t lent = frame->lent;

	frame->lent = 0;
	if (frame->stream && lent)
		h2_stream_drop(frame->stream, lent);
	else
		frame->aside_at += lent;
	if (frame->left == 0 && !frame->head_due)
		h2_frame_fini(frame);
}

static struct span frame_front(const struct h2_frame *frame)
{
	if (frame->stream)
		return h2_stream_front(frame->stream, frame->left);
	return span_make(frame->aside + frame->aside_at, frame->left);
}

struct span h2_frame_output(struct h2 *h2)
{
	struct h2_frame *frame = &h2->frame;
	struct span front;

	if (frame->lent)
		frame_drop_lent(frame);
	if (frame->head_due) {
		frame->head_due = false;
		return span_make(frame->head, sizeof(frame->head));
	}
	if (frame->left == 0)
		return span_make(NULL, 0);
	front = frame_front(frame);
	assert(front.size > 0 && front.size <= frame->left);
	frame->lent = front.size;
	frame->left -= front.size;
	return front;
}

/* Its head is out: the peer waits for so many bytes, whatever has become of the stream. */
void h2_frame_rescue(struct h2_stream *stream)
{
	struct h2_frame *frame = &stream->h2->frame;
	size_t at = 0;
	uint8_t *aside;

	if (frame->stream != stream || stream->h2->closed)
		return;
	aside = malloc(frame->left + 1);
	if (!aside) {
		frame->lost = true;
		frame->stream = NULL;
		return;
	}
	if (frame->lent)
		h2_stream_skip(stream, frame->lent);
	while (at < frame->left) {
		struct span front = h2_stream_front(stream, frame->left - at);

		memcpy(aside + at, front.data, front.size);
		h2_stream_skip(stream, front.size);
		at += front.size;
	}
	frame->lent = 0;
	frame->stream = NULL;
	frame->aside = aside;
	frame->aside_at = 0;
	if (frame->left == 0 && !frame->head_due)
		h2_frame_fini(frame);
}

void h2_frame_fini(struct h2_frame *frame)
{
	free(frame->aside);
	*frame = (struct h2_frame){ 0 };
}
