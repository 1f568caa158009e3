/*
 * buffer: bytes that are written one after another. Either over storage that the caller lends (`buffer_over`), or on
 * the heap and growing up to `size_max` (`buffer_heap`). A write that does not fit sets `failed` and is dropped whole;
 * so code may write many pieces and test once at the end.
 */
#pragma once

#include "proto/span.h"

struct buffer {
	uint8_t *data;
	size_t size;
	size_t capacity;
	size_t size_max;     /* 0: lent storage, never grows */
	bool failed;
};

struct buffer buffer_over(void *storage, size_t capacity);
struct buffer buffer_heap(size_t size_max);
void buffer_fini(struct buffer *buffer);         /* frees heap storage; accepts an all-zero one */

/* Room for `size` more bytes, to be filled by the caller who then adds to `size`; NULL (and `failed`) when there is none. */
uint8_t *buffer_reserve(struct buffer *buffer, size_t size);
void buffer_put(struct buffer *buffer, const void *data, size_t size);
void buffer_put_text(struct buffer *buffer, const char *text);

static inline void buffer_clear(struct buffer *buffer)
{
	buffer->size = 0;
	buffer->failed = false;
}

static inline struct span buffer_span(const struct buffer *buffer)
{
	return (struct span){ .data = buffer->data, .size = buffer->size };
}
