/* Round robin over tenants, first in first out within one. */
#include "gateway/pool/fair_queue.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/base/check.h"

void fair_queue_init(struct fair_queue *queue, uint32_t jobs_max, uint32_t tenant_jobs_max, uint32_t tenants_max)
{
	*queue = (struct fair_queue){ .jobs_max = jobs_max, .tenant_jobs_max = tenant_jobs_max, .tenants_max = tenants_max };
	list_init(&queue->turns);
}

void fair_queue_fini(struct fair_queue *queue)
{
	list_for_each_safe(link, after, &queue->turns)
		free(container_of(link, struct fair_queue_tenant, link));
	list_init(&queue->turns);
	queue->count = queue->tenants_count = 0;
}

static struct fair_queue_tenant *fair_queue_find(const struct fair_queue *queue, uint32_t tenant)
{
	list_for_each(link, &queue->turns) {
		struct fair_queue_tenant *found = container_of(link, struct fair_queue_tenant, link);

		if (found->tenant == tenant)
			return found;
	}
	return NULL;
}

uint32_t fair_queue_count(const struct fair_queue *queue, uint32_t tenant)
{
	const struct fair_queue_tenant *turn = fair_queue_find(queue, tenant);

	return turn ? turn->count : 0;
}

int fair_queue_add(struct fair_queue *queue, uint32_t tenant, struct list *job)
{
	struct fair_queue_tenant *turn = fair_queue_find(queue, tenant);

	if (queue->count == queue->jobs_max || (turn && turn->count == queue->tenant_jobs_max))
		return -ENOSPC;
	if (!turn) {
		if (queue->tenants_count == queue->tenants_max)
			return -ENOSPC;
		turn = calloc(1, sizeof(*turn));
		if (!turn)
			return -ENOMEM;
		turn->tenant = tenant;
		list_init(&turn->jobs);
		list_append(&queue->turns, &turn->link);
		queue->tenants_count++;
	}
	list_append(&turn->jobs, job);
	turn->count++;
	queue->count++;
	return 0;
}

static void fair_queue_taken(struct fair_queue *queue, struct fair_queue_tenant *turn)
{
	queue->count--;
	turn->count--;
	list_remove(&turn->link);
	if (turn->count) {
		list_append(&queue->turns, &turn->link);
		return;
	}
	queue->tenants_count--;
	free(turn);
}

struct list *fair_queue_take(struct fair_queue *queue)
{
	struct fair_queue_tenant *turn;
	struct list *job;

	if (list_empty(&queue->turns))
		return NULL;
	turn = container_of(queue->turns.next, struct fair_queue_tenant, link);
	job = list_take(&turn->jobs);
	CHECK(job);
	fair_queue_taken(queue, turn);
	return job;
}

void fair_queue_remove(struct fair_queue *queue, uint32_t tenant, struct list *job)
{
	struct fair_queue_tenant *turn = fair_queue_find(queue, tenant);

	CHECK(turn);
	list_remove(job);
	/* Leaving the queue is no turn: the tenant keeps its place. */
	queue->count--;
	turn->count--;
	if (turn->count)
		return;
	list_remove(&turn->link);
	queue->tenants_count--;
	free(turn);
}

/* Round by round over the tenants that still have a job, so that the cost is that of the jobs. */
void fair_queue_visit(struct fair_queue *queue, void (*visit)(struct list *job, uint32_t position))
{
	struct fair_queue_tenant *live = NULL, **end = &live;
	uint32_t position = 0;

	list_for_each(link, &queue->turns) {
		struct fair_queue_tenant *turn = container_of(link, struct fair_queue_tenant, link);

		turn->cursor = turn->jobs.next;
		*end = turn;
		end = &turn->live;
	}
	*end = NULL;
	while (live) {
		for (struct fair_queue_tenant **at = &live; *at;) {
			struct fair_queue_tenant *turn = *at;

			visit(turn->cursor, ++position);
			turn->cursor = turn->cursor->next;
			if (turn->cursor == &turn->jobs)
				*at = turn->live;
			else
				at = &turn->live;
		}
	}
}
