/* A bounded ring of bytes that grows while it fills. */
#include "proto/queue.h"

#include <assert.h>
#include <stdlib.h>

#define QUEUE_FIRST_BYTES 1024
#define QUEUE_GROWTH      4              /* times: what waits is copied into each larger one, and a queue that is empty begins again */

struct queue queue_make(size_t size_max)
{
	assert(size_max > 0);
	return (struct queue){ .size_max = size_max };
}

void queue_fini(struct queue *queue)
{
	free(queue->data);
	*queue = (struct queue){ 0 };
}

/* Copies out without taking: at most two runs, the second from the start of the storage. */
static void queue_peek(const struct queue *queue, uint8_t *to, size_t size)
{
	size_t run = queue->capacity - queue->first;

	if (run > size)
		run = size;
	memcpy(to, queue->data + queue->first, run);
	memcpy(to + run, queue->data, size - run);
}

static bool queue_grow(struct queue *queue, size_t needed)
{
	size_t capacity = queue->capacity ? queue->capacity : QUEUE_FIRST_BYTES;
	uint8_t *data;

	assert(needed <= queue->size_max);
	while (capacity < needed)
		capacity *= QUEUE_GROWTH;
	if (capacity > queue->size_max)
		capacity = queue->size_max;
	data = malloc(capacity);
	if (!data)
		return false;
	if (queue->size)
		queue_peek(queue, data, queue->size);
	free(queue->data);
	queue->data = data;
	queue->capacity = capacity;
	queue->first = 0;
	return true;
}

size_t queue_write(struct queue *queue, struct span data)
{
	size_t size = queue->size_max - queue->size;
	size_t place, run;

	if (size > data.size)
		size = data.size;
	if (size == 0)
		return 0;
	if (queue->size + size > queue->capacity && !queue_grow(queue, queue->size + size))
		return 0;
	place = queue->first + queue->size;
	if (place >= queue->capacity)
		place -= queue->capacity;
	run = queue->capacity - place;
	if (run > size)
		run = size;
	memcpy(queue->data + place, data.data, run);
	memcpy(queue->data, data.data + run, size - run);
	queue->size += size;
	assert(queue->size <= queue->capacity && queue->capacity <= queue->size_max);
	return size;
}

struct span queue_front(const struct queue *queue)
{
	size_t run = queue->capacity - queue->first;

	if (queue->size == 0)
		return (struct span){ 0 };
	return span_make(queue->data + queue->first, run < queue->size ? run : queue->size);
}

void queue_drop(struct queue *queue, size_t size)
{
	size_t size_max = queue->size_max;

	assert(size <= queue->size);
	queue->size -= size;
	queue->first += size;
	if (queue->first >= queue->capacity)
		queue->first -= queue->capacity;
	if (queue->size == 0) {
		queue_fini(queue);
		queue->size_max = size_max;
	}
}
