/* Bytes written one after another, over lent storage or a growing heap block. */
#include "proto/buffer.h"

#include <assert.h>
#include <stdlib.h>

#define BUFFER_FIRST_BYTES 256

struct buffer buffer_over(void *storage, size_t capacity)
{
	return (struct buffer){ .data = storage, .capacity = capacity };
}

struct buffer buffer_heap(size_t size_max)
{
	assert(size_max > 0);
	return (struct buffer){ .size_max = size_max };
}

void buffer_fini(struct buffer *buffer)
{
	if (buffer->size_max)
		free(buffer->data);
	*buffer = (struct buffer){ 0 };
}

static bool buffer_grow(struct buffer *buffer, size_t needed)
{
	size_t capacity = buffer->capacity ? buffer->capacity : BUFFER_FIRST_BYTES;
	uint8_t *data;

	if (buffer->size_max == 0 || needed > buffer->size_max)
		return false;
	while (capacity < needed)
		capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
	if (capacity > buffer->size_max)
		capacity = buffer->size_max;
	data = realloc(buffer->data, capacity);
	if (!data)
		return false;
	buffer->data = data;
	buffer->capacity = capacity;
	return true;
}

uint8_t *buffer_reserve(struct buffer *buffer, size_t size)
{
	size_t needed;

	assert(buffer->size <= buffer->capacity);
	if (buffer->failed)
		return NULL;
	if (__builtin_add_overflow(buffer->size, size, &needed) ||
	    ((needed > buffer->capacity || !buffer->data) && !buffer_grow(buffer, needed))) {
		buffer->failed = true;
		return NULL;
	}
	return buffer->data + buffer->size;
}

void buffer_put(struct buffer *buffer, const void *data, size_t size)
{
	uint8_t *room;

	if (size == 0)
		return;
	room = buffer_reserve(buffer, size);
	if (!room)
		return;
	memcpy(room, data, size);
	buffer->size += size;
}

void buffer_put_text(struct buffer *buffer, const char *text)
{
	buffer_put(buffer, text, strlen(text));
}
