/* A head, then the packet, one behind the other. */
#include "gateway/broker/packet_queue.h"

#include <string.h>
#include "gateway/base/check.h"

struct head {
	uint32_t size, content;
};

/* What was taken makes room once it is the larger part, and wanted: so each byte is moved less than once, and most are not. */
static void packet_queue_compact(struct packet_queue *queue, size_t wanted)
{
	size_t left = queue->end - queue->first;

	if (queue->first < left || wanted <= queue->spill.capacity - queue->end)
		return;
	memmove(queue->spill.data, queue->spill.data + queue->first, left);
	queue->first = 0;
	queue->end = left;
}

int packet_queue_push(struct packet_queue *queue, const struct span *parts, size_t count)
{
	return packet_queue_push_content(queue, parts, count, 0);
}

int packet_queue_push_content(struct packet_queue *queue, const struct span *parts, size_t count, size_t content)
{
	size_t size = 0;
	int r;

	for (size_t i = 0; i < count; i++)
		size += parts[i].size;
	r = packet_queue_begin(queue, size, content);
	for (size_t i = 0; r == 0 && i < count; i++)
		packet_queue_more(queue, parts[i]);
	return r;
}

int packet_queue_begin(struct packet_queue *queue, size_t size, size_t content)
{
	struct head head = { .size = (uint32_t)size, .content = (uint32_t)content };
	int r;

	CHECK(!queue->filling);
	CHECK(size <= UINT32_MAX);
	CHECK(content <= size);
	if (queue->first)
		packet_queue_compact(queue, sizeof(head) + size);
	r = spill_grow(&queue->spill, queue->end + sizeof(head) + size);
	if (r < 0)
		return r;
	memcpy(queue->spill.data + queue->end, &head, sizeof(head));
	queue->end += sizeof(head) + size;
	queue->filling = size;
	queue->bytes += size;
	queue->content += content;
	return 0;
}

void packet_queue_more(struct packet_queue *queue, struct span part)
{
	CHECK(part.size <= queue->filling);
	if (part.size)
		memcpy(queue->spill.data + queue->end - queue->filling, part.data, part.size);
	queue->filling -= part.size;
}

bool packet_queue_front(const struct packet_queue *queue, struct span *packet)
{
	struct head head;

	if (packet_queue_empty(queue))
		return false;
	memcpy(&head, queue->spill.data + queue->first, sizeof(head));
	if (queue->filling && queue->first + sizeof(head) + head.size == queue->end)
		return false;
	*packet = span_make(queue->spill.data + queue->first + sizeof(head), head.size);
	return true;
}

void packet_queue_pop(struct packet_queue *queue)
{
	struct head head;

	CHECK(!packet_queue_empty(queue));
	memcpy(&head, queue->spill.data + queue->first, sizeof(head));
	queue->first += sizeof(head) + head.size;
	queue->bytes -= head.size;
	queue->content -= head.content;
	if (!packet_queue_empty(queue))
		return;
	queue->first = queue->end = 0;
	if (queue->spill.capacity > queue->kept_bytes)
		spill_fini(&queue->spill);
}

void packet_queue_fini(struct packet_queue *queue)
{
	spill_fini(&queue->spill);
	queue->first = queue->end = queue->bytes = queue->content = queue->filling = 0;
}
