/*
 * packet_queue: packets that wait for their reader, first in first out, one behind the other in a spill. Pure memory.
 */
#pragma once

#include "gateway/base/spill.h"
#include "proto/span.h"

struct packet_queue {
	struct spill spill;              /* its directory and bound are the owner's to set */
	size_t first, end;               /* bytes */
	size_t bytes;                    /* of the packets that wait */
	size_t content;                  /* of these: what their pushes said */
	size_t filling;                  /* bytes that the newest packet lacks: it is not there before it has them */
	size_t kept_bytes;               /* the owner's: of memory, while nothing waits; more is given back */
};

/* Copies in one packet, given in pieces. 0 or as spill_grow(). */
int packet_queue_push(struct packet_queue *queue, const struct span *parts, size_t count);
/* The same for one that brings that many bytes of a file. */
int packet_queue_push_content(struct packet_queue *queue, const struct span *parts, size_t count, size_t content);
/* The same for one whose bytes come later, by packet_queue_more(); nothing else is pushed before it has them all. */
int packet_queue_begin(struct packet_queue *queue, size_t size, size_t content);
void packet_queue_more(struct packet_queue *queue, struct span part);
/* The oldest; borrowed until the next push or pop. False: none waits. */
bool packet_queue_front(const struct packet_queue *queue, struct span *packet);
void packet_queue_pop(struct packet_queue *queue);
void packet_queue_fini(struct packet_queue *queue);

static inline bool packet_queue_empty(const struct packet_queue *queue)
{
	return queue->first == queue->end;
}
