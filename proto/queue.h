/*
 * queue: bytes between a writer and a reader, first in first out, never more than `size_max`. It grows as it fills and
 * gives its memory back whenever it is empty, so that idle streams cost nothing. An all-zero queue takes nothing.
 */
#pragma once

#include "proto/span.h"

struct queue {
	uint8_t *data;
	size_t capacity;
	size_t first;                            /* of the oldest byte */
	size_t size;
	size_t size_max;
};

struct queue queue_make(size_t size_max);
void queue_fini(struct queue *queue);            /* an all-zero queue afterwards */

/* Copies bytes in; returns how many were taken, fewer than offered when it is full or memory is. */
size_t queue_write(struct queue *queue, struct span data);

/* The oldest bytes that lie in one piece: all, or those up to the end of the storage. Until the next call with `queue`. */
struct span queue_front(const struct queue *queue);

/* Takes `size` of the oldest bytes away, which are there. */
void queue_drop(struct queue *queue, size_t size);
