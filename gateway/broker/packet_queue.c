/* A length of four bytes, then the packet. */
#include "gateway/broker/packet_queue.h"

#include <string.h>
#include "gateway/base/check.h"

#define LENGTH_BYTES 4u

/* What was taken makes room once it is the larger part, so each byte is moved less than once. */
static void packet_queue_compact(struct packet_queue *queue)
{
	size_t left = queue->end - queue->first;

	if (queue->first < left)
		return;
	memmove(queue->spill.data, queue->spill.data + queue->first, left);
	queue->first = 0;
	queue->end = left;
}

int packet_queue_push(struct packet_queue *queue, const struct span *parts, size_t count)
{
	uint32_t length;
	size_t size = 0;
	int r;

	for (size_t i = 0; i < count; i++)
		size += parts[i].size;
	CHECK(size <= UINT32_MAX);
	length = (uint32_t)size;
	if (queue->first)
		packet_queue_compact(queue);
	r = spill_grow(&queue->spill, queue->end + LENGTH_BYTES + size);
	if (r < 0)
		return r;
	memcpy(queue->spill.data + queue->end, &length, LENGTH_BYTES);
	queue->end += LENGTH_BYTES;
	for (size_t i = 0; i < count; i++) {
		if (parts[i].size)
			memcpy(queue->spill.data + queue->end, parts[i].data, parts[i].size);
		queue->end += parts[i].size;
	}
	queue->bytes += size;
	return 0;
}

bool packet_queue_front(const struct packet_queue *queue, struct span *packet)
{
	uint32_t length;

	if (packet_queue_empty(queue))
		return false;
	memcpy(&length, queue->spill.data + queue->first, LENGTH_BYTES);
	*packet = span_make(queue->spill.data + queue->first + LENGTH_BYTES, length);
	return true;
}

void packet_queue_pop(struct packet_queue *queue)
{
	struct span packet;

	CHECK(packet_queue_front(queue, &packet));
	queue->first += LENGTH_BYTES + packet.size;
	queue->bytes -= packet.size;
	if (!packet_queue_empty(queue))
		return;
	queue->first = queue->end = 0;
	if (queue->spill.capacity > queue->kept_bytes)
		spill_fini(&queue->spill);
}

void packet_queue_fini(struct packet_queue *queue)
{
	spill_fini(&queue->spill);
	queue->first = queue->end = queue->bytes = 0;
}
