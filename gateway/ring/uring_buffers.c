/* uring_buffers: a shadow of the kernel's buffer ring, to find the buffers of a bundle, of which only the first is named. */
#include "gateway/ring/uring_buffers.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"

enum { BUFFERS_MAX = 1 << 15 };          /* the kernel's limit of a buffer ring */

static uint32_t power_of_two(uint32_t at_least)
{
	uint32_t power = 1;

	while (power < at_least)
		power *= 2;
	return power;
}

int uring_buffers_init(struct uring_buffers *buffers, struct io_uring *kernel, uint32_t count, uint32_t bytes)
{
	int r = 0;

	CHECK(count <= BUFFERS_MAX);
	buffers->count = power_of_two(count);
	buffers->bytes = bytes;
	buffers->order = calloc(buffers->count, sizeof(uint16_t));
	buffers->position = calloc(buffers->count, sizeof(uint16_t));
	buffers->returned = calloc(buffers->count, sizeof(uint16_t));
	if (!buffers->order || !buffers->position || !buffers->returned)
		return ERR_RAISE(-ENOMEM);
	buffers->memory = mmap(NULL, (size_t)buffers->count * bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
	                       -1, 0);
	if (buffers->memory == MAP_FAILED) {
		buffers->memory = NULL;
		return ERR_RAISE(-ENOMEM);
	}
	buffers->shared = compat_buf_ring_setup(kernel, buffers->count, URING_BUFFER_GROUP, 0, &r);
	if (!buffers->shared)
		return ERR_RAISE(r);
	for (uint32_t i = 0; i < buffers->count; i++)
		uring_buffers_return(buffers, (uint16_t)i);
	uring_buffers_give_back(buffers);
	return 0;
}

void uring_buffers_fini(struct uring_buffers *buffers, struct io_uring *kernel)
{
	if (buffers->shared)
		compat_buf_ring_free(kernel, buffers->shared, buffers->count, URING_BUFFER_GROUP);
	if (buffers->memory)
		munmap(buffers->memory, (size_t)buffers->count * buffers->bytes);
	free(buffers->order);
	free(buffers->position);
	free(buffers->returned);
}

struct span uring_buffers_take(struct uring_buffers *buffers, uint16_t *position, size_t *left)
{
	uint32_t mask = buffers->count - 1;
	uint16_t first = buffers->order[*position & mask], buffer = first;
	size_t size = 0;

	/* Every buffer but a completion's last is full. */
	while (*left > 0 && buffers->order[*position & mask] == buffer) {
		size_t filled = *left < buffers->bytes ? *left : buffers->bytes;

		uring_buffers_return(buffers, buffer++);
		size += filled;
		*left -= filled;
		(*position)++;
	}
	return span_make(buffers->memory + (size_t)first * buffers->bytes, size);
}

void uring_buffers_return(struct uring_buffers *buffers, uint16_t buffer)
{
	CHECK(buffers->returned_count < buffers->count);
	buffers->returned[buffers->returned_count++] = buffer;
}

static void give(struct uring_buffers *buffers, uint16_t buffer, uint32_t ahead)
{
	uint32_t mask = buffers->count - 1;
	uint16_t position = (uint16_t)(buffers->tail + ahead);

	io_uring_buf_ring_add(buffers->shared, buffers->memory + (size_t)buffer * buffers->bytes, buffers->bytes, buffer,
	                      (int)mask, (int)ahead);
	buffers->order[position & mask] = buffer;
	buffers->position[buffer] = position;
}

void uring_buffers_give_back(struct uring_buffers *buffers)
{
	for (uint32_t i = 0; i < buffers->returned_count; i++)
		give(buffers, buffers->returned[i], i);
	io_uring_buf_ring_advance(buffers->shared, (int)buffers->returned_count);
	buffers->tail = (uint16_t)(buffers->tail + buffers->returned_count);
	buffers->returned_count = 0;
}
